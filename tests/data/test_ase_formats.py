"""Extended XYZ files and ASE databases with the user's own names and units."""

from pathlib import Path

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from neural_polarization.data.ase_formats import read_extxyz
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.packed import read_packed, write_packed
from neural_polarization.errors import DataError
from neural_polarization.properties import Property


def labelled(name: str, energy: float | None, seed: int = 0) -> ase.Atoms:
    """A molecule with the results of a calculator."""
    atoms = molecule(name)
    rng = np.random.default_rng(seed)
    if energy is not None:
        atoms.calc = SinglePointCalculator(
            atoms, energy=energy, forces=rng.normal(size=(len(atoms), 3)), dipole=rng.normal(size=3)
        )
    return atoms


@pytest.fixture
def structures() -> list[ase.Atoms]:
    return [labelled("H2O", -14.0, 1), labelled("CH4", None), labelled("H2O", -13.9, 2), labelled("NH3", -19.5, 3)]


def test_results_as_ase_understands_them(structures: list[ase.Atoms], tmp_path: Path) -> None:
    ase.io.write(tmp_path / "set.extxyz", structures)
    with ase.db.connect(tmp_path / "set.db") as database:
        for atoms in structures:
            database.write(atoms)
    for data in (read_extxyz(tmp_path / "set.extxyz"), read_extxyz(tmp_path / "set.db")):
        assert data.properties == {
            "energy": Property("energy", "meV"),
            "forces": Property("forces", "meV/Angstrom", (3,), per_atom=True),
            "dipole": Property("dipole", "mD", (3,)),
        }
        np.testing.assert_allclose(data.labels["energy"], [-14.0, np.nan, -13.9, -19.5])
        assert np.isnan(data.labels["forces"][3:8]).all()
        np.testing.assert_allclose(data.labels["forces"][8:11], structures[2].get_forces(), atol=1e-7)
        np.testing.assert_allclose(data.labels["dipole"][3], structures[3].get_dipole_moment(), atol=1e-7)
        np.testing.assert_allclose(data.molecules.positions[8:11], structures[2].positions, atol=1e-7)
        assert data.groups[0] == data.groups[2]
        assert len(set(data.groups.tolist())) == 3
        assert data.molecules.cells is None
        assert data.molecules.charges is None


def test_own_names_units_and_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames: list[ase.Atoms] = []
    gradients: list[np.ndarray] = []
    for k in range(3):
        atoms = molecule("CH3OH")
        atoms.info |= {"E_ccsd": -115.0 - k, "mol": f"name{k % 2}", "charge": 1 if k == 2 else 0}
        atoms.info["alpha"] = np.diag([1.0, 2.0, 3.0 + k])
        gradients.append(rng.normal(size=(len(atoms), 3)))
        atoms.arrays["dE"] = gradients[-1]
        atoms.arrays["q"] = rng.normal(size=len(atoms))
        frames.append(atoms)
    ase.io.write(tmp_path / "set.xyz", frames, format="extxyz")
    with ase.db.connect(tmp_path / "set.db") as database:
        for atoms in frames:
            data = {"alpha": atoms.info["alpha"], "dE": atoms.arrays["dE"], "q": atoms.arrays["q"]}
            keys = {key: atoms.info[key] for key in ("E_ccsd", "mol", "charge")}
            database.write(atoms, key_value_pairs=keys, data=data)
    wanted = {
        "energy": PropertyConfig(source="E_ccsd", unit="hartree"),
        "alpha": PropertyConfig(unit="bohr^3"),
        "gradient": PropertyConfig(source="dE", unit="hartree/bohr", per_atom=True),
        "charges": PropertyConfig(source="q", unit="e", per_atom=True),
    }
    for found in (
        read_extxyz(tmp_path / "set.xyz", wanted, group="mol"),
        read_extxyz(tmp_path / "set.db", wanted, group="mol"),
    ):
        np.testing.assert_allclose(found.labels["energy"], np.array([-115, -116, -117]) * units.Hartree, rtol=1e-7)
        assert found.properties["energy"].unit == "meV"
        assert found.properties["alpha"] == Property("alpha", "bohr^3", (3, 3))
        np.testing.assert_allclose(found.labels["alpha"][2], np.diag([1, 2, 5]) * units.Bohr**3, rtol=1e-7)
        expected = np.concatenate(gradients) * units.Hartree / units.Bohr
        np.testing.assert_allclose(found.labels["gradient"], expected, rtol=1e-6, atol=1e-6)
        assert found.properties["charges"] == Property("charges", "e", (), per_atom=True)
        assert found.groups.tolist() == [0, 1, 0]
        assert found.molecules.charges is not None
        assert found.molecules.charges.tolist() == [0.0, 0.0, 1.0]


