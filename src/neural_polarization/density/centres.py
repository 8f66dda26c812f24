"""Where the functions of a predicted density sit: on nuclei, moving points, shifted nuclei, or bonds as well.

A choice is a small class; each makes `Sites`, points with features that receive messages from the atoms around them.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.data import covalent_radii
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.density.expansion import Gaussians
from neural_polarization.geometry import cosine_envelope, safe_norm
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules, element_table


@dataclass(frozen=True)
class Sites:
    """Points of one kind that carry functions, and the atoms that each of them hears.

    Attributes:
        positions: Angstrom.
        scalars: invariant features of each site.
        kinds: which exponents a site has.
        molecule_index: molecule of each site.
        senders: atom of each edge.
        receivers: site of each edge.
        vectors: from the site to the place of the atom, Angstrom.
        envelope: smooth cutoff of each edge.
    """

    positions: Float[Tensor, "sites 3"]
    scalars: Float[Tensor, "sites channels"]
    kinds: Int[Tensor, " sites"]
    molecule_index: Int[Tensor, " sites"]
    senders: Int[Tensor, " edges"]
    receivers: Int[Tensor, " edges"]
    vectors: Float[Tensor, "edges 3"]
    envelope: Float[Tensor, " edges"]


@dataclass(frozen=True)
class Bonds:
    """Pairs of atoms that are as close as their covalent radii allow.

    Attributes:
        first, second: the two atoms of each bond.
        weights: one for a bond, falling smoothly to zero as it breaks.
    """

    first: Int[Tensor, " bonds"]
    second: Int[Tensor, " bonds"]
    weights: Float[Tensor, " bonds"]


class Centres(nn.Module, ABC):
    """The places of functions, from the displacements and the geometry.

    Args:
        elements: chemical symbols of the network's elements.
        cutoff: of the neighbours, Angstrom.
    """

    on_bonds: bool = False
    """Whether there are functions at the middle of bonds too."""

    def __init__(self, elements: Sequence[str], cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        # The network has refused every other element before.
        self.register_buffer("_kinds", element_table(elements).clamp(min=0), persistent=False)

    _kinds: Tensor

    def kinds(self, molecules: Molecules) -> Int[Tensor, " atoms"]:
        """Place of each atom's element among `elements`."""
        return self._kinds[molecules.atomic_numbers]

    @abstractmethod
    def places(self, displacement: Float[Tensor, "atoms 3"], molecules: Molecules) -> Float[Tensor, "atoms 3"]:
        """Position of the functions of each atom, Angstrom."""

    def atoms(
        self, scalars: Float[Tensor, "atoms channels"], displacement: Float[Tensor, "atoms 3"], molecules: Molecules
    ) -> Sites:
        """The functions of the atoms; edges are those between the nuclei."""
        places = self.places(displacement, molecules)
        senders, receivers = molecules.edge_index.unbind(0)
        nuclear = molecules.positions[senders] - molecules.positions[receivers]
        return Sites(
            positions=places,
            scalars=scalars,
            kinds=self.kinds(molecules),
            molecule_index=molecules.molecule_index,
            senders=senders,
            receivers=receivers,
            vectors=places[senders] - places[receivers],
            envelope=cosine_envelope(safe_norm(nuclear), self.cutoff),
        )

    def spread(self, functions: Gaussians, molecules: Molecules) -> tuple[Gaussians, ...]:
        """The functions of the atoms at all places that they have.

        Args:
            functions: on the sites of `atoms`.
            molecules: the batch.
        """
        return (functions,)


class OnNuclei(Centres):
    """Functions on nuclei, as in every basis set."""

    def places(self, displacement: Float[Tensor, "atoms 3"], molecules: Molecules) -> Float[Tensor, "atoms 3"]:
        """The nuclei."""
        return molecules.positions


class OnMovingPoints(Centres):
    """Functions on the moving points of the atoms."""

    def places(self, displacement: Float[Tensor, "atoms 3"], molecules: Molecules) -> Float[Tensor, "atoms 3"]:
        """The moving points."""
        return molecules.positions + displacement


class OnShiftedNuclei(Centres):
    """Functions shifted from the nucleus towards the nearest neighbours by a learned constant of each element.

    r_i + b_Z sum_j w_ij u_ij / (sum_j w_ij + 1e-6), w = f(r) exp(-r / 0.3 Angstrom): hydrogen's go along its bond.
    """

    _RANGE = 0.3  # Angstrom: the second nearest neighbour of a hydrogen atom counts for a few hundredths

    def __init__(self, elements: Sequence[str], cutoff: float) -> None:
        super().__init__(elements, cutoff)
        self.shifts = nn.Parameter(torch.zeros(len(elements)))

    def places(self, displacement: Float[Tensor, "atoms 3"], molecules: Molecules) -> Float[Tensor, "atoms 3"]:
        """The shifted nuclei."""
        senders, receivers = molecules.edge_index.unbind(0)
        vectors = molecules.positions[senders] - molecules.positions[receivers]
        lengths = safe_norm(vectors)
        weights = (cosine_envelope(lengths, self.cutoff) * torch.exp(-lengths / self._RANGE)).unsqueeze(-1)
        count = molecules.num_atoms
        towards = sum_by_index(weights * vectors / lengths.unsqueeze(-1), receivers, count)
        of_all = sum_by_index(weights, receivers, count) + 1e-6
        return molecules.positions + self.shifts[self.kinds(molecules)].unsqueeze(-1) * towards / of_all


