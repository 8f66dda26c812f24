"""Damaged files of labels are found out before HDF5's library loops for ever on them."""

import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.build import molecule

from neural_polarization.labelling import integrity, probe
from neural_polarization.labelling.calculation import Request
from neural_polarization.labelling.integrity import DamagedFileError, check_whole, copy_with_room, damaged, seal
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.store import LabelStore, read_description, read_labels, structure_key

REQUEST = Request(Level.parse("PBE/3-21G"), quantities=("forces",))


def write(path: Path) -> None:
    with LabelStore(path, REQUEST) as store:
        for name in ("H2O", "CH4", "NH3"):
            atoms = molecule(name)
            forces = np.full((len(atoms), 3), 0.25)
            store.add(structure_key(atoms, REQUEST), atoms, {"energy": np.array(-31.0), "forces": forces}, 1.5)


def without_seal(path: Path) -> None:
    """The file as release 0.1.0 would have written it."""
    path.write_bytes(path.read_bytes()[integrity.ROOM :])


def endless(path: Path) -> None:
    """A file whose attributes keep libhdf5 2.0 busy for ever: 1024 bytes stand three times."""
    with h5py.File(path, "w") as file:
        file.attrs.update(format="neural-polarization labels 1", level="HF/STO-3G", accuracy="{}", field="[0, 0, 0]")
        for k in range(4):
            group = file.create_group(f"structures/{k:020x}")
            group["numbers"], group["positions"] = [1, 1], [[0, 0, 0], [0, 0, 0.7]]
            group.attrs.update(order=k, formula="H2", info="{}", seconds=1.0, reason="", status="done")
    content = path.read_bytes()
    path.write_bytes(content[:1353] + 3 * content[1353 : 1353 + 1024] + content[1353 + 1024 :])


def test_no_flipped_bit_is_read(tmp_path: Path) -> None:
    """Labels with a wrong digit are no labels: every byte is under the checksum."""
    path = tmp_path / "labels.h5"
    write(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(integrity.ROOM, len(whole), 100).tolist():
        flipped = bytes([whole[place] ^ (1 << int(rng.integers(8)))])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        with pytest.raises(DamagedFileError, match=r"labels\.h5: cannot be read .*its checksum is not that of"):
            list(read_labels(path))
    path.write_bytes(whole)
    assert len(list(read_labels(path))) == 3


def test_a_file_that_was_changed_on_purpose_is_sealed_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        file.attrs["remark"] = "checked by hand"
    with pytest.raises(DamagedFileError, match=r"on purpose, call neural_polarization\.labelling\.integrity\.seal"):
        read_description(path)
    seal(path)
    assert read_description(path)["remark"] == "checked by hand"


def test_files_without_a_seal_are_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "labels.h5"
    write(path)
    without_seal(path)
    assert len(list(read_labels(path))) == 3
    with pytest.raises(ValueError, match="has no user block of 512 bytes"):
        seal(path)
    added = molecule("CO")
    with LabelStore(path, REQUEST) as store:
        store.add(structure_key(added, REQUEST), added, {"energy": np.array(-3.0)}, 1.0)
    assert path.read_bytes().startswith(b"neural-polarization labels, sha256 ")
    assert [record.atoms.get_chemical_formula() for record in read_labels(path)] == ["H2O", "CH4", "H3N", "CO"]


@pytest.mark.slow
def test_what_keeps_hdf5_busy_for_ever_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "PATIENCE", 2.0)
    path = tmp_path / "labels.h5"
    endless(path)
    for action in (lambda: list(read_labels(path)), lambda: read_description(path), lambda: LabelStore(path, REQUEST)):
        with pytest.raises(ValueError, match=r"labels\.h5: cannot be read as a file of labels .* Restore it"):
            action()


@pytest.mark.parametrize(
    ("end", "reason"), [("time.sleep(60)", "did not get through it in 1 seconds"), ("os._exit(-11)", "crashed")]
)
def test_the_files_that_a_process_does_not_get_through_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, reason: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys, time\nprint('ready', flush=True)\nfor path in json.load(sys.stdin):\n"
        f"    print('file', flush=True)\n    if 'bad' in path: {end}\n    print('alive', flush=True)\nprint('end')\n"
    )
    monkeypatch.setattr(probe, "__file__", str(script))
    monkeypatch.setattr(integrity, "PATIENCE", 1.0)
    files = [tmp_path / name for name in ("one.h5", "bad1.h5", "two.h5", "bad2.h5")]
    for file in files:
        file.write_bytes(b"")
    start = time.monotonic()
    found = damaged(files)
    assert time.monotonic() - start < 20.0
    assert list(found) == [files[1], files[3]] and all(reason in text for text in found.values())
    check_whole([files[0], files[2]])


def test_a_copy_has_room_once(tmp_path: Path) -> None:
    path, copy, again = (tmp_path / name for name in ("labels.h5", "copy.h5", "again.h5"))
    write(path)
    sealed = path.read_bytes()
    without_seal(path)
    copy_with_room(path, copy)
    seal(copy)
    copy_with_room(copy, again)
    assert copy.read_bytes() == again.read_bytes() == sealed
