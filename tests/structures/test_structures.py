"""Files of structures: what is read equals what ASE and RDKit wrote, and what is wrong is named with its place."""

import shutil
import sys
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest

from neural_polarization.errors import DataError
from neural_polarization.structures import check_electrons, check_isolated, check_structure, read_structures
from neural_polarization.structures.smiles import canonical_smiles, embedded_molecule, force_field

WATER = """3
water, with a comment in plain words
O  0.0  0.0  0.1173
H  0.0  0.7572 -0.4692
8  0.0 -0.7572 -0.4692
"""


def test_plain_xyz_with_symbols_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "water.xyz"
    path.write_text(WATER.replace("8  0.0 -", "1  0.0 -") + "\n")
    (water,) = read_structures(path)
    assert water.numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(water.positions[0], [0, 0, 0.1173])
    assert water.info == {}


def test_several_structures_with_charge_and_spin(tmp_path: Path) -> None:
    path = tmp_path / "ions.xyz"
    path.write_text("1\ncharge=1\nLi 0 0 0\n\n2\ncharge=0 spin=1 smiles=[OH]\nO 0 0 0\nH 0 0 0.97\n")
    lithium, hydroxyl = read_structures(path)
    assert lithium.info["charge"] == 1
    assert hydroxyl.info["spin"] == 1
    check_electrons(lithium, "lithium")
    check_electrons(hydroxyl, "hydroxyl")


def test_what_ase_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "frames.extxyz"
    frames = [ase.build.molecule("CH3CH2OH"), ase.build.molecule("HF")]
    frames[0].info.update(smiles="CCO", molecule=3)
    frames[1].info.update(smiles="F", charge=0)
    frames[0].arrays["forces"] = np.ones((9, 3))
    ase.io.write(path, frames)
    read = read_structures(path)
    for one, other in zip(read, frames, strict=True):
        assert one.numbers.tolist() == other.numbers.tolist()
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-8)
        assert one.info["smiles"] == other.info["smiles"]
    assert read[0].info["molecule"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no structures"),
        ("three\nO 0 0 0\n", r"line 1 should be the number of atoms of structure 0, found 'three'"),
        ("3\n\nO 0 0 0\nH 0 0 1\n", r"structure 0 \(line 1\).*3 atoms up to line 5.*ends at line 4"),
        ("0\nnothing\n", r"line 1.*no atoms"),
        ("1\n\nXx 0 0 0\n", r"line 3: 'Xx' is no element"),
        ("1\n\nO 0 0\n", r"line 3: expected element, x, y and z"),
        ("1\n\nO 0 0 1,5\n", r"line 3: '0 0 1,5' are not three numbers"),
        ("1\n\nO 0 nan 0\n", r"line 1.*position of atom 0 is .*finite"),
        ("2\n\nO 0 0 0\nH 0 0 0.395\n", r"atoms 0 and 1 are 0.395 Angstrom apart"),
        ('1\nLattice="9 9 9"\nO 0 0 0\n', r"structure 0 \(line 1\): is not understood .*Lattice of nine numbers"),
        ("2\n\nO 0 0 0\nO 0 0 0.01\n", r"atoms 0 and 1 are 0.010 Angstrom apart"),
        ("1\ncharge=0.5\nO 0 0 0\n", r"charge is 0.5; expected a whole number"),
        ("1\nspin=-1\nO 0 0 0\n", r"spin is -1"),
        ("1\n\nO 0 0 0\n1\n\nQ 1 1 1\n", r"line 6: 'Q'"),
        (
            "1\nProperties=species:S:1:pos:R:3:forces:R:3\nO 0 0 0\n",
            r"structure 0 \(line 1\): Properties names 7 columns",
        ),
    ],
)
def test_wrong_xyz_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.xyz"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_structures(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("comment", "periodic", "volume"),
    [
        ('Lattice="5 0 0 0 5 0 0 0 5" pbc="T T T"', True, 125.0),
        ('energy=-3 Lattice="5 0 0 0 5 0 0 0 5"', True, 125.0),
        ('Lattice="5 0 0 0 5 0 0 0 5" pbc="F F F"', False, 125.0),
        ("a molecule out of a Lattice, pbc off", False, 0.0),
    ],
)
def test_a_cell_without_named_columns(tmp_path: Path, comment: str, periodic: bool, volume: float) -> None:
    path = tmp_path / "cell.xyz"
    path.write_text(f"2\n{comment}\nH 0 0 0\nH 0 0 0.74\n")
    (atoms,) = read_structures(path)
    assert atoms.pbc.all() == atoms.pbc.any() == periodic
    assert atoms.cell.volume == pytest.approx(volume)
    if not periodic:
        check_isolated(atoms, "here")
        return
    with pytest.raises(DataError, match="here: is periodic along 3 of 3 directions"):
        check_isolated(atoms, "here")