class HalfOnNuclei(Centres):
    """Every second shell of each degree on the nuclei, the others elsewhere; as many functions as on one point.

    Numbered from the smallest exponent, the shells 0, 2, 4 leave. Electrons pass between both as between shells.
    """

    def spread(self, functions: Gaussians, molecules: Molecules) -> tuple[Gaussians, ...]:
        """The shells that stay, and those that leave."""
        stay = dataclasses.replace(functions.every(1, 2), centres=molecules.positions)
        return stay, functions.every(0, 2)


class OnNucleiAndMovingPoints(HalfOnNuclei, OnMovingPoints):
    """Half of the functions on nuclei, half on the moving points."""


class OnNucleiAndShiftedNuclei(HalfOnNuclei, OnShiftedNuclei):
    """Half of the functions on nuclei, half shifted by a learned constant of each element."""


class OnNucleiAndBonds(OnNuclei):
    """Functions on nuclei and at the midpoints of bonds."""

    on_bonds: bool = True


class OnMovingPointsAndBonds(OnMovingPoints):
    """Functions on moving points and at the midpoints between bonded moving points."""

    on_bonds: bool = True


CENTRES: dict[str, type[Centres]] = {
    "moving": OnMovingPoints,
    "nuclei": OnNuclei,
    "both": OnNucleiAndMovingPoints,
    "shifted": OnShiftedNuclei,
    "both_shifted": OnNucleiAndShiftedNuclei,
    "nuclei_bonds": OnNucleiAndBonds,
    "moving_bonds": OnMovingPointsAndBonds,
}
"""Every choice of centres by its name."""

_BONDED, _BROKEN = 1.2, 1.5
"""Distance over the sum of covalent radii up to which a bond is whole, and from which it is gone."""


def find_bonds(molecules: Molecules) -> Bonds:
    """The bonds of a batch, each once, with the smaller index first."""
    senders, receivers = molecules.edge_index.unbind(0)
    keep = senders < receivers
    first, second = senders[keep], receivers[keep]
    lengths = safe_norm(molecules.positions[first] - molecules.positions[second])
    radii = torch.as_tensor(covalent_radii, dtype=lengths.dtype, device=lengths.device)[molecules.atomic_numbers]
    stretch = (lengths / (radii[first] + radii[second]) - _BONDED).clamp(min=0.0)
    weights = cosine_envelope(stretch, _BROKEN - _BONDED)
    whole = weights > 0.0
    return Bonds(first[whole], second[whole], weights[whole])


def bond_sites(
    bonds: Bonds,
    scalars: Float[Tensor, "bonds channels"],
    places: Float[Tensor, "atoms 3"],
    molecules: Molecules,
    cutoff: float,
) -> Sites:
    """Midpoints of bonds, which hear the neighbours of both ends and the ends themselves.

    Args:
        bonds: of the batch.
        scalars: features of each bond, the same for either order of its atoms.
        places: of the atoms' functions, Angstrom.
        molecules: the batch.
        cutoff: of the neighbours of atoms; bonds hear 0.8 of it, so that no atom within that is missed.
    """
    senders, receivers = _heard_by(bonds, molecules)
    middle = 0.5 * (places[bonds.first] + places[bonds.second])
    nuclear_middle = 0.5 * (molecules.positions[bonds.first] + molecules.positions[bonds.second])
    distances = safe_norm(molecules.positions[senders] - nuclear_middle[receivers])
    return Sites(
        positions=middle,
        scalars=scalars,
        kinds=torch.zeros_like(bonds.first),
        molecule_index=molecules.molecule_index[bonds.first],
        senders=senders,
        receivers=receivers,
        vectors=places[senders] - middle[receivers],
        envelope=cosine_envelope(distances, 0.8 * cutoff),
    )


def _heard_by(bonds: Bonds, molecules: Molecules) -> tuple[Int[Tensor, " edges"], Int[Tensor, " edges"]]:
    """Atoms and the bonds that hear them, each pair once."""
    senders, receivers = molecules.edge_index.unbind(0)
    atoms, numbers = molecules.num_atoms, torch.arange(len(bonds.first), device=senders.device)
    of_atom = torch.bincount(receivers, minlength=atoms)
    starts = of_atom.cumsum(0) - of_atom
    by_receiver = receivers.argsort(stable=True)
    heard = [bonds.first * len(numbers) + numbers, bonds.second * len(numbers) + numbers]
    for end in (bonds.first, bonds.second):
        repeated = torch.repeat_interleave(of_atom[end])
        rank = torch.arange(len(repeated), device=senders.device)
        rank = rank - (of_atom[end].cumsum(0) - of_atom[end])[repeated]
        neighbours = senders[by_receiver[starts[end][repeated] + rank]]
        heard.append(neighbours * len(numbers) + repeated)
    pairs = torch.unique(torch.cat(heard))
    count = max(len(numbers), 1)
    return torch.div(pairs, count, rounding_mode="floor"), pairs % count
