"""What positions and cells can be: one check for every way in, made before anything is searched or allocated."""

import ase
import numpy as np
from ase.geometry import complete_cell
from jaxtyping import Bool, Float, Int
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
        cell: lattice vectors in rows, Angstrom, of a periodic structure, as `periodic_cell` gives them.

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
        raise DataError(f"{where}: {crowded(*found, periodic=cell is not None)}")


def crowded(first: int, second: int, distance: float, periodic: bool = False) -> str:
    """What is said of two atoms that are too close, or of an atom and an image of another one."""
    cell = " It is periodic: is its cell right? Set `pbc` to none for a molecule" if periodic else ""
    return (
        f"atoms {first} and {second} are {distance:.3f} Angstrom apart, at one place; are positions in Angstrom (not "
        f"nm), and is no atom there twice?{cell}"
    )


def close_pair(
    positions: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"] | None = None, limit: float = CLOSEST
) -> tuple[int, int, float] | None:
    """Two atoms that are nearer than a limit, and their distance, or None.

    The time grows as N log N however the atoms lie, 20,000 atoms at one place included.

    Args:
        positions: Angstrom, finite.
        cell: lattice vectors in rows, Angstrom, of a periodic structure; zero where it does not repeat.
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
    repeats, cell = cell.any(1), complete_cell(cell)
    fractions = points @ np.linalg.inv(cell)
    fractions -= np.where(repeats, np.floor(fractions), 0.0)
    owners = np.arange(len(points))
    # The height along an axis is the inverse of the length of the reciprocal vector.
    margins = limit * np.linalg.norm(np.linalg.inv(cell), axis=0)
    for axis in np.flatnonzero(repeats):
        near = fractions[:, axis] < margins[axis]
        fractions = np.concatenate([fractions, fractions[near] + np.eye(3)[axis]])
        owners = np.concatenate([owners, owners[near]])
    return fractions @ cell, owners


def periodic_cell(atoms: ase.Atoms, where: str) -> Float[np.ndarray, "3 3"] | None:
    """The lattice vectors (rows, Angstrom) along which a structure repeats; None for a molecule.

    Returns:
        Three vectors of a crystal. Those of a slab or a wire are zero for the directions in which it does not repeat,
        whatever its cell says of them.

    Raises:
        DataError: as `check_cell`.
    """
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    if not np.isfinite(cell).all():
        raise DataError(f"{where}: its cell is {cell.tolist()}; expected nine finite numbers in Angstrom")
    if not atoms.pbc.any():
        return None
    check_cell(cell, where, atoms.pbc)
    return lattice(cell, atoms.pbc)


def lattice(cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The lattice vectors along which a system repeats, and zero for the others.

    Args:
        cell: lattice vectors in rows, Angstrom.
        pbc: along which of them the system repeats.
    """
    return np.where(pbc[:, None], cell, 0.0)


def volume_of(cell: Float[np.ndarray, "3 3"]) -> float:
    """Volume of a cell as ASE computes it, Angstrom^3; zero without three lattice vectors.

    A slab or a wire has the volume of its cell with the vacuum, if its cell has three vectors.
    """
    return abs(float(np.linalg.det(cell)))


def check_cell(cell: Float[np.ndarray, "3 3"], where: str, pbc: Bool[np.ndarray, "3"] | None = None) -> None:
    """Raises where nothing can repeat by these lattice vectors.

    Args:
        cell: lattice vectors in rows, Angstrom.
        where: what the error begins with.
        pbc: along which of them a system repeats; by default along all.

    Raises:
        DataError: for a cell that is not finite, has no volume, is thinner than `CLOSEST` in some direction, in which
            an atom would be at one place with its own image, or is a cube of one Angstrom, which stands for no cell.
    """
    if not (np.abs(cell) <= FARTHEST).all():
        raise DataError(f"{where}: its cell is {cell.tolist()}; expected nine finite numbers in Angstrom")
    if pbc is not None and not pbc.all():
        # What does not repeat needs no vector: one across the others, of the length of one, takes its place.
        repeated = lattice(cell, pbc)
        missing = [int(axis) for axis in np.flatnonzero(pbc) if not repeated[axis].any()]
        if missing:
            raise DataError(
                f"{where}: is periodic along direction {missing[0]}, but its cell {cell.tolist()} has no vector there; "
                "give its Lattice, or set `pbc` of that direction to false"
            )
        with np.errstate(invalid="ignore"):  # parallel vectors, which have no volume
            cell = np.nan_to_num(complete_cell(repeated))
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
    if np.allclose(cell, np.eye(3), atol=1e-6):
        raise DataError(
            f"{where}: its cell is a cube of one Angstrom, which programs write for a molecule without a cell (CRYST1 "
            "of a PDB file); set `pbc` to none for a molecule, or give its cell"
        )
