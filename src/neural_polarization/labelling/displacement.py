"""Thermally displaced structures from the curvature of a force field."""

from dataclasses import dataclass
from typing import Any

import ase
import ase.units
import numpy as np
from jaxtyping import Float

from ..structures.smiles import force_field, molecule_atoms
from ..units import KILOCALORIE_PER_MOLE

_SOFTEST = 0.8
"""Lowest curvature, eV/Angstrom^2. A torsion is not a harmonic spring, and a straight displacement along it stretches
bonds."""


class ForceField:
    """Forces and curvature of an RDKit molecule at its conformer, in MMFF94 or UFF."""

    def __init__(self, molecule: Any) -> None:
        self._molecule = molecule
        self._field = force_field(molecule)

    def atoms(self) -> ase.Atoms:
        """The structure at the present positions."""
        return molecule_atoms(self._molecule)

    def move_to(self, positions: Float[np.ndarray, "atoms 3"]) -> None:
        """Moves the atoms to these positions (Angstrom)."""
        conformer = self._molecule.GetConformer()
        for atom, position in enumerate(positions.tolist()):
            conformer.SetAtomPosition(atom, position)
        self._field = force_field(self._molecule)

    def bonds(self) -> list[tuple[int, int]]:
        """Pairs of bonded atoms."""
        return [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in self._molecule.GetBonds()]

    def energy_and_forces(self, positions: Float[np.ndarray, "atoms 3"]) -> tuple[float, Float[np.ndarray, "atoms 3"]]:
        """Energy (eV) and forces (eV/Angstrom) at these positions (Angstrom)."""
        coordinates = positions.ravel().tolist()
        # RDKit keeps distances between calls. Only the energy computes them anew; without it gradients are wrong.
        energy = self._field.CalcEnergy(coordinates)
        gradient = np.array(self._field.CalcGrad(coordinates)).reshape(positions.shape)
        return energy * KILOCALORIE_PER_MOLE, -gradient * KILOCALORIE_PER_MOLE

    def hessian(self, step: float = 1e-3) -> Float[np.ndarray, "coordinates coordinates"]:
        """Second derivatives by central differences of the gradient, eV/Angstrom^2."""
        positions = np.array(self._molecule.GetConformer().GetPositions()).ravel()
        rows: list[Any] = []
        for coordinate in range(len(positions)):
            moved = positions.copy()
            moved[coordinate] += step
            forward = self._gradient(moved)
            moved[coordinate] -= 2 * step
            rows.append((forward - self._gradient(moved)) / (2 * step))
        hessian = np.array(rows)
        return (hessian + hessian.T) / 2

    def _gradient(self, positions: Float[np.ndarray, " coordinates"]) -> Float[np.ndarray, " coordinates"]:
        return -self.energy_and_forces(positions.reshape(-1, 3))[1].ravel()


@dataclass(frozen=True)
class Tolerance:
    """Limits within which a structure counts as the same molecule as the relaxed one.

    Attributes:
        shortest, longest: Limits of a bond length divided by the relaxed bond length.
        contact: Smallest distance of atoms that are not bonded, Angstrom.
    """

    shortest: float = 0.8
    longest: float = 1.25
    contact: float = 1.2


def thermal_frames(
    field: ForceField, frames: int, temperature: float, seed: int, tolerance: Tolerance | None = None
) -> list[ase.Atoms]:
    """The relaxed structure, followed by classical harmonic samples at a temperature.

    A displacement x is drawn from exp(-x H x / 2 kT), where H are the second derivatives of the force field, without
    translations and rotations. This is the classical distribution of positions, which does not depend on masses. Modes
    softer than 0.8 eV/Angstrom^2 get that curvature. Frames with a broken bond or a close contact are drawn again.

    Args:
        field: Force field at its minimum.
        frames: Number of structures, the relaxed one included.
        temperature: Temperature, kelvin.
        seed: Seed of the random numbers.
        tolerance: Limits on bonds and contacts.

    Raises:
        ValueError: for a negative temperature, or if almost every sample breaks a bond.
    """
    if temperature < 0:
        raise ValueError(f"temperature: expected kelvin, at least 0, got {temperature}")
    limits = tolerance or Tolerance()
    relaxed = field.atoms()
    result = [relaxed]
    if frames == 1 or len(relaxed) == 1:
        return result
    internal = _internal_space(relaxed.positions)
    curvature, modes = np.linalg.eigh(internal.T @ field.hessian() @ internal)
    widths = np.sqrt(ase.units.kB * temperature / np.maximum(curvature, _SOFTEST))
    # The symmetric root does not depend on which basis the solver chooses for modes of equal curvature.
    spread = internal @ modes @ np.diag(widths) @ modes.T @ internal.T
    generator = np.random.default_rng(seed)
    bonds = np.array(field.bonds())
    for _ in range(100 * frames):
        displaced = relaxed.copy()
        displaced.positions += (spread @ generator.normal(size=len(spread))).reshape(-1, 3)
        if same_molecule(relaxed, displaced, bonds, limits):
            result.append(displaced)
        if len(result) == frames:
            return result
    raise ValueError(
        f"temperature: at {temperature} K bonds of {relaxed.get_chemical_formula()} break in almost every sample; "
        "choose a lower one"
    )


def _internal_space(positions: Any) -> Any:
    """Orthonormal directions that are neither translations nor rotations."""
    centred = positions - positions.mean(axis=0)
    rigid = [np.tile(axis, len(positions)) for axis in np.eye(3)]
    rigid += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    left, values, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    return left[:, int(np.count_nonzero(values > 1e-3)) :]


def same_molecule(relaxed: ase.Atoms, displaced: ase.Atoms, bonds: Any, limits: Tolerance) -> bool:
    """Whether bonds (pairs of atoms) and contacts of the displaced structure are within the limits."""
    before, after = relaxed.get_all_distances(), displaced.get_all_distances()
    bonded = np.zeros(before.shape, dtype=bool)
    if len(bonds):
        bonded[bonds[:, 0], bonds[:, 1]] = bonded[bonds[:, 1], bonds[:, 0]] = True
        ratio = after[bonded] / before[bonded]
        if ratio.min() < limits.shortest or ratio.max() > limits.longest:
            return False
    apart = ~bonded & ~np.eye(len(relaxed), dtype=bool)
    return not np.any(after[apart] < limits.contact)
