"""QM9 from its archive and from a packed file."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase import units

from neural_polarization.data import qm9_archive
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.downloads import RemoteFile, Report
from neural_polarization.data.qm9 import QM9_COLUMNS, read_packed_qm9
from neural_polarization.data.qm9_archive import parse_record, read_excluded, read_qm9
from neural_polarization.errors import DataError

METHANE = """5
gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893\t\
-40.476062\t-40.475117\t-40.498597\t6.469\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 0.0002765748\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 9.063972942*^-1\t 0.133923
1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""

WATER = """3
gdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702\t\
-76.401867\t-76.400922\t-76.422349\t6.002\t
O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706
H\t 0.0647664923\t 0.0205721989\t 0.0015346341\t 0.294853
H\t 0.8717903737\t 1.3007924048\t 0.0006931336\t 0.294853
1671.4222\t3803.6305\t3907.698
O\tO\t
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""

EXCLUDED = """These molecules failed
the check.

Index  Smiles from GDB9  Smiles from the geometry  Smiles from the relaxed geometry
-----------------------------------
     2 N N N
     3 O O OO
-----------------------------------
2 molecules
"""


def write_archive(path: Path, records: dict[str, str]) -> Path:
    with tarfile.open(path, "w:bz2") as archive:
        for name, text in records.items():
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "some.tar.bz2", {"dsgdb9nsd_000001.xyz": METHANE, "dsgdb9nsd_000003.xyz": WATER})


def check_water(data: Dataset, k: int) -> None:
    """QM9's water in units that ASE converts; its constants differ by a few parts in a hundred million."""
    expected = {
        "mu": 1.8511 * units.Debye,
        "alpha": 6.31 * units.Bohr**3,
        "homo": -0.2928 * units.Hartree,
        "lumo": 0.0687 * units.Hartree,
        "gap": 0.3615 * units.Hartree,
        "r2": 19.0002 * units.Bohr**2,
        "zpve": 0.021375 * units.Hartree,
        "U0": -76.404702 * units.Hartree,
        "U": -76.401867 * units.Hartree,
        "H": -76.400922 * units.Hartree,
        "G": -76.422349 * units.Hartree,
        "Cv": 6.002e-3 * units.kcal / units.mol,
    }
    assert list(data.labels) == list(QM9_COLUMNS) == list(expected)
    for name, value in expected.items():
        assert data.labels[name][k] == pytest.approx(value, rel=1e-7), name
    assert data.structure(k).get_chemical_symbols() == ["O", "H", "H"]
    assert data.structure(k).get_distance(0, 1) == pytest.approx(0.9621, abs=1e-4)


def test_the_archive(archive: Path) -> None:
    data = read_qm9(archive)
    assert len(data) == 2
    assert data.groups.tolist() == [1, 3]
    assert data.molecules.positions[4, 2] == pytest.approx(0.9063972942)
    check_water(data, 1)


