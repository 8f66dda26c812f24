"""Splits: sizes, seeds, groups, storage, and leakage that must be found."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from neural_polarization.data.dataset import Dataset, check_leakage
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.splits import (
    Size,
    Split,
    geometry_split,
    group_split,
    load_split,
    published_split,
    random_split,
    save_split,
    stored_split,
)
from neural_polarization.errors import DataError

HUNDRED = np.arange(100)


def sizes(split: Split) -> list[int]:
    return [len(part) for part in split.parts.values()]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), [80, 10, 10]),
        ((50, 10, 20), [50, 10, 20]),
        ((0.5, 0.25, 0.25), [50, 25, 25]),
        ((None, 7, 0.3), [63, 7, 30]),
        ((1, 0, 0), [1, 0, 0]),
        ((1 / 3, 1 / 3, 1 / 3), [33, 33, 33]),
        ((0.336, 0.336, 0.328), [33, 34, 33]),  # 101 after rounding: one is taken back
    ],
)
def test_random_sizes(given: tuple[Size, Size, Size], expected: list[int]) -> None:
    split = random_split(HUNDRED, *given, seed=3)
    assert sizes(split) == expected
    together = np.concatenate(list(split.parts.values()))
    assert len(np.unique(together)) == len(together)


def test_seeds_and_growing_training_sets() -> None:
    small, large = (random_split(HUNDRED, n, 10, 20, seed=5) for n in (20, 60))
    assert set(small.train.tolist()) < set(large.train.tolist())
    assert small.test.tolist() == large.test.tolist()
    assert small.validation.tolist() == large.validation.tolist()
    assert random_split(HUNDRED, 20, 10, 20, seed=5).train.tolist() == small.train.tolist()
    assert random_split(HUNDRED, 20, 10, 20, seed=6).train.tolist() != small.train.tolist()


def test_the_same_structure_is_used_once() -> None:
    identity = np.arange(100) // 2
    split = random_split(identity, 30, 10, 10)
    together = np.concatenate(list(split.parts.values()))
    assert len(np.unique(identity[together])) == 50
    with pytest.raises(DataError, match=r"1 too many: the number of different structures is 50 .of 100, the others"):
        random_split(identity, 31, 10, 10)


def test_groups_stay_together() -> None:
    groups = np.random.default_rng(0).integers(0, 10, 100)
    split = group_split(groups, 6, 2, 2, seed=1)
    found = [set(groups[part].tolist()) for part in split.parts.values()]
    assert [len(names) for names in found] == [6, 2, 2]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert sum(sizes(split)) == 100
    assert split.by == "group"


def test_a_geometry_keeps_all_its_structures() -> None:
    """Labels of one geometry in several fields count, and are in one part."""
    identity = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    split = geometry_split(identity, 30, 10, 10, seed=1)
    assert sizes(split) == [90, 30, 30]
    found = [set(identity[part].tolist()) for part in split.parts.values()]
    assert [len(names) for names in found] == [30, 10, 10]
    assert len(set.union(*found)) == 50
    assert split.by == "structure"
    with pytest.raises(DataError, match="1 too many: the number of geometries is 50"):
        geometry_split(identity, 31, 10, 10)


def test_published_sets_are_kept_apart() -> None:
    train_set, test_set = np.arange(40), np.arange(50, 100)
    split = published_split(train_set, test_set)
    assert sizes(split) == [38, 2, 50]
    assert set(split.train.tolist() + split.validation.tolist()) == set(range(40))
    smaller = published_split(train_set, test_set, 20, 5, 10, seed=2)
    assert sizes(smaller) == [20, 5, 10]
    assert set(smaller.test.tolist()) < set(range(50, 100))
    with pytest.raises(DataError, match="published training set"):
        published_split(train_set, test_set, 40, 5)


def test_parts_of_a_stored_split() -> None:
    stored = Split(np.arange(50), np.arange(50, 60), np.arange(60, 90), "group")
    assert stored_split(stored) == stored == Split.from_json(stored.to_json())
    assert hash(stored_split(stored)) == hash(stored)
    assert stored != Split(np.arange(50), np.arange(50, 60), np.arange(61, 91), "group")
    part = stored_split(stored, 20, None, 0.5, seed=1)
    assert sizes(part) == [20, 10, 15]
    assert set(part.train.tolist()) < set(range(50))
    assert part.by == "group"
    assert part == stored_split(stored, 20, None, 0.5, seed=1)
    other = stored_split(stored, 20, None, 0.5, seed=2)
    assert set(part.train.tolist()) != set(other.train.tolist())
    assert set(part.test.tolist()) != set(other.test.tolist())
    with pytest.raises(DataError, match="stored validation part"):
        stored_split(stored, None, 11)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((90, 10, 10), "10 too many: the number of structures is 100;"),
        ((1.5, None, None), "neither a fraction"),
        ((-1, None, None), "is negative"),
        ((None, 0.5, 0.5), "no structure is left to train on"),
        ((0, 1, 1), "no structure is left to train on"),
        ((0.8, 0.3, 0.2), "too many: the number of structures is 100;"),
    ],
)
def test_impossible_sizes(given: tuple[Size, Size, Size], message: str) -> None:
    with pytest.raises(DataError, match=message):
        random_split(HUNDRED, *given)


def test_splits_survive_storage(tmp_path: Path) -> None:
    split = group_split(np.arange(30) // 3, 5, 2, 3, seed=4)
    save_split(split, tmp_path / "split.json")
    arrays = Split.from_arrays(split.parts, split.by)
    for restored in (load_split(tmp_path / "split.json"), Split.from_json(split.to_json()), arrays):
        assert restored.by == "group"
        for name, part in split.parts.items():
            assert restored.parts[name].tolist() == part.tolist()
            assert restored.parts[name].dtype == np.int64


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"train": [1], "validation": [], "test": ["a"], "by": "group"}', '{"by": "colour"}']
)
def test_files_that_are_no_split(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json"):
        load_split(tmp_path / "split.json")


def leaky(dataset: Dataset) -> Dataset:
    """The data set with molecule 20 once more at the end: turned, moved, its atoms in another order."""
    molecules = dataset.molecules
    own = molecules.atoms_of(np.array([20]))[::-1]
    turned = molecules.positions[own] @ Rotation.random(random_state=1).as_matrix().T + 3.0
    flat = FlatMolecules.checked(
        "leaky",
        np.append(molecules.n_atoms, molecules.n_atoms[20]),
        np.append(molecules.atomic_numbers, molecules.atomic_numbers[own]),
        np.concatenate([molecules.positions, turned]),
    )
    return Dataset("leaky", flat, {}, {}, groups=np.append(dataset.groups, 99))


def test_leakage_by_index_content_and_group(dataset: Dataset) -> None:
    data = leaky(dataset)
    assert data.molecules.n_atoms[20] > 2
    none = np.zeros(0, np.int64)
    large = np.flatnonzero(data.molecules.n_atoms > 2)  # single atoms of one element are the same structure
    check_leakage(data, Split(large[large < 10], large[(large >= 10) & (large < 20)], large[large >= 20]))
    with pytest.raises(DataError, match="the test part also has 1 structure of the train part by index"):
        check_leakage(data, Split(np.array([1, 2]), none, np.array([2, 3])))
    with pytest.raises(DataError, match=r"by content, for instance structure 20 \(validation\) and 40 \(test\)"):
        check_leakage(data, Split(np.array([1]), np.array([5, 20]), np.array([7, 40])))
    with pytest.raises(DataError, match="by group"):
        check_leakage(data, Split(np.array([0]), none, np.array([1]), "group"))
    check_leakage(data, Split(np.array([0]), none, np.array([1])))
    with pytest.raises(DataError, match="belongs to another data set"):
        check_leakage(data, Split(np.array([0]), none, np.array([41])))


@pytest.mark.parametrize("seed", range(5))
def test_random_splits_of_leaky_data_do_not_leak(dataset: Dataset, seed: int) -> None:
    data = leaky(dataset)
    check_leakage(data, random_split(data.identities(), seed=seed))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("[0.9, 1.7]", r"train holds 0\.9, expected indices"),
        ('["0", "1"]', "train holds '0', expected indices"),
        ("[true, false]", "train holds True, expected indices"),
        ("[0, 0]", "train part has the index 0 twice"),
        ("[-1, 0]", "train part has the index -1"),
        ("[1" + "0" * 30 + "]", "not a split"),
        ("{}", "train is no list"),
        ("[" * 100_000, "not a split"),
    ],
)
def test_fault_1_17_parts_that_are_no_indices(tmp_path: Path, part: str, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(f'{{"by": "structure", "train": {part}, "validation": [5], "test": [6]}}')
    with pytest.raises(DataError, match=rf"split\.json: .*{message}"):
        load_split(path)
    with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such file; expected a split"):
        load_split(tmp_path / "none.json")


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_fraction_that_leaves_a_part_empty(part: str) -> None:
    """A training without the test part that was asked for would have no test errors, and not say so."""
    with pytest.raises(DataError, match=rf"split\.{part}: 0\.04 of 10 structures is less than one half, and the part"):
        random_split(np.arange(10), **{part: 0.04})
    assert len(random_split(np.arange(10), test=0, seed=1).test) == 0
    assert len(random_split(np.arange(4), train=3, validation=1).test) == 0, "a tenth that nobody asked for"
