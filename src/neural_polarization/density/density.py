"""`Density`: the electron density of every molecule of a batch as a sum of Gaussian functions."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.density.evaluation import NEGLIGIBLE, Progress, evaluate
from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.flat import FlatShells, grouped
from neural_polarization.density.moments import Moments, moments
from neural_polarization.density.overlap import overlap
from neural_polarization.density.potential import integral_over_distance, inverse_distance
from neural_polarization.geometry import centre_of_charge
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.units import COULOMB

SAME_PLACE = 1e-3
"""Largest distance between a nucleus of a density and that of its molecule, Angstrom."""


@dataclass(frozen=True)
class Nuclei:
    """The nuclei that a density belongs to.

    Attributes:
        atomic_numbers: nuclear charge of each atom.
        positions: Angstrom.
        molecule_index: molecule of each atom, ascending from 0.
        num_molecules: number of molecules.
    """

    atomic_numbers: Int[Tensor, " atoms"]
    positions: Float[Tensor, "atoms 3"]
    molecule_index: Int[Tensor, " atoms"]
    num_molecules: int

    @classmethod
    def of(cls, molecules: Molecules) -> "Nuclei":
        """Those of a batch.

        Raises:
            ValueError: for periodic systems, whose density would be that of one cell without its images.
        """
        if molecules.shifts is not None:
            raise ValueError(
                "molecules: densities of periodic systems are not supported (functions of neighbouring cells would be "
                "missing); set `pbc` to none for a molecule"
            )
        return cls(molecules.atomic_numbers, molecules.positions, molecules.molecule_index, molecules.num_molecules)

    def of_molecule(self, molecule: int) -> "Nuclei":
        """Those of one molecule.

        Raises:
            ValueError: for a number that no molecule has.
        """
        if not 0 <= molecule < self.num_molecules:
            raise ValueError(f"molecule {molecule}: there are {self.num_molecules}, counted from 0")
        here = self.molecule_index == molecule
        index = torch.zeros_like(self.molecule_index[here])
        return Nuclei(self.atomic_numbers[here], self.positions[here], index, 1)

    def clone(self) -> "Nuclei":
        """The same in memory of their own."""
        return Nuclei(
            self.atomic_numbers.clone(), self.positions.clone(), self.molecule_index.clone(), self.num_molecules
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Nuclei":
        """The same on another device or in another floating-point type."""
        return Nuclei(
            self.atomic_numbers.to(device),
            self.positions.to(device=device, dtype=dtype),
            self.molecule_index.to(device),
            self.num_molecules,
        )

    def require_one(self) -> None:
        """Makes sure that they are of one molecule.

        Raises:
            ValueError: for several molecules.
        """
        if self.num_molecules != 1:
            raise ValueError(f"nuclei: they are of {self.num_molecules} molecules; take those of one by `of_molecule`")

    def check_same(self, atomic_numbers: Int[Tensor, " given"], positions: Float[Tensor, "given 3"], of: str) -> None:
        """Makes sure that these are the nuclei of one molecule, the given one.

        Args:
            atomic_numbers: of the given atoms.
            positions: of the given atoms, Angstrom.
            of: what errors call the given molecule.

        Raises:
            ValueError: for several molecules, other atoms, another order of them, or other positions.
        """
        self.require_one()
        if self.atomic_numbers.tolist() != atomic_numbers.tolist():
            raise ValueError(f"density: its atoms are not those of {of}, or not in the same order")
        apart = self.positions.detach().cpu().double() - positions.detach().cpu().double()
        distances = apart.norm(dim=-1)
        if float(distances.max()) < SAME_PLACE:
            return
        moved = float((apart - apart.mean(0)).norm(dim=-1).max()) < SAME_PLACE
        raise ValueError(
            f"density: atom {int(distances.argmax())} is {float(distances.max()):.3f} Angstrom away from its place in "
            f"{of}; "
            + (
                "all atoms are moved alike, as in a batch in single precision, which is about its own centre: take the "
                "density that `interfaces.electrons.predict_density` gives"
                if moved
                else "give the density of these positions"
            )
        )

    @property
    def charges(self) -> Float[Tensor, " molecules"]:
        """Sum of the nuclear charges of each molecule, e, float64."""
        return sum_by_index(self.atomic_numbers.double(), self.molecule_index, self.num_molecules)

    @property
    def centre(self) -> Float[Tensor, "molecules 3"]:
        """Centre of nuclear charge of each molecule, Angstrom, float64: the origin of dipoles and quadrupoles."""
        return centre_of_charge(self.atomic_numbers, self.positions.double(), self.molecule_index, self.num_molecules)


@dataclass(frozen=True)
class Density:
    """Electron density, rho(r) = sum_k c_k phi_k(r - R_k), and what follows from it in closed form.

    Predicted densities and reference densities that were fitted in an auxiliary basis are both of this type. The
    conventions of the functions are those of `gaussians`.

    Attributes:
        parts: the functions, those on alike centres together. A density may mix floating-point types: what is
            computed has the type of the points, moments are float64.
        nuclei: of the same molecules.

    Example:
        >>> nuclei = Nuclei(torch.tensor([2]), torch.zeros(1, 3), torch.tensor([0]), 1)
        >>> flat = FlatShells(torch.tensor([0]), torch.tensor([0]), torch.tensor([4.0]), torch.tensor([1.4]))
        >>> helium = Density.from_shells(nuclei, flat)
        >>> round(helium.electrons.item(), 2)
        1.96
    """

    parts: tuple[Gaussians, ...]
    nuclei: Nuclei

    @classmethod
    def from_shells(cls, nuclei: Nuclei, shells: FlatShells) -> "Density":
        """A density of functions on nuclei, such as an expansion in an auxiliary basis; owners count the atoms.

        Raises:
            ValueError: for an owner that is no atom.
        """
        return cls(grouped(shells, nuclei.positions, nuclei.molecule_index), nuclei)

    @property
    def num_functions(self) -> int:
        """Number of functions of all molecules together."""
        return sum(part.num_functions for part in self.parts)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Density":
        """The same density on another device or in another floating-point type."""
        return Density(tuple(part.to(device, dtype) for part in self.parts), self.nuclei.to(device, dtype))

    def shifted(self, by: Float[Tensor, "molecules 3"]) -> "Density":
        """The same density with every molecule displaced (Angstrom); centres and nuclei are float64 then."""
        parts = tuple(
            dataclasses.replace(part, centres=part.centres.double() + by[part.molecule_index]) for part in self.parts
        )
        positions = self.nuclei.positions.double() + by[self.nuclei.molecule_index]
        return Density(parts, dataclasses.replace(self.nuclei, positions=positions))

    def detach(self) -> "Density":
        """The same density without the graph that made it."""
        nuclei = dataclasses.replace(self.nuclei, positions=self.nuclei.positions.detach())
        return Density(tuple(part.detach() for part in self.parts), nuclei)

    def of_molecule(self, molecule: int) -> "Density":
        """The density of one molecule.

        Raises:
            ValueError: for a number that no molecule has.
        """
        nuclei = self.nuclei.of_molecule(molecule)
        return Density(tuple(_renumbered(part) for part in self._parts_of(molecule)), nuclei)

    def evaluate(
        self,
        points: Float[Tensor, "points 3"],
        molecule: int | np.integer[Any] | Int[Tensor, " points"] = 0,
        progress: Progress | None = None,
        threshold: float = NEGLIGIBLE,
    ) -> Float[Tensor, " points"]:
        """Density of one molecule at each point, in blocks of bounded memory.

        Differentiable by points, centres, exponents and coefficients.

        Args:
            points: Angstrom; their type and device are those of the computation.
            molecule: the molecule that is looked at, or one for each point.
            progress: called with the number of points that are done and of all points.
            threshold: functions of a centre are left out where together they are below it, e/Angstrom^3.

        Returns:
            e/Angstrom^3.

        Raises:
            ValueError: for a number that no molecule has, or points that are not finite numbers in threes.
        """
        _check_points(points)
        if not isinstance(molecule, Tensor):
            return evaluate(self._parts_of(int(molecule)), points, progress, threshold)
        values = torch.zeros_like(points[:, 0])
        done = 0
        for number in torch.unique(molecule).tolist():
            mine = (molecule == number).nonzero()[:, 0]
            values = values.index_copy(0, mine, evaluate(self._parts_of(number), points[mine], None, threshold))
            done += len(mine)
            if progress is not None:
                progress(done, len(points))
        return values

    @property
    def electrons(self) -> Float[Tensor, " molecules"]:
        """Integral of the density of each molecule, e, float64."""
        return self.moments.electrons

    @property
    def charge(self) -> Float[Tensor, " molecules"]:
        """Nuclear charge less the electrons, e, float64."""
        return self.nuclei.charges - self.electrons

    @property
    def moments(self) -> Moments:
        """Integrals over the electrons about the centre of nuclear charge, float64."""
        return moments(self.parts, self.nuclei.centre)

    @property
    def dipole(self) -> Float[Tensor, "molecules 3"]:
        """Dipole moment, e*Angstrom, float64, from negative to positive, about the centre of nuclear charge."""
        return -self.moments.first  # the nuclei have none about their centre

    @property
    def quadrupole(self) -> Float[Tensor, "molecules 3 3"]:
        """Traceless quadrupole about the centre of nuclear charge, sum of q (3 r r^T - r^2) / 2, e*Angstrom^2."""
        nuclei = self.nuclei
        arms = nuclei.positions.double() - nuclei.centre[nuclei.molecule_index]
        squares = nuclei.atomic_numbers.double()[:, None, None] * arms.unsqueeze(-1) * arms.unsqueeze(-2)
        second = sum_by_index(squares, nuclei.molecule_index, nuclei.num_molecules) - self.moments.second
        trace = second.diagonal(dim1=-2, dim2=-1).sum(-1)
        unit = torch.eye(3, dtype=torch.float64, device=second.device)
        return 1.5 * second - 0.5 * trace[:, None, None] * unit

    @property
    def spatial_extent(self) -> Float[Tensor, " molecules"]:
        """Integral of r^2 times the density about the centre of nuclear charge, e*Angstrom^2, float64."""
        return self.moments.second.diagonal(dim1=-2, dim2=-1).sum(-1)

    def potential(self, points: Float[Tensor, "points 3"], molecule: int = 0) -> Float[Tensor, " points"]:
        """Electrostatic potential of nuclei and electrons of one molecule, V.

        That of a point charge is infinite on it. Here each nucleus is an evenly charged ball of 0.01 Angstrom
        (`potential.NUCLEUS`): on it the potential is finite, at most 2160 V per proton, and outside it is exact.

        Args:
            points: Angstrom; float64 is advised, as nuclei and electrons cancel far away.
            molecule: number of the molecule.

        Raises:
            ValueError: for a number that no molecule has, or points that are not finite numbers in threes.
        """
        _check_points(points)
        nuclei = self.nuclei.of_molecule(molecule).to(points.device, points.dtype)
        total = -integral_over_distance(self._parts_of(molecule), points)
        for number, position in zip(nuclei.atomic_numbers, nuclei.positions, strict=True):
            total = total + number * inverse_distance(points - position)
        return COULOMB * total

    def field(self, points: Float[Tensor, "points 3"], molecule: int = 0) -> Float[Tensor, "points 3"]:
        """Electric field of nuclei and electrons of one molecule, minus the gradient of the potential, V/Angstrom.

        Args and raises: as `potential`.
        """
        if torch.is_inference_mode_enabled() or self._of_inference:
            # Tensors that were made in inference mode cannot be part of a graph; copies of them can.
            with torch.inference_mode(False), torch.no_grad():
                copy = Density(tuple(part.clone() for part in self.parts), self.nuclei.clone())
                return copy.field(points.clone(), molecule)
        _check_points(points)
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            places = points if points.requires_grad else points.detach().requires_grad_()
            blocks = places.split(_POINTS_OF_FIELD)
            values: list[Tensor] = []
            for block in blocks:
                (gradient,) = torch.autograd.grad(
                    self.potential(block, molecule).sum(), block, create_graph=graph and self._differentiable(points)
                )
                values.append(-gradient)
        return torch.cat(values) if values else torch.zeros_like(points)

    def overlap(self, other: "Density") -> Float[Tensor, " molecules"]:
        """Integral of the product of this density and another one of the same molecules, e^2/Angstrom^3, float64.

        Raises:
            ValueError: where the other density has not as many molecules.
        """
        if self.nuclei.num_molecules != other.nuclei.num_molecules:
            raise ValueError(
                f"other: it is of {other.nuclei.num_molecules} molecules and this one of "
                f"{self.nuclei.num_molecules}; both have to be of the same ones"
            )
        return torch.stack([overlap(self._parts_of(k), other._parts_of(k)) for k in range(self.nuclei.num_molecules)])

    @property
    def _of_inference(self) -> bool:
        return self.nuclei.positions.is_inference() or any(part.centres.is_inference() for part in self.parts)

    def _differentiable(self, points: Tensor) -> bool:
        return points.requires_grad or any(part.requires_grad for part in self.parts)

    def _parts_of(self, molecule: int) -> list[Gaussians]:
        """Functions of one molecule."""
        if not 0 <= molecule < self.nuclei.num_molecules:
            raise ValueError(f"molecule {molecule}: there are {self.nuclei.num_molecules}, counted from 0")
        if self.nuclei.num_molecules == 1:
            return list(self.parts)
        return [part.select((part.molecule_index == molecule).nonzero()[:, 0]) for part in self.parts]


_POINTS_OF_FIELD = 4096


def _check_points(points: Tensor) -> None:
    """Makes sure that points are places, so that no value is of something else.

    Raises:
        ValueError: otherwise.
    """
    if points.ndim != 2 or points.shape[1] != 3 or not points.is_floating_point():
        raise ValueError(
            f"points: expected floating-point numbers of shape (points, 3), Angstrom, got {points.dtype} of shape "
            f"{tuple(points.shape)}"
        )
    if not bool(points.isfinite().all()):
        bad = int((~points.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"points: point {bad} is {points[bad].tolist()}; expected three finite numbers in Angstrom")


def _renumbered(part: Gaussians) -> Gaussians:
    return dataclasses.replace(part, molecule_index=torch.zeros_like(part.molecule_index))