def test_left_out_molecules(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(EXCLUDED)
    assert read_excluded(tmp_path / "list.txt").tolist() == [2, 3]
    assert read_qm9(archive, exclude=tmp_path / "list.txt").groups.tolist() == [1]
    (tmp_path / "numbers.txt").write_text("1\n7\n")
    assert read_qm9(archive, exclude=tmp_path / "numbers.txt").groups.tolist() == [3]
    (tmp_path / "words.txt").write_text("nothing here\n")
    with pytest.raises(DataError, match=r"words\.txt: has no line that begins with a number"):
        read_excluded(tmp_path / "words.txt")


def test_a_parsed_archive_is_kept(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_qm9(archive, cache_directory=tmp_path / "cache")

    def never(path: Path) -> qm9_archive.Arrays:
        raise AssertionError(f"{path} is parsed again")

    monkeypatch.setattr(qm9_archive, "_parse_archive", never)
    again = read_qm9(archive, {"gap": PropertyConfig()}, cache_directory=tmp_path / "cache")
    np.testing.assert_array_equal(again.labels["gap"], first.labels["gap"])


def test_an_archive_that_is_replaced_is_parsed_again(archive: Path, tmp_path: Path) -> None:
    assert read_qm9(archive, cache_directory=tmp_path / "cache").groups.tolist() == [1, 3]
    write_archive(archive, {"dsgdb9nsd_000003.xyz": WATER})
    replaced = read_qm9(archive, cache_directory=tmp_path / "cache")
    assert replaced.groups.tolist() == [3]
    check_water(replaced, 0)


def test_a_folder_is_downloaded_into(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(file: RemoteFile, path: Path, report: Report) -> Path:
        asked.append(file.url)
        path.parent.mkdir(parents=True, exist_ok=True)  # as the real one does
        path.write_bytes(archive.read_bytes() if path.name == qm9_archive.ARCHIVE else EXCLUDED.encode())
        return path

    monkeypatch.setattr(qm9_archive, "download", fake)
    (tmp_path / "qm9").mkdir()
    for folder in ("qm9", "not/made/yet"):
        asked.clear()
        assert read_qm9(tmp_path / folder).groups.tolist() == [1]
        assert asked == [file.url for file in qm9_archive.PUBLISHED.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is not understood .*the number of atoms, found the end of the file"),
        (METHANE.replace("5\n", "five\n", 1), "line 1"),
        (METHANE.replace("\t6.469", "", 1), "line 2 .*14 numbers instead of 15"),
        (METHANE.replace("6.469", "6.4.69", 1), "line 2"),
        (METHANE.replace("C\t-0.01", "Q\t-0.01", 1), "line 3 .*'Q'"),
        ("\n".join(METHANE.splitlines()[:4]), "line 5 .*the end of the file"),
        (METHANE.replace("1.4637511618", "", 1), "line 5"),
    ],
)
def test_records_that_are_not_understood(text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"place: {message}"):
        parse_record("place", text)


def test_archives_that_are_cut_off_or_something_else(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", whole[:50] + bytes(40) + whole[90:]):
        (tmp_path / "bad.tar.bz2").write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.tar\.bz2: (cannot be read|holds no)"):
            read_qm9(tmp_path / "bad.tar.bz2")
    with pytest.raises(DataError, match=r"holds no \.xyz"):
        read_qm9(write_archive(tmp_path / "other.tar.bz2", {"readme": "text"}))
    with pytest.raises(DataError, match="ascending"):
        read_qm9(write_archive(tmp_path / "mixed.tar.bz2", {"b.xyz": WATER, "a.xyz": METHANE}))
    with pytest.raises(FileNotFoundError, match="folder to download it into"):
        read_qm9(tmp_path / "nowhere.tar.bz2")


@pytest.fixture
def packed(tmp_path: Path) -> dict[str, np.ndarray]:
    records = [parse_record("test", text) for text in (METHANE, WATER)]
    columns = {name: np.array([record[1][k] for record in records]) for k, name in enumerate(QM9_COLUMNS)}
    return columns | {
        "index": np.array([1, 3], np.int32),
        "n_atoms": np.array([5, 3], np.uint8),
        "atomic_numbers": np.array(records[0][2] + records[1][2], np.uint8),
        "positions": np.array(records[0][3] + records[1][3], np.float32),
        "label_source": np.array([2, 9], np.uint8),
    }


def test_the_packed_file(packed: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "qm9.npz", **packed)
    check_water(read_packed_qm9(tmp_path / "qm9.npz"), 1)
    one = read_packed_qm9(tmp_path / "qm9.npz", label_source=1)
    assert one.groups.tolist() == [3]
    check_water(one, 0)
    assert len(read_packed_qm9(tmp_path / "qm9.npz", label_source=3)) == 2
    with pytest.raises(DataError, match=r"label_source 4; bits in the file: \[1, 2, 8\]"):
        read_packed_qm9(tmp_path / "qm9.npz", label_source=4)


def test_targets_under_the_users_names(packed: dict[str, np.ndarray], tmp_path: Path) -> None:
    del packed["label_source"]
    np.savez(tmp_path / "qm9.npz", **packed)
    data = read_packed_qm9(tmp_path / "qm9.npz", {"energy": PropertyConfig(source="U0", shown_in="kcal/mol")})
    assert data.labels["energy"][1] == pytest.approx(-76.404702 * units.Hartree, rel=1e-7)
    assert data.properties["energy"].unit == "kcal/mol"
    with pytest.raises(DataError, match="no property 'HOMO'; did you mean 'homo'"):
        read_packed_qm9(tmp_path / "qm9.npz", {"HOMO": PropertyConfig()})
    with pytest.raises(DataError, match="leave label_source out"):
        read_packed_qm9(tmp_path / "qm9.npz", label_source=1)


@pytest.mark.parametrize("count", ["4", "2", "0", "-1", "99", "9" * 5000])
def test_fault_1_18_another_number_of_atoms_than_lines(count: str) -> None:
    with pytest.raises(DataError, match=r"place: .*(the record is damaged|is not understood)"):
        parse_record("place", METHANE.replace("5", count, 1))


def test_fault_2_links_that_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "qm9.tar.bz2"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(path, "w:bz2") as archive:
            member = tarfile.TarInfo("dsgdb9nsd_000001.xyz")
            member.type, member.linkname = kind, "nowhere.xyz"
            archive.addfile(member)
        with pytest.raises(DataError, match=r"qm9\.tar\.bz2: dsgdb9nsd_000001\.xyz: is no small text file"):
            read_qm9(path)