def test_missing_file_and_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_structures(tmp_path / "nothing.xyz")
    path = tmp_path / "water.cif"
    path.write_text("data")
    with pytest.raises(DataError, match=r"water\.cif: cannot be read by ASE .*expected one of \.xyz"):
        read_structures(path)
    path = tmp_path / "binary.xyz"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="no text file"):
        read_structures(path)


def test_electrons_that_cannot_be_paired() -> None:
    radical = ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    with pytest.raises(DataError, match=r"here: HO with charge \+0 has 9 electrons.*spin=1"):
        check_electrons(radical, "here")
    radical.info["charge"] = -1
    check_electrons(radical, "here")
    radical.info["charge"] = 9
    with pytest.raises(DataError, match="leaves 0 electrons"):
        check_electrons(radical, "here")
    with pytest.raises(DataError, match="no atoms"):
        check_structure(ase.Atoms(), "here")
    with pytest.raises(DataError, match="no element"):
        check_structure(ase.Atoms("X", [[0, 0, 0]]), "here")


def test_unpaired_electrons_of_smiles(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    (tmp_path / "radicals.smi").write_text("[CH3]\nC\n[CH2]\n")
    assert [atoms.info.get("spin") for atoms in read_structures(tmp_path / "radicals.smi")] == [1, None, 2]


def test_isotopes_of_smiles_and_sdf_are_masses(tmp_path: Path) -> None:
    """Energies do not depend on them; vibrations and dynamics do. Atoms without an isotope keep ASE's masses."""
    chem = pytest.importorskip("rdkit.Chem")
    (tmp_path / "heavy.smi").write_text("[2H]O[2H]\n[13CH4]\nO\n")
    heavy, methane, plain = read_structures(tmp_path / "heavy.smi")
    oxygen, deuterium = plain.get_masses()[0], 2.014101778
    assert sorted(heavy.get_masses()) == pytest.approx([deuterium, deuterium, oxygen], abs=1e-6)
    assert methane.get_masses()[0] == pytest.approx(13.00335484) and methane.get_masses()[1] == plain.get_masses()[1]
    assert "masses" not in plain.arrays
    ase.io.write(tmp_path / "heavy.extxyz", heavy)
    np.testing.assert_allclose(read_structures(tmp_path / "heavy.extxyz")[0].get_masses(), heavy.get_masses())
    block = chem.MolToMolBlock(embedded_molecule("[2H]O[2H]", "here"))
    (tmp_path / "heavy.sdf").write_text(f"{block}$$$$\n")
    np.testing.assert_allclose(read_structures(tmp_path / "heavy.sdf")[0].get_masses(), heavy.get_masses())
    (tmp_path / "wrong.smi").write_text("O\n[999CH4]\n")
    with pytest.raises(DataError, match=r"wrong\.smi: line 2: \[999C\] is no known isotope"):
        read_structures(tmp_path / "wrong.smi")


def test_one_molecule_has_one_canonical_smiles() -> None:
    pytest.importorskip("rdkit")
    for spellings in (("CCO", "OCC", "C(O)C", "[H]OCC", "[2H]OC[13CH3]"), ("[O-]C=O", "O=C[O-]"), ("F[C@H](Cl)Br",)):
        assert len({canonical_smiles(spelling) for spelling in spellings}) == 1
    assert canonical_smiles("F[C@H](Cl)Br") != canonical_smiles("F[C@@H](Cl)Br")
    assert canonical_smiles("no SMILES") == "no SMILES"


def test_a_smiles_without_rdkit_is_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    assert canonical_smiles.__wrapped__("OCC") == "OCC"


@pytest.mark.parametrize("smiles", ["CCO", "CC(=O)Oc1ccccc1C(=O)O"])
def test_embedded_molecules_are_at_a_minimum_of_the_force_field(smiles: str) -> None:
    pytest.importorskip("rdkit")
    molecule = embedded_molecule(smiles, smiles, 1)
    assert np.abs(force_field(molecule).CalcGrad()).max() < 1e-3  # kcal/mol/Angstrom


def test_smiles_are_embedded_with_hydrogens(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "molecules.smi"
    path.write_text("# two molecules\nCCO ethanol\n\n[NH4+]\n")
    ethanol, ammonium = read_structures(path, seed=1)
    assert ethanol.get_chemical_formula() == "C2H6O"
    assert ethanol.info == {"smiles": "CCO", "name": "ethanol"}
    assert ammonium.info["charge"] == 1
    assert ethanol.get_distance(0, 1) == pytest.approx(1.52, abs=0.03)
    np.testing.assert_array_equal(ethanol.positions, read_structures(path, seed=1)[0].positions)
    assert np.abs(ethanol.positions - read_structures(path, seed=2)[0].positions).max() > 1e-2


def test_wrong_smiles_is_named_with_its_line(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "molecules.smi"
    path.write_text("C\nC(C)(C)(C)(C)C\n")
    with pytest.raises(DataError, match=r"line 2: SMILES .* cannot be read"):
        read_structures(path)


def test_smiles_of_several_fragments(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "molecules.smi"
    path.write_text("C\n[Na+].CO.O salt\n")
    with pytest.raises(DataError, match=r"line 2: SMILES '\[Na\+\].CO.O' has 3 fragments.*complex as \.xyz"):
        read_structures(path)


def test_sdf_of_rdkit(tmp_path: Path) -> None:
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecules = [chem.AddHs(chem.MolFromSmiles(smiles)) for smiles in ("CO", "C[O-]")]
    for molecule in molecules:
        AllChem.EmbedMolecule(molecule, randomSeed=1)
    path = tmp_path / "molecules.sdf"
    with chem.SDWriter(str(path)) as writer:
        for molecule in molecules:
            writer.write(molecule)
    methanol, methoxide = read_structures(path)
    assert methanol.get_chemical_formula() == "CH4O"
    assert methoxide.info["charge"] == -1
    np.testing.assert_allclose(methanol.positions, molecules[0].GetConformer().GetPositions(), atol=1e-4)
    np.testing.assert_allclose(ase.io.read(path).positions, methanol.positions, atol=1e-6)


def test_sdf_without_hydrogens_or_depth(tmp_path: Path) -> None:
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    path = tmp_path / "molecules.sdf"
    bare = chem.MolFromSmiles("CO")
    AllChem.EmbedMolecule(bare, randomSeed=1)
    path.write_text(chem.MolToMolBlock(bare) + "$$$$\n")
    with pytest.raises(DataError, match=r"structure 0 \(line 1\): lacks 4 hydrogen atoms"):
        read_structures(path)
    drawn = chem.AddHs(chem.MolFromSmiles("CO"))
    AllChem.Compute2DCoords(drawn)
    path.write_text(chem.MolToMolBlock(drawn) + "$$$$\n")
    with pytest.raises(DataError, match="two-dimensional"):
        read_structures(path)
    path.write_text("no mol block\n$$$$\n")
    with pytest.raises(DataError, match=r"structure 0 \(line 1\): cannot be read by RDKit"):
        read_structures(path)


def test_a_smiles_of_nothing() -> None:
    pytest.importorskip("rdkit")
    with pytest.raises(DataError, match=r"--smiles: SMILES '' cannot be read"):
        embedded_molecule("", "--smiles")


@pytest.mark.parametrize(("states", "info"), [("1 1", {"charge": 1, "spin": 0}), ("0 2", {"charge": 0, "spin": 1})])
def test_charge_and_multiplicity_of_gaussian_input(tmp_path: Path, states: str, info: dict[str, int]) -> None:
    """ASE reads them as settings of a calculation."""
    path = tmp_path / "methyl.gjf"
    atoms = "C 0.0 0.0 0.0\nH 1.08 0.0 0.0\nH -0.54 0.94 0.0\nH -0.54 -0.94 0.0\n"
    path.write_text(f"#P B3LYP/6-31G(d)\n\nmethyl\n\n{states}\n{atoms}\n")
    (methyl,) = read_structures(path)
    assert {name: methyl.info[name] for name in ("charge", "spin")} == info
    assert methyl.calc is None


def test_names_of_files_may_have_an_at_sign(tmp_path: Path) -> None:
    """ASE reads `300K@5GPa.traj` as a part of the file `300K`."""
    ase.io.write(tmp_path / "300K", [ase.Atoms("He"), ase.Atoms("Ne")], format="traj")
    ase.io.write(tmp_path / "frames.traj", ase.Atoms("Ar"))
    for name in ("300K@5GPa.traj", "300K@1"):
        shutil.copy(tmp_path / "frames.traj", tmp_path / name)
        assert [str(atoms.symbols) for atoms in read_structures(tmp_path / name)] == ["Ar"]
