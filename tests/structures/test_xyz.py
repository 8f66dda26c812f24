"""XYZ files as people and programs write them."""

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.errors import DataError
from neural_polarization.structures import read_structures

FRAME = "2\n{comment}Properties=species:S:1:pos:R:3 energy=-31.0\nH 0 0 0\nH 0 0 0.74\n"


@pytest.mark.parametrize("mark", ["\ufeff", "\u2028", "\x85", "\x0c", "\x0b", "\x1c"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_fault_4_marks_and_separators(tmp_path: Path, mark: str, ends: str) -> None:
    """A byte order mark at the start, other separators of lines in comments: they count as blanks."""
    start, comment = (mark, "") if mark == "\ufeff" else ("", f"a{mark}b ")
    text = start + 2 * FRAME.format(comment=comment) + "3\n"
    path = tmp_path / "set.xyz"
    path.write_bytes(text.replace("\n", ends).encode())
    with pytest.raises(DataError, match=r"structure 2 .line 9.: should have 3 atoms up to line 13"):
        read_structures(path)
    path.write_bytes(text[:-2].replace("\n", ends).encode())
    assert len(read_structures(path)) == 2
    np.testing.assert_array_equal(open_dataset(DataConfig("extxyz", str(path), cache=False)).labels["energy"], -31.0)


def test_fault_4_compressed_files(tmp_path: Path) -> None:
    text = FRAME.format(comment="") * 2
    with gzip.open(tmp_path / "set.xyz.gz", "wt") as file:
        file.write(text)
    assert len(read_structures(tmp_path / "set.xyz.gz")) == 2
    assert len(open_dataset(DataConfig("extxyz", str(tmp_path / "set.xyz.gz"), cache=False))) == 2
    whole = (tmp_path / "set.xyz.gz").read_bytes()
    (tmp_path / "cut.xyz.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.xyz\.gz: cannot be read .*is the file complete"):
        read_structures(tmp_path / "cut.xyz.gz")


def test_fault_4_tensors_as_nine_numbers(tmp_path: Path) -> None:
    path = tmp_path / "set.xyz"
    path.write_text('1\nProperties=species:S:1:pos:R:3 polarizability="1 2 3 4 5 6 7 8 9"\nO 0 0 0\n')
    data = open_dataset(DataConfig("extxyz", str(path), properties={"polarizability": PropertyConfig()}, cache=False))
    np.testing.assert_array_equal(data.labels["polarizability"][0], np.arange(1.0, 10.0).reshape(3, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("999999999999999999999\n", "are too many"),
        ("9" * 5000 + "\n", "are too many"),
        ("1\nProperties=species:S:1:pos:R:3:x:R:999999999\nH 0 0 0\n", "names 1000000003 columns, but the first atom"),
        ("1\nProperties=species:S:1:pos:R:-3\nH 0 0 0\n", "names -2 columns"),
        ("1\nProperties=species:S:one:pos:R:3\nH 0 0 0\n", "is not understood; expected name:kind:columns"),
        ('1\nProperties=species:S:1:pos:R:3 x="_JSON ' + "[" * 5000 + '"\nH 0 0 0\n', "is not understood"),
    ],
)
def test_fault_2_counts_are_bounded(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "set.xyz"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"set\.xyz: structure 0 \(line 1\): .*{message}"):
        read_structures(path)


@pytest.mark.parametrize("comment", ["name=7 smiles=1", "name=T smiles=F", 'name="1 2 3"'])
def test_fault_2_names_are_text(tmp_path: Path, comment: str) -> None:
    path = tmp_path / "set.xyz"
    path.write_text(f"1\n{comment}\nO 0 0 0\n")
    (atoms,) = read_structures(path)
    assert all(isinstance(atoms.info[key], str) for key in ("name", "smiles") if key in atoms.info)


def test_fault_5_other_kinds_of_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", energy=np.zeros(2))
    for name in ("set.npz", "set.xyz"):
        (tmp_path / name).write_bytes((tmp_path / "set.npz").read_bytes())
        with pytest.raises(DataError, match=rf'{name}: .*it looks like a \.npz file: format is then "packed"'):
            open_dataset(DataConfig("extxyz", str(tmp_path / name), cache=False))
    ase.io.write(tmp_path / "set.traj", molecule("H2O"))
    (tmp_path / "set.xyz").write_bytes((tmp_path / "set.traj").read_bytes())
    with pytest.raises(DataError, match='it looks like a file of ASE: format is then "ase"'):
        read_structures(tmp_path / "set.xyz")
