"""Writes mace.safetensors: weights of mace-torch's MACE, and what it makes of molecules.

Run it where mace-torch is installed: python tests/originals/make_mace.py

The original has one weight for every way to couple the factors of its product basis, although many of these give
the same polynomial. The file has, for every block of them, the matrix that takes its weights to those of independent
polynomials; that both span the same space is checked here.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from e3nn import o3
from mace.modules import MACE, RealAgnosticResidualInteractionBlock
from safetensors.torch import save_file
from torch import Tensor

from neural_polarization.backbones.mace import symmetric_couplings
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.molecules import Molecules
from neural_polarization.testing import distorted

CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, LMAX, CORRELATION = 4, 2, 4.0, 6, 3, 3
ATOMIC_NUMBERS = (1, 6, 8)
MOLECULES = ("CH3CH2OH", "H2CCO")


def original() -> MACE:
    """The original with features up to degree 2, also after the last layer."""
    return MACE(
        r_max=CUTOFF,
        num_bessel=NUM_BASIS,
        num_polynomial_cutoff=5,
        max_ell=LMAX,
        interaction_cls=RealAgnosticResidualInteractionBlock,
        interaction_cls_first=RealAgnosticResidualInteractionBlock,
        num_interactions=NUM_LAYERS,
        num_elements=len(ATOMIC_NUMBERS),
        hidden_irreps=o3.Irreps([(CHANNELS, (0, 1)), (CHANNELS, (1, -1)), (CHANNELS, (2, 1))]),
        MLP_irreps=o3.Irreps("4x0e"),
        atomic_energies=np.zeros(len(ATOMIC_NUMBERS)),
        avg_num_neighbors=NEIGHBOURS,
        atomic_numbers=list(ATOMIC_NUMBERS),
        correlation=CORRELATION,
        gate=torch.nn.functional.silu,
        keep_last_layer_irreps=True,
    )


def independent(couplings: Tensor, order: int, degree: int) -> Tensor:
    """The matrix (independent polynomials, couplings) that writes every coupling in our polynomials.

    Args:
        couplings: the original's U, (components of the result unless it is a scalar, arguments ..., couplings).
        order: number of arguments.
        degree: of the result.
    """
    ours = symmetric_couplings(LMAX, order, degree)
    components = (LMAX + 1) ** 2
    entries = [tuple(sorted(entry)) for entry in np.ndindex(*[components] * order)]
    place = {monomial: k for k, monomial in enumerate(sorted(set(entries)))}
    places = torch.tensor([place[entry] for entry in entries])
    flat = couplings.reshape(2 * degree + 1, components**order, -1)
    theirs = torch.zeros(2 * degree + 1, len(place), flat.shape[-1]).index_add(1, places, flat)
    basis, target = ours.flatten(1).T, theirs.flatten(0, 1)
    matrix = torch.linalg.lstsq(basis, target).solution
    assert (basis @ matrix - target).abs().max() < 1e-12, "a coupling of the original's is not among our polynomials"
    assert torch.linalg.matrix_rank(matrix) == len(ours), "one of our polynomials is not among the original's"
    return matrix


def main() -> None:
    """Writes the file next to this one."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    network = original()
    with torch.no_grad():
        for interaction in network.interactions:
            interaction.linear.weight *= 10.0  # so that products of three weigh as much as their factors
    # Constants are derived from the arguments, and readouts are not compared.
    state = {key: value for key, value in network.named_parameters() if not key.startswith("readouts.")}
    tensors: dict[str, Tensor] = {f"state.{key}": value for key, value in state.items()}
    tensors["frequencies"] = network.radial_embedding.bessel_fn.bessel_weights
    for degree, contraction in enumerate(network.products[0].symmetric_contractions.contractions):
        for order in range(1, CORRELATION + 1):
            matrix = independent(contraction.U_tensors(order), order, degree)
            tensors[f"independent.{degree}.{order}"] = matrix
    features = CHANNELS * (1 + 3 + 5)
    tensors["weights"] = torch.randn(NUM_LAYERS, CHANNELS)
    for k, name in enumerate(MOLECULES):
        atoms = distorted(name)
        molecules = Molecules.from_ase([atoms], CUTOFF, torch.float64)
        positions = molecules.positions.clone().requires_grad_()
        species = torch.tensor([ATOMIC_NUMBERS.index(number) for number in atoms.numbers])
        found = network(
            {
                "positions": positions,
                "node_attrs": torch.nn.functional.one_hot(species, len(ATOMIC_NUMBERS)).to(positions),
                "edge_index": molecules.edge_index,
                "shifts": torch.zeros(molecules.edge_index.shape[1], 3),
                "unit_shifts": torch.zeros(molecules.edge_index.shape[1], 3),
                "cell": torch.zeros(3, 3),
                "batch": torch.zeros(len(atoms), dtype=torch.long),
                "ptr": torch.tensor([0, len(atoms)]),
            },
            compute_force=False,
        )
        after = found["node_feats"].split(features, -1)
        energy = sum((one[:, :CHANNELS] @ w).sum() for one, w in zip(after, tensors["weights"], strict=True))
        (gradient,) = torch.autograd.grad(energy, positions)
        tensors |= {f"molecule{k}.layer{layer}": one for layer, one in enumerate(after)}
        tensors |= {f"molecule{k}.forces": -gradient, f"molecule{k}.positions": positions}
        tensors[f"molecule{k}.atomic_numbers"] = torch.as_tensor(atoms.numbers)
    about = {"mace-torch": version("mace-torch"), "torch": torch.__version__, "molecules": json.dumps(MOLECULES)}
    save_file(
        {key: value.detach().contiguous().clone() for key, value in tensors.items()},
        Path(__file__).with_name("mace.safetensors"),
        metadata=about,
    )


if __name__ == "__main__":
    main()
