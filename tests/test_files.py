"""Files that are complete or not there, and locks that another process feels."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.files import check_file, check_folder, locked, replacing, write_arrays, write_json
from neural_polarization.interfaces import export
from neural_polarization.interfaces.spectra.outputs import check_spectrum
from neural_polarization.labelling import packing

TRY = """
import sys
from pathlib import Path
from neural_polarization.files import locked
try:
    with locked(Path(sys.argv[1])):
        print("free")
except BlockingIOError:
    print("taken")
"""


def test_an_interrupted_file_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"energy": 1.5})
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"energy": 1.5}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made_and_tried(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "page.html")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"page\.html: its folder cannot be written \(.*\); choose another one"):
        check_folder(tmp_path / "file" / "page.html")


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_are_read_back(tmp_path: Path, compress: bool) -> None:
    write_arrays(tmp_path / "new" / "set.npz", {"positions": np.arange(6.0).reshape(2, 3)}, compress)
    with np.load(tmp_path / "new" / "set.npz") as file:
        np.testing.assert_array_equal(file["positions"], [[0, 1, 2], [3, 4, 5]])


def test_a_lock_keeps_another_process_out_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"

    def other() -> str:
        command = [sys.executable, "-c", TRY, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with locked(path):
        assert other() == "taken"
        with pytest.raises(BlockingIOError), locked(path):
            pass
    assert list(path.parent.iterdir()) == []
    assert other() == "free"


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    for overwrite in (False, True):
        with pytest.raises(IsADirectoryError, match=r"page\.html is a folder; give the path of a file"):
            check_file(tmp_path / "page.html", overwrite, (".html",), "page")


@pytest.mark.parametrize("wait", [0.0, -1.0])
def test_a_folder_without_locks_is_no_other_process(tmp_path: Path, wait: float) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="its folder cannot be written"), locked(tmp_path / "file" / ".lock", wait):
        pass


def test_outputs_of_long_work_are_tried_before_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file"
    for check in (
        lambda: check_spectrum(folder / "water.png", False),
        lambda: export.check_output(folder / "model.pt2", ".pt2", False),
        lambda: packing.check_output(folder / "set.npz", [], False),
    ):
        with pytest.raises(OSError, match=r"its folder cannot be written \(.*\); choose another one"):
            check()


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    script = "import sys, time; from pathlib import Path; from neural_polarization.files import locked\n"
    script += "with locked(Path(sys.argv[1])): print('has it', flush=True); time.sleep(1.0)"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "has it\n"
        with pytest.raises(BlockingIOError, match="another process has this lock"), locked(path):
            pass
        with locked(path, wait=60.0):
            assert other.wait(10) == 0


def test_a_file_that_is_replaced_keeps_its_permissions_and_its_place(tmp_path: Path) -> None:
    own, link = tmp_path / "own.json", tmp_path / "link.json"
    write_json(own, 1)
    own.chmod(0o600)
    link.symlink_to(own)
    write_json(link, 2)
    assert link.is_symlink() and json.loads(own.read_text()) == 2
    assert own.stat().st_mode & 0o777 == 0o600
    script = "import os; os.umask(0o077)\nfrom pathlib import Path; from neural_polarization.files import write_json\n"
    subprocess.run([sys.executable, "-c", f"{script}write_json(Path({str(tmp_path / 'new.json')!r}), 3)"], check=True)
    assert (tmp_path / "new.json").stat().st_mode & 0o777 == 0o600
