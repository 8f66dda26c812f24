"""Training on structures in fields: what fields alone teach, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.packed import write_packed
from neural_polarization.properties import Property
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.module import Learner
from neural_polarization.training.task import prepare
from waters import experiment, waters


def in_fields(folder: Path, charge: float = 0.0, strength: float = 0.3) -> dict[str, Any]:
    """The experiment on waters, every second of them in a field that pulls at their oxygens."""
    free = waters()
    rng = np.random.default_rng(3)
    fields = rng.normal(0.0, strength, (len(free), 3))
    fields[::2] = np.nan
    labels = {name: free.labels[name] for name in ("energy", "forces")} | {"external_field": fields}
    properties = {name: free.properties[name] for name in ("energy", "forces")}
    properties["external_field"] = Property("external_field", "V/Angstrom", (3,))
    molecules = free.molecules
    if charge:
        molecules = type(molecules).checked(
            "waters", molecules.n_atoms, molecules.atomic_numbers, molecules.positions, np.full(len(free), charge)
        )
    write_packed(Dataset("waters", molecules, properties, labels), folder / "waters.npz")
    values = experiment(folder)
    values["model"]["response"] = "push_dual"
    values["model"]["heads"] |= {"mu": {"kind": "dipole_flow"}, "alpha": {"kind": "polarizability_bonds"}}
    return values


def config(values: dict[str, Any]) -> ExperimentConfig:
    return build(ExperimentConfig, values, Source("test"))


def test_a_step_in_fields_asks_for_what_has_labels(tmp_path: Path) -> None:
    task = prepare(config(in_fields(tmp_path)))
    batch = task.parts["train"].batch([0, 1, 2, 3])
    field = batch.molecules.external_field
    assert field is not None and field.isfinite().all() and (field != 0.0).any()
    asked: list[Any] = []
    task.model.register_forward_pre_hook(lambda _, arguments: asked.append(arguments[2]))
    learner = Learner(task.model.train(), config(in_fields(tmp_path)).training, 10)
    learner.training_step(batch, 0).backward()
    assert asked == [("energy",)]  # neither dipole nor polarizability has a label
    for name in ("mu", "alpha"):
        gradients = [weight.grad for weight in task.model.head(name).parameters() if weight.grad is not None]
        assert any((gradient != 0.0).any() for gradient in gradients), f"fields do not train {name}"
    assert task.model.scale_of("mu") == 1.0
    assert task.model.knowledge is not None
    fields = task.parts["train"].batch(range(len(task.parts["train"]))).molecules.external_field
    assert fields is not None
    assert task.model.knowledge.strongest_field == pytest.approx(float(fields.norm(dim=1).max()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"response": "none"}}, r"data.properties.external_field: .*model.response to 'quadratic'"),
        (
            {"training": {"compile": True, "losses": {"alpha": {"directions": "one"}}}},
            "training.losses: a compiled step has no random directions",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = in_fields(tmp_path)
    for section, settings in change.items():
        values[section] |= settings
    if values["model"]["response"] == "none":
        values["model"]["heads"] = {"energy": {"kind": "extensive", "forces": True}}
    with pytest.raises(ValueError, match=message):
        prepare(config(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energies_of_ions_in_fields_follow_the_origin_of_the_batch(tmp_path: Path, dtype: torch.dtype) -> None:
    """What a model itself predicts, as labels about the centre of nuclear charge, is met wherever the ions are."""
    task = prepare(config(in_fields(tmp_path, charge=1.0)))
    model, dataset = task.model.eval().double(), task.dataset
    batch = dataset.prepare(model.cutoff).batch(np.arange(len(dataset)), torch.float64)
    field, numbers = batch.molecules.external_field, dataset.molecules.atomic_numbers[:, None]
    assert field is not None
    starts = dataset.molecules.starts
    centres = np.add.reduceat(numbers * dataset.molecules.positions, starts) / np.add.reduceat(numbers, starts)
    with torch.no_grad():
        energy = model(batch.molecules)["energy"].numpy() + (field.numpy() * centres).sum(-1)
    far = dataset.molecules.positions + np.array([100.0, -50.0, 30.0])
    molecules = replace(dataset.molecules, positions=far)
    moved = Dataset("far", molecules, dataset.properties, {**dataset.labels, "energy": energy})
    found = moved.prepare(model.cutoff).batch(np.arange(len(moved)), dtype)
    with torch.no_grad():
        predicted = model.to(dtype)(found.molecules)["energy"]
    error = (predicted - found.labels["energy"]).abs().max()
    assert error < (1e-8 if dtype == torch.float64 else 1e-3)
    gained = np.abs(moved.labels["energy"] - found.labels["energy"].numpy()).max()
    assert gained > (10.0 if dtype == torch.float64 else 0.01)  # otherwise nothing would have been tested


def test_ions_in_fields_train(tmp_path: Path) -> None:
    values = in_fields(tmp_path, charge=1.0)
    task = prepare(config(values))
    learner = Learner(task.model.train(), config(values).training, 10)
    loss = learner.training_step(task.parts["train"].batch([0, 1, 2, 3]), 0)
    loss.backward()
    assert loss.isfinite()


def test_energies_of_ions_in_fields_under_another_name_are_refused(tmp_path: Path) -> None:
    values = in_fields(tmp_path, charge=1.0)
    values["data"]["properties"] = {"u": {"source": "energy"}, "forces": {}, "external_field": {}}
    values["model"]["heads"]["u"] = values["model"]["heads"].pop("energy")
    with pytest.raises(ValueError, match=r"model.heads.u: 20 ions are in fields.*call this property 'energy'"):
        prepare(config(values))


def test_fields_of_structures_without_one_are_zero(tmp_path: Path) -> None:
    task = prepare(config(in_fields(tmp_path)))
    fields = task.dataset.labels["external_field"]
    batch = task.dataset.prepare(task.model.cutoff).batch(np.arange(4), torch.float64)
    assert batch.molecules.external_field is not None
    np.testing.assert_array_equal(batch.molecules.external_field.numpy(), np.nan_to_num(fields[:4]))


def test_fields_that_ionize_are_warned_of(tmp_path: Path) -> None:
    """As where a unit is wrong."""
    values = in_fields(tmp_path, strength=30.0)
    with pytest.warns(UserWarning, match=r"is in a field of \d+ V/Angstrom; .*external_field.unit right"):
        prepare(config(values))
