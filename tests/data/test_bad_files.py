"""Every kind of bad array file, with what is said about it."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.errors import DataError

RNG = np.random.default_rng(0)
POSITIONS = RNG.permutation(np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3))[:9]

GOOD: dict[str, dict[str, np.ndarray]] = {
    "packed": {
        "n_atoms": np.array([5, 4]),
        "atomic_numbers": np.array([6, 1, 1, 1, 1, 7, 1, 1, 1]),
        "positions": POSITIONS,
        "energy": np.array([-1.0, -2.0]),
    },
    "qm9": {
        "index": np.array([1, 2]),
        "n_atoms": np.array([5, 4]),
        "atomic_numbers": np.array([6, 1, 1, 1, 1, 7, 1, 1, 1]),
        "positions": POSITIONS,
        "gap": np.array([0.5, 0.4]),
    },
    "rmd17": {
        "atomic_numbers": np.array([8, 1, 1]),
        "positions": POSITIONS.reshape(3, 3, 3),
        "energies": np.zeros(3),
        "forces": np.zeros((3, 3, 3)),
    },
}


def changed(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    result = array.copy()
    result[place] = value
    return result


def arrays(format: str, **changes: np.ndarray | None) -> Callable[[Path], None]:
    """Writes a good file with some arrays replaced or left out."""

    def write(path: Path) -> None:
        merged = GOOD[format] | changes
        np.savez(path, **{key: value for key, value in merged.items() if value is not None})

    return write


def damaged(format: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Writes a good file and damages its bytes."""

    def write(path: Path) -> None:
        np.savez(path, **GOOD[format])
        path.write_bytes(change(path.read_bytes()))

    return write


def single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def flipped(content: bytes) -> bytes:
    """Other bytes in the middle of an array's data."""
    at = content.index(POSITIONS.tobytes()) + 40
    return content[:at] + b"\xff\xff\xff" + content[at + 3 :]


