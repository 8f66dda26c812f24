"""Functions on two points of every atom, along an axis that no vector of its environment gives.

`variants.py` trains it. Derivatives by the positions of the nuclei are left out: the axis is taken as given.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.density import Gaussians
from neural_polarization.density.centres import OnMovingPoints, Sites
from neural_polarization.geometry import cosine_envelope
from neural_polarization.heads import Widths
from neural_polarization.heads.density import BasisSize, DensityHead
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class OnPairs(OnMovingPoints):
    """Functions on two points of each atom, at equal distances from the moving point, on both sides.

    The axis of the pair is one that no vector of the environment gives: the isolated eigenvector e of the sum of
    w_j u_j u_j^T over the neighbours, the normal of a plane of neighbours or the axis of a bond. An eigenvector has no
    sign, and the two sites are alike, so that the density turns with the molecule. The distance is b_Z m / (m + 0.02)
    with a learned b_Z; m, the square of the middle eigenvalue of the traceless tensor, is zero where e is not unique.
    """

    _RANGE = 0.5  # Angstrom

    def __init__(self, elements: Sequence[str], cutoff: float) -> None:
        super().__init__(elements, cutoff)
        self.arms = nn.Parameter(torch.full((len(elements),), 0.3))

    def axes(self, molecules: Molecules) -> Float[Tensor, "atoms 3"]:
        """Axis of the pair of each atom, shorter than one where it is not unique."""
        senders, receivers = molecules.edge_index.unbind(0)
        vectors = (molecules.positions[senders] - molecules.positions[receivers]).detach().double()
        lengths = vectors.norm(dim=-1)
        weights = cosine_envelope(lengths, self.cutoff) * torch.exp(-lengths / self._RANGE)
        units = vectors / lengths.unsqueeze(-1)
        outer = (weights.unsqueeze(-1) * units).unsqueeze(-1) * units.unsqueeze(-2)
        tensor = sum_by_index(outer, receivers, molecules.num_atoms)
        trace = tensor.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-12)
        tensor = tensor / trace[:, None, None] - torch.eye(3, dtype=tensor.dtype) / 3.0
        values, vectors = torch.linalg.eigh(tensor)
        middle = values[:, 1]
        isolated = torch.where((middle > 0.0).unsqueeze(-1), vectors[..., 0], vectors[..., 2])
        squared = (6.0 * middle).square()
        return (isolated * (squared / (squared + 0.02)).unsqueeze(-1)).to(molecules.positions)

    def atoms(
        self, scalars: Float[Tensor, "atoms channels"], displacement: Float[Tensor, "atoms 3"], molecules: Molecules
    ) -> Sites:
        """Both sites of every atom; each hears the moving points of the neighbours from its own place."""
        single = super().atoms(scalars, displacement, molecules)
        arms = self.arms[single.kinds].unsqueeze(-1) * self.axes(molecules)
        places = torch.cat([single.positions + arms, single.positions - arms])
        senders = single.senders.repeat(2)
        receivers = torch.cat([single.receivers, single.receivers + molecules.num_atoms])
        return Sites(
            positions=places,
            scalars=scalars.repeat(2, 1),
            kinds=single.kinds.repeat(2),
            molecule_index=molecules.molecule_index.repeat(2),
            senders=senders,
            receivers=receivers,
            vectors=single.positions[senders] - places[receivers],
            envelope=single.envelope.repeat(2),
        )


class PairsHead(DensityHead):
    """Half of the shells of `size` on each of the two points, so that an atom has as many functions.

    Args:
        elements: chemical symbols of the network's elements.
        scalars: channels of the features.
        channels: width of the hidden layers.
        cutoff: Angstrom.
        size: shells of both points together.
    """

    def __init__(self, elements: Sequence[str], scalars: int, channels: int, cutoff: float, size: BasisSize) -> None:
        half = BasisSize(tuple(number // 2 for number in size.shells))
        super().__init__(Widths(scalars, 0), elements, channels, cutoff, "moving", half)
        self.centres = OnPairs(elements, cutoff)

    def deformation(self, atoms: Polarized, molecules: Molecules) -> tuple[Gaussians, ...]:
        """Both points give half of what the atom gives, and get what their edges bring."""
        sites = self.centres.atoms(atoms.scalars, atoms.displacement, molecules)
        learned = self.on_atoms(sites, atoms.scalars)
        given = sum_by_index(learned.passed, sites.senders, molecules.num_atoms)
        electrons = sum_by_index(learned.passed, sites.receivers, len(sites.positions)) - 0.5 * given.repeat(2)
        return (learned.functions(sites, electrons),)
