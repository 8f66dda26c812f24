"""Trainings from end to end: what they write, how they resume, what they refuse."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neural_polarization.checkpoints import load_model
from neural_polarization.data.batching import Batch
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.directory import RunDirectory
from neural_polarization.training.errors import errors_of
from neural_polarization.training.fit import fit
from neural_polarization.training.module import Learner
from neural_polarization.training.parsing import ConfigError, Source, build
from neural_polarization.training.task import prepare
from waters import experiment, write_experiment

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def config_of(folder: Path, **training: Any) -> ExperimentConfig:
    return build(ExperimentConfig, experiment(folder, **training), Source("test"))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "neural_polarization.cli", *words]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]


def assert_same_weights(one: Path, other: Path) -> None:
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name


def test_a_training_learns_and_writes_what_it_learnt(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=30, validate_every=3, losses={"energy": {"weight": 0.1}})
    untrained = prepare(config)
    before = errors_of(untrained.model, untrained.parts["test"])["forces"].mae
    result = fit(config, quiet=True)
    run = tmp_path / "run"
    assert result == json.loads((run / "result.json").read_text())
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock", "config.yaml", "metrics.csv", "model.safetensors", "result.json",
    ]  # fmt: skip
    assert result["test"]["forces"]["mae"] < 0.5 * before * 1000  # meV/Angstrom
    assert result["units"] == {"energy": "meV", "forces": "meV/Angstrom"}
    assert result["steps"] == 90
    model, stored = load_model(run / "model.safetensors")
    assert stored.metadata["epoch"] == result["best_epoch"]
    assert stored.metadata["metrics"]["test"] == result["test"]
    assert len(stored.tensors["split.train"]) == 24
    # The stored model is the averaged one of the best validation, and its errors are those that were reported.
    again = errors_of(model, untrained.parts["validation"])["forces"].mae
    assert 1000 * again == pytest.approx(result["validation"]["forces"]["mae"], rel=1e-6)
    rows = rows_of(run)
    assert len(rows) == 30
    assert all(float(row["training_loss"]) > 0 for row in rows)
    assert [bool(row["validation_loss"]) for row in rows] == [k % 3 == 2 for k in range(30)]
    validated = [float(row["validation_mae_forces [meV/Angstrom]"]) for row in rows if row["validation_loss"]]
    assert result["validation"]["forces"]["mae"] == pytest.approx(validated[result["best_epoch"] // 3 - 1], rel=1e-5)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "epochs": 12,
        "validate_every": 2,
        "checkpoint_seconds": 0.0,
        "schedule": {"decay": "plateau", "patience": 1},
    }
    whole = replace(config_of(tmp_path, **settings), output=str(tmp_path / "whole"))
    fit(whole, quiet=True)
    file = write_experiment(tmp_path, **settings)
    process = subprocess.Popen(command("train", str(file), "--quiet"), env=ENVIRONMENT)
    run = tmp_path / "run"
    deadline = time.monotonic() + 120
    while not (run / "resume.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "result.json").exists()
    assert (run / "resume.ckpt").exists()
    fit(config_of(tmp_path, **settings), quiet=True)
    assert_same_weights(tmp_path / "whole", run)
    assert rows_of(tmp_path / "whole") == rows_of(run)
    assert not (run / "resume.ckpt").exists()


def test_another_seed_gives_another_network_and_the_same_seed_the_same(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 1), ("again", 0)):
        fit(replace(config_of(tmp_path, seed=seed, epochs=1), output=str(tmp_path / name)), quiet=True)
    assert_same_weights(tmp_path / "one", tmp_path / "again")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "one", tmp_path / "other")


def test_a_finished_or_different_run_is_not_touched(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    fit(config, quiet=True)
    with pytest.raises(FileExistsError, match="a finished run is there"):
        fit(config, quiet=True)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(ConfigError, match=r"training.epochs: 1 -> 2.*--overwrite"):
        fit(config_of(tmp_path, epochs=2), quiet=True)
    # What does not change the numbers may change.
    machine = {"accelerator": "cpu", "threads": 1}
    fit(config_of(tmp_path, epochs=1, machine=machine), quiet=True)
    assert len(rows_of(tmp_path / "run")) == 1
    fit(config_of(tmp_path, epochs=2), overwrite=True, quiet=True)
    assert len(rows_of(tmp_path / "run")) == 2


def test_two_processes_do_not_train_in_one_directory(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        assert directory.busy
        with pytest.raises(RuntimeError, match="another process is training here"):
            fit(config, quiet=True)
    assert not directory.busy
    fit(config, quiet=True)


def test_ctrl_c_is_an_interrupt_and_the_training_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, epochs=3, checkpoint_seconds=0.0)
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(self: Learner, batch: Batch, batch_idx: int) -> None:
        if self.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "on_train_batch_start", interrupt)
        fit(config, quiet=True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(rows_of(tmp_path / "run")) == 1
    assert fit(config, quiet=True)["epochs"] == 3


def test_somebody_elses_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"not empty \(thesis.tex\)"):
        fit(config_of(tmp_path, epochs=1), quiet=True)


def test_a_resume_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    fit(config, quiet=True)
    run = tmp_path / "run"
    (run / "result.json").unlink()
    torch.save({"loops": print}, run / "resume.ckpt")
    with pytest.raises(ValueError, match="not a readable resume file"):
        fit(config, quiet=True)
    (run / "resume.ckpt").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="delete it to start from the beginning"):
        fit(config, quiet=True)


def test_early_stopping_and_steps(tmp_path: Path) -> None:
    # With a learning rate of nearly nothing no validation is better than the first by chance for long.
    result = fit(config_of(tmp_path, epochs=500, early_stopping=2, learning_rate=1e-12, ema_decay=0.0), quiet=True)
    assert result["epochs"] < 20
    stepped = replace(config_of(tmp_path, steps=4), output=str(tmp_path / "stepped"))
    assert fit(stepped, quiet=True)["steps"] == 6  # whole epochs of three


def test_several_properties_double_and_mixed_precision(tmp_path: Path) -> None:
    tree = experiment(tmp_path, epochs=2)
    tree["model"]["heads"]["dipole"] = {"kind": "dipole"}
    for precision in ("64", "bf16"):
        tree["training"]["machine"] = {"accelerator": "cpu", "precision": precision}
        tree["output"] = str(tmp_path / precision)
        result = fit(build(ExperimentConfig, tree, Source("test")), quiet=True)
        assert set(result["test"]) == {"energy", "forces", "dipole"}
    model, _ = load_model(tmp_path / "64" / "model.safetensors")
    assert next(model.parameters()).dtype == torch.float64


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"epochs": 5, "validate_every": 2}, "no multiple of validate_every"),
        ({"losses": {"gap": {"weight": 1.0}}}, "'gap' is not predicted"),
        ({"logger": "tensorboard"}, r"pip install 'neural-polarization\[tensorboard\]'"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, training: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises((ValueError, ModuleNotFoundError), match=message):
        fit(config_of(tmp_path, **training), quiet=True)


def test_compiled_steps_take_the_place_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fake(model: Model, example: Molecules, slack: float) -> Callable[[Molecules], dict[str, torch.Tensor]]:
        assert model.training
        assert slack >= 0.0

        def step(molecules: Molecules) -> dict[str, torch.Tensor]:
            assert molecules.edge_index.shape[1] <= example.edge_index.shape[1]
            assert molecules.num_atoms <= (1 + slack) * example.num_atoms
            calls.append(molecules.num_molecules)
            return model(molecules)

        return step

    fit(replace(config_of(tmp_path), output=str(tmp_path / "eager")), quiet=True)
    # Compiling itself takes minutes and has tests of its own: here it only matters that its result is used.
    monkeypatch.setattr("neural_polarization.training.module.compile_training", fake)
    monkeypatch.setattr("neural_polarization.training.module.CompiledModel", object)
    fit(config_of(tmp_path, compile=True), quiet=True)
    assert calls == [8] * 12
    assert_same_weights(tmp_path / "eager", tmp_path / "run")


def test_compiled_steps_refuse_what_they_cannot(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compiled steps need one device"):
        config_of(tmp_path, compile=True, machine={"devices": 2})


def test_divergence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"the training diverged; lower training\.learning_rate"):
        fit(config_of(tmp_path, learning_rate=1e30, gradient_clip=0.0), quiet=True)


def test_a_head_without_labels(tmp_path: Path) -> None:
    tree = experiment(tmp_path)
    tree["model"]["heads"]["gap"] = {"kind": "intensive"}
    with pytest.raises(ValueError, match="'gap' has no label"):
        fit(build(ExperimentConfig, tree, Source("test")), quiet=True)


def test_a_head_of_another_shape_than_its_labels(tmp_path: Path) -> None:
    tree = experiment(tmp_path)
    tree["model"]["heads"]["dipole"] = {"kind": "extensive"}
    with pytest.raises(ValueError, match=r"model.heads.dipole.kind: 'extensive' predicts .* shape \(3,\)"):
        fit(build(ExperimentConfig, tree, Source("test")), quiet=True)


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 7, "gradient_clip": 0.0}
    fit(replace(config_of(tmp_path, **settings), output=str(tmp_path / "one")), quiet=True)
    file = write_experiment(tmp_path, **settings)
    words = ["train", str(file), "--quiet", "--training.machine.devices", "2", "--output", str(tmp_path / "two")]
    subprocess.run(command(*words), env=ENVIRONMENT, check=True, timeout=300)
    for one, two in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert {key: float(value) for key, value in one.items()} == pytest.approx(
            {key: float(value) for key, value in two.items()}, rel=1e-4
        )
