"""Foster-Boys localization of orbitals by rotations of pairs, from several starting points."""

from typing import Any

import numpy as np
from jaxtyping import Float

_STARTS = 8
_MOST_SWEEPS = 20
_CONVERGED = 1e-8
"""What the last sweep gains, relative to the sum of squared centroids."""


def localized(
    molecule: Any, occupied: Float[np.ndarray, "functions orbitals"]
) -> Float[np.ndarray, "functions orbitals"]:
    """Foster-Boys orbitals, which have the smallest sum of squared spreads.

    One start alone often ends in a local minimum or, where the molecule is symmetric, at a saddle point: water without
    O-H bonds. Rotations of pairs therefore begin from eight random rotations, always the same ones, and PySCF's
    second-order solver finishes the best of them.

    Args:
        molecule: PySCF's molecule.
        occupied: Orthonormal orbitals, in the molecule's basis functions.

    References:
        J. M. Foster, S. F. Boys, Rev. Mod. Phys. 32, 300 (1960).
    """
    from pyscf import lo

    if occupied.shape[1] < 2:
        return occupied
    operators = molecule.intor_symmetric("int1e_r", comp=3)
    moments = np.einsum("xij,ik,jl->xkl", operators, occupied, occupied, optimize=True)
    boys = lo.Boys(molecule, occupied @ best_rotation(moments))
    boys.set(verbose=0, conv_tol=1e-8, init_guess=None)
    return np.asarray(boys.kernel())


def best_rotation(moments: Float[np.ndarray, "3 orbitals orbitals"]) -> Float[np.ndarray, "orbitals orbitals"]:
    """The rotation of orbitals with the smallest sum of squared spreads that some sweeps find from random starts.

    A sweep rotates every pair of orbitals by the angle that is best for the pair.

    Args:
        moments: Matrix elements of x, y and z between the orbitals, in any unit of length.

    Returns:
        Its columns are the localized orbitals.

    References:
        C. Edmiston, K. Ruedenberg, Rev. Mod. Phys. 35, 457 (1963), for the angle of a pair.
    """
    size = moments.shape[1]
    random = np.random.default_rng(0)
    rotations = np.stack([np.linalg.qr(random.standard_normal((size, size)))[0] for _ in range(_STARTS)])
    # Axes: element of the matrix (two), start, direction.
    current = np.einsum("xij,sik,sjl->klsx", moments, rotations, rotations, optimize=True)
    columns = np.ascontiguousarray(rotations.transpose(2, 0, 1))
    pairs = [(one, other) for one in range(size) for other in range(one)]
    squares = _squares(current)
    for _ in range(_MOST_SWEEPS):
        for one, other in pairs:
            _rotate(current, columns, one, other)
        before, squares = squares, _squares(current)
        if np.all(squares - before <= _CONVERGED * squares):
            break
    return columns[:, int(np.argmax(squares))].T


def _squares(moments: Float[np.ndarray, "orbitals orbitals starts 3"]) -> Float[np.ndarray, " starts"]:
    """Sum of the squared centroids, which is largest where the sum of squared spreads is smallest."""
    return np.sum(np.einsum("kksx->ksx", moments) ** 2, axis=(0, 2))


def _rotate(
    moments: Float[np.ndarray, "orbitals orbitals starts 3"],
    columns: Float[np.ndarray, "orbitals starts orbitals"],
    one: int,
    other: int,
) -> None:
    """Rotates one pair of orbitals by its best angle, in place."""
    half = (moments[one, one] - moments[other, other]) / 2.0
    mixed = moments[one, other]
    a = np.sum(mixed**2 - half**2, axis=1)
    b = 2.0 * np.sum(mixed * half, axis=1)
    angle = np.arctan2(b, -a) / 4.0
    cosine, sine = np.cos(angle), np.sin(angle)
    _turn(columns, one, other, cosine[:, None], sine[:, None])
    _turn(moments, one, other, cosine[:, None], sine[:, None])
    _turn(moments.swapaxes(0, 1), one, other, cosine[:, None], sine[:, None])


def _turn(values: np.ndarray, one: int, other: int, cosine: np.ndarray, sine: np.ndarray) -> None:
    first = values[one].copy()
    values[one] = cosine * first + sine * values[other]
    values[other] = cosine * values[other] - sine * first
