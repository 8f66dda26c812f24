"""The electron density of a molecule from the scalars of its atoms, for any backbone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers as atomic_number_of
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.architectures import look_up
from neural_polarization.density import Density, Gaussians, Nuclei
from neural_polarization.density.centres import CENTRES, Sites, bond_sites, find_bonds
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.density.gaussians import charge_of_s, even_tempered, solid_harmonics
from neural_polarization.geometry import safe_norm
from neural_polarization.heads.head import Widths
from neural_polarization.layers import BesselBasis, mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized
from neural_polarization.units import BOHR

_RADIAL = 12
_FIRST_SIZE = 0.1
"""Size of a new head's coefficients where a perceptron gives one, so that a new head starts near the free atoms."""


@dataclass(frozen=True)
class BasisSize:
    """Number of shells of every degree on each centre, from l = 0 on.

    Raises:
        ValueError: if there is no s shell, or a number is negative.

    Example:
        >>> FULL.num_functions, SMALL.num_functions
        (96, 50)
    """

    shells: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.shells or self.shells[0] < 1 or min(self.shells) < 0:
            raise ValueError(f"shells: {self.shells} must have one s shell or more, and no negative number")

    @property
    def num_functions(self) -> int:
        """Number of functions of a centre."""
        return sum(number * (2 * degree + 1) for degree, number in enumerate(self.shells))


FULL = BasisSize((6, 6, 6, 6))
"""The default: 96 functions with l = 0 to 3 on each centre."""

SMALL = BasisSize((6, 5, 3, 2))
"""A smaller basis: 50 functions with l = 0 to 3 on each centre."""

SIZES: dict[str, BasisSize] = {
    "full": FULL,
    "small": SMALL,
    "s": BasisSize((6,)),
    "sp": BasisSize((6, 6)),
    "spd": BasisSize((6, 6, 6)),
}
"""Every size by its name in configurations and checkpoints."""


@dataclass(frozen=True)
class DensityConfig:
    """How the electron density is predicted.

    Attributes:
        centres: Where the functions sit: on "moving" points, on "nuclei", half on the nuclei and half on the moving
            points with "both", on "shifted" nuclei, half on the nuclei and half on shifted nuclei with "both_shifted",
            or on bonds too with "nuclei_bonds" and "moving_bonds".
        size: Functions on each centre: 96 with "full" (l up to 3), 50 with "small"; for comparisons, 6, 24 and 54 with
            "s", "sp" and "spd".

    Raises:
        ValueError: for a choice that does not exist.
    """

    centres: str = "moving"
    size: str = "full"

    def __post_init__(self) -> None:
        for name, value, known in (("centres", self.centres, CENTRES), ("size", self.size, SIZES)):
            if value not in known:
                raise ValueError(f"{name}: {value!r} is not known; choose one of {', '.join(known)}")


class Exponents(nn.Module):
    """Even-tempered exponents of every kind of site, with a learnable smallest one and a learnable ratio.

    Args:
        ranges: Smallest and largest exponent of l = 0 of each kind, 1/Angstrom^2; higher degrees start a little
            higher and end lower, as in basis sets for densities.
        size: Number of shells.
    """

    _LARGEST_OF_DEGREE = (1.0, 0.3, 0.12, 0.08, 0.06, 0.05)

    def __init__(self, ranges: Sequence[tuple[float, float]], size: BasisSize) -> None:
        super().__init__()
        self.size = size
        smallest, ratios = [], []
        for degree, number in enumerate(size.shells):
            fraction = self._LARGEST_OF_DEGREE[min(degree, len(self._LARGEST_OF_DEGREE) - 1)]
            for low, high in ranges:
                start, stop = low * (1.0 + 0.3 * degree), max(high * fraction, 4.0 * low)
                values = even_tempered(start, stop, number) if number else torch.tensor([start])
                smallest.append(math.log(float(values[0])))
                ratios.append(math.log(float(values[-1] / values[0])) / max(number - 1, 1))
        shape = (len(size.shells), len(ranges))
        self.smallest = nn.Parameter(torch.tensor(smallest).reshape(shape))
        self.ratios = nn.Parameter(torch.tensor(ratios).reshape(shape))

    def forward(self, kinds: Int[Tensor, " sites"]) -> tuple[Float[Tensor, "sites _shells"], ...]:
        """Exponents of every degree at each site, 1/Angstrom^2."""
        exponents: list[Tensor] = []
        for degree, number in enumerate(self.size.shells):
            steps = torch.arange(number, device=kinds.device, dtype=self.ratios.dtype)
            logarithms = self.smallest[degree][kinds].unsqueeze(-1) + self.ratios[degree][kinds].unsqueeze(-1) * steps
            exponents.append(logarithms.exp())
        return tuple(exponents)


