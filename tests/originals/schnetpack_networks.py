"""SchNetPack's PaiNN and SchNet, run on our batches (needs schnetpack)."""

import warnings

import torch
import torch.utils.data.dataloader as loader
from torch import Tensor, nn

from neural_polarization.molecules import Molecules

# SchNetPack 2.0 imports a name that torch has made private since.
loader.T_co = getattr(loader, "T_co", None) or loader._T_co
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    import schnetpack.nn as spk_nn
    from schnetpack import properties
    from schnetpack.representation import PaiNN, SchNet

MAX_Z = 10


def painn(channels: int, num_layers: int, cutoff: float, num_basis: int) -> nn.Module:
    """The original PaiNN with the radial functions of its paper."""
    basis = spk_nn.BesselRBF(num_basis, cutoff)
    return PaiNN(channels, num_layers, basis, spk_nn.CosineCutoff(cutoff), max_z=MAX_Z)


def schnet(channels: int, num_layers: int, cutoff: float, num_basis: int) -> nn.Module:
    """The original SchNet."""
    basis = spk_nn.GaussianRBF(num_basis, cutoff)
    return SchNet(channels, num_layers, basis, spk_nn.CosineCutoff(cutoff), max_z=MAX_Z)


def inputs(molecules: Molecules) -> dict[str, Tensor]:
    """What the originals read."""
    senders, receivers = molecules.edge_index
    return {
        properties.Z: molecules.atomic_numbers,
        properties.Rij: molecules.positions[senders] - molecules.positions[receivers],
        properties.idx_i: receivers,
        properties.idx_j: senders,
    }


def scalars_and_forces(
    network: nn.Module, molecules: Molecules, weights: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scalars and vectors (if any) of the original, and forces of the energy sum(scalars @ weights)."""
    # SchNetPack makes its first vectors in torch's default type.
    before = torch.get_default_dtype()
    torch.set_default_dtype(molecules.positions.dtype)
    try:
        positions = molecules.positions.clone().requires_grad_()
        out = network(inputs(molecules.with_positions(positions)))
    finally:
        torch.set_default_dtype(before)
    scalars = out["scalar_representation"]
    (gradient,) = torch.autograd.grad((scalars @ weights).sum(), positions)
    vectors = out.get("vector_representation")
    return scalars.detach(), None if vectors is None else vectors.detach(), -gradient