def test_columns_of_atoms_are_found_without_being_told(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.arrays["my_forces"] = np.arange(9.0).reshape(3, 3)
    ase.io.write(tmp_path / "set.xyz", atoms, format="extxyz")
    data = read_extxyz(tmp_path / "set.xyz", {"forces": PropertyConfig(source="my_forces", unit="eV/Angstrom")})
    assert data.properties["forces"].per_atom
    np.testing.assert_array_equal(data.labels["forces"], np.arange(9.0).reshape(3, 3))


def test_charges_are_whole_up_to_rounding(tmp_path: Path) -> None:
    frames = [molecule("H2O") for _ in range(2)]
    for atoms, charge in zip(frames, (0.1 + 0.2 - 0.3, 0.7 + 0.1 + 0.2), strict=True):
        atoms.info |= {"E": -1.0, "charge": charge}
    ase.io.write(tmp_path / "set.xyz", frames, format="extxyz")
    data = read_extxyz(tmp_path / "set.xyz", {"energy": PropertyConfig(source="E", unit="eV")})
    assert data.molecules.charges is not None
    assert data.molecules.charges.tolist() == [0.0, 1.0]


def test_periodic_structures(tmp_path: Path) -> None:
    salt = bulk("NaCl", "rocksalt", a=5.6)
    salt.info["energy_dft"] = -7.0
    water = molecule("H2O")
    water.info["energy_dft"] = -14.0
    ase.io.write(tmp_path / "set.xyz", [salt, water], format="extxyz")
    wanted = {"energy": PropertyConfig(source="energy_dft", unit="eV")}
    data = read_extxyz(tmp_path / "set.xyz", wanted)
    assert data.molecules.periodic.tolist() == [True, False]
    assert data.prepare(3.0).batch(np.array([0])).molecules.edge_index.shape[1] == 12  # six neighbours each
    salt.pbc = [True, True, False]
    ase.io.write(tmp_path / "slab.xyz", [water, salt], format="extxyz")
    slab = read_extxyz(tmp_path / "slab.xyz", wanted)
    assert slab.molecules.pbc is not None and slab.molecules.pbc.tolist() == [[False] * 3, [True, True, False]]
    shifted = slab.prepare(3.0).batch(np.array([1])).molecules
    assert shifted.edge_index.shape[1] == len(neighbor_list("i", salt, 3.0)) < 12
    write_packed(slab, tmp_path / "slab.npz")
    packed = read_packed(tmp_path / "slab.npz")
    assert packed.content_hash == slab.content_hash != data.content_hash
    assert packed.structure(1).pbc.tolist() == [True, True, False]
    assert len(packed.subset(np.array([0, 1])).prepare(3.0).batch(np.array([1, 0])).molecules.edge_index[0]) > 2


GOOD = "2\nProperties=species:S:1:pos:R:3 energy=-31.0\nH 0 0 0\nH 0 0 0.74\n"
ENERGY = {"energy": PropertyConfig()}


def test_blank_lines_end_nothing(tmp_path: Path) -> None:
    """Between structures they mean nothing; as a comment, and only there, they belong to the structure."""
    bare = "2\n\nH 0 0 0\nH 0 0 0.8\n"
    (tmp_path / "set.xyz").write_text("\n" + GOOD + "\n" + bare + "   \n\n" + GOOD.replace("-31", "-32") + "\n\n")
    data = read_extxyz(tmp_path / "set.xyz", ENERGY)
    np.testing.assert_allclose(data.labels["energy"], [-31.0, np.nan, -32.0])
    np.testing.assert_allclose(data.molecules.positions[1::2, 2], [0.74, 0.8, 0.74])


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "set.xyz").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"set.xyz: is no text file .*; expected XYZ or extended XYZ"):
        read_extxyz(tmp_path / "set.xyz", ENERGY)


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        ("", ENERGY, "holds no structures"),
        ("hello\n", ENERGY, "line 1 should be the number of atoms of structure 0, found 'hello'"),
        (GOOD + "nonsense\n", ENERGY, "line 5 should be the number of atoms of structure 1"),
        (
            GOOD + GOOD[:-12],
            ENERGY,
            r"structure 1 \(line 5\): should have 2 atoms up to line 8, but .* ends at line 7",
        ),
        (GOOD + GOOD.replace("H 0 0 0\n", "H 0 0\n"), ENERGY, r"structure 1 \(line 5\): Properties names 4 col"),
        (GOOD + GOOD.replace("H 0 0 0\n", "Jx 0 0 0\n"), ENERGY, r"structure 1 \(line 5\): .*Jx"),
        (GOOD + GOOD.replace("H 0 0 0\n", "X 0 0 0\n"), ENERGY, "molecule 1, atom 0 has atomic number 0"),
        (GOOD + GOOD.replace("H 0 0 0\n", "H 0 nan 0\n"), ENERGY, "molecule 1, atom 0 has position"),
        (GOOD + GOOD.replace("H 0 0 0\n", "\nH 0 0 0\n"), ENERGY, r"structure 1 \(line 5\): Properties names 4"),
        (GOOD + "0\n\n", ENERGY, r"structure 1 \(line 5\): has no atoms"),
        (GOOD.replace("-31.0", "low"), ENERGY, "energy of molecule 0 is 'low'; expected a number"),
        (GOOD, {"energie": PropertyConfig(unit="eV")}, "no structure has 'energie'; did you mean 'energy'"),
        (GOOD, {"E": PropertyConfig(source="energy_dft")}, "data.properties.E: has no unit"),
        (GOOD, {"energy": PropertyConfig(unit="kcal/mole")}, "unknown unit 'mole'.*did you mean 'mol'"),
        (GOOD, {"energy": PropertyConfig(per_atom=True)}, r"energy of molecule 0 has shape \(\)"),
        (
            GOOD.replace("energy=-31.0", 'dipole="0 0 1"') + GOOD.replace("energy=-31.0", 'dipole="0 1"'),
            {"dipole": PropertyConfig()},
            r"dipole of molecule 1 has shape \(2,\), but others have \(3,\)",
        ),
        (
            GOOD.replace("energy", "charge=no energy"),
            ENERGY,
            r"structure 0 \(line 1\): charge is 'no'; expected a whole number",
        ),
        (GOOD.replace("energy", "e"), None, "neither energy nor forces nor dipole.*Keys in the file: e"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, wanted: dict[str, PropertyConfig] | None, message: str) -> None:
    (tmp_path / "set.xyz").write_text(text)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_extxyz(tmp_path / "set.xyz", wanted)


