"""Distances between neighbours by pair of elements: those of a training, and where a structure departs from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Bool, Float, Int

NEARER = 0.9
"""Two atoms count as nearer than any in training below this fraction of the shortest distance of their elements."""

FARTHER = 1.25
"""Nearest neighbours count as far apart from this multiple of the longest distance of such neighbours in training."""

Ranges = Mapping[str, tuple[float, float]]
"""By pair of elements (`H-O`, the lower atomic number first): the shortest distance of two such atoms, and the longest
of those where one is the nearest neighbour of the other, zero if none is; Angstrom."""


@final
@dataclass(frozen=True)
class Contacts:
    """Pairs of neighbours within the cutoff, and atoms that have none, of a batch.

    Attributes:
        pairs: atomic numbers of the two atoms of each pair, the lower one first.
        lengths: their distance, Angstrom.
        molecules: molecule that each pair belongs to.
        nearest: whether one is the nearest neighbour of the other.
        lone: atomic number of each atom without a neighbour, and its molecule.
    """

    pairs: Int[np.ndarray, "pairs 2"]
    lengths: Float[np.ndarray, " pairs"]
    molecules: Int[np.ndarray, " pairs"]
    nearest: Bool[np.ndarray, " pairs"]
    lone: Int[np.ndarray, "atoms 2"]

    @classmethod
    def of(
        cls,
        numbers: Int[np.ndarray, " atoms"],
        owners: Int[np.ndarray, " atoms"],
        edge_index: Int[np.ndarray, "2 edges"],
        lengths: Float[np.ndarray, " edges"],
    ) -> "Contacts":
        """Of a batch's edges.

        Args:
            numbers: atomic number of each atom.
            owners: molecule of each atom.
            edge_index: sender and receiver of each edge, every pair in both directions.
            lengths: of the edges, Angstrom.
        """
        senders, receivers = edge_index
        shortest = np.full(len(numbers), np.inf)
        np.minimum.at(shortest, receivers, lengths)
        pairs = np.sort(np.stack([numbers[senders], numbers[receivers]], 1), axis=1)
        alone = np.isinf(shortest)
        lone = np.stack([numbers[alone], owners[alone]], 1)
        return cls(pairs, lengths, owners[receivers], lengths == shortest[receivers], lone)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Shortest distance and longest one of nearest neighbours, by pair of elements (see `Ranges`)."""
        kinds, which = np.unique(self.pairs, axis=0, return_inverse=True)
        found: dict[str, tuple[float, float]] = {}
        for k, pair in enumerate(kinds):
            mine = which.reshape(-1) == k
            found[_name(pair)] = float(self.lengths[mine].min()), float((self.lengths * self.nearest)[mine].max())
        return found

    def lone_elements(self) -> set[str]:
        """Elements of the atoms without a neighbour."""
        return {chemical_symbols[number] for number in self.lone[:, 0]}

    def nearer(self, known: Ranges) -> dict[int, dict[str, float]]:
        """By molecule the pairs of elements that come nearer than in a training, with their shortest distance.

        Pairs that the training did not have are not compared here: `farther` tells of those that are nearest
        neighbours.
        """
        return self._picked(self.lengths < NEARER * self._table(known, 0), shortest=True)

    def farther(self, known: Ranges, lone: tuple[str, ...]) -> dict[int, dict[str, float]]:
        """By molecule the nearest neighbours that are farther apart than in a training, with their longest distance.

        Those of elements that were no nearest neighbours in the training count too, at any distance, and so do atoms
        without a neighbour, at an infinite one.

        Args:
            known: ranges of the training.
            lone: elements whose atoms were without a neighbour there.
        """
        found = self._picked(self.nearest & (self.lengths > FARTHER * self._table(known, 1)), shortest=False)
        for number, molecule in self.lone.tolist():
            if chemical_symbols[number] not in lone:
                found.setdefault(molecule, {})[chemical_symbols[number]] = np.inf
        return found

    def _table(self, known: Ranges, which: int) -> Float[np.ndarray, " pairs"]:
        """One end of the range of each pair; zero for pairs that are not known."""
        values = np.zeros((len(chemical_symbols), len(chemical_symbols)))
        for name, ends in known.items():
            one, other = name.split("-")
            values[atomic_numbers[one], atomic_numbers[other]] = ends[which]
        return values[self.pairs[:, 0], self.pairs[:, 1]]

    def _picked(self, chosen: Bool[np.ndarray, " pairs"], shortest: bool) -> dict[int, dict[str, float]]:
        found: dict[int, dict[str, float]] = {}
        for k in np.flatnonzero(chosen):
            of_molecule, name = found.setdefault(int(self.molecules[k]), {}), _name(self.pairs[k])
            lengths = float(self.lengths[k]), of_molecule.get(name, float(self.lengths[k]))
            of_molecule[name] = min(lengths) if shortest else max(lengths)
        return found


def merged(one: Ranges, other: Ranges) -> dict[str, tuple[float, float]]:
    """The ranges of two sets of structures together.

    Example:
        >>> merged({"H-O": (0.9, 1.1)}, {"H-O": (0.95, 1.2), "O-O": (2.6, 0.0)})
        {'H-O': (0.9, 1.2), 'O-O': (2.6, 0.0)}
    """
    found = dict(one)
    for pair, (shortest, longest) in other.items():
        near, far = found.get(pair, (shortest, longest))
        found[pair] = min(near, shortest), max(far, longest)
    return found


def said_of_nearer(of_molecules: Iterable[Mapping[str, float]], known: Ranges) -> str:
    """What is said of pairs that come nearer than in training."""
    parts: list[str] = []
    for pair, lengths in _by_pair(of_molecules).items():
        parts.append(f"{pair} {min(lengths):.3f} Angstrom (at least {known[pair][0]:.3f} there)")
    return ", ".join(parts)


def said_of_farther(of_molecules: Iterable[Mapping[str, float]], known: Ranges) -> str:
    """What is said of nearest neighbours that are farther apart than in training, or that it did not have."""
    parts: list[str] = []
    for pair, lengths in _by_pair(of_molecules).items():
        if max(lengths) == np.inf:
            parts.append(f"{pair} without a neighbour")
            continue
        longest = known.get(pair, (0.0, 0.0))[1]
        parts.append(f"{pair} {max(lengths):.3f} Angstrom ({f'at most {longest:.3f}' if longest else 'none'} there)")
    return ", ".join(parts)


def _by_pair(of_molecules: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for pairs in of_molecules:
        for pair, length in pairs.items():
            found.setdefault(pair, []).append(length)
    return found


def _name(pair: Int[np.ndarray, " 2"]) -> str:
    return f"{chemical_symbols[pair[0]]}-{chemical_symbols[pair[1]]}"
