"""Which molecules the densities of a file belong to: by their rows in the packed data set, checked by their atoms.

The file of densities was packed together with the data set, whose rows it names. The molecules at hand may be some of
these rows only (`FlatMolecules.file_rows`). The file also says where the atoms of its densities are; one that does not,
as those of version 0.1.0, is checked by its localized core orbitals where it has some: they are at the nuclei.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from neural_polarization.data.cache import Array
from neural_polarization.data.flat import FlatMolecules, ragged_rows, starts_of
from neural_polarization.data.npz import ArrayFile
from neural_polarization.density.density import SAME_PLACE
from neural_polarization.errors import DataError

REMEDY = "give the data set that was packed with this file"

_AT_NUCLEUS = 0.01
"""Median distance of core orbitals from their nuclei, Angstrom, above which these are not their nuclei."""

_ELECTRONS = 0.01
"""Largest difference between the integral of a density and the electrons of its molecule, e."""


def open_densities(path: str | Path) -> ArrayFile:
    """A file of densities.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that is no .npz.
    """
    return ArrayFile(path, "densities beside a packed data set")


def molecules_of(file: ArrayFile, molecules: FlatMolecules) -> Int[np.ndarray, " densities"]:
    """The molecule of each density of a file; -1 where it is not among these molecules.

    Raises:
        DataError: for a row that the data set does not have, other atoms than those of the density, or no density of
            these molecules.
    """
    rows = file.numbers("density_structure", (None,)).astype(np.int64)
    found = molecules.at_file_rows(rows)
    whole = molecules.file_rows is None
    outside = (found < 0) if whole else (rows < 0)
    if outside.any():
        density = int(np.argmax(outside))
        has = f"the data set has {len(molecules)}" if whole else "rows count from 0"
        raise DataError(f"{file.path}: density {density} is of structure {rows[density]}, but {has}; {REMEDY}")
    if len(rows) and (found < 0).all():
        raise DataError(
            f"{file.path}: none of its {len(rows)} densities is of one of these {len(molecules)} structures; {REMEDY}"
        )
    if "density_positions" in file:
        _check_atoms(file, molecules, found)
    elif "centroid_positions" in file:
        _check_cores(file, molecules)
    return found


def check_electrons(
    path: Path,
    electrons: Float[np.ndarray, " densities"],
    structures: Int[np.ndarray, " densities"],
    molecules: FlatMolecules,
) -> None:
    """Makes sure that densities have the electrons of their molecules.

    Args:
        path: what the error begins with.
        electrons: integral of each density, e.
        structures: its molecule.
        molecules: the molecules.

    Raises:
        DataError: for another number of electrons.
    """
    nuclear = np.add.reduceat(molecules.atomic_numbers.astype(np.float64), molecules.starts)
    expected = (nuclear - (0.0 if molecules.charges is None else molecules.charges))[structures]
    wrong = np.abs(electrons - expected) > _ELECTRONS
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{path}: density {first} has {electrons[first]:.3f} electrons, but structure {structures[first]} of the "
            f"data set has {expected[first]:g}; {REMEDY}"
        )


def structure_arrays(numbers: list[Array], positions: list[Array]) -> dict[str, Array]:
    """What a file of densities says about their structures, which `molecules_of` checks.

    Args:
        numbers: atomic numbers of each density's structure.
        positions: of its atoms, Angstrom.
    """
    return {
        "density_n_atoms": np.array([len(of) for of in numbers], np.int32),
        "density_atomic_numbers": np.concatenate([np.zeros(0), *numbers]).astype(np.uint8),
        "density_positions": np.concatenate([np.zeros((0, 3)), *positions]).astype(np.float32),
    }


def _check_atoms(file: ArrayFile, molecules: FlatMolecules, found: Int[np.ndarray, " densities"]) -> None:
    """The atoms of every density that is here are those of its molecule."""
    counts = file.numbers("density_n_atoms", (len(found),)).astype(np.int64)
    numbers = file.numbers("density_atomic_numbers", (int(counts.sum()),))
    positions = file.numbers("density_positions", (int(counts.sum()), 3))
    here = np.flatnonzero(found >= 0)
    if (other := counts[here] != molecules.n_atoms[found[here]]).any():
        _refuse(file, found, int(here[np.argmax(other)]), "another number of atoms")
    mine = ragged_rows(starts_of(counts)[here], counts[here])
    theirs = molecules.atoms_of(found[here])
    density = np.repeat(here, counts[here])
    if (other := numbers[mine] != molecules.atomic_numbers[theirs]).any():
        _refuse(file, found, int(density[np.argmax(other)]), "other elements, or another order of atoms")
    # Both in the single precision of the file, so that atoms far from the origin agree with themselves.
    distances = np.linalg.norm(positions[mine] - molecules.positions[theirs].astype(np.float32), axis=1)
    if (other := distances > SAME_PLACE).any():
        atom = int(np.argmax(other))
        _refuse(file, found, int(density[atom]), f"an atom is {distances[atom]:.3g} Angstrom away from its place there")


def _refuse(file: ArrayFile, found: Int[np.ndarray, " densities"], density: int, reason: str) -> None:
    raise DataError(
        f"{file.path}: density {density} does not fit structure {found[density]} of the data set ({reason}); {REMEDY}"
    )


def _check_cores(file: ArrayFile, molecules: FlatMolecules) -> None:
    """Core orbitals are at the nuclei, nearly everywhere: a few are mixed with valence orbitals."""
    rows = file.numbers("centroid_structure", (None,)).astype(np.int64)
    counts = file.numbers("n_centroids", (len(rows),)).astype(np.int64)
    centroids = file.numbers("centroid_positions", (int(counts.sum()), 3))
    distances: list[float] = []
    for molecule, start, count in zip(molecules.at_file_rows(rows), starts_of(counts), counts, strict=True):
        if molecule < 0:
            continue
        atoms = slice(molecules.starts[molecule], molecules.starts[molecule] + molecules.n_atoms[molecule])
        nuclei = molecules.positions[atoms][molecules.atomic_numbers[atoms] > 2]
        apart = np.linalg.norm(nuclei[:, None] - centroids[start : start + count], axis=-1)
        distances += apart.min(1, initial=np.inf).tolist()
    if distances and float(np.median(distances)) > _AT_NUCLEUS:
        raise DataError(
            f"{file.path}: its core orbitals are {np.median(distances):.2g} Angstrom away from the nuclei of the data "
            f"set; {REMEDY}"
        )