@dataclass(frozen=True)
class Learned:
    """Exponents, coefficients and electrons that an `EdgeExpansion` computes from the features.

    Attributes:
        exponents: Exponents of every degree, 1/Angstrom^2.
        higher: Coefficients of the functions with l = 1 and above, e/Angstrom^(3/2).
        electrons: Electrons in each s function before their sum is corrected, e.
        shares: Share of each s function in that correction; the shares of a site add up to one.
        passed: Electrons that the sender of each edge gives to its receiver, e.
    """

    exponents: tuple[Float[Tensor, "sites _shells"], ...]
    higher: tuple[Float[Tensor, "sites _shells _functions"], ...]
    electrons: Float[Tensor, "sites s"]
    shares: Float[Tensor, "sites s"]
    passed: Float[Tensor, " edges"]

    def functions(
        self, sites: Sites, electrons: Float[Tensor, " sites"], weights: Float[Tensor, " sites"] | None = None
    ) -> Gaussians:
        """The functions on their sites.

        Args:
            sites: Positions of the functions.
            electrons: Number of electrons that the s functions of each site hold together, e.
            weights: Factor of all other coefficients; one by default.
        """
        free, higher = self.electrons, self.higher
        if weights is not None:
            free, higher = free * weights.unsqueeze(-1), tuple(value * weights[:, None, None] for value in higher)
        held = free + (electrons - free.sum(-1)).unsqueeze(-1) * self.shares
        s = (held / charge_of_s(self.exponents[0])).unsqueeze(-1)
        return Gaussians(sites.positions, sites.molecule_index, self.exponents, (s, *higher))


class EdgeExpansion(nn.Module):
    """Coefficients of functions from invariant features, c_lm(i) = sum_j g_l(s_i, s_j, r_ij) Y_lm(r_ij).

    The coefficients of the s functions come from a perceptron of s_i. All learned numbers have the size of electrons:
    a function with the number one has about the same integral of its magnitude, whatever its exponent.

    Args:
        ranges: Smallest and largest exponents of every kind of site, as in `Exponents`.
        size: Number of shells.
        scalars: Number of channels of the features.
        channels: Width of the hidden layers.
        cutoff: Cutoff distance, Angstrom.
    """

    def __init__(
        self, ranges: Sequence[tuple[float, float]], size: BasisSize, scalars: int, channels: int, cutoff: float
    ) -> None:
        super().__init__()
        self.size = size
        self.exponents = Exponents(ranges, size)
        self.radial = BesselBasis(_RADIAL, cutoff)
        self.of_receiver = nn.Linear(scalars, channels)
        self.of_sender = nn.Linear(scalars, channels, bias=False)
        self.of_length = nn.Linear(_RADIAL, channels, bias=False)
        self.filters = nn.Linear(_RADIAL, channels, bias=False)
        # The outputs are the electrons that pass from atom to atom, and the coefficients of the shells with l > 0.
        self.readout = mlp([channels, channels, 1 + sum(size.shells[1:])])
        self.of_site = mlp([scalars, channels, 2 * size.shells[0]])

    def forward(self, sites: Sites, atoms: Float[Tensor, "atoms channels"]) -> Learned:
        """Exponents and coefficients at every site.

        Args:
            sites: Positions of the functions.
            atoms: Features of the atoms, which are the senders.
        """
        lengths = safe_norm(sites.vectors)
        radial = self.radial(lengths) * sites.envelope.unsqueeze(-1)
        hidden = self.of_receiver(sites.scalars)[sites.receivers] + self.of_sender(atoms)[sites.senders]
        hidden = (hidden + self.of_length(radial)) * self.filters(radial)
        edges = self.readout(hidden) * sites.envelope.unsqueeze(-1) * _FIRST_SIZE
        x, y, z = (sites.vectors / lengths.unsqueeze(-1)).unbind(-1)
        harmonics = solid_harmonics(x, y, z, len(self.size.shells) - 1)
        exponents = self.exponents(sites.kinds)
        coefficients: list[Tensor] = []
        of_degrees = edges[:, 1:].split(list(self.size.shells[1:]), -1)
        for degree, of_edges in enumerate(of_degrees, start=1):
            products = of_edges.unsqueeze(-1) * torch.stack(harmonics[degree], -1).unsqueeze(1)
            summed = sum_by_index(products, sites.receivers, len(sites.positions))
            coefficients.append(summed / charge_of_s(exponents[degree]).unsqueeze(-1))
        electrons, shares = self.of_site(sites.scalars).chunk(2, -1)
        return Learned(exponents, tuple(coefficients), electrons * _FIRST_SIZE, shares.softmax(-1), edges[:, 0])


