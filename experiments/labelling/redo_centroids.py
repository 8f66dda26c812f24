"""Localizes orbitals again where an older localization had stopped at a saddle point.

    python experiments/labelling/redo_centroids.py LABELS.h5
    python experiments/labelling/redo_centroids.py DATA.npz DATA_densities.npz

In a file of labels, all closed-shell structures with a density matrix are localized again. A packed data set has no
density matrices: there, a structure is computed again if a bond to hydrogen has no orbital's centroid near it.
"""

import sys
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np

from neural_polarization.data.packed import read_packed
from neural_polarization.files import locked, write_arrays
from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import FAST, Accuracy, build_molecule
from neural_polarization.labelling.properties.density import unpack_matrix
from neural_polarization.labelling.properties.orbitals import Centroids, centroids_of

NAMES = ("positions", "occupations", "spreads", "owners")
BOND = 1.3
"""Largest length of a bond to hydrogen, Angstrom."""


def from_matrix(molecule: Any, density_matrix: np.ndarray) -> Centroids:
    """Centroids of the doubly occupied orbitals of a closed-shell density matrix.

    In orthonormal functions half of the matrix is the projector on these orbitals.
    """
    values, vectors = np.linalg.eigh(molecule.intor_symmetric("int1e_ovlp"))
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    occupations, orbitals = np.linalg.eigh(root @ density_matrix @ root)
    occupied = occupations > 1.0
    if np.abs(occupations - 2.0 * occupied).max() > 1e-3:
        raise ValueError("the density matrix is not that of a closed shell: its orbitals are not known from it")
    return centroids_of(molecule, inverse @ orbitals[:, occupied], 2.0)


def bonds_without(numbers: np.ndarray, positions: np.ndarray, centroids: np.ndarray) -> int:
    """Number of bonds to hydrogen without a centroid between their atoms and 0.25 Angstrom from the axis at most."""
    lacking = 0
    for hydrogen in np.flatnonzero(numbers == 1):
        distances = np.linalg.norm(positions - positions[hydrogen], axis=1)
        distances[hydrogen] = np.inf
        nearest = int(np.argmin(distances))
        if distances[nearest] > BOND:
            continue
        axis = (positions[hydrogen] - positions[nearest]) / distances[nearest]
        from_atom = centroids - positions[nearest]
        along = from_atom @ axis
        off = np.linalg.norm(from_atom - along[:, None] * axis, axis=1)
        lacking += not np.any((along > 0.3) & (along < distances[nearest]) & (off < 0.25))
    return lacking


def redo_labels(path: Path) -> None:
    """Replaces the centroids of a file of labels and its parts, which no other process may be writing."""
    before = after = 0
    with locked(path.with_name(path.name + ".lock")):
        for part in (path, *sorted(path.with_name(path.name + ".parts").glob("*.h5"))):
            with h5py.File(part, "r+") as file:
                structures: Any = file["structures"]
                for group in structures.values():
                    lacking = redo_structure(group, Level.parse(str(file.attrs["level"])))
                    before, after = before + lacking[0], after + lacking[1]
    print(f"{path}: {before} bonds to hydrogen were without a centroid, {after} are")


def redo_structure(group: Any, level: Level) -> tuple[int, int]:
    """Replaces the centroids of a closed shell with a density matrix; bonds without one, before and after."""
    if "density_matrix" not in group or np.any(group["centroid_occupations"][()] != 2.0):
        return 0, 0
    numbers, positions = group["numbers"][()], group["positions"][()]
    molecule = build_molecule(ase.Atoms(numbers, positions), level, Accuracy())
    found = from_matrix(molecule, unpack_matrix(group["density_matrix"][()]))
    before = bonds_without(numbers, positions, group["centroid_positions"][()])
    for name in NAMES:
        group[f"centroid_{name}"][...] = getattr(found, name)
    return before, bonds_without(numbers, positions, found.positions)


def redo_packed(data: Path, densities: Path) -> None:
    """Computes the structures of a packed data set again that lack a centroid at a bond to hydrogen."""
    molecules = read_packed(data).molecules
    with np.load(densities) as file:
        arrays = {name: file[name] for name in file.files}
    request = Request(Level.parse(str(arrays["level"])), FAST, ("centroids",))
    stops = np.cumsum(arrays["n_centroids"])
    before = after = computed = 0
    for structure, stop, number in zip(arrays["centroid_structure"], stops, arrays["n_centroids"], strict=True):
        here, rows = slice(stop - number, stop), molecules.atoms_of(np.array([structure]))
        numbers, positions = molecules.atomic_numbers[rows], molecules.positions[rows]
        lacking = bonds_without(numbers, positions, arrays["centroid_positions"][here])
        if not lacking:
            continue
        labels = compute(ase.Atoms(numbers, positions), request)
        for name in NAMES:
            arrays[f"centroid_{name}"][here] = labels[f"centroid_{name}"]
        before, computed = before + lacking, computed + 1
        after += bonds_without(numbers, positions, labels["centroid_positions"])
        print(f"{computed} computed; {before} bonds were without a centroid, {after} are", flush=True)
    write_arrays(densities, arrays, compress=True)


if __name__ == "__main__":
    paths = [Path(name) for name in sys.argv[1:]]
    if len(paths) == 1:
        redo_labels(*paths)
    else:
        redo_packed(*paths)
