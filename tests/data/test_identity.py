"""Structures are recognised whatever their place, orientation and order of atoms."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.identity import identities

NUMBERS = np.array([6, 1, 1, 8, 7, 1])


def pair(
    one: np.ndarray,
    other: np.ndarray,
    numbers: np.ndarray = NUMBERS,
    charges: np.ndarray | None = None,
    cells: np.ndarray | None = None,
) -> FlatMolecules:
    return FlatMolecules.checked(
        "test",
        np.array([len(one), len(other)]),
        np.concatenate([NUMBERS, numbers]),
        np.concatenate([one, other]),
        charges,
        cells,
    )


def same(molecules: FlatMolecules) -> bool:
    first, second = identities(molecules)
    return bool(first == second)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_moved_turned_reflected_reordered_and_rounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.uniform(-2, 2, (6, 3))
    order = rng.permutation(6)
    other = one[order] @ Rotation.random(random_state=seed % 1000).as_matrix().T + rng.normal(size=3)
    if seed % 2:
        other[:, 0] *= -1.0
    assert same(pair(one, np.round(other, 6), NUMBERS[order]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.0005]))
def test_another_geometry_is_another_structure(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    one = rng.uniform(-2, 2, (6, 3))
    assert not same(pair(one, one + rng.normal(scale=scale, size=(6, 3))))
    swapped = NUMBERS[[3, 1, 2, 0, 4, 5]]  # carbon and oxygen change places
    assert not same(pair(one, one, swapped))


def test_charge_and_composition_count() -> None:
    one = np.random.default_rng(0).uniform(-2, 2, (6, 3))
    assert not same(pair(one, one, charges=np.array([0.0, 1.0])))
    assert same(pair(one, one, charges=np.array([1.0, 1.0])))
    assert not same(pair(one, one, np.array([6, 1, 1, 8, 8, 1])))


def test_spin_counts_and_is_the_lowest_where_it_is_not_known() -> None:
    """CH2 as a singlet and a triplet in one geometry is two structures."""
    one, carbene = np.random.default_rng(0).uniform(-2, 2, (3, 3)), np.array([6, 1, 1])
    unknown = np.nan
    for spins, alike in (((0, 2), False), ((2, 2), True), ((unknown, 0), True), ((unknown, 2), False)):
        both = FlatMolecules.checked(
            "test", np.array([3, 3]), np.tile(carbene, 2), np.concatenate([one, one]), spins=np.array(spins, float)
        )
        assert same(both) is alike


def test_a_stretched_cell_is_another_structure() -> None:
    one = np.random.default_rng(0).uniform(-2, 2, (6, 3))
    cells = 8.0 * np.stack([np.eye(3), np.eye(3)])
    assert same(pair(one, one, cells=cells))
    cells[1, 0, 0] = 8.1
    assert not same(pair(one, one, cells=cells))


def test_atoms_alone_are_told_apart_by_element() -> None:
    atoms = FlatMolecules.checked("test", np.ones(4, int), np.array([1, 6, 1, 8]), np.zeros((4, 3)))
    found = identities(atoms)
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3
