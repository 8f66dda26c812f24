"""Which structures are the same molecule in the same geometry, whatever their order, place and orientation."""

from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float, Int

from neural_polarization.data.cache import WORTH_KEEPING, Arrays, cached
from neural_polarization.data.flat import FlatMolecules, ragged_rows, starts_of

TOLERANCE = 1e-5
"""Structures whose invariants differ by less (about that many Angstrom) are one; files round at 1e-6 or so."""

_ROOTS = np.sqrt(np.arange(1.0, 512.0))  # irrational weights keep different elements apart


@final
class _Invariants:
    """Averages over pairs of atoms that no rotation, reflection, translation or reordering changes."""

    width = 7

    @staticmethod
    def of(molecules: FlatMolecules) -> Float[np.ndarray, "molecules invariants"]:
        result = np.zeros((len(molecules), _Invariants.width))
        for chunk in molecules.chunks():
            sizes = molecules.n_atoms[chunk]
            first = int(molecules.starts[chunk.start])
            atoms = slice(first, first + int(sizes.sum()))
            positions, numbers = molecules.positions[atoms], molecules.atomic_numbers[atoms]
            partners = np.repeat(sizes, sizes)
            one = np.repeat(np.arange(len(numbers)), partners)
            other = ragged_rows(np.repeat(starts_of(sizes), sizes), partners)
            owner = np.repeat(np.arange(len(sizes)), sizes**2)
            distance = np.sqrt(((positions[one] - positions[other]) ** 2).sum(1))
            light = _ROOTS[numbers[one]] * _ROOTS[numbers[other]] / 10.0
            heavy = _ROOTS[numbers[one] + numbers[other]] / 3.0
            terms = (
                light * distance,
                heavy * distance,
                light * np.exp(-distance),
                heavy * np.exp(-distance),
                light * np.cos(distance),
                heavy * np.cos(2.0 * distance),
            )
            for k, term in enumerate(terms):
                result[chunk, k] = np.bincount(owner, term, len(sizes)) / sizes**2
        if molecules.cells is not None:
            result[:, 6] = np.nan_to_num(molecules.cells).std((1, 2))
        return result


def identities(molecules: FlatMolecules, cache_directory: Path | None = None) -> Int[np.ndarray, " molecules"]:
    """A number for each structure, the same for structures that are the same.

    Same means: as many atoms of each element, the same total charge and unpaired electrons, and equal geometries up to
    translation, rotation, reflection and the order of atoms, within `TOLERANCE`.

    Args:
        molecules: flat arrays.
        cache_directory: where the result is kept between runs; None keeps nothing.
    """

    def valid(arrays: Arrays) -> bool:
        return set(arrays) == {"identity"} and arrays["identity"].shape == (len(molecules),)

    if molecules.num_pairs < WORTH_KEEPING:
        cache_directory = None
    file = f"identities-2-{molecules.content_hash[:32]}"
    return cached(cache_directory, file, lambda: {"identity": _identities(molecules)}, valid)["identity"]


def merged_groups(
    groups: Int[np.ndarray, " molecules"], identity: Int[np.ndarray, " molecules"]
) -> Int[np.ndarray, " molecules"]:
    """Groups that have a structure in common as one: what a split by group has to keep together.

    Args:
        groups: the group of each structure.
        identity: a number for each structure, the same for structures that are the same.

    Example:
        >>> merged_groups(np.array([5, 5, 7, 8]), np.array([0, 1, 1, 2])).tolist()
        [0, 0, 0, 1]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(groups, return_inverse=True)
    contents, content = np.unique(identity, return_inverse=True)
    total = len(names) + len(contents)
    ends = (group.reshape(-1), len(names) + content.reshape(-1))
    links = coo_matrix((np.ones(len(groups), bool), ends), shape=(total, total))
    return connected_components(links, directed=False)[1][ends[0]].astype(np.int64)


def _identities(molecules: FlatMolecules) -> Int[np.ndarray, " molecules"]:
    from scipy.sparse import coo_matrix  # costs half a second at the command line's start
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    points = np.concatenate([_Invariants.of(molecules), 1e3 * _compositions(molecules)[:, None]], axis=1)
    pairs = KDTree(points).query_pairs(TOLERANCE, p=np.inf, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    return connected_components(links, directed=False)[1].astype(np.int64)


def _compositions(molecules: FlatMolecules) -> Float[np.ndarray, " molecules"]:
    """A whole number per kind of molecule: elements, their counts, charge and spin."""
    owner = np.repeat(np.arange(len(molecules)), molecules.n_atoms)
    present = np.unique(molecules.atomic_numbers)
    counts = np.stack(
        [np.bincount(owner[molecules.atomic_numbers == z], minlength=len(molecules)) for z in present], axis=1
    ).astype(np.float64)
    if molecules.charges is not None:
        counts = np.concatenate([counts, molecules.charges[:, None]], axis=1)
    if molecules.spins is not None:
        charges = 0.0 if molecules.charges is None else molecules.charges
        lowest = (np.bincount(owner, molecules.atomic_numbers, len(molecules)) - charges) % 2
        spins = np.where(np.isnan(molecules.spins), lowest, molecules.spins)
        counts = np.concatenate([counts, spins[:, None]], axis=1)
    return np.unique(counts, axis=0, return_inverse=True)[1].reshape(-1).astype(np.float64)
