"""Predictions: what a model says of structures, and the files that it is written to."""

import csv
import inspect
import json
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress

from neural_polarization.architectures import BackboneConfig
from neural_polarization.errors import DataError
from neural_polarization.heads import HEADS
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.devices import checked_device
from neural_polarization.interfaces.outputs import check_output, table, write_predictions
from neural_polarization.interfaces.prediction import (
    Prediction,
    check_elements,
    from_smiles,
    predict,
    undefined_moments,
    unseen_charges,
)
from neural_polarization.knowledge import (
    Departure,
    OutsideTrainingWarning,
    TrainingKnowledge,
    Watch,
)
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.references import FITTED, References
from neural_polarization.units import BOHR, DEBYE

UNITS = {"energy": "meV", "dipole": "mD", "polarizability": "bohr^3"}


@pytest.fixture
def model() -> Model:
    heads = {
        "energy": HeadConfig("extensive", forces=True),
        "dipole": HeadConfig("dipole"),
        "polarizability": HeadConfig("polarizability"),
    }
    return Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig(channels=8, num_layers=2))).eval()


STRUCTURES = [molecule("H2O"), molecule("CH3OH"), molecule("CO")]


def test_batches_do_not_matter(model: Model) -> None:
    one_by_one, together = predict(model, STRUCTURES, batch_size=1), predict(model, STRUCTURES)
    for one, other in zip(one_by_one, together, strict=True):
        assert one.forces is not None
        assert other.forces is not None
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-5)
        np.testing.assert_allclose(one.displacement, other.displacement, atol=1e-6)
        np.testing.assert_allclose(one.properties["dipole"], other.properties["dipole"], atol=1e-5)


def test_the_same_as_the_model(model: Model) -> None:
    molecules = Molecules.from_ase(STRUCTURES[1], model.cutoff)
    expected = model(molecules)
    (found,) = predict(model, [STRUCTURES[1]])
    assert float(found.properties["energy"]) == pytest.approx(float(expected["energy"][0].detach()))
    assert torch.allclose(torch.from_numpy(found.displacement).float(), model.represent(molecules).displacement)


def test_a_crystal_among_molecules_has_what_is_defined_for_it(model: Model, tmp_path: Path) -> None:
    crystal = bulk("CO", "rocksalt", a=4.3, cubic=True)
    predictions = predict(model, [STRUCTURES[0], crystal, STRUCTURES[1]])
    assert [set(one.properties) for one in predictions] == [set(UNITS), {"energy"}, set(UNITS)]
    (alone,) = predict(model, [STRUCTURES[1]])
    assert predictions[2].properties["energy"] == pytest.approx(alone.properties["energy"])
    write_predictions(predictions, UNITS, tmp_path / "all.csv")
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [bool(row["dipole_x [D]"]) for row in rows] == [True, False, True]
    warning = undefined_moments(model, [STRUCTURES[0], crystal])
    assert warning == "periodic structures: 1 of 2; dipole, polarizability are not defined for them: left out"
    assert undefined_moments(model, STRUCTURES) is None
    with pytest.raises(ValueError, match="of periodic systems are not defined"):
        predict(model, [crystal], properties=["dipole"])


