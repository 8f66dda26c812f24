"""Trajectories in every layout in which MD17 and rMD17 are passed on."""

from pathlib import Path

import numpy as np
import pytest
from ase import units

from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.md17 import published_name, read_md17
from neural_polarization.errors import DataError

FRAMES, ATOMS = 12, 5
RNG = np.random.default_rng(0)
Z = np.array([6, 1, 1, 1, 8], np.uint8)
R = RNG.uniform(-2, 2, (FRAMES, ATOMS, 3))
E = RNG.normal(-1e5, 1, FRAMES)
F = RNG.normal(size=(FRAMES, ATOMS, 3))
KCAL = units.kcal / units.mol

LAYOUTS = {
    "packed": {"atomic_numbers": Z, "positions": R, "energies": E, "forces": F},
    "rmd17": {"nuclear_charges": Z, "coords": R, "energies": E, "forces": F, "old_indices": np.arange(FRAMES)},
    "md17": {"z": Z, "R": R, "E": E[:, None], "F": F, "name": np.array("ethanol")},
    "sgdml": {"z": Z, "R": R, "E": E, "F": F, "e_unit": np.array(b"kcal/mol"), "r_unit": np.array(b"Ang")},
}


def write(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "molecule.npz"
    np.savez(path, **arrays)
    return path


def check(data: Dataset, rounding: float = 0.0) -> None:
    assert len(data) == FRAMES
    assert data.elements == ("H", "C", "O")
    # ASE's constants are of 2014: equal to a few parts in a hundred million.
    np.testing.assert_allclose(data.labels["energy"], E * KCAL, rtol=3e-8)
    np.testing.assert_allclose(data.labels["forces"].reshape(FRAMES, ATOMS, 3), F * KCAL, rtol=3e-8)
    np.testing.assert_allclose(data.molecules.positions.reshape(FRAMES, ATOMS, 3), R, rtol=rounding)
    assert set(data.groups.tolist()) == {0}
    assert data.properties["forces"].per_atom
    assert data.properties["energy"].unit == "meV"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_data(tmp_path: Path, layout: str) -> None:
    check(read_md17(write(tmp_path, LAYOUTS[layout])))


@pytest.mark.parametrize(
    ("e_unit", "energy", "r_unit", "length"),
    [("eV", 1.0, "Ang", 1.0), ("hartree", units.Hartree, "bohr", units.Bohr), ("kcal/mol", KCAL, "bohr", units.Bohr)],
)
def test_units_written_in_the_file_count(
    tmp_path: Path, e_unit: str, energy: float, r_unit: str, length: float
) -> None:
    arrays = {"R": R / length, "E": E * KCAL / energy, "F": F * KCAL / (energy / length)}
    named = {"e_unit": np.array(e_unit), "r_unit": np.array(r_unit)}
    check(read_md17(write(tmp_path, LAYOUTS["md17"] | arrays | named)), rounding=0.0 if length == 1.0 else 1e-8)


def test_properties_under_the_users_names_and_units(tmp_path: Path) -> None:
    wanted = {"pbe": PropertyConfig(source="energy", unit="hartree", shown_in="kcal/mol")}
    data = read_md17(write(tmp_path, LAYOUTS["packed"]), wanted)
    assert list(data.labels) == ["pbe"]
    np.testing.assert_allclose(data.labels["pbe"], E * units.Hartree, rtol=1e-7)
    assert data.properties["pbe"].unit == "kcal/mol"
    with pytest.raises(DataError, match="no property 'force'; did you mean 'forces'"):
        read_md17(tmp_path / "molecule.npz", {"force": PropertyConfig()})


def test_published_splits_in_the_file(tmp_path: Path) -> None:
    splits = {"train_02": np.array([3, 1]), "test_02": np.array([0, 5, 7])}
    data = read_md17(write(tmp_path, LAYOUTS["packed"] | splits))
    assert list(data.splits) == ["published_2"]
    split = data.splits[published_name(data, 2)]
    assert (split.train.tolist(), split.test.tolist()) == ([3, 1], [0, 5, 7])
    with pytest.raises(DataError, match="has no split 'published_1'"):
        published_name(data, 1)


def test_published_splits_in_tables_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "npz_data").mkdir()
    (tmp_path / "splits").mkdir()
    for name, rows in {"train_01": "4\n2\n", "test_01": "11\n"}.items():
        (tmp_path / "splits" / f"index_{name}.csv").write_text(rows)
    path = write(tmp_path / "npz_data", LAYOUTS["rmd17"])
    split = read_md17(path).splits["published_1"]
    assert (split.train.tolist(), split.test.tolist()) == ([4, 2], [11])

    (tmp_path / "splits" / "index_test_01.csv").write_text("12\n")
    with pytest.raises(DataError, match=r"frames up to 12, but .* has 12"):
        read_md17(path)
    (tmp_path / "splits" / "index_test_01.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"index_test_01\.csv: expected one frame number per line"):
        read_md17(path)


def test_what_npol_pack_wrote_is_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path, {"n_atoms": np.full(FRAMES, ATOMS), "atomic_numbers": np.tile(Z, FRAMES), "positions": R})
    with pytest.raises(DataError, match=r"npz: is a packed data set, no MD17 .*; set data\.format to packed"):
        read_md17(path)
