"""Predictions: what a model says of structures, and the files that it is written to."""

import csv
import json
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.outputs import table, write_predictions
from neural_polarization.interfaces.predict import from_smiles, predict
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.molecules import Molecules

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


def test_the_calculator_of_a_model_without_energy() -> None:
    gap = Model(ModelConfig(("H", "O"), {"gap": HeadConfig("intensive")}))
    with pytest.raises(ValueError, match="the model has no property 'energy'"):
        NeuralPolarizationCalculator(gap)
    dipole = Model(ModelConfig(("H", "O"), {"mu": HeadConfig("dipole")}))
    water = molecule("H2O", calculator=NeuralPolarizationCalculator(dipole))
    assert isinstance(water, ase.Atoms)
    assert water.get_dipole_moment().shape == (3,)
