"""The library's own file gives back what was written."""

import json
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.packed import read_packed, write_packed
from neural_polarization.data.splits import Split
from neural_polarization.errors import DataError
from neural_polarization.properties import Property
from waters import waters


def test_all_comes_back(dataset: Dataset, tmp_path: Path) -> None:
    split = Split(np.arange(20), np.arange(20, 24), np.arange(28, 40), "group")
    write_packed(dataset, tmp_path / "set.npz", split)
    data = read_packed(tmp_path / "set.npz")
    assert data.content_hash == dataset.content_hash
    assert data.properties == dataset.properties
    for name, values in dataset.labels.items():
        np.testing.assert_array_equal(data.labels[name], values)
    np.testing.assert_array_equal(data.groups, dataset.groups)
    for name, part in data.splits["stored"].parts.items():
        np.testing.assert_array_equal(part, split.parts[name])
    assert data.splits["stored"].by == "group"
    write_packed(data, tmp_path / "again.npz")  # the stored split is kept
    assert read_packed(tmp_path / "again.npz").splits["stored"].test.tolist() == split.test.tolist()


def test_charges_cells_and_tensors_come_back(tmp_path: Path) -> None:
    cells = np.stack([np.full((3, 3), np.nan), 9.0 * np.eye(3)])
    flat = FlatMolecules.checked(
        "test", np.array([1, 1]), np.array([3, 10]), np.zeros((2, 3)), np.array([1.0, 0.0]), cells
    )
    tensor = np.random.default_rng(0).normal(size=(2, 3, 3))
    written = Dataset("test", flat, {"alpha": Property("alpha", "bohr^3", (3, 3))}, {"alpha": tensor})
    write_packed(written, tmp_path / "set.npz")
    data = read_packed(tmp_path / "set.npz", {"response": PropertyConfig(source="alpha")})
    np.testing.assert_array_equal(data.labels["response"], tensor)
    assert data.properties["response"] == Property("response", "bohr^3", (3, 3))
    assert data.molecules.content_hash == flat.content_hash
    assert data.molecules.periodic.tolist() == [False, True]


def plain(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Two molecules with well-known labels and no table."""
    arrays: dict[str, np.ndarray | None] = {
        "n_atoms": np.array([2, 1], np.int32),
        "atomic_numbers": np.array([1, 1, 2], np.uint8),
        "positions": np.eye(3, dtype=np.float32),
        "energy": np.array([-31.0, -79.0]),
        "forces": np.ones((3, 3), np.float32),
        "polarizability": np.full((2, 3, 3), np.nan),
        "anything": np.array([1, 2, 3, 4]),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def test_well_known_names_need_no_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **plain(split=np.array([0, 2], np.int8)))
    data = read_packed(tmp_path / "set.npz")
    assert set(data.labels) == {"energy", "forces", "polarizability"}
    assert data.properties["forces"] == Property("forces", "meV/Angstrom", (3,), per_atom=True)
    assert data.properties["polarizability"].shape == (3, 3)
    assert data.splits["stored"].by == "structure"
    assert data.groups.tolist() == [0, 1]


def test_a_stored_split_may_share_out_the_geometries_of_a_molecule(tmp_path: Path) -> None:
    """Two geometries of one molecule in two parts are a split by structure, in one part a split by group."""
    for parts, by in (([0, 2], "structure"), ([0, 0], "group"), ([0, -1], "group")):
        np.savez(tmp_path / "set.npz", **plain(molecule=np.zeros(2, np.int32), split=np.array(parts, np.int8)))
        assert read_packed(tmp_path / "set.npz").splits["stored"].by == by


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_atoms": None}, "no array 'n_atoms'"),
        ({"n_atoms": np.array([2, 2])}, "adds up to 4 atoms"),
        ({"n_atoms": np.array([2.0, 1.0])}, "whole number"),
        ({"energy": np.zeros(3)}, r"energy has shape \(3,\); expected \(2,\)"),
        ({"split": np.array([0, 3])}, "split of molecule 1 is 3"),
        ({"molecule": np.array([0])}, "array 'molecule' has shape"),
        ({"properties": np.array("{")}, "is not understood"),
        ({"properties": np.array('{"energy": {"unit": "eV"}}')}, "'shape'"),
        (
            {"properties": np.array(json.dumps({"enrgy": {"unit": "eV", "shape": [], "per_atom": False}}))},
            "did you mean 'energy'",
        ),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    np.savez(tmp_path / "set.npz", **plain(**changes))
    with pytest.raises(DataError, match=rf"set\.npz.*{message}"):
        read_packed(tmp_path / "set.npz")


def test_reserved_names(flat: FlatMolecules, tmp_path: Path) -> None:
    data = Dataset("test", flat, {"split": Property("split", "1")}, {"split": np.zeros(len(flat))})
    with pytest.raises(DataError, match="cannot be called 'split'"):
        write_packed(data, tmp_path / "set.npz")


def test_an_old_file_stays_if_writing_fails(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_packed(dataset, tmp_path / "set.npz")
    before = (tmp_path / "set.npz").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space left"):
        write_packed(dataset, tmp_path / "set.npz")
    assert (tmp_path / "set.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_units_are_not_converted_twice(tmp_path: Path) -> None:
    """The configuration of the file that was packed also names the unit that the labels had there."""
    data = waters()
    write_packed(data, tmp_path / "waters.npz")
    with pytest.raises(DataError, match=r"energy\.unit: is 'hartree', but a packed file has .*; leave the unit out"):
        read_packed(tmp_path / "waters.npz", {"energy": PropertyConfig(unit="hartree")})
    same = read_packed(tmp_path / "waters.npz", {"energy": PropertyConfig(unit="eV", shown_in="hartree")})
    np.testing.assert_array_equal(same.labels["energy"], data.labels["energy"])
