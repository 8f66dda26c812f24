"""A network in a file outside of the package: trained, evaluated, predicted with and run in ASE, by `npol` alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.build import molecule

import neural_polarization as npol
from neural_polarization.checkpoints import load_model, read_weights
from neural_polarization.errors import TrustError
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.start import start_from
from neural_polarization.training.task import prepare
from neural_polarization.user_networks import complete_sizes, look_beside, network_class

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_network"
NAME = "my_network:MyNetwork"


def run(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A command of `npol` in a process of its own, in which nothing of the network has been imported before."""
    paths = {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-m", "neural_polarization.cli", *words],
        cwd=folder,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of the example by its own command."""
    folder = tmp_path_factory.mktemp("own") / "run"
    short = ["--training.epochs=2", "--data.split.train=40", "--data.split.validation=20", "--data.split.test=20"]
    small = ["--model.backbone.channels=8", "--model.backbone.num_layers=2", "--data.cache=false"]
    done = run("train", str(EXAMPLE / "config.yaml"), *short, *small, f"--output={folder}", folder=ROOT)
    assert done.returncode == 0, done.stderr
    return folder / "model.safetensors"


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's directory among those that Python looks into, for this test only."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    look_beside(EXAMPLE)


@pytest.mark.slow
def test_info_evaluate_and_predict(trained: Path, tmp_path: Path) -> None:
    refused = run("info", str(trained), folder=EXAMPLE)
    assert refused.returncode == 2
    assert "is defined in the Python module 'my_network'" in refused.stderr
    assert "--trust my_network" in refused.stderr and "trust=['my_network']" in refused.stderr
    lost = run("info", str(trained), "--trust", "my_network", folder=tmp_path)
    assert lost.returncode == 2
    assert "there is no module 'my_network'; put my_network.py beside the YAML file" in lost.stderr

    shown = run("info", str(trained), "--trust", "my_network", folder=EXAMPLE)
    assert f"{NAME}, 8 channels, 2 layers, cutoff 5.0 Angstrom" in shown.stdout, shown.stderr
    folder = ["-o", str(tmp_path)]
    judged = run("evaluate", str(trained), "--trust=my_network", *folder, "--data.path", str(ROOT / "data/ethanol.npz"),
                 folder=EXAMPLE)  # fmt: skip
    assert "test MAE" in judged.stdout, judged.stderr
    xyz = tmp_path / "ethanol.xyz"
    molecule("CH3CH2OH").write(xyz)
    told = run("predict", str(trained), str(xyz), "--trust", "my_network", folder=EXAMPLE)
    assert "energy [eV]" in told.stdout, told.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
@pytest.mark.filterwarnings("ignore:outside of what the model was trained on")  # its training is short
def test_it_runs_in_ase(trained: Path) -> None:
    with pytest.raises(TrustError, match=r"trust=\['my_network'\]"):
        npol.NeuralPolarizationCalculator(trained)
    atoms = molecule(
        "CH3CH2OH", calculator=npol.NeuralPolarizationCalculator(trained, double=True, trust=["my_network"])
    )
    forces = atoms.get_forces()
    moved, step = atoms.copy(), 1e-4
    moved.calc = atoms.calc
    energies: list[float] = []
    for sign in (1, -1):
        moved.positions[4, 1] = atoms.positions[4, 1] + sign * step
        energies.append(moved.get_potential_energy())
    assert forces[4, 1] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), rel=1e-5, abs=1e-7)
    prediction = npol.predict(trained, molecule("CH3CH2OH"), trust=["my_network"])
    assert prediction["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_a_checkpoint_keeps_every_size_and_starts_another_training(trained: Path, tmp_path: Path) -> None:
    config, weights = read_weights(trained)  # imports nothing
    assert (config.backbone.name, config.backbone.num_basis, config.backbone.lmax) == (NAME, 8, None)
    values: dict[str, Any] = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    values["model"]["backbone"] |= {"channels": 8, "num_layers": 2}
    values["data"] |= {"path": str(ROOT / "data/ethanol.npz"), "cache": False}
    values["data"]["split"] |= {"train": 10, "validation": 5, "test": 5}
    task = prepare(build(ExperimentConfig, {**values, "start_from": str(trained)}, Source("test")))
    assert task.taken_over[1:4] == ("  network: taken over", "  moves: taken over", "  couplings: taken over")
    model, _ = load_model(trained, trust=["my_network"])
    shifted = any("shifted" in line for line in task.taken_over)
    for name, value in task.model.state_dict().items():
        assert value.equal(model.state_dict()[name]) or (shifted and name.endswith("references")), name
    assert weights.keys() == model.state_dict().keys()
    wider = Model(ModelConfig(("H", "C", "N", "O"), {"energy": HeadConfig("extensive")}, config.backbone))
    lines = start_from(wider, trained, task.parts["train"])
    assert "  elements: N new, the others taken over" in lines


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory from which modules of the test are imported, and forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path  # type: ignore[misc]
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "own_a:Network", r"the module 'own_a' .* has no class 'Network'"),
        ("class Network: pass", "own_b:Network", r"'own_b:Network' is not a Backbone \(it lacks embed, split, join\)"),
        ("from os import system", "own_c:system", r"'own_c:system' is not a Backbone"),
        ("import nowhere_at_all", "own_d:Network", r"'own_d' cannot be imported \(No module named 'nowhere_at_all'\)"),
        ("1 / 0", "own_e:Network", r"'own_e' fails when it is imported \(ZeroDivisionError: division by zero\)"),
        ("", "own_f:", r"'own_f:' is not of the form package\.module:Class"),
        ("", "not_there.at_all:Network", r"there is no module 'not_there\.at_all'; put not_there\.py beside"),
    ],
)
def test_what_is_no_network_is_refused(modules: Path, text: str, name: str, message: str) -> None:
    (modules / f"{name.partition(':')[0]}.py").write_text(text)
    with pytest.raises(ValueError, match=f"backbone.name: .*{message}"):
        npol.BackboneConfig(name).build(3)


BARE = """
from torch import nn
class Network(nn.Module):
    def __init__(self, num_species, num_layers, width=4):
        super().__init__()
        self.num_species = num_species
        if num_layers > 3:
            raise RuntimeError("too deep")
    def embed(self): ...
    def split(self): ...
    def join(self): ...
"""


def test_sizes_are_those_that_the_constructor_takes(modules: Path) -> None:
    (modules / "own_bare.py").write_text(BARE)
    name = "own_bare:Network"
    assert complete_sizes(name, {"num_layers": 2}) == {"num_layers": 2}
    assert issubclass(network_class(name), npol.Backbone)
    for given, message in (
        (
            {"channels": 8, "num_layers": 2},
            r"backbone\.channels: .* takes no argument 'channels' \(it takes num_species,",
        ),
        ({}, r"backbone\.num_layers: the constructor of 'own_bare:Network' needs it; give a number"),
        ({"num_layers": 0}, r"backbone\.num_layers: expected at least 1, got 0"),
        ({"num_layers": 2, "preset": "paper"}, r"backbone\.preset: 'own_bare:Network' has no preset 'paper'"),
        ({"num_layers": 9}, r"own_bare:Network\(num_species=3, num_layers=9\) fails \(RuntimeError: too deep\)"),
        ({"num_layers": 2}, r"is not a Backbone: it lacks cutoff, scalar_channels, vector_channels, layers"),
    ):
        with pytest.raises(ValueError, match=message):
            npol.BackboneConfig(name, **given).build(3)  # type: ignore[arg-type]


def test_other_directories_come_last_and_are_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside a configuration must not take the place of an installed module of the same name."""
    monkeypatch.setattr(sys, "path", ["first"])
    monkeypatch.setenv("PYTHONPATH", "mine")
    for _ in range(2):
        look_beside(tmp_path)
    assert sys.path == ["first", str(tmp_path)]
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["mine", str(tmp_path)]


def test_sizes_that_are_left_out_are_the_constructors_own(importable: None) -> None:
    config = npol.BackboneConfig(NAME, channels=8)
    resolved = config.resolved()
    assert (resolved.channels, resolved.num_layers, resolved.cutoff, resolved.num_basis) == (8, 3, 5.0, 8)
    model = Model(ModelConfig(("H", "O"), {"energy": HeadConfig("extensive")}, npol.BackboneConfig(NAME, cutoff=3.5)))
    assert model.cutoff == 3.5
    assert np.isfinite(npol.predict(model, molecule("H2O"))["energy"])
