"""Training on stresses: labels, loss, what the checkpoint says, and errors of the best model."""

from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones

from neural_polarization.checkpoints import load_model
from neural_polarization.cli import main
from neural_polarization.evaluation.evaluation import evaluate
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from neural_polarization.training.losses import Losses
from neural_polarization.training.task import prepare

ARGON = {"sigma": 3.4, "epsilon": 0.05, "rc": 6.0, "smooth": True}


def crystals(count: int) -> list[ase.Atoms]:
    """Strained and shaken crystals of argon and, as every fourth structure, a pair without a cell."""
    generator = np.random.default_rng(0)
    frames: list[ase.Atoms] = []
    for k in range(count):
        if k % 4 == 3:
            atoms = ase.Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, generator.uniform(3.4, 4.4)]])
        else:
            cell = np.diag(generator.uniform(3.5, 4.5, 3)) + generator.normal(0.0, 0.1, (3, 3))
            atoms = ase.Atoms("Ar", cell=cell, pbc=True)
        atoms.calc = LennardJones(**ARGON)
        atoms.get_forces()
        if k % 4 != 3:
            atoms.get_stress()
        frames.append(atoms)
    return frames


def settings(folder: Path, **training: Any) -> dict[str, Any]:
    ase.io.write(folder / "argon.extxyz", crystals(24))
    return {
        "name": "argon",
        "output": str(folder / "run"),
        "data": {
            "format": "extxyz",
            "path": str(folder / "argon.extxyz"),
            "cache": False,
            "properties": {"energy": {}, "forces": {}, "stress": {}},
            "split": {"train": 16, "validation": 4, "test": 4, "seed": 1},
        },
        "model": {
            "backbone": {"name": "schnet", "channels": 8, "num_layers": 1, "cutoff": 5.0, "num_basis": 8},
            "heads": {"energy": {"kind": "extensive", "forces": True}},
        },
        "training": {"epochs": 60, "batch_size": 8, "learning_rate": 0.02, "machine": {"accelerator": "cpu"}}
        | training,
    }


def config(folder: Path, **training: Any) -> ExperimentConfig:
    return build(ExperimentConfig, settings(folder, **training), Source("test"))


@pytest.mark.filterwarnings("ignore")
def test_stresses_are_learned_and_the_checkpoint_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = {"energy": {"weight": 0.0}, "forces": {"weight": 0.0}, "stress": {"weight": 1.0, "kind": "mse"}}
    task = prepare(config(tmp_path, losses=losses))
    stresses = task.dataset.labels["stress"][task.split.train]
    root = np.sqrt(np.nanmean(stresses**2))
    assert np.isnan(stresses).any(1).sum() == np.isnan(stresses).all(1).sum() > 0  # pairs have none
    assert task.model.scale_of("stress") == pytest.approx(root)
    assert task.model.knowledge is not None and task.model.knowledge.stress == pytest.approx(root)
    result = fit(config(tmp_path, losses=losses), quiet=True)
    error = result["test"]["stress"]
    assert result["units"]["stress"] == "meV/Angstrom^3"
    truth = task.dataset.labels["stress"][task.split.test]
    assert error["rmse"] < 0.5 * 1000 * np.sqrt(np.nanmean(truth**2)), "no better than a stress of zero"
    evaluation = evaluate(tmp_path / "run")
    assert evaluation.errors["test"]["stress"]["mae"] == pytest.approx(error["mae"], rel=1e-4)
    model, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert model.knowledge is not None and model.knowledge.stress == pytest.approx(root)
    assert main(["info", str(tmp_path / "run" / "model.safetensors")]) == 0
    assert f"stress       learned, root mean square {root:.4g} eV/Angstrom^3" in capsys.readouterr().out
    atoms = task.dataset.structure(int(task.split.test[~np.isnan(truth).any(1)][0]))
    atoms.calc = NeuralPolarizationCalculator(model)
    assert np.abs(atoms.get_stress()).max() > 0.0


def test_data_without_stresses_do_not_learn_them(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    del plain["data"]["properties"]["stress"]
    task = prepare(build(ExperimentConfig, plain, Source("test")))
    assert "stress" not in Losses({}, task.model).settings
    assert task.model.knowledge is not None and task.model.knowledge.stress is None
    plain["training"]["losses"] = {"stress": {"weight": 1.0}}
    with pytest.raises(ValueError, match=r"training\.losses\.stress: has weight 1\.0, but it is not among the data"):
        prepare(build(ExperimentConfig, plain, Source("test")))
    plain["data"]["properties"]["stress"] = {"source": "energy", "unit": "1"}
    with pytest.raises(ValueError, match=r"data.*stress"):
        prepare(build(ExperimentConfig, plain, Source("test")))


def test_a_head_cannot_be_called_stress(tmp_path: Path) -> None:
    wrong = settings(tmp_path)
    wrong["model"]["heads"]["stress"] = {"kind": "extensive"}
    with pytest.raises(ValueError, match="heads: a stress has no head of its own"):
        prepare(build(ExperimentConfig, wrong, Source("test")))
