"""Pairs of structures that some networks cannot tell apart, and what theory says about each pair.

Only the pairs of atoms that a case names have edges, so a network sees the geometry only through them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers

from neural_polarization.molecules import Molecules

ELEMENTS = ("H", "C", "F", "Cl", "Br")
"""The elements of all cases."""

_SCALE = 0.3  # Angstrom per unit of the coordinates below: bonds of 1.5 to 2.6 Angstrom

Point = tuple[float | int, float | int, float | int]


@dataclass(frozen=True)
class Case:
    """A pair of structures in one batch.

    Attributes:
        name: Short name without spaces.
        theory: What a network needs in order to tell the two structures apart.
        molecules: The first and the second structure, float64.
        centre: Index of the atom whose vectors are compared; None if the pooled scalars are compared.
    """

    name: str
    theory: str
    molecules: Molecules
    centre: int | None = None


def all_cases() -> list[Case]:
    """Every pair of structures, the simplest first."""
    return [
        _two_body(),
        _three_body(),
        _four_body(),
        _four_body_chiral(),
        *(_chain(length) for length in (2, 3, 4)),
        *(_star_with_probe(fold) for fold in (2, 3, 5)),
        *(_star_orientation(fold) for fold in (2, 3)),
        _enantiomers(),
    ]


def _two_body() -> Case:
    centre: list[Point] = [(0, 0, 0), (5, 0, 0)]
    return _star(
        "2-body",
        "equal distances from the centre, another angle: needs angles (order 3) or directions",
        [*centre, (3, 0, 4)],
        [*centre, (-5, 0, 0)],
    )


def _three_body() -> Case:
    common: list[Point] = [(0, 0, 0), (5, 0, 5), (5, 5, 5), (-5, -5, 5)]
    return _star(
        "3-body",
        "equal sets of distances and angles at the centre: needs order 4, or a second layer",
        [*common, (0, 5, 5)],
        [*common, (0, -5, 5)],
    )


def _four_body() -> Case:
    # Both triangles lie on a circle and have no mirror plane. If they were isosceles, a half turn about an axis between
    # them would map one structure onto the other.
    turn = 2 * math.pi / 10
    circle: list[tuple[float, float]] = [(3, -4), (0, 5), (-4, -3)]
    upper: list[Point] = [(x, 2, z) for x, z in circle]
    lower: list[Point] = [_about_y((x, -2, z), turn) for x, z in circle]
    common: list[Point] = [(0, 0, 0), *upper, *lower]
    return _star(
        "4-body",
        "equal sets of distances, angles and triples of directions at the centre: needs order 5, or a second layer",
        [*common, (0, 5, 0)],
        [*common, (0, -5, 0)],
    )


def _four_body_chiral() -> Case:
    common: list[Point] = [(0, 0, 0), (3, 0, -4), (0, 0, 5), (-3, 0, -4)]
    return _star(
        "4-body-chiral",
        "mirror images of each other: no network whose scalars keep under reflection tells them apart",
        [*common, (0, 5, 0)],
        [*common, (0, -5, 0)],
    )


def _chain(length: int) -> Case:
    """`length` atoms in a row, with one more atom at each end, bent to the same side or to opposite sides."""
    row: list[Point] = [(0, 5 * k, 0) for k in range(length)]
    start, last = (-4, -3, 0), 5 * (length - 1) + 3
    edges = [(k, k + 1) for k in range(length + 1)]
    return _pair(
        f"{length}-chain",
        f"ends bent to one side or to opposite sides: needs at least {length // 2 + 1} layers that carry directions",
        [start, *row, (4, last, 0)],
        [start, *row, (-4, last, 0)],
        edges,
    )


def _star_with_probe(fold: int) -> Case:
    """A star and one further atom, whose direction is along a leaf of the star or between two leaves."""
    centre_and_leaves: list[Point] = [
        (0, 0, 0),
        *(_on_circle(0.7 + 2 * math.pi * k / fold, 5.0) for k in range(fold)),
    ]
    return _star(
        f"{fold}-star-probe",
        f"a probe along a leaf of a {fold}-fold star or between two, where only the centre receives messages: needs "
        f"degree {fold}, or a point displaced towards the probe, whose distances to the leaves contain every degree",
        [*centre_and_leaves, _on_circle(0.7, 6.0)],
        [*centre_and_leaves, _on_circle(0.7 + math.pi / fold, 6.0)],
        back=False,
    )


def _star_orientation(fold: int) -> Case:
    """Two orientations of a symmetric star, which the vectors of its centre can distinguish."""

    def leaves(shift: float) -> list[Point]:
        return [_on_circle(shift + 2 * math.pi * k / fold, 5.0) for k in range(fold)]

    case = _star(
        f"{fold}-star-turned",
        f"two orientations of a {fold}-fold star, seen by the vectors and the displacement of its centre: they vanish "
        "by symmetry, moving points or not",
        [(0, 0, 0), *leaves(0.7)],
        [(0, 0, 0), *leaves(0.7 + math.pi / fold)],
    )
    return Case(case.name, case.theory, case.molecules, centre=0)


def _enantiomers() -> Case:
    corners: list[Point] = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    numbers = [atomic_numbers[symbol] for symbol in ("C", "H", "F", "Cl", "Br")]
    lengths = (3.6, 4.5, 5.8, 6.4)
    first: list[Point] = [(0, 0, 0)]
    first += [_scaled(corner, length) for corner, length in zip(corners, lengths, strict=True)]
    second: list[Point] = [(-x, y, z) for x, y, z in first]
    edges = [(a, b) for a in range(5) for b in range(a)]
    return _pair(
        "enantiomers",
        "CHFClBr and its mirror image: energies are equal, and a network that keeps under reflection says so",
        first,
        second,
        edges,
        numbers=numbers,
    )


def _on_circle(angle: float, radius: float) -> Point:
    return radius * math.cos(angle), radius * math.sin(angle), 0.0


def _about_y(point: Point, angle: float) -> Point:
    x, y, z = point
    return x * math.cos(angle) + z * math.sin(angle), y, z * math.cos(angle) - x * math.sin(angle)


def _scaled(point: Point, length: float) -> Point:
    x, y, z = point
    factor = length / math.sqrt(x * x + y * y + z * z)
    return x * factor, y * factor, z * factor


def _star(name: str, theory: str, first: Sequence[Point], second: Sequence[Point], back: bool = True) -> Case:
    """Two stars, in which all atoms send to atom 0; with `back`, atom 0 sends to them too."""
    edges = [(leaf, 0) for leaf in range(1, len(first))]
    return _pair(name, theory, first, second, edges, back)


def _pair(
    name: str,
    theory: str,
    first: Sequence[Point],
    second: Sequence[Point],
    edges: Sequence[tuple[int, int]],
    back: bool = True,
    numbers: Sequence[int] | None = None,
) -> Case:
    """Two structures with the same edges (sender, receiver)."""
    size = len(first)
    numbers = numbers or [atomic_numbers["C"]] * size
    directed = [*edges, *((b, a) for a, b in edges if back)]
    edge_index = torch.tensor(sorted(directed, key=lambda edge: (edge[1], edge[0]))).T
    molecules = Molecules(
        atomic_numbers=torch.tensor([*numbers, *numbers]),
        positions=torch.tensor([*first, *second], dtype=torch.float64) * _SCALE,
        molecule_index=torch.arange(2).repeat_interleave(size),
        edge_index=torch.cat([edge_index, edge_index + size], 1),
        num_molecules=2,
    )
    return Case(name, theory, molecules)
