"""Total charge and unpaired electrons: every name, every way in, and every value that is none."""

from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from neural_polarization.charges import look_alikes, total_charge, unpaired_electrons
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.errors import DataError
from neural_polarization.molecules import Molecules
from neural_polarization.structures import read_structures

COLUMNS = "Properties=species:S:1:pos:R:3"


def one_frame(path: Path, comment: str, atoms: str = "O 0 0 0\nO 0 0 1.21\n") -> Path:
    path.write_text(f"{atoms.count(chr(10))}\n{comment}\n{atoms}")
    return path


@pytest.mark.parametrize("columns", ["", COLUMNS])
@pytest.mark.parametrize(
    ("pair", "state", "value"),
    [
        ("multiplicity=3", "spin", 2),
        ("mult=3", "spin", 2),
        ("Multiplicity=1", "spin", 0),
        ("spin=2", "spin", 2),
        ("unpaired_electrons=2", "spin", 2),
        ("total_charge=1", "charge", 1),
        ("Charge=1", "charge", 1),
        ("charge=+2", "charge", 2),
        ("net-charge=-1", "charge", -1),
        ("charge = 1", "charge", 1),
        ("Charge: -1", "charge", -1),
        ("total_charge:1", "charge", 1),
        ("the multiplicity: 3", "spin", 2),
    ],
)
def test_fault_1_5_every_name_of_charge_and_spin(
    tmp_path: Path, columns: str, pair: str, state: str, value: int
) -> None:
    (atoms,) = read_structures(one_frame(tmp_path / "o2.xyz", f"{columns} {pair}".strip()))
    assert atoms.info[state] == value and type(atoms.info[state]) is int
    batch = Molecules.from_ase(atoms, 5.0)
    of_batch = {"charge": batch.charge, "spin": batch.spin}[state]
    assert of_batch is not None and of_batch.tolist() == [value]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("charge", r"the charges of its atoms add up to \+1, but nothing says its total charge"),
        ("total_charge", "the column total_charge has one value per atom, but charge belongs to the molecule"),
        ("multiplicity", "the column multiplicity has one value per atom"),
    ],
)
def test_fault_1_5_columns_of_atoms(tmp_path: Path, column: str, message: str) -> None:
    atoms = "O 0 0 0 0.7\nO 0 0 1.21 0.3\n"
    path = one_frame(tmp_path / "o2.xyz", f"{COLUMNS}:{column}:R:1", atoms)
    with pytest.raises(DataError, match=rf"o2\.xyz: structure 0 \(line 1\): {message}"):
        read_structures(path)
    path = one_frame(tmp_path / "o2.xyz", f"{COLUMNS}:{column}:R:1 charge=1 spin=1", atoms)
    assert read_structures(path)[0].info["charge"] == 1


def test_fault_1_5_names_that_are_not_understood_are_said(tmp_path: Path) -> None:
    path = one_frame(tmp_path / "o2.xyz", "chrage=1 spin_multi=3")
    with pytest.warns(
        UserWarning, match=r"o2\.xyz: structure 0 .*chrage = .*1.* is not used; .*charge or total_charge"
    ):
        read_structures(path)
    assert look_alikes({"charge_model": "CM5", "spin_contamination": 0.02}) == []
    assert look_alikes({"Q": -1, "uhf": 2, "chrg": 1, "S": 1, "step": 3}) == ["Q", "uhf", "chrg", "S"]
    with pytest.raises(DataError, match=r"total_spin is used for the multiplicity and for the spin; give spin"):
        read_structures(one_frame(tmp_path / "o2.xyz", "total_spin=3"))


@pytest.mark.parametrize("columns", ["", COLUMNS])
@pytest.mark.parametrize("word", ["charge", "charge=T", "charge=nan", "charge=inf", "charge=1e30", "charge=0.37",
                                  "charge=None", "charge=17", 'charge="1 2"', "multiplicity=0", "spin=-1", "spin=0.5",
                                  "charge=1 total_charge=2", "spin=1 multiplicity=3"])  # fmt: skip
def test_fault_1_6_values_that_are_no_charge(tmp_path: Path, columns: str, word: str) -> None:
    path = one_frame(tmp_path / "o2.xyz", f"energy=-1.0 {columns} {word}")
    with pytest.raises(DataError, match=r"o2\.xyz: structure 0 \(line 1\): "):
        read_structures(path)
    with pytest.raises(DataError, match=r"o2\.xyz: structure 0 \(line 1\): "):
        open_dataset(DataConfig("extxyz", str(path), cache=False))


def test_fault_1_7_initial_charges_count_in_every_way_in(tmp_path: Path) -> None:
    ion = molecule("OH")
    ion.set_initial_magnetic_moments(None)
    ion.set_initial_charges([-0.8, -0.2])
    ion.info["E"] = -1.0
    ase.io.write(tmp_path / "ion.extxyz", ion)
    with ase.db.connect(tmp_path / "ion.db") as database:
        database.write(ion, E=-1.0)
    assert total_charge(ion) == -1
    batch = Molecules.from_ase(ion, 5.0)
    assert batch.charge is not None and batch.charge.tolist() == [-1.0]
    for file in ("ion.extxyz", "ion.db"):
        assert read_structures(tmp_path / file)[0].info["charge"] == -1
        config = DataConfig("ase", str(tmp_path / file), properties={"energy": PropertyConfig("E", "eV")}, cache=False)
        charges = open_dataset(config).molecules.charges
        assert charges is not None and charges.tolist() == [-1.0]


