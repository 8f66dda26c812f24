"""What positions and cells can be: one check for every way in, made before anything is searched or allocated."""

import ase
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from neural_polarization.errors import DataError

CLOSEST = 0.4
"""Atoms nearer than this, in Angstrom, are at one place: about half of the shortest bond that there is (H2, 0.74)."""

FARTHEST = 1e7
"""A coordinate or a side of a cell beyond this, in Angstrom (a millimetre), is a mistake."""


def check_positions(
    positions: Float[np.ndarray, "atoms 3"], where: str, cell: Float[np.ndarray, "3 3"] | None = None
) -> None:
    """Raises where atoms cannot be at these positions.

    Args:
        positions: Angstrom.
        where: what the error begins with: file and structure.
        cell: lattice vectors in rows, Angstrom, of a periodic structure, checked already by `periodic_cell`.

    Raises:
        DataError: for a position that is not finite or absurdly large, or two atoms nearer than `CLOSEST`.

    Example:
        >>> check_positions(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.074]]), "h2.xyz: structure 0")
        Traceback (most recent call last):
            ...
        neural_polarization.errors.DataError: h2.xyz: structure 0: atoms 0 and 1 are 0.074 Angstrom apart, ...
    """
    possible = (np.abs(positions) <= FARTHEST).all(axis=1)  # False for NaN too
    if not possible.all():
        atom = int(np.argmin(possible))
        raise DataError(
            f"{where}: position of atom {atom} is {positions[atom].tolist()}; expected three finite numbers in "
            "Angstrom: repair or leave out the structure"
        )
    found = close_pair(positions, cell)
    if found is not None:
        raise DataError(f"{where}: {crowded(*found)}")


def crowded(first: int, second: int, distance: float) -> str:
    """What is said of two atoms that are too close."""
    return (
        f"atoms {first} and {second} are {distance:.3f} Angstrom apart, at one place; are positions in Angstrom (not "
        "nm), and is no atom there twice?"
    )


def close_pair(
    positions: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"] | None = None, limit: float = CLOSEST
) -> tuple[int, int, float] | None:
    """Two atoms that are nearer than a limit, and their distance, or None.

    The time grows as N log N however the atoms lie, 20,000 atoms at one place included.

    Args:
        positions: Angstrom, finite.
        cell: lattice vectors in rows, Angstrom, of a periodic structure.
        limit: Angstrom.
    """
    if len(positions) < 2:
        return None
    points, owners = positions - positions.mean(axis=0), np.arange(len(positions))
    if cell is not None:
        points, owners = _with_images(points, cell, limit)
    # Two atoms in one cube of this edge are too close: sorting finds them, however many they are.
    cubes = np.floor(points * (np.sqrt(3.0) / limit))
    order = np.lexsort(cubes.T)
    together = (np.diff(cubes[order], axis=0) == 0).all(axis=1)
    if together.any():
        place = int(np.argmax(together))
        pair = (int(order[place]), int(order[place + 1]))
    else:
        distances, partners = KDTree(points).query(points, k=2, distance_upper_bound=limit)
        near = np.asarray(distances)[:, 1]
        if not (near < limit).any():
            return None
        pair = (int(np.argmin(near)), int(np.asarray(partners)[int(np.argmin(near)), 1]))
    one, other = sorted((int(owners[pair[0]]), int(owners[pair[1]])))
    return one, other, float(np.linalg.norm(points[pair[0]] - points[pair[1]]))


def _with_images(
    points: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"], limit: float
) -> tuple[Float[np.ndarray, "points 3"], Int[np.ndarray, " points"]]:
    """Atoms inside the cell, images of those that are near its sides on the other side, and the atom of each."""
    fractions = points @ np.linalg.inv(cell)
    fractions -= np.floor(fractions)
    owners = np.arange(len(points))
    # The height along an axis is the inverse of the length of the reciprocal vector.
    margins = limit * np.linalg.norm(np.linalg.inv(cell), axis=0)
    for axis in range(3):
        near = fractions[:, axis] < margins[axis]
        fractions = np.concatenate([fractions, fractions[near] + np.eye(3)[axis]])
        owners = np.concatenate([owners, owners[near]])
    return fractions @ cell, owners


def periodic_cell(atoms: ase.Atoms, where: str) -> Float[np.ndarray, "3 3"] | None:
    """The lattice vectors (rows, Angstrom) of a structure that repeats along all of them; None for a molecule.

    Raises:
        DataError: for a structure that is periodic along some directions only, and as `check_cell`.
    """
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    if not np.isfinite(cell).all():
        raise DataError(f"{where}: its cell is {cell.tolist()}; expected nine finite numbers in Angstrom")
    if not atoms.pbc.any():
        return None
    if not atoms.pbc.all():
        raise DataError(
            f"{where}: is periodic along {int(atoms.pbc.sum())} of 3 directions; only none or all are supported: set "
            "`pbc` to all, with a cell that leaves vacuum where the system does not repeat"
        )
    check_cell(cell, where)
    return cell


def check_cell(cell: Float[np.ndarray, "3 3"], where: str) -> None:
    """Raises where nothing can repeat by these lattice vectors.

    Args:
        cell: lattice vectors in rows, Angstrom.
        where: what the error begins with.

    Raises:
        DataError: for a cell that is not finite, has no volume, or is thinner than `CLOSEST` in some direction, in
            which an atom would be at one place with its own image.
    """
    if not (np.abs(cell) <= FARTHEST).all():
        raise DataError(f"{where}: its cell is {cell.tolist()}; expected nine finite numbers in Angstrom")
    faces = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    volume = abs(float(cell[0] @ faces[0]))
    if volume < 1e-6:
        raise DataError(
            f"{where}: is periodic, but its cell {cell.tolist()} has no volume; give its Lattice, or set `pbc` to none "
            "for a molecule"
        )
    height = volume / float(np.linalg.norm(faces, axis=1).max())
    if height < CLOSEST:
        raise DataError(
            f"{where}: its cell {cell.tolist()} is only {height:.3g} Angstrom thick; are the lattice vectors in "
            "Angstrom? A cell that is merely skewed becomes a compact one by ase.build.niggli_reduce"
        )
