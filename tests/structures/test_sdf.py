"""SDF files: as many molecules as RDKit finds, planar ones, and fields beside them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.errors import DataError
from neural_polarization.structures import read_structures
from neural_polarization.structures.smiles import embedded_molecule

Chem = pytest.importorskip("rdkit.Chem")


def block(smiles: str = "O") -> str:
    return Chem.MolToMolBlock(embedded_molecule(smiles, "test"))


@pytest.mark.parametrize("end", ["$$$$\n", "$$$$ \n", "$$$$\r\n", "$$$$  \r\n", "$$$$\t\n"])
def test_fault_1_12_as_many_molecules_as_rdkit_finds(tmp_path: Path, end: str) -> None:
    text = end.join([block("O"), block("CO"), block("N"), ""])
    if "\r" in end:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    path = tmp_path / "set.sdf"
    path.write_bytes(text.encode())
    found = [atoms.get_chemical_formula() for atoms in read_structures(path)]
    assert found == ["H2O", "CH4O", "H3N"]
    assert len(found) == sum(one is not None for one in Chem.SDMolSupplier(str(path), removeHs=False))


def test_fault_4_planar_molecules_without_a_dimension_code(tmp_path: Path) -> None:
    lines = block("O").split("\n")
    molecule = Chem.MolFromMolBlock("\n".join(lines), removeHs=False)
    conformer = molecule.GetConformer()
    positions = np.array(conformer.GetPositions())
    assert np.ptp(positions[:, 2]) < 1e-3  # water is put into a plane
    lines[1] = "     program"
    path = tmp_path / "water.mol"
    path.write_text("\n".join(lines))
    (water,) = read_structures(path)
    assert 0.9 < water.get_distance(0, 1) < 1.1
    lines[1] = "     RDKit          2D"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"water\.mol: structure 0 .*two-dimensional positions only"):
        read_structures(path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (">  <multiplicity>\n3\n\n", {"spin": 2}),
        (">  <total_charge>\n1\n\n", {"charge": 1}),
        (">  <Charge> (1)\n-1\n\n", {"charge": -1}),
    ],
)
def test_fault_1_5_charge_and_multiplicity_in_fields(tmp_path: Path, fields: str, expected: dict[str, int]) -> None:
    path = tmp_path / "water.sdf"
    path.write_text(block("O") + fields + "$$$$\n")
    (water,) = read_structures(path)
    assert {key: water.info[key] for key in expected} == expected


def test_a_field_against_the_atoms(tmp_path: Path) -> None:
    path = tmp_path / "hydroxide.sdf"
    path.write_text(block("[OH-]") + ">  <charge>\n1\n\n$$$$\n")
    with pytest.raises(DataError, match=r"have together the charge -1, but its field <charge> says '1'"):
        read_structures(path)


@pytest.mark.slow
def test_fault_4_molecules_that_need_random_coordinates() -> None:
    """PEG-30: RDKit finds no structure by distances from its own start."""
    chain = embedded_molecule("O" + "CCO" * 30, "PEG")
    assert chain.GetNumAtoms() == 2 + 30 * 7 + 1


def test_compressed_sdf(tmp_path: Path) -> None:
    block = Chem.MolToMolBlock(embedded_molecule("CO", "CO", 1))
    path = tmp_path / "methanol.sdf.gz"
    path.write_bytes(gzip.compress(f"{block}$$$$\n".encode()))
    assert [atoms.get_chemical_formula() for atoms in read_structures(path)] == ["CH4O"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"methanol\.sdf\.gz: cannot be read \(.*\); is the file complete"):
        read_structures(path)
