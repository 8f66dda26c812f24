"""Trainings from end to end: what they write, how they resume, what they refuse."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from numpy.typing import NDArray
from safetensors.torch import load_file

from neural_polarization.checkpoints import load_model
from neural_polarization.data.config import SplitConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.packed import write_packed
from neural_polarization.data.splits import Split, save_split
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.properties import Property
from neural_polarization.settings import ConfigError, Source, build
from neural_polarization.training import experiment as fit_module
from neural_polarization.training.batches import BatchOrder
from neural_polarization.training.callbacks import Averaging, load_resume_file
from neural_polarization.training.config import ExperimentConfig, MachineConfig, ScheduleConfig
from neural_polarization.training.directory import RunDirectory
from neural_polarization.training.experiment import errors_of, fit
from neural_polarization.training.module import Learner
from neural_polarization.training.schedule import Schedule
from neural_polarization.training.task import prepare
from waters import experiment, interrupted, waters, write_experiment

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
    files = ["config.yaml", "metrics.csv", "model.safetensors", "result.json", "resume.ckpt"]
    assert sorted(path.name for path in run.iterdir()) == files
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


def test_what_is_saved_is_the_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, epochs=1, ema_decay=0.3)
    expected = [weight.detach().double() for weight in prepare(config).model.parameters()]
    take_in, steps = Averaging.on_train_batch_end, 0

    def by_hand(self: Averaging, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        nonlocal expected, steps
        steps += 1
        decay = min(0.3, (1 + steps) / (10 + steps))
        weights = [weight.detach().double() for weight in pl_module.model.parameters()]  # type: ignore[union-attr]
        expected = [decay * old + (1.0 - decay) * new for old, new in zip(expected, weights, strict=True)]
        take_in(self, trainer, pl_module, *arguments)

    monkeypatch.setattr(Averaging, "on_train_batch_end", by_hand)
    fit(config, quiet=True)
    saved, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert steps == 3
    for weight, average in zip(saved.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.detach().double(), average, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 4}, {"steps": 1, "validate_every": 2}])
def test_the_learning_rate_follows_the_schedule_to_the_end_of_the_training(
    tmp_path: Path, length: dict[str, int]
) -> None:
    fit(config_of(tmp_path, **length, learning_rate=0.008, schedule={"warmup_steps": 0, "final": 0.0}), quiet=True)
    rows = rows_of(tmp_path / "run")
    # Each of the two epochs has three steps, counted from zero: the last ones have done 2/6 and 5/6 of the cosine.
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.006, 0.004 * (1 - 0.75**0.5)])


@pytest.mark.parametrize(("clip", "longest"), [(0.0, np.inf), (0.5, 0.5), (1e12, 1e12)])
def test_gradients_are_clipped_by_their_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float, longest: float
) -> None:
    gradients: dict[str, list[torch.Tensor]] = {"computed": [], "used": []}

    def look(which: str) -> Callable[..., None]:
        def hook(self: Learner, *arguments: Any) -> None:
            parts = [weight.grad.flatten() for weight in self.model.parameters() if weight.grad is not None]
            gradients[which].append(torch.cat(parts).clone())

        return hook

    monkeypatch.setattr(Learner, "on_before_optimizer_step", look("computed"))
    monkeypatch.setattr(Learner, "on_train_batch_end", look("used"))
    config = config_of(tmp_path, epochs=1, gradient_clip=clip, losses={"energy": {"weight": 1e6}})
    fit(config, quiet=True)
    assert len(gradients["used"]) == 3
    for computed, used in zip(gradients["computed"], gradients["used"], strict=True):
        norm = float(computed.norm())
        assert 1e3 < norm < 1e12
        torch.testing.assert_close(used, computed * min(1.0, longest / norm), rtol=1e-4, atol=1e-9)


def test_a_validation_changes_no_step(tmp_path: Path) -> None:
    for every in (1, 2):
        fit(replace(config_of(tmp_path, epochs=2, validate_every=every), output=str(tmp_path / str(every))), quiet=True)
    often, rarely = rows_of(tmp_path / "1"), rows_of(tmp_path / "2")
    assert [row["training_loss"] for row in often] == [row["training_loss"] for row in rarely]
    assert often[1] == rarely[1]


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
    assert (run / "resume.ckpt").exists(), "for whoever trains on"


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
    with pytest.raises(ConfigError, match=r"training.batch_size: 8 -> 4.*--overwrite"):
        fit(config_of(tmp_path, epochs=2, batch_size=4), quiet=True)
    # What does not change the numbers may change.
    machine = {"accelerator": "cpu", "threads": 1}
    fit(config_of(tmp_path, epochs=1, machine=machine), quiet=True)
    assert len(rows_of(tmp_path / "run")) == 1
    fit(config_of(tmp_path, epochs=2), overwrite=True, quiet=True)
    assert len(rows_of(tmp_path / "run")) == 2


def test_a_finished_run_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a training of the new length that has done its first epochs with the schedule of the old one."""
    run = tmp_path / "run"
    fit(config_of(tmp_path, epochs=2), quiet=True)
    first = rows_of(run)
    with pytest.raises(
        FileExistsError, match=r"another configuration \(training.epochs: 2 -> 1\); train it on with more"
    ):
        fit(config_of(tmp_path, epochs=1), quiet=True)
    with pytest.raises(FileExistsError, match=r"training.seed: 0 -> 3"):
        fit(config_of(tmp_path, epochs=4, seed=3), quiet=True)
    assert RunDirectory(run).finished and rows_of(run) == first
    result = fit(config_of(tmp_path, epochs=4))
    told = capsys.readouterr().err
    assert f"training {run} on (training.epochs: 2 -> 4); the learning rate follows the cosine of the new" in told
    rows = rows_of(run)
    assert rows[:2] == first and [int(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert result["epochs"] == 4 and result["steps"] == 12
    schedule = Schedule(ScheduleConfig(), 12)
    assert [float(row["learning_rate"]) for row in rows[2:]] == pytest.approx([0.01 * schedule(k) for k in (8, 11)])
    said = float(told.partition("and is ")[2].split()[0])
    assert said == pytest.approx(0.01 * schedule(6), rel=1e-2)
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["epochs"] == 4
    with pytest.raises(FileExistsError, match=r"a finished run is there; train it on with more epochs"):
        fit(config_of(tmp_path, epochs=4), quiet=True)


def test_training_on_is_the_same_with_and_without_an_interruption(tmp_path: Path) -> None:
    for name in ("whole", "interrupted"):
        fit(replace(config_of(tmp_path, epochs=2, checkpoint_seconds=0), output=str(tmp_path / name)), quiet=True)
    longer = config_of(tmp_path, epochs=5, checkpoint_seconds=0)
    with interrupted(at_step=10):
        fit(replace(longer, output=str(tmp_path / "interrupted")), quiet=True)
    assert not RunDirectory(tmp_path / "interrupted").finished
    for name in ("whole", "interrupted"):
        fit(replace(longer, output=str(tmp_path / name)), quiet=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "interrupted")


def test_a_run_that_ended_early_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its validations without improvement are counted anew."""
    end = Learner.on_validation_epoch_end

    def worse(self: Learner) -> None:
        end(self)
        self.validation_loss = 1.0 + self.current_epoch

    monkeypatch.setattr(Learner, "on_validation_epoch_end", worse)
    assert fit(config_of(tmp_path, epochs=9, early_stopping=2), quiet=True)["epochs"] == 3
    assert fit(config_of(tmp_path, epochs=20, early_stopping=2), quiet=True)["epochs"] == 5


def test_a_finished_run_without_its_state_is_not_trained_on(tmp_path: Path) -> None:
    fit(config_of(tmp_path, epochs=1), quiet=True)
    (tmp_path / "run" / "resume.ckpt").unlink()
    with pytest.raises(
        FileExistsError, match=r"but not resume\.ckpt, .* begin a new run from its weights \(start_from: "
    ):
        fit(config_of(tmp_path, epochs=2), quiet=True)


def test_a_start_that_fails_costs_nothing(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    nowhere = replace(config, data=replace(config.data, path=str(tmp_path / "typo.npz")))
    with pytest.raises(FileNotFoundError, match=r"typo\.npz"):
        fit(nowhere, quiet=True)
    fit(config, quiet=True)  # the corrected command
    run = tmp_path / "run"
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for broken in (nowhere, config_of(tmp_path, epochs=1, batch_size=2, losses={"gap": {}})):
        with pytest.raises((FileNotFoundError, ValueError)):
            fit(broken, overwrite=True, quiet=True)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_that_ended_before_its_first_epoch_is_none(tmp_path: Path) -> None:
    with interrupted(at_step=0):
        fit(config_of(tmp_path, epochs=1), quiet=True)
    run = tmp_path / "run"
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml"]
    assert fit(config_of(tmp_path, epochs=2), quiet=True)["epochs"] == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["epochs"] == 2


def test_a_configuration_that_a_person_wrote_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    text = write_experiment(tmp_path, epochs=1).read_text()
    (tmp_path / "run" / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="give another `output`"):
        fit(config_of(tmp_path, epochs=2), quiet=True)
    assert (tmp_path / "run" / "config.yaml").read_text() == text


def test_a_run_of_another_process_is_not_overwritten(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    fit(config, quiet=True)
    directory = RunDirectory(tmp_path / "run")
    with directory.locked(), pytest.raises(RuntimeError, match="another process is training here"):
        fit(config, overwrite=True, quiet=True)
    assert directory.finished
    assert directory.model.is_file()


@pytest.mark.parametrize("overwrite", [False, True])
def test_further_processes_resume_what_the_first_one_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    config = config_of(tmp_path, epochs=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "resume.ckpt").write_bytes(b"the first process may be about to delete it")
    asked: list[bool] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(fit_module, "_prepare", lambda config, directory, resuming, quiet: asked.append(resuming))
    monkeypatch.setattr(fit_module, "_train", lambda session: {})
    assert fit(config, overwrite=overwrite) == {}
    assert asked == [not overwrite]


def test_two_processes_do_not_train_in_one_directory(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        assert directory.busy
        with pytest.raises(RuntimeError, match="another process is training here"):
            fit(config, quiet=True)
    assert not directory.busy
    fit(config, quiet=True)


def test_ctrl_c_is_an_interrupt_and_the_training_goes_on_later(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=3, checkpoint_seconds=0.0)
    handler = signal.getsignal(signal.SIGINT)

    with interrupted(at_step=4):
        fit(config, quiet=True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(rows_of(tmp_path / "run")) == 1
    double = config_of(tmp_path, epochs=3, machine={"accelerator": "cpu", "precision": "64"})
    with pytest.raises(ConfigError, match=r"training.machine.precision: 32 -> 64"):
        fit(double, quiet=True)
    assert fit(config, quiet=True)["epochs"] == 3


def test_somebody_elses_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"not empty \(thesis.tex\)"):
        fit(config_of(tmp_path, epochs=1), quiet=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_goes_on_with_the_batches_of_its_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    seen: list[int] = []
    batches = BatchOrder.__iter__

    def remember(order: BatchOrder) -> Iterator[NDArray[np.int64]]:
        if order.seed is not None:
            seen.append(order.epoch)
        yield from batches(order)

    monkeypatch.setattr(BatchOrder, "__iter__", remember)
    for epochs in (2, 4):
        machine = MachineConfig(num_workers=workers, accelerator="cpu")
        config = config_of(tmp_path, epochs=epochs)
        fit(replace(config, training=replace(config.training, machine=machine)), quiet=True)
    assert seen[-4:] == [0, 1, 2, 3]


def test_a_resume_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    fit(config, quiet=True)
    path = tmp_path / "run" / "resume.ckpt"
    assert load_resume_file(path)
    contents = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda member: member.file_size)
    contents[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(contents)
    with pytest.raises(
        ValueError, match=f"resume.ckpt: not a readable resume file .the checksum of {largest.filename}"
    ):
        load_resume_file(path)


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


@pytest.mark.parametrize(("patience", "epochs", "best"), [(0, 6, 6), (1, 2, 1), (2, 5, 3), (3, 6, 6)])
def test_patience_is_a_number_of_validations_without_improvement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int, epochs: int, best: int
) -> None:
    losses = iter([3.0, 4.0, 2.0, 2.5, 2.0, 1.0])
    monkeypatch.setattr(Learner, "on_validation_epoch_end", lambda self: setattr(self, "validation_loss", next(losses)))
    result = fit(config_of(tmp_path, epochs=6, early_stopping=patience), quiet=True)
    assert (result["epochs"], result["best_epoch"]) == (epochs, best)


def test_early_stopping_and_steps(tmp_path: Path) -> None:
    # With a learning rate of nearly nothing no validation is better than the first by chance for long.
    result = fit(config_of(tmp_path, epochs=500, early_stopping=2, learning_rate=1e-12, ema_decay=0.0), quiet=True)
    assert result["epochs"] < 20
    stepped = replace(config_of(tmp_path, steps=4), output=str(tmp_path / "stepped"))
    assert fit(stepped, quiet=True)["steps"] == 6  # whole epochs of three


def test_a_training_that_had_stopped_early_does_not_train_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(
        tmp_path, epochs=500, early_stopping=2, learning_rate=1e-12, ema_decay=0.0, checkpoint_seconds=0.0
    )
    whole = fit(replace(config, output=str(tmp_path / "whole")), quiet=True)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "neural_polarization.training.experiment._finish", killed
        )  # after the last epoch, before anything is written of it
        fit(config, quiet=True)
    assert (tmp_path / "run" / "resume.ckpt").exists()
    resumed = fit(config)
    assert "0 s gone, 0 s left" in capsys.readouterr().err
    assert resumed["epochs"] == whole["epochs"]
    assert resumed["best_epoch"] == whole["best_epoch"]
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


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

    def fake(
        model: Model, example: Molecules, slack: float, *_: object
    ) -> Callable[[Molecules], dict[str, torch.Tensor]]:
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
    monkeypatch.setattr("neural_polarization.training.compiled.require_compiler", lambda: None)
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


def test_a_head_on_labels_of_atoms(tmp_path: Path) -> None:
    data = waters()
    kinds = {**data.properties, "q": Property("q", "e", (), per_atom=True)}
    labels = {**data.labels, "q": np.zeros(len(data.molecules.positions))}
    write_packed(Dataset("waters", data.molecules, kinds, labels), tmp_path / "waters.npz")
    tree = experiment(tmp_path)
    tree["model"]["heads"]["q"] = {"kind": "extensive"}
    with pytest.raises(ValueError, match=r"model\.heads\.q\.kind: .*'q' has one label per atom.*another kind"):
        prepare(build(ExperimentConfig, tree, Source("test")))
    tree["model"]["heads"] |= {"q": {"kind": "atomic_charges"}, "energy": {"kind": "atomic_charges"}}
    with pytest.raises(ValueError, match=r"model\.heads\.energy\.kind: .* per atom, but 'energy' has .* per molecule"):
        prepare(build(ExperimentConfig, tree, Source("test")))


def test_charges_of_atoms_are_trained_on(tmp_path: Path) -> None:
    data = waters()
    kinds = {**data.properties, "q": Property("q", "e", (), per_atom=True)}
    charges = np.where(data.molecules.atomic_numbers == 8, -0.6, 0.3)
    write_packed(Dataset("waters", data.molecules, kinds, {**data.labels, "q": charges}), tmp_path / "waters.npz")
    tree = experiment(tmp_path)
    tree["model"]["heads"]["q"] = {"kind": "atomic_charges"}
    tree["training"]["epochs"] = 30
    result = fit(build(ExperimentConfig, tree, Source("test")), quiet=True)
    assert result["test"]["q"]["mae"] < 0.1


def test_forces_that_are_no_vectors_of_atoms(tmp_path: Path) -> None:
    data = waters()
    kinds = {**data.properties, "forces": Property("forces", "eV/Angstrom")}
    write_packed(
        Dataset("waters", data.molecules, kinds, {**data.labels, "forces": np.zeros(len(data))}),
        tmp_path / "waters.npz",
    )
    with pytest.raises(ValueError, match=r"data\.properties\.forces: expected one vector per atom.*per molecule"):
        prepare(config_of(tmp_path))


def relabelled(folder: Path, part: str, *names: str, value: float = np.nan) -> None:
    """Writes the data of `experiment` anew, with one label, by default none, for all of one part of its split."""
    indices = prepare(config_of(folder)).split.parts[part]
    data = waters()
    for name in names:
        rows = data.molecules.atoms_of(indices) if data.properties[name].per_atom else indices
        data.labels[name][rows] = value
    write_packed(data, folder / "waters.npz")


def with_dipole(folder: Path, **training: Any) -> ExperimentConfig:
    tree = experiment(folder, **training)
    tree["model"]["heads"]["dipole"] = {"kind": "dipole"}
    return build(ExperimentConfig, tree, Source("test"))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_scales_are_of_the_training_part(tmp_path: Path, part: str) -> None:
    task = prepare(with_dipole(tmp_path))
    relabelled(tmp_path, part, "energy", "forces", "dipole", value=1e6)
    again = prepare(with_dipole(tmp_path))
    assert float(again.dataset.labels_of(task.split.parts[part])["energy"].min()) == 1e6
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    forces = task.dataset.labels_of(task.split.train)["forces"]
    assert task.model.scale_of("forces") == pytest.approx(float(forces.square().nanmean().sqrt()))


def test_a_validation_part_without_labels(tmp_path: Path) -> None:
    relabelled(tmp_path, "validation", "energy", "forces")
    with pytest.raises(ValueError, match=r"data\.split: the validation part has no label of energy, forces.*another"):
        prepare(config_of(tmp_path))
    # A loss without weight chooses nothing either.
    with pytest.raises(ValueError, match="validation part has no label of energy"):
        prepare(with_dipole(tmp_path, losses={"dipole": {"weight": 0}}))
    with pytest.warns(UserWarning, match="no label of energy, forces; the best epoch is chosen without"):
        prepare(with_dipole(tmp_path))


def test_a_loss_that_is_asked_for_needs_labels_that_train(tmp_path: Path) -> None:
    tree = experiment(tmp_path, losses={"forces": {"weight": 0.95}})
    tree["data"]["properties"] = {"energy": {}}
    with pytest.raises(ValueError, match=r"training\.losses\.forces: has weight 0.95.*data\.properties\.forces"):
        prepare(build(ExperimentConfig, tree, Source("test")))
    relabelled(tmp_path, "train", "forces")
    with pytest.raises(ValueError, match=r"training\.losses\.forces: .* the training part has no label of it"):
        prepare(config_of(tmp_path, losses={"forces": {}}))


def test_energies_alone_train_a_model_of_forces(tmp_path: Path) -> None:
    tree = experiment(tmp_path, epochs=1)
    tree["data"]["properties"] = {"energy": {}}
    for losses in ({}, {"energy": {"weight": 2.0}}, {"forces": {"weight": 0.0}}):
        tree["training"]["losses"] = losses
        assert "forces" not in prepare(build(ExperimentConfig, tree, Source("test"))).dataset.properties
    assert set(fit(build(ExperimentConfig, tree, Source("test")), quiet=True)["test"]) == {"energy"}


@pytest.mark.parametrize(("charges", "warned"), [((0, 1), True), ((1, 1), False), ((0, 0), False)])
def test_charges_that_no_head_sees(tmp_path: Path, charges: tuple[int, int], warned: bool) -> None:
    data = waters()
    molecules = replace(data.molecules, charges=np.resize(np.array(charges, float), len(data)))
    write_packed(Dataset("waters", molecules, data.properties, data.labels), tmp_path / "waters.npz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(config_of(tmp_path))
    told = [str(warning.message) for warning in caught]
    assert len(told) == warned
    assert all("from +0 to +1, but the network and the heads of energy do not see the charge" in text for text in told)
    # What reads the charge may have several; and so may what does not train.
    prepare(with_dipole(tmp_path, losses={"energy": {"weight": 0}, "forces": {"weight": 0}}))


@pytest.mark.parametrize(("gpus", "message"), [(0, "finds no GPU here .*take 'cpu' or 'auto'"), (1, "but there are 1")])
def test_an_accelerator_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, message: str
) -> None:
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", lambda: gpus)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        fit(config_of(tmp_path, machine={"accelerator": "gpu", "devices": 2}), quiet=True)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_machine_that_the_trainer_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: Any) -> None:
        raise MisconfigurationException("one does not fit the other")

    with pytest.raises(ValueError, match=r"training\.machine: .*strategy ddpp and precision .*change one"):
        fit(config_of(tmp_path, machine={"accelerator": "cpu", "strategy": "ddpp"}), quiet=True)
    monkeypatch.setattr("lightning.Trainer", refuse)
    with pytest.raises(ValueError, match=r"training\.machine: accelerator cpu.*one does not fit the other.*change one"):
        fit(config_of(tmp_path), quiet=True)


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


def test_a_run_is_not_resumed_with_other_data(tmp_path: Path) -> None:
    """FAULTS 1.10: the file was replaced by another of the same name, and test molecules had been trained on."""
    config = config_of(tmp_path, epochs=2, checkpoint_seconds=0.0)
    with interrupted(at_step=4):
        fit(config, quiet=True)
    data = tmp_path / "waters.npz"
    before = data.read_bytes()
    write_packed(waters(seed=3), data)
    with pytest.raises(ConfigError, match=r"waters.npz has changed since this run was interrupted .*--overwrite"):
        fit(config, quiet=True)
    other = waters()
    other.labels["energy"][5] += 1e-6  # the same molecules with another label
    write_packed(other, data)
    with pytest.raises(ConfigError, match="has changed since this run was interrupted"):
        fit(config, quiet=True)
    data.write_bytes(before)
    assert fit(config, quiet=True)["epochs"] == 2


def test_a_cutoff_without_neighbours(tmp_path: Path) -> None:
    """A cutoff in nanometres: every atom would be alone, and the training would learn constants without a word."""
    tree = experiment(tmp_path, epochs=1)
    tree["model"]["backbone"]["cutoff"] = 0.5
    with pytest.raises(ValueError, match=r"cutoff: no two atoms of the training part are nearer than 0\.5 Ang"):
        fit(build(ExperimentConfig, tree, Source("test")), quiet=True)


def test_an_interrupted_run_is_not_continued_with_another_split(tmp_path: Path) -> None:
    """The split stands in a file of its own, under the same name: what trained until now would judge."""
    config, file = config_of(tmp_path, epochs=2, checkpoint_seconds=0.0), tmp_path / "split.json"
    split = SplitConfig("stored", path=str(file))
    config = replace(config, data=replace(config.data, split=split))
    numbers = np.arange(40)
    save_split(Split(numbers[:24], numbers[24:32], numbers[32:]), file)
    with interrupted(at_step=4):
        fit(config, quiet=True)
    before = file.read_bytes()
    save_split(Split(numbers[16:], numbers[8:16], numbers[:8]), file)
    with pytest.raises(ConfigError, match=r"the file of data.split.path has changed since .*--overwrite"):
        fit(config, quiet=True)
    file.write_bytes(before)
    assert fit(config, quiet=True)["epochs"] == 2


def test_an_interrupted_run_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    """Settings that did not exist then have their defaults, and its resume file does not say what it learned from."""
    config = config_of(tmp_path, epochs=2, checkpoint_seconds=0.0)
    with interrupted(at_step=4):
        fit(config, quiet=True)
    run = tmp_path / "run"
    tree = yaml.safe_load((run / "config.yaml").read_text())
    del tree["training"]["references"], tree["training"]["isolated_atoms"]
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    stored = torch.load(run / "resume.ckpt", weights_only=True)
    del stored["content_hash"], stored["files"]
    torch.save(stored, run / "resume.ckpt")
    assert fit(config, quiet=True)["epochs"] == 2


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    config, run = config_of(tmp_path, epochs=1), tmp_path / "run"
    with interrupted(at_step=1):
        fit(config, quiet=True)
    for name in (".model.safetensors.k3j2", ".config.yaml.x", ".result.json.y", "resume.new"):
        (run / name).write_bytes(b"half")
    (run / ".gitignore").write_text("mine")
    fit(config, quiet=True)
    assert sorted(path.name for path in run.iterdir()) == [
        ".gitignore", "config.yaml", "metrics.csv", "model.safetensors", "result.json", "resume.ckpt",
    ]  # fmt: skip


def test_what_was_learned_from_is_in_the_model(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1)
    result = fit(config, quiet=True)
    model, _ = load_model(tmp_path / "run")
    task = prepare(config)
    assert model.knowledge == task.model.knowledge
    knowledge = model.knowledge
    assert knowledge is not None
    assert knowledge.content_hash == result["content_hash"]
    dataset, train = task.dataset, task.split.train
    assert knowledge.structures == 24 and knowledge.largest_molecule == 3
    assert knowledge.elements == dict(zip("HO", dataset.composition(("H", "O"), train).sum(0).astype(int), strict=True))
    bonds = np.concatenate([dataset.structure(int(k)).get_all_distances()[0, 1:] for k in train])
    assert knowledge.contacts is not None and set(knowledge.contacts) == {"H-H", "H-O"} and knowledge.lone == ()
    assert knowledge.contacts["H-O"] == pytest.approx((bonds.min(), bonds.max()), rel=1e-12)
    assert knowledge.charges == (0.0,) and knowledge.periodic == (False,)
    energies = dataset.labels["energy"][train]
    assert knowledge.ranges["energy"] == pytest.approx((energies.min(), energies.max()), abs=1e-9)
