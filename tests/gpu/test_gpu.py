"""A graphics processor gives what the CPU gives: `make test-gpu`; skipped where there is none."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from density_models import density_model
from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.checkpoints import load_model
from neural_polarization.data.density_points import read_density_points
from neural_polarization.data.packed import read_packed
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.prediction import predict
from neural_polarization.messages import Messages
from neural_polarization.models import Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.settings import Source, build
from neural_polarization.testing import TinyModel, distorted
from neural_polarization.testing.base import every_choice
from neural_polarization.training.compiled import compile_training
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.densities import density_errors
from neural_polarization.training.experiment import errors_of, fit
from neural_polarization.training.task import prepare
from small import EVERY_HEAD, tiny
from waters import experiment, interrupted

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

GPU = "cuda"
DATA = Path(__file__).parent.parent.parent / "data"
every_network = pytest.mark.parametrize("name", ARCHITECTURES)


def energies_forces_gradients(model: TinyModel, molecules: Molecules) -> dict[str, torch.Tensor]:
    """What training needs: the derivatives by the parameters of a loss on energies and forces, too."""
    energy, forces = model.energy_and_forces(molecules, create_graph=True)
    (energy.square().sum() + forces.square().sum()).backward()
    gradients = {key: parameter.grad.cpu() for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert gradients
    return {"energy": energy.detach().cpu(), "forces": forces.detach().cpu(), **gradients}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    """Relative to the largest number of each, and of all gradients where one is next to nothing."""
    assert found.keys() == expected.keys()
    floor = 1e-3 * max(float(value.abs().max()) for value in expected.values())
    for key, value in expected.items():
        error = float((found[key] - value).abs().max())
        assert error <= tolerance * max(float(value.abs().max()), floor), key


@every_choice
@every_network
def test_energies_forces_and_gradients(name: str, messages: Messages) -> None:
    model, molecules = tiny(name, messages, torch.float64)
    expected = energies_forces_gradients(deepcopy(model), molecules)
    found = energies_forces_gradients(model.to(GPU), molecules.to(GPU))
    assert_close(found, expected, 1e-9)


@every_network
def test_single_precision(name: str) -> None:
    model, molecules = tiny(name, Messages.MOVING_VIEW, torch.float32)
    expected = energies_forces_gradients(deepcopy(model), molecules)
    found = energies_forces_gradients(model.to(GPU), molecules.to(GPU))
    assert_close(found, expected, 1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@every_network
def test_mixed_precision(name: str, dtype: torch.dtype) -> None:
    model, molecules = tiny(name, Messages.RIDING, torch.float32)
    _, expected = model.energy_and_forces(molecules)
    with torch.autocast(GPU, dtype):
        found = energies_forces_gradients(model.to(GPU), molecules.to(GPU))
    assert (found["forces"] - expected).abs().max() < 0.1 * expected.abs().max()
    assert all(value.isfinite().all() for value in found.values())


def full_model(messages: str) -> Model:
    backbone = BackboneConfig(channels=16, num_layers=2)
    return (
        Model(ModelConfig(("H", "C", "O"), EVERY_HEAD, backbone, PolarizationConfig(Messages(messages))))
        .double()
        .eval()
    )


@every_choice
def test_every_head(messages: Messages) -> None:
    model = full_model(messages.value)
    molecules = Molecules.from_ase([distorted("CH3CH2OH"), molecule("H2CO"), molecule("H2O")], model.cutoff)
    molecules = molecules.to(dtype=torch.float64)
    expected = {key: value.detach() for key, value in model(molecules).items()}
    found = {key: value.detach().cpu() for key, value in model.to(GPU)(molecules.to(GPU)).items()}
    assert_close(found, expected, 1e-9)


def test_predictions_and_the_calculator() -> None:
    model, structures = full_model("moving_view"), [molecule("CH3CH2OH"), molecule("H2O")]
    expected = predict(model, structures)
    for one, other in zip(predict(deepcopy(model).to(GPU), structures), expected, strict=True):
        for name, value in other.properties.items():
            np.testing.assert_allclose(one.properties[name], value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(one.displacement, other.displacement, atol=1e-10)
    water = structures[1].copy()
    water.calc = NeuralPolarizationCalculator(model, device=GPU, double=True)
    np.testing.assert_allclose(water.get_forces(), expected[1].forces, atol=1e-9)


def config_of(folder: Path, **training: Any) -> ExperimentConfig:
    tree = experiment(folder, **{"losses": {"energy": {"weight": 0.1}}, **training})
    tree["training"].setdefault("machine", {})["accelerator"] = "gpu"
    tree["model"]["heads"]["dipole"] = {"kind": "dipole"}
    return build(ExperimentConfig, tree, Source("test"))


@pytest.mark.parametrize("precision", ["32", "64", "bf16", "16"])
def test_training(tmp_path: Path, precision: str) -> None:
    config = config_of(tmp_path, epochs=30, validate_every=3, machine={"precision": precision})
    untrained = prepare(config)
    before = errors_of(untrained.model, untrained.parts["test"])["forces"].mae
    result = fit(config, quiet=True)
    assert result["test"]["forces"]["mae"] < 0.6 * before * 1000  # meV/Angstrom
    model, _ = load_model(tmp_path / "run" / "model.safetensors")
    here = errors_of(model, untrained.parts["test"])["forces"].mae
    assert 1000 * here == pytest.approx(result["test"]["forces"]["mae"], rel=1e-3)


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=3, checkpoint_seconds=0.0)
    whole = fit(replace(config, output=str(tmp_path / "whole")), quiet=True)

    with interrupted(at_step=4):
        fit(config, quiet=True)
    resumed = fit(config, quiet=True)
    assert resumed["steps"] == whole["steps"]
    # Sums over neighbours have no fixed order on a GPU, so the weights agree to rounding and no further.
    assert resumed["test"]["forces"]["mae"] == pytest.approx(whole["test"]["forces"]["mae"], rel=1e-2)


def test_errors_of_densities() -> None:
    """Measured at the end of a training and by `npol evaluate`, on the device of the model."""
    dataset = read_packed(DATA / "small_molecules.npz")
    smiles = np.load(DATA / "small_molecules.npz")["smiles"]
    points = read_density_points(DATA / "small_molecules_densities.npz", dataset.molecules)
    points, prepared = points.of_structures(np.flatnonzero(smiles == "C")), dataset.prepare(4.0)
    model = density_model()
    expected = density_errors(model, prepared, points)
    np.testing.assert_allclose(density_errors(model.to(GPU), prepared, points), expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("messages", ["plain", "moving_view"])
def test_a_compiled_step(messages: str) -> None:
    """It compares outputs and all gradients with the model's own, and raises where they differ."""
    model = full_model(messages).float().to(GPU).train()
    molecules = Molecules.from_ase([distorted("CH3CH2OH"), distorted("H2CO")], model.cutoff, torch.float32).to(GPU)
    compiled = compile_training(model, molecules)
    assert compiled.compilations == 1
    assert_close(
        {key: value.detach() for key, value in compiled(molecules).items()},
        {key: value.detach() for key, value in model(molecules).items()},
        1e-3,
    )