def test_fault_1_7_what_is_said_wins_over_initial_charges() -> None:
    ion = molecule("OH")
    ion.set_initial_charges([0.3, -0.3])
    assert total_charge(ion) == 0
    ion.info["charge"] = 1
    assert total_charge(ion) == 1
    del ion.info["charge"]
    ion.set_initial_charges([0.3, 0.3])
    with pytest.raises(DataError, match=r"ion: the sum of initial_charges is 0\.6; expected a whole number"):
        total_charge(ion, "ion")


def test_spin_of_magnetic_moments() -> None:
    assert unpaired_electrons(molecule("O2")) == 2  # ASE's own triplet
    assert unpaired_electrons(molecule("H2O")) is None
    iron = bulk("Fe")
    iron.set_initial_magnetic_moments([2.3])
    assert unpaired_electrons(iron) is None
    batch = Molecules.from_ase([molecule("O2"), molecule("H2O")], 5.0)
    assert batch.spin is not None
    np.testing.assert_equal(batch.spin.numpy(), [2.0, np.nan])
    back = batch.to_ase()
    assert back[0].info == {"spin": 2} and back[1].info == {}


def test_spin_in_a_data_set(tmp_path: Path) -> None:
    path = one_frame(tmp_path / "o2.xyz", f"{COLUMNS} energy=-1.0 multiplicity=3")
    data = open_dataset(DataConfig("extxyz", str(path), cache=False))
    batch = data.prepare(5.0).batch([0]).molecules
    assert batch.spin is not None and batch.spin.tolist() == [2.0]
    assert data.structure(0).info == {"spin": 2}


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("spin=1", r"O2 with charge \+0 has 16 electrons, which cannot have 1 unpaired; give spin=0 \(or .* even\), "
         r"multiplicity=1 if it is one, or another charge"),
        ("spin=2 charge=1", r"O2 with charge \+1 has 15 electrons, .* give spin=1 \(or .* odd\), multiplicity=2"),
        ("multiplicity=2", r".* 16 electrons, which cannot have 1 unpaired"),
        ("spin=18", r".* 16 electrons, which cannot have 18 unpaired; give spin=0 \(or .* even\), or another charge"),
    ],
)  # fmt: skip
def test_a_spin_that_the_electrons_cannot_have(tmp_path: Path, comment: str, message: str) -> None:
    path = one_frame(tmp_path / "o2.xyz", f"{COLUMNS} energy=-1.0 {comment}")
    with pytest.raises(DataError, match=rf"o2\.xyz: structure 0 \(line 1\): {message}"):
        read_structures(path)
    with pytest.raises(DataError, match=rf"o2\.xyz: structure 0 \(line 1\): {message}"):
        open_dataset(DataConfig("extxyz", str(path), cache=False))
    info = {word.split("=")[0]: int(word.split("=")[1]) for word in comment.split()}
    with pytest.raises(DataError, match=f"structure 1: {message}"):
        Molecules.from_ase([molecule("O2"), ase.Atoms("OO", [[0, 0, 0], [0, 0, 1.21]], info=info)], 5.0)


def test_the_spin_of_a_cell_is_not_bound_to_pairs() -> None:
    iron = bulk("Fe", cubic=True)
    iron.info["spin"] = 5  # per cell, as of a magnetic metal
    assert unpaired_electrons(iron) == 5
    iron.pbc = False
    with pytest.raises(DataError, match=r"Fe2 with .* 52 electrons, which cannot have 5 unpaired"):
        unpaired_electrons(iron)


def test_assumed_states_are_for_structures_that_say_nothing(tmp_path: Path) -> None:
    said = one_frame(tmp_path / "said.xyz", "charge=0 spin=2")
    half = one_frame(tmp_path / "half.xyz", "spin=1")
    silent = one_frame(tmp_path / "silent.xyz", "")
    cation = {"charge": 1, "spin": 3}
    states = [read_structures(path, assumed=cation)[0].info for path in (said, half, silent)]
    assert states == [{"charge": 0, "spin": 2}, {"spin": 1, "charge": 1}, cation]
    with pytest.raises(DataError, match="15 electrons, which cannot have 2 unpaired"):
        read_structures(silent, assumed={"charge": 1, "spin": 2})


@pytest.mark.parametrize("value", [1, 1.0, np.int64(1), np.float32(1.0), np.array(1), np.array([1]), "1", "+1"])
def test_kinds_of_numbers(value: Any) -> None:
    assert total_charge(ase.Atoms("Li", info={"charge": value})) == 1


def test_fields_by_their_name_in_any_spelling(tmp_path: Path) -> None:
    path = one_frame(tmp_path / "o2.xyz", 'External-Field="0.0 0.0 0.3"')
    np.testing.assert_array_equal(read_structures(path)[0].info["external_field"], [0.0, 0.0, 0.3])
    for name in ("electric_field", "E-field", "field"):
        path = one_frame(tmp_path / "o2.xyz", f'{name}="0.0 0.0 0.3"')
        with pytest.warns(
            UserWarning, match=rf"structure 0 .*{name} = .*0.3.* is not used; .* given as external_field"
        ):
            assert "external_field" not in read_structures(path)[0].info


def test_keys_that_are_no_text() -> None:
    """ASE takes any key in `atoms.info`."""
    water = ase.Atoms("H2O", info={"charge": 1, 3: 1, ("a", "pair"): 2})
    assert total_charge(water) == 1
    assert unpaired_electrons(water) is None
    assert look_alikes(water.info) == []
