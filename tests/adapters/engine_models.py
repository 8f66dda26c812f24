"""Small models for the tests of engines, and their examples with these models."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.models import HeadConfig, Model, ModelConfig

ENGINES = Path(__file__).parents[2] / "examples" / "engines"


def checkpoint(folder: Path) -> Path:
    """A new model, whose molecules stay together, with reference energies as large as real ones."""
    torch.manual_seed(0)
    heads = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
    model = Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig("painn", channels=8)))
    model.head("energy").baseline.references.copy_(torch.tensor([-13.6, -1030.0, -2043.0]))
    with torch.no_grad():
        for move in model.representation.moves:
            move.enlarge(10.0)
    save_model(model, folder / "model.safetensors")
    return folder / "model.safetensors"


def ran(script: str, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a script of the examples leaves behind when it has run in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", [script, str(checkpoint(folder)), *arguments])
    return runpy.run_path(str(ENGINES / script), run_name="__main__")


def calculator(folder: Path) -> NeuralPolarizationCalculator:
    """The same model in ASE."""
    return NeuralPolarizationCalculator(folder / "model.safetensors")