def test_one_pass_gives_everything(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Properties, forces and displacements of a step of dynamics cost one pass through the network."""
    passes = Counter[str]()
    forward = NeuralPolarization.forward

    def counted(network: NeuralPolarization[Any], molecules: Molecules) -> Polarized:
        passes["network"] += 1
        return forward(network, molecules)

    monkeypatch.setattr(NeuralPolarization, "forward", counted)
    (found,) = predict(model, STRUCTURES[:1])
    assert found.forces is not None
    assert passes["network"] == 1


def test_the_mode_of_the_model_is_left_as_it_was(model: Model) -> None:
    model.train()
    predict(model, STRUCTURES[:1])
    assert model.training


def test_elements_that_the_model_does_not_know(model: Model) -> None:
    with pytest.raises(ValueError, match=r"structure 1 \(H3N\) contains N, but the model was trained for H, C, O"):
        predict(model, [STRUCTURES[0], molecule("NH3")])


def test_extended_xyz_is_read_back(model: Model, tmp_path: Path) -> None:
    predictions = predict(model, STRUCTURES)
    write_predictions(predictions, UNITS, tmp_path / "out.extxyz")
    frames = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert isinstance(frames, list)
    for frame, prediction in zip(frames, predictions, strict=True):
        assert prediction.forces is not None
        np.testing.assert_allclose(frame.arrays["displacement"], prediction.displacement, atol=1e-7)
        np.testing.assert_allclose(frame.get_forces(), prediction.forces, atol=1e-7)
        assert frame.get_potential_energy() == pytest.approx(float(prediction.properties["energy"]))
        np.testing.assert_allclose(frame.get_dipole_moment(), prediction.properties["dipole"], atol=1e-7)
        assert frame.info["polarizability_unit"] == "bohr^3"


def test_an_output_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="its folder cannot be written"):
        check_output(tmp_path / "file" / "out.csv")


def test_tables_have_units(model: Model, tmp_path: Path) -> None:
    predictions = predict(model, STRUCTURES)
    write_predictions(predictions, UNITS, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["formula"] for row in rows] == ["H2O", "CH4O", "CO"]
    assert float(rows[2]["energy [eV]"]) == pytest.approx(float(predictions[2].properties["energy"]))
    assert {"dipole_x [D]", "dipole_z [D]"} < set(rows[0])
    assert "energy [eV]" in table(predictions, UNITS)
    write_predictions(predictions, UNITS, tmp_path / "out.json")
    first = json.loads((tmp_path / "out.json").read_text())["structures"][0]
    assert first["properties"]["dipole"]["unit"] == "D"
    np.testing.assert_allclose(first["displacement"], predictions[0].displacement)


def test_names_of_the_file_come_before_smiles(model: Model) -> None:
    named, unnamed = molecule("H2O"), molecule("H2O")
    named.info.update(name="water", smiles="O")
    unnamed.info["smiles"] = "O"
    first, second = table(predict(model, [named, unnamed]), UNITS).splitlines()[-2:]
    assert "water" in first.split() and "O" not in first.split()
    assert "O" in second.split()


def test_values_are_written_in_the_units_that_stand_beside_them(tmp_path: Path) -> None:
    units = {**UNITS, "extent": "bohr^2", "heat": "meV", "hirshfeld_charges": "e"}
    tensor = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    values = {
        "energy": np.array(-7.5),
        "dipole": DEBYE * np.array([1.0, 2.0, 3.0]),
        "polarizability": BOHR**3 * tensor,
        "extent": np.array(BOHR**2 * 19.0),
        "heat": np.array(0.25),
        "other": np.array(4.0),
    }
    vectors = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0], [2.0, 0.0, 1.0]])
    charges = {"hirshfeld_charges": np.array([-0.25, 0.125, 0.125])}
    predictions = [
        Prediction(STRUCTURES[0], values, displacement=vectors, forces=2.0 * vectors, of_atoms=charges),
    ]
    for ending in ("csv", "json", "extxyz"):
        write_predictions(predictions, units, tmp_path / f"out.{ending}")

    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    axes = [f"{one}{other}" for one in "xyz" for other in "xyz"]
    expected = {
        "energy [eV]": -7.5,
        **{f"dipole_{axis} [D]": k + 1.0 for k, axis in enumerate("xyz")},
        **{f"polarizability_{pair} [bohr^3]": k + 1.0 for k, pair in enumerate(axes)},
        "extent [bohr^2]": 19.0,
        "heat [eV]": 0.25,
        "other [internal units]": 4.0,
        "largest force [eV/Angstrom]": 10.0,
        "largest displacement [Angstrom]": 5.0,
    }
    assert row.pop("hirshfeld_charges [e]") == "-0.2500 0.1250 0.1250"
    assert {name: float(row[name]) for name in list(row)[3:]} == pytest.approx(expected)

    (structure,) = json.loads((tmp_path / "out.json").read_text())["structures"]
    written = structure["properties"]
    assert written["dipole"] == {"value": pytest.approx([1.0, 2.0, 3.0]), "unit": "D"}
    assert written["extent"] == {"value": pytest.approx(19.0), "unit": "bohr^2"}
    np.testing.assert_allclose(written["polarizability"]["value"], tensor)
    assert written["hirshfeld_charges"] == {"value": [-0.25, 0.125, 0.125], "unit": "e"}
    assert structure["forces"] == (2.0 * vectors).tolist()

    frame = ase.io.read(tmp_path / "out.extxyz")
    assert isinstance(frame, ase.Atoms)
    np.testing.assert_allclose(frame.info["polarizability"], tensor)
    np.testing.assert_allclose(frame.arrays["hirshfeld_charges"], charges["hirshfeld_charges"])
    assert (frame.info["extent"], frame.info["extent_unit"]) == (pytest.approx(19.0), "bohr^2")
    np.testing.assert_allclose(frame.get_dipole_moment(), values["dipole"])  # ASE's own name, in ASE's unit


def test_outputs_say_the_field_and_the_unit_of_what_had_no_labels(tmp_path: Path) -> None:
    """The polarizability of a model that learned from energies in fields, in a field and without."""
    inside = STRUCTURES[0].copy()
    inside.info["external_field"] = [0.0, 0.1, -0.2]
    values = {"polarizability": np.eye(3)}
    still = np.zeros((len(inside), 3))
    predictions = [Prediction(atoms, values, still, None) for atoms in (inside, STRUCTURES[0])]
    for ending in ("csv", "json", "extxyz"):
        write_predictions(predictions, {}, tmp_path / f"out.{ending}")
    first, second = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert [first[f"external_field_{axis} [V/Angstrom]"] for axis in "xyz"] == ["0.0", "0.1", "-0.2"]
    assert second["external_field_x [V/Angstrom]"] == ""
    assert first["polarizability_xx [Angstrom^3]"] == "1.0"
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["units"]["external_field"] == "V/Angstrom"
    assert written["structures"][0]["external_field"] == [0.0, 0.1, -0.2]
    assert "external_field" not in written["structures"][1]
    assert written["structures"][0]["properties"]["polarizability"]["unit"] == "Angstrom^3"
    frame = ase.io.read(tmp_path / "out.extxyz", index=0)
    assert isinstance(frame, ase.Atoms)
    np.testing.assert_array_equal(frame.info["external_field"], [0.0, 0.1, -0.2])


def test_outputs_are_not_overwritten_by_accident(model: Model, tmp_path: Path) -> None:
    predictions = predict(model, STRUCTURES[:1])
    with pytest.raises(ValueError, match=r"must be one of \.extxyz"):
        write_predictions(predictions, UNITS, tmp_path / "out.pdf")
    write_predictions(predictions, UNITS, tmp_path / "out.csv")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_predictions(predictions, UNITS, tmp_path / "out.csv")
    write_predictions(predictions, UNITS, tmp_path / "out.csv", overwrite=True)


def test_smiles() -> None:
    pytest.importorskip("rdkit")
    atoms = from_smiles("CCO")
    assert atoms.get_chemical_formula() == "C2H6O"
    np.testing.assert_allclose(atoms.positions, from_smiles("CCO").positions)
    with pytest.raises(ValueError, match="--smiles"):
        from_smiles("C(C")
    with pytest.raises(ValueError, match=r"--smiles: SMILES 'CO.O' has 2 fragments"):
        from_smiles("CO.O")


def test_structures_from_smiles_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rdkit")
    collapsed = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.3]])
    monkeypatch.setattr("neural_polarization.interfaces.prediction.molecule_atoms", lambda *_: collapsed)
    with pytest.raises(ValueError, match=r"--smiles \[H\]\[H\]: atoms 0 and 1 are 0.300 Angstrom apart"):
        from_smiles("[H][H]")


def test_labels_of_the_file_do_not_pass_for_predictions(model: Model, tmp_path: Path) -> None:
    given = molecule("H2O")
    given.info |= {"energy": -99.0, "free_energy": -99.0, "charges": "x", "note": "kept", "polarizability": 0.0}
    given.info["outside_training"] = "size"  # of another model
    given.arrays |= {
        "born_charges": np.ones((3, 9)),
        "forces": np.full((3, 3), 9.0),
        "magmoms": np.ones(3),
        "tags_of_mine": np.arange(3),
    }
    (prediction,) = predictions = predict(model, [given])
    assert prediction.forces is not None
    write_predictions(predictions, UNITS, tmp_path / "out.extxyz")
    frame = ase.io.read(tmp_path / "out.extxyz")
    assert isinstance(frame, ase.Atoms)
    assert frame.calc is not None
    assert set(frame.calc.results) == {"energy", "forces", "dipole"}
    assert frame.get_potential_energy() == pytest.approx(float(prediction.properties["energy"]))
    np.testing.assert_allclose(frame.get_forces(), prediction.forces, atol=1e-7)
    assert frame.info["note"] == "kept"
    assert "outside_training" not in frame.info and "born_charges" not in frame.arrays
    assert frame.info["polarizability"].shape == (3, 3)
    assert frame.arrays["tags_of_mine"].tolist() == [0, 1, 2]
    assert given.info["energy"] == -99.0, "the structure itself stays as it is"


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_nothing(model: Model, size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size: expected at least 1, got {size}"):
        predict(model, STRUCTURES, batch_size=size)


def test_one_structure_needs_no_list(model: Model) -> None:
    (one,), (other,) = predict(model, molecule("H2O")), predict(model, [molecule("H2O")])
    np.testing.assert_array_equal(one.properties["energy"], other.properties["energy"])


def test_a_crystal_in_json_has_its_cell(model: Model, tmp_path: Path) -> None:
    slab = molecule("H2O", cell=[5.0, 6.0, 20.0], pbc=[True, True, False])
    write_predictions(predict(model, [slab, molecule("H2O")]), UNITS, tmp_path / "out.json")
    one, other = json.loads((tmp_path / "out.json").read_text())["structures"]
    assert one["cell"] == slab.cell.tolist() and one["pbc"] == [True, True, False]
    assert "cell" not in other and "pbc" not in other


def test_which_heads_see_the_charge() -> None:
    """Of every kind of head: what the warning says of it is so."""
    torch.manual_seed(3)
    neutral, ion = molecule("H2O"), molecule("H2O")
    ion.info["charge"] = 1
    for kind in HEADS:
        one = Model(ModelConfig(("H", "O"), {"x": HeadConfig(kind)}, BackboneConfig(channels=8, num_layers=2)))
        one = one.double()  # a value near zero is rounded by more than its share otherwise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideTrainingWarning)
            found = predict(one, [neutral, ion])
        values = [{**prediction.properties, **prediction.of_atoms}["x"] for prediction in found]
        told = unseen_charges(one, [neutral, ion])
        assert np.allclose(*values) == (told is not None), kind
        assert unseen_charges(one, [neutral, neutral]) is None
    many = Model(ModelConfig(("H", "O"), {"energy": HeadConfig("extensive"), "gap": HeadConfig("intensive")}))
    assert unseen_charges(many, [ion, neutral, ion]) == (
        "structures with a charge: 2 of 3; energy, gap of this model do not depend on it: a molecule and its ion get "
        "the same values"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "device 'cuda': PyTorch .* sees 0 CUDA devices; take cpu"),
        ("cuda:3", "device 'cuda:3': PyTorch .* sees 0 CUDA devices"),
        ("gpu", "device 'cuda': PyTorch .* sees 0 CUDA devices"),
        ("meta", "device 'meta' is not supported"),
    ],
)
def test_devices_that_are_not_there(model: Model, name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        checked_device(name)
    with pytest.raises(ValueError, match=message):
        NeuralPolarizationCalculator(model, device=name)


def test_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="sees 2 CUDA devices"):
        checked_device("cuda:2")


def test_fault_1_7_the_calculator_and_predict_take_initial_charges(model: Model) -> None:
    """An ion has one dipole, however its charge is said."""
    ion, other = molecule("H2O"), molecule("H2O")
    ion.info["charge"] = 1
    other.set_initial_charges([0.4, 0.3, 0.3])
    with pytest.warns(OutsideTrainingWarning, match="structures with a charge: "):
        expected, found = predict(model, [ion, other])
    np.testing.assert_allclose(found.properties["dipole"], expected.properties["dipole"], atol=1e-6)
    other.calc = NeuralPolarizationCalculator(model)
    with pytest.warns(OutsideTrainingWarning, match="structures with a charge: "):
        np.testing.assert_allclose(other.get_dipole_moment(), expected.properties["dipole"], atol=1e-6)
    other.set_initial_charges([0.0, 0.0, 0.0])
    assert np.abs(other.get_dipole_moment() - expected.properties["dipole"]).max() > 1e-3


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_fault_1_13_forces_far_from_the_origin(model: Model, far: float) -> None:
    near, away = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    away.positions += [far, -far, far / 7]
    one, other = predict(model, [near, away])
    assert one.forces is not None and other.forces is not None
    np.testing.assert_allclose(other.forces, one.forces, atol=2e-5)
    np.testing.assert_allclose(other.properties["dipole"], one.properties["dipole"], atol=1e-5)


def test_fragments_that_are_too_far_apart_for_single_precision(model: Model) -> None:
    apart = molecule("CH3CH2OH") + ase.Atoms("H2", [[1e5, 0.0, 0.0], [1e5 + 0.75, 0.0, 0.0]])
    with pytest.warns(UserWarning, match="more than 1000 Angstrom from its centre, where single precision rounds"):
        predict(model, [apart])
    predict(model.double(), [apart])


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_forces_of_atoms_that_have_left_their_cell(model: Model, pbc: bool | tuple[bool, bool, bool]) -> None:
    """Dynamics does not put them back, and single precision would round their large coordinates."""
    inside = molecule("CH3CH2OH", cell=[[5.0, 0.2, 0.0], [0.0, 5.2, 0.3], [0.4, 0.0, 5.4]], pbc=pbc)
    left = inside.copy()
    left.positions[::2] += [1000, -3000, 0] @ inside.cell.array
    one, other = predict(model, [inside, left])
    assert one.forces is not None and other.forces is not None and one.stress is not None
    np.testing.assert_allclose(other.forces, one.forces, atol=2e-6)
    np.testing.assert_allclose(other.stress, one.stress, atol=2e-8)


def test_the_calculator_sees_a_new_charge(model: Model) -> None:
    atoms = molecule("H2O", calculator=NeuralPolarizationCalculator(model))
    assert isinstance(atoms, ase.Atoms)
    neutral = atoms.get_dipole_moment()
    for charge in (1, 0):
        atoms.info["charge"] = charge
        if charge:
            with pytest.warns(OutsideTrainingWarning, match="structures with a charge: 1 of 1; energy, polariz"):
                atoms.get_dipole_moment()
        fresh = molecule("H2O", calculator=NeuralPolarizationCalculator(model))
        assert isinstance(fresh, ase.Atoms)
        fresh.info["charge"] = charge
        assert isinstance(fresh.calc, NeuralPolarizationCalculator)
        fresh.calc.watch = atoms.calc.watch  # which has said it
        np.testing.assert_array_equal(atoms.get_dipole_moment(), fresh.get_dipole_moment())
        assert np.allclose(atoms.get_dipole_moment(), neutral) == (charge == 0)
    assert isinstance(atoms.calc, NeuralPolarizationCalculator)
    assert atoms.calc.check_state(atoms) == []


def test_what_a_crystal_does_not_have_is_not_there() -> None:
    extent = Model(ModelConfig(("H", "O"), {"r2": HeadConfig("spatial_extent")}, BackboneConfig(channels=8)))
    water = molecule("H2O", cell=[9.0, 9.0, 9.0], calculator=NeuralPolarizationCalculator(extent, energy="r2"))
    assert isinstance(water, ase.Atoms) and water.get_potential_energy() > 0.0
    water.pbc = True
    with pytest.raises(PropertyNotImplementedError, match="energy"):
        water.get_potential_energy()


def test_forces_of_the_calculator_are_those_of_its_energy(model: Model) -> None:
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    atoms.calc = NeuralPolarizationCalculator(model, double=True)
    forces = atoms.get_forces()
    step = 1e-4
    for atom, axis in ((0, 0), (1, 2), (4, 1)):
        energies: list[float] = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-6)
    assert atoms.calc.results["displacement"].shape == (6, 3)
    assert atoms.get_dipole_moment().shape == (3,)


def test_the_calculator_gives_no_forces_of_another_energy() -> None:
    heads = {"ground": HeadConfig("extensive"), "excited": HeadConfig("extensive", forces=True)}
    two = Model(ModelConfig(("H", "O"), heads, BackboneConfig(channels=8, num_layers=2)))
    atoms = molecule("H2O")
    (expected,) = predict(two, [atoms])
    assert expected.properties["ground"] != pytest.approx(expected.properties["excited"])
    atoms.calc = NeuralPolarizationCalculator(two)
    assert atoms.get_potential_energy() == pytest.approx(expected.properties["excited"])
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-6)
    atoms.calc = NeuralPolarizationCalculator(two, energy="ground")
    assert atoms.get_potential_energy() == pytest.approx(expected.properties["ground"])
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_forces()


def test_the_calculator_of_a_model_without_energy() -> None:
    gap = Model(ModelConfig(("H", "O"), {"gap": HeadConfig("intensive")}))
    with pytest.raises(ValueError, match="the model has no property 'energy'"):
        NeuralPolarizationCalculator(gap)
    dipole = Model(ModelConfig(("H", "O"), {"mu": HeadConfig("dipole")}))
    water = molecule("H2O", calculator=NeuralPolarizationCalculator(dipole))
    assert isinstance(water, ase.Atoms)
    assert water.get_dipole_moment().shape == (3,)


def test_the_calculator_leaves_the_model_as_it_is(model: Model) -> None:
    """Between two epochs of a training, for instance."""
    model.train()
    calculator = NeuralPolarizationCalculator(model, double=True)
    molecule("H2O", calculator=calculator).get_potential_energy()
    assert model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_an_energy_that_is_none(model: Model) -> None:
    with pytest.raises(ValueError, match="the model has no property 'energie' "):
        NeuralPolarizationCalculator(model, energy="energie")
    with pytest.raises(ValueError, match="energy: 'dipole' is a dipole, not one number per molecule"):
        NeuralPolarizationCalculator(model, energy="dipole")


def test_the_calculator_in_a_crystal(model: Model) -> None:
    """Energies and forces do not depend on which image of an atom is listed; a dipole would, and is not given."""
    crystal = bulk("CO", "rocksalt", a=4.5, cubic=True)
    crystal.rattle(0.1, seed=0)
    other = crystal.copy()
    other.positions[3] += other.cell[0]
    for atoms in (crystal, other):
        atoms.calc = NeuralPolarizationCalculator(model, double=True)
    assert other.get_potential_energy() == pytest.approx(crystal.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(other.get_forces(), crystal.get_forces(), atol=1e-9)
    with pytest.raises(PropertyNotImplementedError):
        crystal.get_dipole_moment()
    (prediction,) = predict(model, [crystal])
    assert prediction.properties.keys() == {"energy"}


@pytest.fixture
def ethanol_model(model: Model) -> Model:
    """A model that knows that it was trained on ethanol alone, as the demo's is."""
    references = References(dict.fromkeys("HCO", -1.0), dict.fromkeys("HCO", FITTED), ((6, 2, 1),))
    model.knowledge = TrainingKnowledge(
        structures=10, elements={"H": 60, "C": 20, "O": 10}, references={"energy": references}, charges=(0.0,)
    )
    return model


def test_compositions_outside_are_warned_of_and_marked(ethanol_model: Model, tmp_path: Path) -> None:
    """FAULTS 1.1: water, methane and propane from a model of ethanol, off by hundreds of eV without a word."""
    strange = [molecule("H2O"), molecule("CH4"), molecule("C3H8")]
    with pytest.warns(OutsideTrainingWarning) as said:
        predictions = predict(ethanol_model, [molecule("CH3CH2OH"), *strange])
    assert len(said) == 1
    assert "composition H2O, CH4, C3H8: the training determines 1 of 3" in str(said[0].message)
    assert [prediction.outside for prediction in predictions] == [(), *[(Departure.COMPOSITION,)] * 3]
    write_predictions(predictions, UNITS, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        assert [row["outside_training"] for row in csv.DictReader(file)] == ["", *["composition"] * 3]
    write_predictions(predictions, UNITS, tmp_path / "out.json")
    entries = json.loads((tmp_path / "out.json").read_text())["structures"]
    assert [entry.get("outside_training") for entry in entries] == [None, *[["composition"]] * 3]
    write_predictions(predictions, UNITS, tmp_path / "out.extxyz")
    frames = ase.io.read(tmp_path / "out.extxyz", ":")
    assert [frame.info.get("outside_training") for frame in frames] == [None, *["composition"] * 3]
    with pytest.raises(DataError, match="composition H2O, CH4, C3H8"):
        predict(ethanol_model, strange, watch=Watch(strict=True))


def test_the_calculator_says_each_departure_once(ethanol_model: Model) -> None:
    """FAULTS 1.8: E(+1) - E(0) = 0 without a word; and a composition is said once, not in every step."""
    calculator = NeuralPolarizationCalculator(ethanol_model)
    atoms = molecule("H2O", calculator=calculator)
    with pytest.warns(OutsideTrainingWarning, match="composition H2O") as said:
        for step in range(3):
            atoms.rattle(0.01, seed=step)
            atoms.get_potential_energy()
    assert len(said) == 1
    ion = molecule("CH3CH2OH", calculator=calculator)
    ion.info["charge"] = 1
    with pytest.warns(
        OutsideTrainingWarning, match=r"charge \+1 \(C2H6O\): the training had 0 only, and energy, polar"
    ):
        ion.get_potential_energy()
    strict = molecule("H2O", calculator=NeuralPolarizationCalculator(ethanol_model, strict=True))
    for _ in range(2):
        with pytest.raises(DataError, match="composition H2O"):
            strict.get_potential_energy()


def test_an_ion_of_the_charge_that_was_trained_is_nothing_to_tell(ethanol_model: Model) -> None:
    assert ethanol_model.knowledge is not None
    ion = molecule("CH3CH2OH")
    ion.info["charge"] = 1
    ethanol_model.knowledge = replace(ethanol_model.knowledge, charges=(1.0,))
    assert unseen_charges(ethanol_model, [ion, ion]) is None
    ethanol_model.knowledge = replace(ethanol_model.knowledge, charges=(0.0, 1.0))
    told = unseen_charges(ethanol_model, [ion, molecule("CH3CH2OH")])
    assert told is not None and told.startswith("structures with a charge: 1 of 2")


def test_an_element_that_no_training_structure_had(ethanol_model: Model) -> None:
    """FAULTS 1.2."""
    assert ethanol_model.knowledge is not None
    ethanol_model.knowledge = replace(ethanol_model.knowledge, elements={"H": 3, "C": 1, "O": 0})
    with pytest.raises(
        ValueError, match=r"w.xyz: structure 4 \(H2O\) contains O, which the model names, but no training"
    ):
        check_elements(ethanol_model, [molecule("H2O")], ["w.xyz: structure 4"])


def test_the_free_energy_is_a_property_of_ase(model: Model) -> None:
    """FAULTS 3: force_consistent=True and numerical stress raised."""
    crystal = bulk("CO", "rocksalt", a=4.5, cubic=True)
    crystal.calc = NeuralPolarizationCalculator(model, double=True)
    energy = crystal.get_potential_energy()
    assert crystal.get_potential_energy(force_consistent=True) == energy
    assert "free_energy" in crystal.calc.implemented_properties
    stress = calculate_numerical_stress(crystal, eps=1e-4)
    assert np.isfinite(stress).all() and stress.shape == (6,)


def test_predictions_that_are_not_finite(model: Model) -> None:
    """FAULTS 1.15: they were printed, with exit code 0."""
    with torch.no_grad():
        model.head("energy").baseline.scale.fill_(float("inf"))
    with pytest.raises(ValueError, match="the model predicts energy that are not finite for H2O"):
        predict(model, [molecule("H2O")])


def test_total_energies_are_shown_to_tenths_of_a_millielectronvolt(model: Model) -> None:
    """FAULTS 5: -4219.14 for a model with an error of 34 meV."""
    model.head("energy").baseline.references.fill_(-4219.14159265)
    (prediction,) = predict(model, [ase.Atoms("H")])
    energy = float(prediction.properties["energy"])
    assert f" {energy:.4f} " in table([prediction], UNITS)


def test_properties_that_ase_collects(model: Model) -> None:
    """ASE takes only names that it knows, which the displacement has not."""
    water = molecule("H2O", calculator=NeuralPolarizationCalculator(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideTrainingWarning)
        found = water.get_properties(["energy", "forces"])
    assert found["energy"] == water.get_potential_energy()
    assert "displacement" in water.calc.results


def test_text_of_a_structure_does_not_break_extended_xyz(model: Model, tmp_path: Path) -> None:
    water = molecule("H2O")
    water.info = {"remark": "two\nlines", "folder": "C:\\my data\\"}
    (prediction,) = predict(model, water)
    write_predictions([prediction], UNITS, tmp_path / "water.extxyz")
    read = ase.io.read(tmp_path / "water.extxyz")
    assert isinstance(read, ase.Atoms)
    assert read.info["remark"] == "two lines"
    assert read.get_potential_energy() == pytest.approx(float(prediction.properties["energy"]))


def test_errors_count_all_structures(model: Model) -> None:
    """Batches have molecules or crystals only, and numbers of their own."""
    frames = [molecule("H2O") for _ in range(6)]
    frames[0].set_cell([9.0, 9.0, 9.0])
    frames[0].pbc = True
    frames[4].info["charge"] = 0.5
    with pytest.raises(DataError, match=r"^structure 4: charge is 0\.5; expected a whole number"):
        predict(model, frames, batch_size=2)


def test_parts_keep_their_mode(model: Model) -> None:
    """A part that was frozen on purpose stays so."""
    model.train()
    model.representation.eval()
    before = [part.training for part in model.modules()]
    predict(model, STRUCTURES)
    assert [part.training for part in model.modules()] == before and len(set(before)) == 2


def test_a_file_is_not_a_structure(model: Model) -> None:
    unchecked = inspect.unwrap(predict)  # in tests the annotations are checked, too, with another message
    with pytest.raises(TypeError, match=r"structure 0 is a str; .*`structures\.read_structures` take a file"):
        unchecked(model, "water.xyz")