def test_two_spellings_of_a_smiles_are_one_group(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    frames: list[ase.Atoms] = []
    for number, spelling in enumerate(("CCO", "COC", "OCC", "[H]OCC")):
        frames.append(molecule("CH3OCH3" if spelling == "COC" else "CH3CH2OH"))
        frames[-1].info |= {"smiles": spelling, "energy": -1.0, "mol": spelling}
        frames[-1].rattle(0.05, seed=number)
    ase.io.write(tmp_path / "set.xyz", frames, format="extxyz")
    assert read_extxyz(tmp_path / "set.xyz", ENERGY, group="smiles").groups.tolist() == [0, 1, 0, 0]
    assert len(set(read_extxyz(tmp_path / "set.xyz", ENERGY, group="mol").groups.tolist())) == 4


def test_a_group_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "set.xyz").write_text(GOOD.replace("energy", "mol=a energy") + GOOD)
    with pytest.raises(DataError, match="molecule 1 has no 'mol', by which structures are grouped"):
        read_extxyz(tmp_path / "set.xyz", ENERGY, group="mol")


def test_databases_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "set.db").write_text("this is no database, however long it is " * 10)
    with pytest.raises(DataError, match=r"set\.db: cannot be read after row 0"):
        read_extxyz(tmp_path / "set.db", ENERGY)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_extxyz(tmp_path / "none.db", ENERGY)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(FileNotFoundError, match="no such file; expected structures"):
        read_extxyz(tmp_path / "none.xyz", ENERGY)


def test_fields_are_read_or_warned_of(structures: list[ase.Atoms], tmp_path: Path) -> None:
    """Labels in fields never pass for labels without, unless the user hears of it; a packed file keeps the fields."""
    structures[0].info["External_Field"] = np.array([0.0, 0.1, 0.2])
    structures[3].info["External_Field"] = np.array([0.0, 0.1, -0.2])
    ase.io.write(tmp_path / "set.xyz", structures, format="extxyz")
    data = read_extxyz(tmp_path / "set.xyz")
    np.testing.assert_array_equal(data.labels["external_field"][[0, 3]], [[0.0, 0.1, 0.2], [0.0, 0.1, -0.2]])
    assert np.isnan(data.labels["external_field"][[1, 2]]).all()
    write_packed(data, tmp_path / "set.npz")
    assert "external_field" in read_packed(tmp_path / "set.npz").labels
    unread = {"energy": PropertyConfig()}
    for read, name in ((read_extxyz, "set.xyz"), (read_packed, "set.npz")):
        with pytest.warns(UserWarning, match=rf"{name}: 2 of 4 structures are in electric fields .* which are not"):
            read(tmp_path / name, unread)
