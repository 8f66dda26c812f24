"""What ASE would make room for, or take as it is, is refused before ASE reads the file."""

import json
import resource
import time
from collections.abc import Generator
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk

from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.errors import DataError
from neural_polarization.structures import read_structures


@pytest.fixture(autouse=True)
def bounded() -> Generator[None]:
    """Nothing large is allocated, and nothing takes long."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    yield
    assert time.process_time() - start < 5.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR_1", "salt.vasp"])
@pytest.mark.parametrize("count", ["1000000000", "50000000", "9" * 400])
def test_a_poscar_that_claims_more_atoms_than_it_has_lines(tmp_path: Path, name: str, count: str) -> None:
    path = tmp_path / name
    ase.io.write(path, bulk("NaCl", "rocksalt", a=5.64), format="vasp")
    (read,) = read_structures(path)
    np.testing.assert_allclose(read.get_distance(0, 1, mic=True), 2.82)
    lines = path.read_text().splitlines()
    assert lines[6].split() == ["1", "1"]
    lines[6] = f" 1 {count}"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"{name}: line 7 claims [\d,]+ atoms, but the file has 10 lines"):
        read_structures(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("_cell_angle_alpha", "500", "_cell_angle_alpha is 500; expected degrees between 0 and 180"),
        ("_cell_angle_gamma", "0.0", "_cell_angle_gamma is 0.0; expected degrees between 0 and 180"),
        ("_cell_length_b", "-3.9", "_cell_length_b is -3.9; expected a positive length in Angstrom"),
        ("_cell_length_c", "nan", "_cell_length_c is nan; expected a positive length"),
        ("_cell_length_a", "1e30", r"structure 0: its cell is .*expected nine finite numbers"),
        ("_cell_length_a", "0.05", r"structure 0: its cell .* Angstrom thick"),
    ],
)
def test_cells_of_cif_that_cannot_be(tmp_path: Path, key: str, value: str, message: str) -> None:
    path = tmp_path / "salt.cif"
    ase.io.write(path, bulk("NaCl", "rocksalt", a=5.64))
    (read,) = read_structures(path)
    np.testing.assert_allclose(read.get_distance(0, 1, mic=True), 2.82, rtol=1e-4)
    lines = [f"{key} {value}" if line.startswith(key) else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"salt\.cif: {message}"):
        read_structures(path)


def test_a_space_group_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "salt.cif"
    ase.io.write(path, bulk("NaCl", "rocksalt", a=5.64))
    text = path.read_text()
    assert "_space_group_IT_number       1" in text
    path.write_text(text.replace("_space_group_IT_number       1", "_space_group_IT_number  999999"))
    with pytest.raises(DataError, match=r"salt\.cif: cannot be read by ASE .*spacegroup"):
        read_structures(path)


@pytest.mark.parametrize("shape", [[10**12], [10**6, 10**6], [2, 3, 10**10], [int("9" * 30)]])
def test_arrays_of_a_json_database_that_claim_more_than_the_file_has(tmp_path: Path, shape: list[int]) -> None:
    path = tmp_path / "set.json"
    with ase.db.connect(path) as database:
        database.write(bulk("NaCl", "rocksalt", a=5.64), data={"energy": -1.0})
    content = json.loads(path.read_text())
    assert content["1"]["positions"]["__ndarray__"][0] == [2, 3]
    content["1"]["positions"]["__ndarray__"][0] = shape
    path.write_text(json.dumps(content))
    for read in (read_structures, lambda file: open_dataset(DataConfig("ase", str(file), cache=False))):
        with pytest.raises(DataError, match=r"set\.json: has an array of shape .*, larger than the file; it"):
            read(path)


MIXED = """data_mixed
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
C1 C 0.0 0.0 0.0 {first}
C2 C 0.3 0.3 0.3 1.0
{more}
"""


@pytest.mark.parametrize(
    ("first", "more", "message"),
    [
        ("0.6", "N1 N 0.0 0.0 0.0 0.4", r"a site has 0.6 C, 0.4 N; expected one whole atom"),
        ("0.5", "", r"a site has 0.5 C; expected one whole atom .*give one of the arrangements"),
        ("1.0", "", ""),
        ("0.999", "", ""),
    ],
)
def test_sites_of_cif_that_atoms_share(tmp_path: Path, first: str, more: str, message: str) -> None:
    path = tmp_path / "mixed.cif"
    path.write_text(MIXED.format(first=first, more=more))
    if not message:
        assert str(read_structures(path)[0].symbols) == "C2"
        return
    with pytest.raises(DataError, match=rf"mixed\.cif: structure 0: is disordered: {message}"):
        read_structures(path)


@pytest.mark.parametrize(("share", "whole"), [("1.00", True), ("0.00", True), ("0.50", False)])
def test_alternate_places_of_pdb(tmp_path: Path, share: str, whole: bool) -> None:
    path = tmp_path / "carbon_monoxide.pdb"
    line = "HETATM    {} {:>2}   LIG A   1       0.000   0.000   {:.3f}  {}  0.00           {}\n"
    path.write_text(line.format(1, "C", 0.0, "1.00", "C") + line.format(2, "O", 1.13, share, "O") + "END\n")
    if whole:
        assert str(read_structures(path)[0].symbols) == "CO"
        return
    with pytest.raises(DataError, match=r"monoxide\.pdb: structure 0: is disordered: a site has 0.5 O"):
        read_structures(path)


def test_a_column_of_that_name_in_other_files(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.arrays["occupancy"] = np.full(4, 0.5)
    ase.io.write(tmp_path / "copper.traj", atoms)
    assert len(read_structures(tmp_path / "copper.traj")[0]) == 4
