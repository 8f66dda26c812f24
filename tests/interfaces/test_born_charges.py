"""Born charges in every output: predict and its files, evaluate with references, the calculator."""

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from test_calculator_in_field import FIELD, make_model

from neural_polarization.checkpoints import save_model
from neural_polarization.cli import main
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.packed import write_packed
from neural_polarization.evaluation.evaluation import evaluate
from neural_polarization.field_derivatives import born_charges
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.prediction import predict
from neural_polarization.molecules import Molecules
from neural_polarization.properties import DEFINITIONS
from neural_polarization.response import Response
from waters import waters


def test_the_calculator_gives_them_in_units_of_ase() -> None:
    """They are slopes of ASE's dipole by positions; the polarizability is its slope by the field."""
    model = make_model()
    atoms = molecule("H2O", calculator=NeuralPolarizationCalculator(model, double=True, external_field=FIELD))
    assert isinstance(atoms.calc, NeuralPolarizationCalculator)
    charges = atoms.calc.get_property("born_effective_charges", atoms)
    tensor = atoms.calc.get_property("polarizability", atoms)
    step = 1e-3
    by_position, by_field = np.zeros(3), np.zeros((3, 3))
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        moved.calc = NeuralPolarizationCalculator(model, double=True, external_field=FIELD)
        by_position += sign * moved.get_dipole_moment() / (2.0 * step)
        for axis in range(3):
            field = np.array(FIELD) + sign * step * np.eye(3)[axis]
            moved = atoms.copy()
            moved.calc = NeuralPolarizationCalculator(model, double=True, external_field=field.tolist())
            by_field[axis] += sign * moved.get_dipole_moment() / (2.0 * step)
    np.testing.assert_allclose(charges[1, 2], by_position, atol=1e-5)
    np.testing.assert_allclose(tensor, by_field, atol=1e-5)
    assert charges.sum(0) == pytest.approx(np.zeros((3, 3)), abs=1e-9)
    atoms.calc = NeuralPolarizationCalculator(make_model(Response.NONE), double=True)
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property("born_effective_charges", atoms)


def test_predict_writes_them_on_request(tmp_path: Path) -> None:
    model, frames = make_model(), [molecule("H2O"), molecule("H2")]
    save_model(model, tmp_path / "model.safetensors")
    expected = born_charges(model, Molecules.from_ase(frames, model.cutoff, torch.float64)).numpy()
    ase.io.write(tmp_path / "frames.extxyz", frames)
    words = ["predict", str(tmp_path / "model.safetensors"), str(tmp_path / "frames.extxyz")]
    for ending in ("json", "extxyz", "csv"):
        assert main([*words, "--born-charges", "-o", str(tmp_path / f"out.{ending}")]) == 0
    entries = json.loads((tmp_path / "out.json").read_text())
    assert entries["units"]["born_charges"] == "e"
    np.testing.assert_allclose(np.concatenate([one["born_charges"] for one in entries["structures"]]), expected)
    read = ase.io.read(tmp_path / "out.extxyz", ":")
    assert isinstance(read, list)
    of_frames = np.concatenate([frame.arrays["born_charges"] for frame in read])
    np.testing.assert_allclose(of_frames.reshape(-1, 3, 3), expected, atol=1e-7)
    with (tmp_path / "out.csv").open() as file:
        first = next(csv.DictReader(file))["Born charges, a third of the trace [e]"]
    np.testing.assert_allclose(
        [float(word) for word in first.split()], np.trace(expected[:3], axis1=1, axis2=2) / 3.0, atol=6e-4
    )
    assert predict(model, frames)[0].born_charges is None


def test_a_model_without_response_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(make_model(Response.NONE), tmp_path / "model.safetensors")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    assert main(["predict", str(tmp_path / "model.safetensors"), str(tmp_path / "water.xyz"), "--born-charges"]) == 2
    assert "born_charges: this model has no response" in capsys.readouterr().err


def test_evaluate_compares_them_with_references(tmp_path: Path) -> None:
    model, data = make_model(), waters()
    save_model(model, tmp_path / "model.safetensors")
    batch = data.prepare(model.cutoff).batch(np.arange(len(data)), torch.float64).molecules
    reference = born_charges(model, batch).numpy()
    reference[:, 0, 0] += 0.25
    reference[3] = np.nan  # an atom without
    properties = {"born_charges": DEFINITIONS["born_charges"].property}
    write_packed(Dataset("waters", data.molecules, properties, {"born_charges": reference}), tmp_path / "waters.npz")
    changed = {"path": str(tmp_path / "waters.npz"), "format": "packed", "properties": {"born_charges": {}}}
    save_model(model, tmp_path / "model.safetensors", {"data": changed})
    evaluation = evaluate(tmp_path / "model.safetensors")
    found = evaluation.errors["all"]["born_charges"]
    assert found["mae"] == pytest.approx(0.25 / 9.0, abs=1e-5)
    assert evaluation.units["born_charges"] == "e"
