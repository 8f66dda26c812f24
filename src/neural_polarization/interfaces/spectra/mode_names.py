"""Names of normal modes by what moves most: stretches of bonds, bends of angles, torsions about bonds."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from jaxtyping import Float

STRETCH, BEND, TORSION = 30.0, 5.0, 0.5
"""Force constants of an ordinary molecule: eV/Angstrom^2 of a bond, eV/rad^2 of an angle and of a torsion."""

_BONDED = 1.15  # times the sum of covalent radii
_STEP = 1e-4  # Angstrom sqrt(amu): of the differences that give how internal coordinates change
_FLAT = 1e-3  # radians from 180 degrees: such an angle has no slope, and its torsions no value


@dataclass(frozen=True)
class _Coordinate:
    """A distance, an angle or a torsion of some atoms; of a straight angle the kink, which has two directions."""

    atoms: tuple[int, ...]
    name: str
    stiffness: float
    straight: bool = False

    def change(self, before: Float[np.ndarray, "atoms 3"], after: Float[np.ndarray, "atoms 3"]) -> float:
        """How far it is from one geometry to another."""
        if self.straight:
            return float(np.linalg.norm(self._kink(after) - self._kink(before)))
        change = self.value(after) - self.value(before)
        return (change + np.pi) % (2.0 * np.pi) - np.pi  # a torsion may pass 180 degrees

    def _kink(self, positions: Float[np.ndarray, "atoms 3"]) -> Float[np.ndarray, "3"]:
        """Sum of the unit vectors to both ends, about as long as the angle is from 180 degrees, in radians."""
        one, centre, two = positions[list(self.atoms)]
        return (one - centre) / np.linalg.norm(one - centre) + (two - centre) / np.linalg.norm(two - centre)

    def value(self, positions: Float[np.ndarray, "atoms 3"]) -> float:
        points = positions[list(self.atoms)]
        if len(points) == 2:
            return float(np.linalg.norm(points[1] - points[0]))
        if len(points) == 3:
            one, two = points[0] - points[1], points[2] - points[1]
            return float(np.arctan2(np.linalg.norm(np.cross(one, two)), one @ two))
        first, axis, last = points[1] - points[0], points[2] - points[1], points[3] - points[2]
        one, two = np.cross(first, axis), np.cross(axis, last)
        return float(np.arctan2(np.linalg.norm(axis) * (first @ two), one @ two))


def mode_names(atoms: ase.Atoms, modes: Float[np.ndarray, "modes atoms 3"]) -> list[str]:
    """Names of normal modes, such as "C=O stretch" without the order of the bond: "C-O stretch".

    The changes of all bonds, angles and torsions along a mode are weighted with ordinary force constants, and added up
    for coordinates of the same elements; the largest sum names the mode, and a second one that is half as large too.

    Args:
        atoms: A molecule; atoms that are little farther apart than their covalent radii are bonded.
        modes: Displacements along the normal coordinates.
    """
    coordinates = list(_coordinates(atoms))
    return [_name(atoms.positions, mode, coordinates) for mode in modes]


def _name(
    positions: Float[np.ndarray, "atoms 3"], mode: Float[np.ndarray, "atoms 3"], coordinates: Sequence[_Coordinate]
) -> str:
    energies: dict[str, float] = defaultdict(float)
    for coordinate in coordinates:
        change = coordinate.change(positions - _STEP * mode, positions + _STEP * mode)
        energies[coordinate.name] += coordinate.stiffness * change**2
    ranked = sorted(energies.items(), key=lambda item: -item[1])
    if not ranked or ranked[0][1] == 0.0:
        return "between fragments"
    return ", ".join(name for name, energy in ranked[:2] if energy >= 0.5 * ranked[0][1])


def _coordinates(atoms: ase.Atoms) -> Iterator[_Coordinate]:
    symbols = atoms.get_chemical_symbols()
    bonded = _neighbours(atoms)
    for one, others in enumerate(bonded):
        for two in others:
            if one < two:
                yield _Coordinate((one, two), f"{_named(symbols, one, two)} stretch", STRETCH)
    for centre, others in enumerate(bonded):
        for place, one in enumerate(others):
            for two in others[place + 1 :]:
                angle = _Coordinate((one, centre, two), f"{_named(symbols, one, centre, two)} bend", BEND)
                yield replace(angle, straight=np.pi - angle.value(atoms.positions) <= _FLAT)
    yield from _torsions(atoms, symbols, bonded)


def _torsions(atoms: ase.Atoms, symbols: Sequence[str], bonded: Sequence[Sequence[int]]) -> Iterator[_Coordinate]:
    """Torsions about bonds, and displacements out of the plane of three neighbours."""

    def bent(*three: int) -> bool:
        angle = _Coordinate(three, "", BEND).value(atoms.positions)
        return _FLAT < angle < np.pi - _FLAT

    for two, others in enumerate(bonded):
        for three in others:
            if two > three:
                continue
            chains = [
                (one, two, three, four)
                for one in bonded[two]
                for four in bonded[three]
                if len({one, two, three, four}) == 4 and bent(one, two, three) and bent(two, three, four)
            ]
            for chain in chains:
                name = f"torsion about {_named(symbols, two, three)}"
                yield _Coordinate(chain, name, TORSION / len(chains))
        if len(others) == 3 and bent(others[0], two, others[1]) and bent(two, others[1], others[2]):
            name = f"{symbols[two]} out of plane"
            yield _Coordinate((others[0], two, others[1], others[2]), name, TORSION)


def _neighbours(atoms: ase.Atoms) -> list[list[int]]:
    reach = [_BONDED * radius for radius in natural_cutoffs(atoms)]
    pairs = build_neighbor_list(atoms, cutoffs=reach, skin=0.0, self_interaction=False, bothways=True)
    return [sorted(int(other) for other in pairs.get_neighbors(atom)[0]) for atom in range(len(atoms))]


def _named(symbols: Sequence[str], *which: int) -> str:
    """Elements of a chain, in the one of its two directions that comes first: C-O, H-C-O."""
    chain = [symbols[atom] for atom in which]
    return "-".join(min(chain, chain[::-1]))
