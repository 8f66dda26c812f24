"""Atoms in a molecule: Hirshfeld's and the minimal basis iterative stockholder (MBIS) partition of a density.

Both give every atom the share rho_A(r) / sum_B rho_B(r) of the density at r. rho_A are free atoms for Hirshfeld; for
MBIS they are sums of exponential shells, N exp(-r / s) / (8 pi s^3), whose electrons N and widths s agree with the
shares that follow from them.

References:
    F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977).
    T. Verstraelen, S. Vandenbrande, F. Heidar-Zadeh, L. Vanduyfhuys, V. Van Speybroeck, M. Waroquier, P. W. Ayers,
    J. Chem. Theory Comput. 12, 3894 (2016).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.density.density import Density, Nuclei
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.density.quadrature import Quadrature, quadrature_around
from neural_polarization.units import BOHR

LARGEST_ERROR = 0.02
"""Electrons per atom by which a quadrature may be off; a larger error is one of the density or of the points."""

_NOTHING = 1e-30  # 1/Angstrom^3, added where atoms are divided by their sum
_LAST_OF_SHELL = (2, 10, 18, 36, 54)  # electrons of the noble gases


@dataclass(frozen=True)
class AtomicMoments:
    """Charges and dipoles of the atoms of a molecule.

    Attributes:
        charges: e, float64; their sum is the charge of the density.
        dipoles: e*Angstrom, float64, each about its nucleus, from negative to positive. Charges at the nuclei and these
            together make the dipole of the molecule.
    """

    charges: Float[Tensor, " atoms"]
    dipoles: Float[Tensor, "atoms 3"]


class ConvergenceError(ValueError):
    """The iterations of MBIS did not end."""


def hirshfeld(density: Density, quadrature: Quadrature | None = None) -> AtomicMoments:
    """Hirshfeld's charges and atomic dipoles, of the share w_A of the density less that of the free atoms.

    Args:
        density: of one molecule.
        quadrature: points for the integrals; by default those of `quadrature_around`.

    Raises:
        ValueError: for several molecules, an element without a free atom, or points that do not integrate the density.

    Example:
        >>> positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]], dtype=torch.float64)
        >>> oxygens = Nuclei(torch.tensor([8, 8]), positions, torch.tensor([0, 0]), 1)
        >>> hirshfeld(Density(free_atoms(oxygens), oxygens)).charges.abs().max().item() < 1e-9
        True
    """
    place = _Place.of(density, quadrature)
    atoms = torch.stack([_free_atom(density.nuclei, atom, place.points) for atom in range(len(place.numbers))])
    promolecule = atoms.sum(0)
    shares = atoms / (promolecule + _NOTHING)
    gained = shares * (place.values - place.weights * promolecule)
    return place.moments(place.numbers + gained.sum(-1), gained)


def mbis(
    density: Density, quadrature: Quadrature | None = None, tolerance: float = 1e-6, most_steps: int = 2000
) -> AtomicMoments:
    """Charges and dipoles of the minimal basis iterative stockholder partition.

    Args:
        density: of one molecule.
        quadrature: points for the integrals; by default those of `quadrature_around`.
        tolerance: largest change of the electrons of a shell in the last step, e.
        most_steps: steps before the iterations are given up.

    Raises:
        ValueError: for several molecules, or points that do not integrate the density.
        ConvergenceError: if the iterations do not end, or a shell vanishes, as where a density is negative.
    """
    place = _Place.of(density, quadrature)
    atom, electrons, widths = _first_shells(place.numbers, density.electrons.item())
    near, change = place.distances[atom], math.inf
    for _ in range(most_steps):
        shells = _shells(electrons, widths, near)
        of_shells = shells * (place.values / (shells.sum(0) + _NOTHING))
        found = of_shells.sum(-1)
        widths = (of_shells * near).sum(-1) / (3.0 * found)
        if not bool((found > 0.0).all() and (widths > 0.0).all()):  # NaN is not larger than anything
            raise ConvergenceError(
                "MBIS: a shell of an atom has no electrons left; the density is negative around it, or has none there"
            )
        change, electrons = float((found - electrons).abs().max()), found
        if change < tolerance:
            break
    else:
        raise ConvergenceError(
            f"MBIS: after {most_steps} steps the electrons of a shell still change by {change:.1e}; raise `most_steps` "
            "or `tolerance`"
        )
    of_shells = _shells(electrons, widths, near)
    of_shells = of_shells * (place.values / (of_shells.sum(0) + _NOTHING))
    of_atoms = torch.zeros_like(place.distances).index_add(0, atom, of_shells)
    return place.moments(of_atoms.sum(-1), of_atoms)


PARTITIONS: dict[str, Callable[[Density], AtomicMoments]] = {"hirshfeld": hirshfeld, "mbis": mbis}
"""Every partition by its name."""


@dataclass(frozen=True)
class _Place:
    """A molecule, the points around it and the electrons there, float64.

    Attributes:
        numbers: nuclear charges.
        positions: of the nuclei, Angstrom.
        points: Angstrom.
        weights: Angstrom^3.
        values: weights times density: electrons at the points, whose sum is nearly that of the molecule.
        electrons: of the molecule, exact, e.
    """

    numbers: Float[Tensor, " atoms"]
    positions: Float[Tensor, "atoms 3"]
    points: Float[Tensor, "points 3"]
    weights: Float[Tensor, " points"]
    values: Float[Tensor, " points"]
    electrons: float

    @classmethod
    def of(cls, density: Density, quadrature: Quadrature | None) -> "_Place":
        """That of a density.

        Raises:
            ValueError: for several molecules, or points that do not integrate the density.
        """
        nuclei = density.nuclei
        nuclei.require_one()
        density = density.detach().to("cpu", torch.float64)
        quadrature = quadrature or quadrature_around(density.nuclei)
        values = quadrature.weights * density.evaluate(quadrature.points)
        electrons, summed = density.electrons.item(), float(values.sum())
        numbers = density.nuclei.atomic_numbers.double()
        if not abs(summed - electrons) < LARGEST_ERROR * len(numbers):
            raise ValueError(
                f"quadrature: its points find {summed:.3f} of {electrons:.3f} electrons; give more points "
                "(`quadrature_around` with more spheres and a higher degree)"
            )
        return cls(numbers, density.nuclei.positions, quadrature.points, quadrature.weights, values, electrons)

    @property
    def distances(self) -> Float[Tensor, "atoms points"]:
        """Of the points from the nuclei, Angstrom."""
        return torch.cdist(self.positions, self.points)

    def moments(self, electrons: Float[Tensor, " atoms"], shares: Float[Tensor, "atoms points"]) -> AtomicMoments:
        """Charges and dipoles; what the quadrature has missed is divided as the electrons are, so that sums are exact.

        Args:
            electrons: of each atom.
            shares: of electrons of each atom at each point; spherical atoms, which have no dipole, may be left out.
        """
        charges = self.numbers - electrons * (self.electrons / electrons.sum())
        first = shares @ self.points - shares.sum(-1, keepdim=True) * self.positions
        return AtomicMoments(charges, -first)


def _free_atom(nuclei: Nuclei, atom: int, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Density of one of the free atoms, e/Angstrom^3."""
    rows = slice(atom, atom + 1)
    index = torch.zeros(1, dtype=torch.long)
    alone = Nuclei(nuclei.atomic_numbers[rows].cpu(), nuclei.positions[rows].detach().double().cpu(), index, 1)
    return Density(free_atoms(alone), alone).evaluate(points, threshold=0.0)


