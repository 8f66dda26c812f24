"""What a page or a figure shows: a molecule, its moving points and its electrons, as plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""An array of numbers; its shape is checked where a value is made, with a message that names the field."""

MINUS = "\N{MINUS SIGN}"

BOND_SLACK = 1.2
"""Two atoms are bonded if they are nearer than this times the sum of their covalent radii."""


@dataclass(frozen=True)
class Grid:
    """Values on a regular grid; value (i, j, k) stands at `origin + i spacing[0] + j spacing[1] + k spacing[2]`.

    Attributes:
        origin: first point, (3,), Angstrom.
        spacing: row a is the step along axis a, (3, 3), Angstrom.
        values: (nx, ny, nz), at least two points along every axis; densities in e/Angstrom^3, potentials in V.

    Raises:
        ValueError: for another shape, steps that lie in a plane, or values that are not finite.

    Example:
        >>> grid = Grid(np.zeros(3), 0.2 * np.eye(3), np.ones((4, 5, 6)))
        >>> grid.points.shape, round(grid.cell_volume, 6)
        ((4, 5, 6, 3), 0.008)
    """

    origin: Array
    spacing: Array
    values: Array

    def __post_init__(self) -> None:
        _check("origin of a grid", self.origin, (3,))
        _check("spacing of a grid", self.spacing, (3, 3))
        _check("values of a grid", self.values, (None, None, None))
        if min(self.values.shape) < 2:
            raise ValueError(f"values of a grid: expected two or more points along every axis, got {self.values.shape}")
        if self.cell_volume < 1e-9:
            raise ValueError("spacing of a grid: the three steps lie in a plane; give three independent vectors")

    @property
    def cell_volume(self) -> float:
        """Volume that belongs to a point, Angstrom^3."""
        return float(abs(np.linalg.det(self.spacing)))

    @property
    def points(self) -> Array:
        """Where the values stand, (nx, ny, nz, 3), Angstrom."""
        indices = np.stack(np.meshgrid(*map(np.arange, self.values.shape), indexing="ij"), axis=-1)
        return self.origin + indices @ self.spacing

    def on_same_points(self, other: "Grid") -> bool:
        """Whether another grid has its values on the same points."""
        return (
            self.values.shape == other.values.shape
            and np.allclose(self.origin, other.origin, atol=1e-6)
            and np.allclose(self.spacing, other.spacing, atol=1e-8)
        )


@dataclass(frozen=True)
class Scene:
    """One structure with everything that is known of it.

    Attributes:
        title: name of the structure.
        atomic_numbers: (atoms,).
        positions: of the nuclei, (atoms, 3), Angstrom.
        charge: total charge, e.
        moving_points: positions of the moving points after every layer, (layers, atoms, 3), Angstrom.
        density: electron density, e/Angstrom^3.
        deformation: density minus that of free atoms, e/Angstrom^3.
        potential: electrostatic potential, V; it colours the surfaces of densities.
        reference: a density to compare with, on the points of `density`, e/Angstrom^3.
        reference_name: what the reference is, such as "DFT density".
        dipole: (3,), e*Angstrom, from negative to positive.
        charges: of the atoms, (atoms,), e.
        properties: name and value with its unit, as they are shown.

    Raises:
        ValueError: for no atoms, another shape, an unknown element, values that are not finite, or a reference on
            other points than the density's.
    """

    title: str
    atomic_numbers: Array
    positions: Array
    charge: int = 0
    moving_points: Array | None = None
    density: Grid | None = None
    deformation: Grid | None = None
    potential: Grid | None = None
    reference: Grid | None = None
    reference_name: str = "reference density"
    dipole: Array | None = None
    charges: Array | None = None
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        atoms = len(self.atomic_numbers)
        where = f"scene {self.title!r}: "
        if not atoms:
            raise ValueError(f"{where}no atoms; a scene shows a structure with at least one atom")
        _check(f"{where}atomic_numbers", self.atomic_numbers, (atoms,))
        if self.atomic_numbers.min() < 0 or self.atomic_numbers.max() >= len(chemical_symbols):
            raise ValueError(f"{where}atomic_numbers: expected 0 to {len(chemical_symbols) - 1}")
        _check(f"{where}positions", self.positions, (atoms, 3))
        if self.moving_points is not None:
            _check(f"{where}moving_points", self.moving_points, (None, atoms, 3))
        if self.dipole is not None:
            _check(f"{where}dipole", self.dipole, (3,))
        if self.charges is not None:
            _check(f"{where}charges", self.charges, (atoms,))
        if self.reference is not None and (self.density is None or not self.reference.on_same_points(self.density)):
            raise ValueError(f"{where}reference: expected on the points of `density`, so that they can be subtracted")

    @property
    def symbols(self) -> list[str]:
        """Chemical symbol of every atom."""
        return [chemical_symbols[number] for number in self.atomic_numbers]

    @property
    def formula(self) -> str:
        """Formula in Hill's order, with the charge where there is one, such as "NH4+"."""
        sign = "" if not self.charge else ("+" if self.charge > 0 else MINUS)
        count = str(abs(self.charge)) if abs(self.charge) > 1 else ""
        return Formula.from_list(self.symbols).format("hill") + count + sign

    @property
    def displacements(self) -> Array | None:
        """Displacement of every moving point from its nucleus after every layer, (layers, atoms, 3), Angstrom."""
        return None if self.moving_points is None else self.moving_points - self.positions

    @property
    def difference(self) -> Grid | None:
        """The density minus the reference, e/Angstrom^3."""
        if self.density is None or self.reference is None:
            return None
        return Grid(self.density.origin, self.density.spacing, self.density.values - self.reference.values)

    def bonds(self) -> list[tuple[int, int]]:
        """Pairs of atoms that are drawn with a stick, by the sum of their covalent radii."""
        from ase.data import covalent_radii

        radii = covalent_radii[self.atomic_numbers]
        distances = np.linalg.norm(self.positions[:, None] - self.positions[None], axis=-1)
        near = distances < BOND_SLACK * (radii[:, None] + radii[None])
        return [(int(i), int(j)) for i, j in np.argwhere(np.triu(near, k=1))]


def _check(name: str, values: Array, shape: tuple[int | None, ...]) -> None:
    """Makes sure that an array has a shape (None: any length but zero) and finite numbers only.

    Raises:
        ValueError: otherwise.
    """
    fits = values.ndim == len(shape) and all(
        length == wanted if wanted is not None else length > 0
        for length, wanted in zip(values.shape, shape, strict=False)
    )
    if not fits:
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name}: expected the shape ({expected}), got {values.shape}")
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ValueError(f"{name}: {bad} of {values.size} numbers are not finite (NaN or infinite); leave them out")
