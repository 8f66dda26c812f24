"""Molecules of different sizes in flat arrays, checked once when they are read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict, final

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from neural_polarization.charges import check_spin, possible_spins
from neural_polarization.errors import DataError
from neural_polarization.plausibility import FARTHEST, check_cell, lattice, volume_of

_LARGEST_MOLECULE = 2**31
PAIRS_AT_A_TIME = 400_000
"""Ordered pairs of atoms (including an atom with itself) that one step over many molecules may hold."""


def ragged_rows(
    starts: Int[np.ndarray, " molecules"], counts: Int[np.ndarray, " molecules"]
) -> Int[np.ndarray, " rows"]:
    """The rows starts[k], ..., starts[k] + counts[k] - 1 of every k, one after the other.

    Example:
        >>> ragged_rows(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


def starts_of(counts: Int[np.ndarray, " molecules"]) -> Int[np.ndarray, " molecules"]:
    """First row of each molecule where `counts` rows belong to each."""
    return np.cumsum(counts) - counts


@final
@dataclass(frozen=True)
class FlatMolecules:
    """Molecules one after the other: `n_atoms[k]` rows of the flat arrays belong to molecule k.

    Attributes:
        n_atoms: atoms of each molecule.
        atomic_numbers: nuclear charges.
        positions: Angstrom.
        charges: total charges, e; None where all molecules are neutral.
        cells: lattice vectors in rows, Angstrom, NaN for what is not periodic; None where nothing is.
        spins: numbers of unpaired electrons, NaN where one is not known; None where none is.
        pbc: along which lattice vectors each molecule repeats; None where everything that has a cell repeats along all.
        file_rows: place of each molecule in the file that they were read from, which other files refer to; -1 where
            the molecule is not from that file. None where these are all molecules of the file, in its order.
    """

    n_atoms: Int[np.ndarray, " molecules"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    charges: Float[np.ndarray, " molecules"] | None = None
    cells: Float[np.ndarray, "molecules 3 3"] | None = None
    spins: Float[np.ndarray, " molecules"] | None = None
    pbc: Bool[np.ndarray, "molecules 3"] | None = None
    file_rows: Int[np.ndarray, " molecules"] | None = None

    def __len__(self) -> int:
        return len(self.n_atoms)

    @cached_property
    def starts(self) -> Int[np.ndarray, " molecules"]:
        """First atom of each molecule."""
        return starts_of(self.n_atoms)

    @cached_property
    def periodic(self) -> Bool[np.ndarray, " molecules"]:
        """Which molecules repeat in space."""
        if self.cells is None:
            return np.zeros(len(self), bool)
        return np.isfinite(self.cells[:, 0, 0])

    @cached_property
    def volumes(self) -> Float[np.ndarray, " molecules"]:
        """Volume of each cell, Angstrom^3; zero for what has none: molecules, and slabs without a third vector."""
        volumes = np.zeros(len(self))
        if self.cells is not None:
            volumes[self.periodic] = [volume_of(cell) for cell in self.cells[self.periodic]]
        return volumes

    def lattice(self, molecule: int) -> Float[np.ndarray, "3 3"] | None:
        """The vectors along which a molecule repeats, zero for other directions; None where it does not repeat."""
        if self.cells is None or not self.periodic[molecule]:
            return None
        return self.cells[molecule] if self.pbc is None else lattice(self.cells[molecule], self.pbc[molecule])

    @property
    def num_pairs(self) -> int:
        """Ordered pairs of atoms in all molecules, each atom with itself included: what a search costs."""
        return int((self.n_atoms**2).sum())

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the molecules, wherever they were read from: equal for equal ones in equal order."""
        digest = hashlib.sha256()
        for array in (self.n_atoms, self.atomic_numbers, self.positions, self.charges, self.cells):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes() + b"|")
        if self.spins is not None:  # files that say nothing of spins keep the hash that they had
            digest.update(np.ascontiguousarray(self.spins).tobytes() + b"|")
        if self.pbc is not None:  # and so do those without slabs and wires
            digest.update(np.ascontiguousarray(self.pbc).tobytes() + b"|")
        return digest.hexdigest()

    def atoms_of(self, indices: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " atoms"]:
        """Rows of the flat arrays that belong to some molecules, in the order of `indices`."""
        return ragged_rows(self.starts[indices], self.n_atoms[indices])

    def subset(self, indices: Int[np.ndarray, " chosen"]) -> "FlatMolecules":
        """Some of the molecules, in the order of `indices`."""
        atoms = self.atoms_of(indices)
        return FlatMolecules(
            n_atoms=self.n_atoms[indices],
            atomic_numbers=self.atomic_numbers[atoms],
            positions=self.positions[atoms],
            charges=None if self.charges is None else self.charges[indices],
            cells=None if self.cells is None else self.cells[indices],
            spins=None if self.spins is None else self.spins[indices],
            pbc=None if self.pbc is None else self.pbc[indices],
            file_rows=indices if self.file_rows is None else self.file_rows[indices],
        )

    def at_file_rows(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        """The molecule at each of some places in the file that they were read from; -1 where it is not among these.

        Example:
            >>> atoms = FlatMolecules.checked("doc", np.array([1, 1, 1]), np.array([1, 2, 3]), np.eye(3))
            >>> atoms.subset(np.array([2, 0])).at_file_rows(np.array([0, 1, 2])).tolist()
            [1, -1, 0]
        """
        own = np.arange(len(self)) if self.file_rows is None else self.file_rows
        order = np.argsort(own, kind="stable")
        found = order[np.searchsorted(own, rows, sorter=order).clip(max=len(own) - 1)]
        return np.where((own[found] == rows) & (rows >= 0), found, -1)

    def chunks(self, pairs: int = PAIRS_AT_A_TIME) -> Iterator[slice]:
        """Consecutive ranges of molecules with at most `pairs` pairs of atoms each (or one molecule)."""
        bins = (np.cumsum(self.n_atoms**2) - 1) // pairs
        edges = np.flatnonzero(np.diff(bins)) + 1
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(self)], strict=True):
            if last > first:
                yield slice(first, last)

    @classmethod
    def checked(
        cls,
        source: str,
        n_atoms: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
        atomic_numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
        positions: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
        charges: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None = None,
        cells: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None = None,
        spins: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None = None,
        pbc: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None = None,
    ) -> "FlatMolecules":
        """Molecules from arrays as a file holds them.

        Args:
            source: what the errors begin with, usually the file.
            n_atoms: whole numbers, (molecules,).
            atomic_numbers: whole numbers, (atoms,).
            positions: Angstrom, (atoms, 3).
            charges: e, (molecules,); NaN counts as neutral.
            cells: Angstrom, (molecules, 3, 3), NaN for what is not periodic.
            spins: numbers of unpaired electrons, (molecules,); NaN where one is not known.
            pbc: 0 or 1, (molecules, 3): along which lattice vectors each repeats; by default along all where there is a
                cell.

        Raises:
            DataError: for arrays that do not fit each other, a molecule without atoms, an atomic number
                outside 1..118 or a position that is not finite. Two atoms at one place are found when
                neighbours or fingerprints are made, since that takes all distances.
        """
        counts = _checked_counts(source, n_atoms)
        total = int(counts.sum())
        if positions.shape != (total, 3) or atomic_numbers.shape != (total,):
            raise DataError(
                f"{source}: n_atoms adds up to {total} atoms, so positions should have shape ({total}, 3) and "
                f"atomic_numbers ({total},); they have {positions.shape} and {atomic_numbers.shape}: the file is "
                "cut off or mixes two sets"
            )
        if atomic_numbers.dtype.kind not in "iu":
            raise DataError(f"{source}: atomic_numbers have type {atomic_numbers.dtype}; expected whole numbers")
        molecules = cls(
            n_atoms=counts,
            atomic_numbers=atomic_numbers.astype(np.int64),
            positions=positions.astype(np.float64),
            charges=None if charges is None else _whole_numbers(source, "charge", charges, len(counts), 0.0),
            spins=None if spins is None else _whole_numbers(source, "spin", spins, len(counts), np.nan),
            **_checked_cells(source, cells, pbc, len(counts)),
        )
        molecules._check_atoms(source)
        molecules._check_states(source)
        return molecules

    def _check_atoms(self, source: str) -> None:
        """Refuses elements that do not exist and positions that no atom has."""
        unreal = (self.atomic_numbers < 1) | (self.atomic_numbers >= len(chemical_symbols))
        if unreal.any():
            atom = int(np.argmax(unreal))
            raise DataError(
                f"{source}: {self.place_of(atom)} has atomic number {int(self.atomic_numbers[atom])}; "
                f"elements are 1 to {len(chemical_symbols) - 1}: correct the element"
            )
        broken = ~np.isfinite(self.positions).all(1)
        if broken.any():
            atom = int(np.argmax(broken))
            raise DataError(
                f"{source}: {self.place_of(atom)} has position {self.positions[atom].tolist()}; every "
                "coordinate must be a finite number of Angstrom: repair or leave out the molecule"
            )
        far = np.abs(self.positions).max(1) > FARTHEST
        if far.any():
            atom = int(np.argmax(far))
            raise DataError(
                f"{source}: {self.place_of(atom)} has position {self.positions[atom].tolist()}; no molecule "
                "is a millimetre away: are positions in Angstrom?"
            )

    def _check_states(self, source: str) -> None:
        """Refuses charges larger than the number of protons, and spins that the electrons cannot have."""
        protons = np.add.reduceat(self.atomic_numbers, self.starts)
        charges = np.zeros(len(self)) if self.charges is None else self.charges
        if (strange := np.abs(charges) > protons).any():
            k = int(np.argmax(strange))
            raise DataError(
                f"{source}: molecule {k} has charge {charges[k]:+g} for {protons[k]} protons; expected a total charge "
                "in units of e"
            )
        if self.spins is None or (possible := possible_spins(self.spins, protons - charges, self.periodic)).all():
            return
        k = int(np.argmin(possible))
        numbers = self.atomic_numbers[self.atoms_of(np.array([k]))]
        check_spin(int(self.spins[k]), numbers, int(charges[k]), f"{source}: molecule {k}", bool(self.periodic[k]))

    def place_of(self, atom: int) -> str:
        """How errors name a row of the flat arrays: "molecule 3, atom 0" (both counted from 0)."""
        molecule = int(np.searchsorted(self.starts, atom, side="right")) - 1
        return f"molecule {molecule}, atom {atom - int(self.starts[molecule])}"


def _checked_counts(
    source: str, n_atoms: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> Int[np.ndarray, " molecules"]:
    """Numbers of atoms: at least one molecule, each of at least one atom."""
    if n_atoms.ndim != 1 or n_atoms.dtype.kind not in "iu":
        raise DataError(
            f"{source}: n_atoms has shape {n_atoms.shape} and type {n_atoms.dtype}; expected one whole "
            "number per molecule"
        )
    counts = n_atoms.astype(np.int64)
    if len(counts) == 0:
        raise DataError(f"{source}: holds no molecules; expected at least one")
    if (counts > _LARGEST_MOLECULE).any():
        raise DataError(f"{source}: molecule {int(np.argmax(counts))} claims {counts.max():,} atoms; is n_atoms right?")
    if (counts < 1).any():
        raise DataError(f"{source}: molecule {int(np.argmin(counts))} has no atoms; leave empty molecules out")
    return counts


def _whole_numbers(
    source: str, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], number: int, missing: float
) -> Float[np.ndarray, " molecules"]:
    """Charges or spins, whole up to rounding; `missing` stands where there is none."""
    if values.shape != (number,):
        raise DataError(f"{source}: {name}s have shape {values.shape}; expected {(number,)}")
    real = values.astype(np.float64)
    whole = np.round(real)
    wrong = np.isinf(real) | (np.abs(real - whole) > 1e-3) | ((whole < 0) if name == "spin" else False)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise DataError(f"{source}: {name} of molecule {k} is {real[k]}; expected a whole number")
    return np.where(np.isnan(real), missing, whole + 0.0)


class _Cells(TypedDict, total=False):
    """Cells and the directions in which they repeat, as far as there are any."""

    cells: Float[np.ndarray, "molecules 3 3"]
    pbc: Bool[np.ndarray, "molecules 3"]


def _checked_cells(
    source: str,
    cells: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
    pbc: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
    number: int,
) -> _Cells:
    """Cells of what repeats; directions only where something repeats along some of them."""
    if cells is None:
        if pbc is not None and pbc.any():
            raise DataError(f"{source}: pbc says that structures repeat, but there are no cells; give `cell` too")
        return {}
    if cells.shape != (number, 3, 3):
        raise DataError(f"{source}: cells have shape {cells.shape}; expected {(number, 3, 3)}")
    real = cells.astype(np.float64)
    given = np.isfinite(real.reshape(number, 9)).any(axis=1, keepdims=True)
    repeats = np.logical_and(given, np.ones(3) if pbc is None else _directions(source, pbc, number))
    real[~repeats.any(1)] = np.nan
    for k in np.flatnonzero(repeats.any(1)).tolist():
        check_cell(real[k], f"{source}: molecule {k}", repeats[k])
    partly = (repeats.any(1) & ~repeats.all(1)).any()
    return {"cells": real, "pbc": repeats} if partly else {"cells": real}


def _directions(
    source: str, pbc: np.ndarray[tuple[int, ...], np.dtype[np.generic]], number: int
) -> Bool[np.ndarray, "molecules 3"]:
    if pbc.shape != (number, 3) or not np.isin(pbc, [0, 1]).all():
        raise DataError(f"{source}: pbc should be 0 or 1, of shape {(number, 3)}; its shape is {pbc.shape}")
    return pbc.astype(bool)