class DensityHead(nn.Module):
    """Electron density: free atoms on the nuclei, plus learned functions on the chosen centres.

    The electrons of the learned functions add up exactly to minus the total charge. Electrons pass from atom to atom
    along edges, so that one atom loses what the other gains; the total charge is divided among the atoms; and learned
    shares divide the electrons of an atom among its s functions. Neutral fragments that are further apart than the
    cutoff stay neutral and do not influence each other.

    Args:
        widths: Numbers of channels of the features. Vectors are not read.
        elements: Chemical symbols of the network's elements.
        channels: Width of the hidden layers.
        cutoff: Cutoff of the network, Angstrom.
        centres: Name of the centres, one of `CENTRES`.
        size: Number of shells on each centre.

    Raises:
        ValueError: for unknown centres.
    """

    def __init__(
        self,
        widths: Widths,
        elements: Sequence[str],
        channels: int,
        cutoff: float,
        centres: str = "moving",
        size: BasisSize = FULL,
    ) -> None:
        super().__init__()
        self.centres = look_up(CENTRES, centres, "centres")(elements, cutoff)
        ranges = [exponent_range(symbol) for symbol in elements]
        self.on_atoms = EdgeExpansion(ranges, size, widths.scalars, channels, cutoff)
        self.shares_of_charge = mlp([widths.scalars, channels, 1])
        self.of_bond: nn.Sequential | None = None
        if self.centres.on_bonds:
            self.of_bond = mlp([2 * widths.scalars, channels, widths.scalars])
            self.on_bonds = EdgeExpansion([exponent_range("H")], size, widths.scalars, channels, cutoff)

    def forward(self, atoms: Polarized, molecules: Molecules) -> Density:
        """The density of every molecule; its last parts are those of `deformation`.

        Raises:
            ValueError: for a periodic system, or an element without a free atom.
        """
        nuclei = Nuclei.of(molecules)
        return Density((*free_atoms(nuclei), *self.deformation(atoms, molecules)), nuclei)

    def deformation(self, atoms: Polarized, molecules: Molecules) -> tuple[Gaussians, ...]:
        """What is learned: the density less that of free atoms.

        Raises:
            ValueError: for a periodic system.
        """
        Nuclei.of(molecules)  # it refuses periodic systems
        scalars = atoms.scalars
        sites = self.centres.atoms(scalars, atoms.displacement, molecules)
        learned = self.on_atoms(sites, scalars)
        count = molecules.num_atoms
        given = sum_by_index(learned.passed, sites.senders, count)
        electrons = sum_by_index(learned.passed, sites.receivers, count) - given
        electrons = electrons - self._charge_of_atoms(scalars, molecules)
        parts: list[Gaussians] = []
        if self.of_bond is not None:
            part, taken = self._bonds(scalars, sites, molecules)
            parts.append(part)
            electrons = electrons - taken
        return (*parts, *self.centres.spread(learned.functions(sites, electrons), molecules))

    def _charge_of_atoms(
        self, scalars: Float[Tensor, "atoms channels"], molecules: Molecules
    ) -> Float[Tensor, " atoms"]:
        """Each atom's share of the total charge, e."""
        if molecules.charge is None:
            return torch.zeros_like(scalars[:, 0])
        shares = nn.functional.softplus(self.shares_of_charge(scalars)[:, 0]) + 1e-3
        index = molecules.molecule_index
        return shares * (molecules.charge / sum_by_index(shares, index, molecules.num_molecules))[index]

    def _bonds(
        self, scalars: Float[Tensor, "atoms channels"], atoms: Sites, molecules: Molecules
    ) -> tuple[Gaussians, Float[Tensor, " atoms"]]:
        """The functions of the bonds, and the electrons that each atom gives to its bonds."""
        assert self.of_bond is not None
        bonds = find_bonds(molecules)
        one, other = scalars[bonds.first], scalars[bonds.second]
        of_bonds = self.of_bond(torch.cat([one + other, one * other], -1))
        sites = bond_sites(bonds, of_bonds, atoms.positions, molecules, self.centres.cutoff)
        learned = self.on_bonds(sites, scalars)
        electrons = sum_by_index(learned.passed, sites.receivers, len(of_bonds)) * bonds.weights
        half, count = 0.5 * electrons, molecules.num_atoms
        taken = sum_by_index(half, bonds.first, count) + sum_by_index(half, bonds.second, count)
        return learned.functions(sites, electrons, bonds.weights), taken


def exponent_range(element: str) -> tuple[float, float]:
    """Smallest and largest exponent of the s functions of an element, which describe the change from the free atom."""
    number = atomic_number_of[element]
    low, high = (0.12, 8.0) if number <= 2 else (0.15, 30.0)  # 1/bohr^2, as exponents are usually quoted
    return low / BOHR**2, high / BOHR**2