CASES: list[tuple[str, Callable[[Path], None], str]] = [
    # not an array file, or a damaged one
    ("packed", lambda path: path.write_text("molecules") and None, "is not a .npz file; expected a packed data set"),
    ("packed", lambda path: path.write_text("") and None, "cannot be read as .npz .* Is the file complete"),
    ("qm9", single, "is a single array"),
    ("rmd17", damaged("rmd17", lambda content: content[: len(content) // 2]), "cannot be read as .npz"),
    ("qm9", damaged("qm9", flipped), "array 'positions' is damaged .*; get the file again"),
    # arrays that are not there or of the wrong kind
    ("packed", arrays("packed", positions=None), "no array 'positions'"),
    ("qm9", arrays("qm9", atomic_numbers=None, Z=np.zeros(9)), "no array 'atomic_numbers'; expected a packed QM9"),
    ("rmd17", arrays("rmd17", positions=None), "is no MD17 or rMD17 file; expected .*nuclear_charges, coords"),
    ("rmd17", arrays("rmd17", forces=None), "no array 'forces'"),
    ("packed", arrays("packed", energy=np.array(["a", "b"], object)), "'energy' holds Python objects"),
    ("qm9", arrays("qm9", index=np.array(["1", "2"])), "'index' has shape .* and type <U1; expected numbers"),
    # shapes
    ("packed", arrays("packed", positions=POSITIONS[:8]), r"adds up to 9 atoms.* they have \(8, 3\)"),
    ("packed", arrays("packed", positions=POSITIONS[:, :2]), r"'positions' has shape \(9, 2\)"),
    ("qm9", arrays("qm9", gap=np.zeros(3)), r"'gap' has shape \(3,\) .* shape \(2\)"),
    ("qm9", arrays("qm9", n_atoms=np.array([5])), "'n_atoms' has shape"),
    ("rmd17", arrays("rmd17", forces=np.zeros((3, 2, 3))), r"'forces' has shape \(3, 2, 3\) .* \(3, 3, 3\)"),
    ("rmd17", arrays("rmd17", energies=np.zeros(2)), "one number for each of 3 frames"),
    ("rmd17", arrays("rmd17", train_01=np.array([0]), test_01=np.array([3])), "frames up to 3, but .* has 3"),
    # molecules that cannot be
    ("packed", arrays("packed", n_atoms=np.array([9, 0])), "molecule 1 has no atoms"),
    ("packed", arrays("packed", n_atoms=np.zeros(0, int)), "holds no molecules"),
    ("qm9", arrays("qm9", n_atoms=np.array([10, -1])), "molecule 1 has no atoms"),
    (
        "qm9",
        arrays("qm9", atomic_numbers=changed(GOOD["qm9"]["atomic_numbers"], (6,), 119)),
        "molecule 1, atom 1 has atomic number 119; elements are 1 to 118",
    ),
    (
        "rmd17",
        arrays("rmd17", atomic_numbers=np.array([8, 0, 1])),
        "molecule 0, atom 1 has atomic number 0",
    ),
    (
        "packed",
        arrays("packed", positions=changed(POSITIONS, (7, 1), np.nan)),
        "molecule 1, atom 2 has position .*nan.*: repair or leave out",
    ),
    (
        "rmd17",
        arrays("rmd17", positions=changed(GOOD["rmd17"]["positions"], (2, 1, 0), np.inf)),
        "molecule 2, atom 1 has position",
    ),
    (
        "packed",
        arrays("packed", positions=changed(POSITIONS, (8,), POSITIONS[6])),  # pyright: ignore[reportArgumentType]
        r"molecule 1: atoms 1 and 3 are 0\.000 Angstrom apart, at one place",
    ),
    (
        "rmd17",
        arrays("rmd17", positions=changed(GOOD["rmd17"]["positions"], (1,), 0.5)),
        r"molecule 1: atoms 0 and 1 are 0\.000 Angstrom apart, at one place",
    ),
]


@pytest.mark.parametrize(("format", "write", "message"), CASES, ids=[case[2][:40] for case in CASES])
def test_bad_files(tmp_path: Path, format: str, write: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(DataError, match=rf"bad\.npz.*{message}"):
        open_dataset(DataConfig(format, str(path), cache=False)).prepare(5.0)


@pytest.mark.parametrize("format", GOOD)
def test_the_good_files_are_good(tmp_path: Path, format: str) -> None:
    np.savez(tmp_path / "good.npz", **GOOD[format])
    data = open_dataset(DataConfig(format, str(tmp_path / "good.npz"), cache=False))
    assert data.prepare(5.0).batch([0, 1]).molecules.num_molecules == 2


def test_a_missing_label_is_no_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **(GOOD["qm9"] | {"gap": np.array([np.nan, 0.4])}))
    data = open_dataset(DataConfig("qm9", str(tmp_path / "set.npz"), cache=False))
    assert data.groups.tolist() == [2]


def header(shape: tuple[int, ...]) -> bytes:
    """The beginning of an array of that shape, without its numbers."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("energy.npy", header((10**12,)), "array 'energy' claims 8,000,000,000,000 bytes and has 0"),
        ("energy.npy", header((2,)) + bytes(8), "array 'energy' claims 16 bytes and has 8"),
        ("energy", b"no header", "'energy' is no array of numpy"),
        ("energy.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "'energy' is no array of numpy"),
    ],
)
def test_fault_2_arrays_that_claim_too_much(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **{key: value for key, value in GOOD["packed"].items() if key != "energy"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)
    with pytest.raises(DataError, match=rf"set\.npz: .*{message}"):
        open_dataset(DataConfig("packed", str(path), cache=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charge": np.array([0.37, 0.0])}, "charge of molecule 0 is 0.37; expected a whole number"),
        ({"total_charge": np.array([0, 99])}, r"molecule 1 has charge \+99 for 10 protons"),
        ({"charge": np.zeros(2), "net_charge": np.zeros(2)}, "charge and net_charge mean the same"),
        ({"spin": np.array([-1, 0])}, "spin of molecule 0 is -1"),
        ({"spin": np.array([0, 1])}, r"molecule 1: H3N with charge \+0 has 10 electrons, which cannot have 1 unpaired"),
        ({"spin": np.array([0, 2]), "charge": np.array([0, 1])}, r"H3N with charge \+1 has 9 electrons, .*spin=1"),
        ({"multiplicity": np.array([3, 1]), "spin": np.array([1, 0])}, "spin and multiplicity disagree"),
        ({"energy": np.array([True, False])}, "array 'energy' has type bool; expected real numbers"),
        ({"energy": np.array([1j, 0])}, "array 'energy' has type complex128; expected real numbers"),
        ({"energy": np.array(["2020-01-01", "2021-01-01"], "M8[D]")}, "array 'energy' has type datetime64"),
        ({"positions": 1e9 * POSITIONS}, "no molecule is a millimetre away"),
        ({"split": np.array([0.5, 1.0])}, "split of molecule 0 is 0.5"),
    ],
)
def test_fault_1_5_1_6_and_1_18_in_packed_files(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "set.npz", **(GOOD["packed"] | changes))
    with pytest.raises(DataError, match=rf"set\.npz: .*{message}"):
        open_dataset(DataConfig("packed", str(tmp_path / "set.npz"), cache=False))


def test_fault_1_5_names_in_packed_files(tmp_path: Path) -> None:
    arrays = {key: value for key, value in GOOD["packed"].items() if key != "energy"}
    states = {"Total_Charge": np.array([1.0, np.nan]), "multiplicity": np.array([2.0, np.nan])}
    np.savez(tmp_path / "set.npz", **arrays, **states, REF_energy=np.array([-1.0, -2.0]))
    data = open_dataset(DataConfig("packed", str(tmp_path / "set.npz"), cache=False))
    assert data.molecules.charges is not None and data.molecules.charges.tolist() == [1.0, 0.0]
    assert data.molecules.spins is not None
    np.testing.assert_equal(data.molecules.spins, [1.0, np.nan])
    np.testing.assert_array_equal(data.labels["energy"], [-1.0, -2.0])