def _first_shells(
    numbers: Float[Tensor, " atoms"], electrons: float
) -> tuple[Int[Tensor, " shells"], Float[Tensor, " shells"], Float[Tensor, " shells"]]:
    """Atom, electrons and width of every shell at the start: widths from 1 / (2 Z) of the core to 1/2 bohr outside.

    Raises:
        ValueError: for a density without electrons, or an element beyond xenon.
    """
    if not electrons > 0.0:
        raise ValueError(f"density: it has {electrons:.3f} electrons, which no atoms can share")
    atoms, counts, widths = [], [], []
    for atom, number in enumerate(numbers.tolist()):
        if number > _LAST_OF_SHELL[-1]:
            raise ValueError(f"{chemical_symbols[round(number)]}: MBIS is defined here up to xenon")
        inner = [0, *(last for last in _LAST_OF_SHELL if last < number)]
        for shell, (first, last) in enumerate(zip(inner, [*inner[1:], number], strict=True)):
            atoms.append(atom)
            counts.append(last - first)
            widths.append(0.5 * BOHR * number ** (shell / max(len(inner) - 1, 1) - 1.0))
    counted = torch.tensor(counts, dtype=torch.float64)
    return torch.tensor(atoms), counted * (electrons / counted.sum()), torch.tensor(widths, dtype=torch.float64)


def _shells(
    electrons: Float[Tensor, " shells"], widths: Float[Tensor, " shells"], distances: Float[Tensor, "shells points"]
) -> Float[Tensor, "shells points"]:
    """Density of every shell, e/Angstrom^3."""
    norms = electrons / (8.0 * math.pi * widths**3)
    return norms.unsqueeze(-1) * torch.exp(-distances / widths.unsqueeze(-1))
