"""The file of labels: what goes in comes out, and nothing that is finished is lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np
import pytest

from neural_polarization.errors import DataError
from neural_polarization.labelling.calculation import Labels, Request
from neural_polarization.labelling.integrity import seal
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy
from neural_polarization.labelling.packing import pack
from neural_polarization.labelling.store import (
    DamagedFileError,
    LabelStore,
    read_description,
    read_labels,
    structure_key,
)

REQUEST = Request(Level.parse("PBE/3-21G"), quantities=("forces",))


def hydrogen(distance: float = 0.75) -> ase.Atoms:
    return ase.Atoms("H2", [[0, 0, 0], [0, 0, distance]], info={"smiles": "[H][H]", "molecule": np.int64(3)})


def labels(atoms: ase.Atoms) -> Labels:
    return {"energy": np.array(-31.0), "forces": np.full((len(atoms), 3), 0.25), "density_matrix": np.zeros((3, 3))}


def fill(store: LabelStore, number: int, start: int = 0) -> None:
    for k in range(start, start + number):
        atoms = hydrogen(0.7 + 0.01 * k)
        store.add(structure_key(atoms, REQUEST), atoms, labels(atoms), 1.5)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "labels.h5"
    failing = hydrogen(5.0)
    with LabelStore(path, REQUEST) as store:
        fill(store, 3)
        store.add_failure(structure_key(failing, REQUEST), failing, "NotConvergedError: never", 9.0)
        assert len(store) == 4
    records = list(read_labels(path))
    assert [record.order for record in records] == [0, 1, 2, 3]
    assert [record.reason for record in records] == ["", "", "", "NotConvergedError: never"]
    first = records[0]
    assert first.atoms.info == {"smiles": "[H][H]", "molecule": 3}
    np.testing.assert_array_equal(first.atoms.positions, hydrogen(0.7).positions)
    np.testing.assert_array_equal(first.labels["forces"], np.full((2, 3), 0.25))
    assert first.seconds == 1.5
    assert records[3].labels == {}
    assert read_description(path)["level"] == "PBE/3-21G"
    with h5py.File(path) as file:
        assert file[f"structures/{first.key}/forces"].attrs["unit"] == "eV/Angstrom"
        assert json.loads(str(file.attrs["labels"]))["gap"] == "lumo - homo", "the file says what its labels mean"
    assert [entry.name for entry in path.parent.iterdir()] == ["labels.h5"], "no parts, locks or temporaries are left"


def test_finished_structures_survive_a_process_that_never_closes(tmp_path: Path) -> None:
    """Everything is on disk when `add` returns; a later writer and a reader find it."""
    path = tmp_path / "labels.h5"
    store = LabelStore(path, REQUEST)
    fill(store, 5)
    store._lock.close()  # what the end of a killed process does; close() is never called
    (tmp_path / "labels.h5.parts" / "0000.h5.tmp").write_bytes(b"half of the molecule in hand")
    assert len(list(read_labels(path))) == 5
    with LabelStore(path, REQUEST) as again:
        assert len(again) == 5
        assert not again.missing(structure_key(hydrogen(0.72), REQUEST))
        fill(again, 2, start=5)
    assert [round(float(r.atoms.positions[1, 2]), 2) for r in read_labels(path)] == [0.7 + 0.01 * k for k in range(7)]


def test_kill_while_merging_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.h5"
    with LabelStore(path, REQUEST) as store:
        fill(store, 2)
    store = LabelStore(path, REQUEST)
    fill(store, 3, start=2)
    (tmp_path / "labels.h5.tmp").write_bytes(b"an unfinished copy")
    store._lock.close()
    with LabelStore(path, REQUEST) as store:
        assert len(store) == 5
    assert len(list(read_labels(path))) == 5


def test_many_parts_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_polarization.labelling.store._MERGE_AT_LEAST", 3)
    path = tmp_path / "labels.h5"
    with LabelStore(path, REQUEST) as store:
        fill(store, 4)
        assert len(list((tmp_path / "labels.h5.parts").glob("*.h5"))) == 1
        assert len(list(read_labels(path))) == 4
    assert len(list(read_labels(path))) == 4


def test_keys_tell_calculations_apart() -> None:
    atoms = hydrogen()
    key = structure_key(atoms, REQUEST)
    assert structure_key(hydrogen(0.75 + 1e-9), REQUEST) == key
    assert structure_key(hydrogen(0.75 + 2e-6), REQUEST) != key
    assert structure_key(atoms, Request(Level.parse("HF/3-21G"))) != key
    assert structure_key(atoms, Request(REQUEST.level, field=(0.0, 0.0, 0.1))) != key
    for name in ("charge", "spin"):
        other = hydrogen()
        other.info[name] = 1
        assert structure_key(other, REQUEST) != key
    mirrored = hydrogen()
    mirrored.positions[0] = -0.0
    assert structure_key(mirrored, REQUEST) == key, "minus zero is zero"


def test_what_is_missing(tmp_path: Path) -> None:
    atoms, failing = hydrogen(), hydrogen(5.0)
    key, failed = structure_key(atoms, REQUEST), structure_key(failing, REQUEST)
    path = tmp_path / "labels.h5"
    with LabelStore(path, REQUEST) as store:
        assert store.missing(key)
        store.add(key, atoms, labels(atoms), 1.0)
        store.add_failure(failed, failing, "reason", 1.0)
        assert not store.missing(key)
        assert not store.missing(failed)
        assert store.missing(failed, retry_failed=True)
    with LabelStore(path, REQUEST) as store:
        assert (store.missing(key), store.missing(failed)) == (False, False)
        assert (store.labelled(key), store.labelled(failed)) == (True, False)
    with LabelStore(path, Request(REQUEST.level, quantities=("forces", "polarizability"))) as store:
        assert store.missing(key), "a quantity is asked for that was not before"


def test_more_labels_leave_place_and_name_of_a_structure(tmp_path: Path) -> None:
    path, structures = tmp_path / "labels.h5", [hydrogen(), hydrogen(0.8)]
    keys = [structure_key(atoms, REQUEST) for atoms in structures]
    with LabelStore(path, REQUEST) as store:
        for key, atoms in zip(keys, structures, strict=True):
            atoms.info.update(smiles="[HH]", split="test")
            store.add(key, atoms, labels(atoms), 1.0)
    with LabelStore(path, REQUEST) as store:
        bare = structures[0].copy()
        bare.info.clear()
        store.add(keys[0], bare, labels(bare), 1.0)
    found = list(read_labels(path))
    assert [record.key for record in found] == keys
    assert all((record.atoms.info["smiles"], record.atoms.info["split"]) == ("[HH]", "test") for record in found)


def test_labels_take_the_place_of_an_earlier_failure(tmp_path: Path) -> None:
    path, atoms = tmp_path / "labels.h5", hydrogen()
    key = structure_key(atoms, REQUEST)
    with LabelStore(path, REQUEST) as store:
        store.add_failure(key, atoms, "reason", 1.0)
    with LabelStore(path, REQUEST) as store:
        store.add(key, atoms, labels(atoms), 1.0)
    (record,) = read_labels(path)
    assert record.reason == "" and "energy" in record.labels


def test_other_level_accuracy_or_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.h5"
    with LabelStore(path, REQUEST):
        pass
    with pytest.raises(ValueError, match=r"holds labels with level PBE/3-21G, asked for HF/3-21G; give another file"):
        LabelStore(path, Request(Level.parse("HF/3-21G")))
    with pytest.raises(ValueError, match="holds labels with accuracy"):
        LabelStore(path, Request(REQUEST.level, Accuracy(max_cycles=61)))
    with pytest.raises(ValueError, match=r"holds labels with field \[0.0, 0.0, 0.0\], asked for \[0.0, 0.0, 0.1\]"):
        LabelStore(path, Request(REQUEST.level, field=(0.0, 0.0, 0.1)))
    with LabelStore(path, REQUEST):
        pass


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "labels.h5"
    with LabelStore(path, REQUEST), pytest.raises(BlockingIOError, match="another process is writing"):
        LabelStore(path, REQUEST)


def test_damaged_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "labels.h5"
    with LabelStore(path, REQUEST) as store:
        fill(store, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for action in (lambda: LabelStore(path, REQUEST), lambda: list(read_labels(path))):
        with pytest.raises(DamagedFileError, match=r"labels\.h5: cannot be read.*move it away and run the same"):
            action()
    path.write_text("no HDF5 at all")
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_description(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["something"] = 1
    with pytest.raises(DamagedFileError, match="an HDF5 file, but not 'neural-polarization labels 1'"):
        list(read_labels(path))
    with pytest.raises(FileNotFoundError, match="there is no such file of labels"):
        list(read_labels(tmp_path / "nothing.h5"))


def test_a_part_that_lost_power_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.h5"
    store = LabelStore(path, REQUEST)
    fill(store, 2)
    store._lock.close()
    one, other = (tmp_path / "labels.h5.parts").glob("*.h5")
    one.write_bytes(b"")
    whole = other.read_bytes()
    other.write_bytes(whole[:-8] + bytes(8))  # its last sector never reached the disk
    with LabelStore(path, REQUEST) as again:
        assert len(again) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file, group: file.attrs.pop("accuracy"), "says nothing about the accuracy of its labels"),
        (lambda file, group: file.attrs.update(accuracy="{"), "its accuracy, '{', is not understood"),
        (lambda file, group: file.attrs.update(field="{}"), "its field, '{}', is not understood"),
        (lambda file, group: put(group, "forces", np.zeros((3, 3))), r"forces has shape \(3, 3\) .* shape \(2, 3\)"),
        (lambda file, group: put(group, "energy", np.array(np.nan)), "energy has shape .* expected finite numbers"),
        (lambda file, group: put(group, "positions", np.zeros((2, 3))), "atoms 0 and 1 are 0.000 Angstrom apart"),
        (lambda file, group: put(group, "numbers", np.array([1, 200])), r"atom 1 is no element \(number 200\)"),
        (lambda file, group: group.attrs.pop("order"), "cannot be read as a file of labels"),
    ],
)
def test_fault_2_files_of_labels_that_lack_something(
    tmp_path: Path, change: Callable[[Any, Any], object], message: str
) -> None:
    """What `npol pack` would write and nothing could read."""
    path, target = tmp_path / "labels.h5", tmp_path / "set.npz"
    with LabelStore(path, REQUEST) as store:
        fill(store, 1)
    with h5py.File(path, "r+") as file:
        structures: Any = file["structures"]
        change(file, structures[next(iter(structures))])
    seal(path)
    with pytest.raises(DataError, match=rf"labels\.h5: .*{message}"):
        pack([path], target)
    assert not target.exists()


def put(group: Any, name: str, values: np.ndarray) -> None:
    del group[name]
    group[name] = values
