"""`fit`: an experiment from its configuration to its result, resumable at any moment."""

import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.models import Model
from neural_polarization.training.batches import BatchOrder, batch_loader, largest_batch
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.directory import RunDirectory, write_json
from neural_polarization.training.errors import errors_of, in_units
from neural_polarization.training.parsing import plain
from neural_polarization.training.task import Task, prepare

if TYPE_CHECKING:
    from lightning.pytorch import Callback


def fit(config: ExperimentConfig, overwrite: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Trains a model as its configuration says, or goes on where an interrupted run of it ended.

    Args:
        config: the experiment.
        overwrite: whether a run in the same directory may be lost.
        quiet: whether to show no progress.

    Returns:
        Errors in customary units and costs, as in `result.json`.

    Raises:
        FileExistsError: if a finished run is there.
        ConfigError: if an interrupted run with another configuration is there.
        FloatingPointError: if the training diverges.
    """
    directory = RunDirectory(Path(config.output or Path("runs") / config.name))
    # The further processes of a distributed run find the directory as the first one has made it.
    if not _is_first_process():
        _run(config, directory, directory.resume.is_file(), quiet=True)
        return {}
    with directory.locked():
        resuming = directory.begin(config, overwrite)
        return _run(config, directory, resuming, quiet)


def _run(config: ExperimentConfig, directory: RunDirectory, resuming: bool, quiet: bool) -> dict[str, Any]:
    # The trainer's library takes seconds to import, which `prepare` alone does without.
    from neural_polarization.training.callbacks import Averaging, History, KeepBest, Progress, Resume, load_resume_file
    from neural_polarization.training.module import Learner
    from neural_polarization.training.trainer import interruptible, make_trainer, peak_memory, without_chatter

    started = time.perf_counter()
    training, machine = config.training, config.training.machine
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    task = prepare(config)
    steps_per_epoch = -(-len(task.split.train) // training.batch_size)
    epochs = _epochs(config, steps_per_epoch)
    train, validation = task.parts["train"], task.parts["validation"]
    dtype = torch.float64 if machine.precision == "64" else torch.float32
    example = None
    if training.compile:
        order = BatchOrder(len(train), training.batch_size, training.seed)
        example = largest_batch(train, order, epochs, dtype)
    learner = Learner(task.model, training, epochs * steps_per_epoch, example)
    units = task.units
    best, history = KeepBest(training.early_stopping), History(directory.metrics, units)

    def save(extra: Mapping[str, Any]) -> None:
        if best.weights:
            _save_best(config, task, learner, best.weights, best.epoch, directory, extra)

    callbacks: list[Callback] = [
        best,
        Averaging(training.ema_decay),
        history,
        *([] if quiet else [Progress(epochs, units)]),
        Resume(directory.resume, training.checkpoint_seconds, lambda: save({})),
    ]
    if resuming:
        load_resume_file(directory.resume)
        if not quiet:
            sys.stderr.write(f"resuming {directory.path}\n")
    with without_chatter():
        trainer = make_trainer(config, directory, epochs, callbacks)
        share = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        with interruptible(trainer):
            trainer.fit(
                learner,
                batch_loader(
                    train,
                    BatchOrder(len(train), training.batch_size, training.seed, **share),
                    dtype,
                    machine.num_workers,
                ),
                batch_loader(
                    validation, BatchOrder(len(validation), training.evaluation_batch_size, None, **share), dtype
                ),
                ckpt_path=str(directory.resume) if resuming else None,
                weights_only=True,
            )
    if not trainer.is_global_zero:
        return {}
    if not best.weights:
        raise FloatingPointError(
            "no validation gave a finite loss: the training diverged; lower training.learning_rate"
        )
    save({})
    model, _ = load_model(directory.model)
    device = learner.device if trainer.strategy.root_device.type == "cpu" else trainer.strategy.root_device
    errors = {
        name: errors_of(model.to(device), task.parts[name], training.evaluation_batch_size)
        for name in ("validation", "test")
        if name in task.parts
    }
    seconds = history.column("training_seconds")
    result: dict[str, Any] = {
        "name": config.name,
        "seed": training.seed,
        "parameters": sum(weight.numel() for weight in task.model.parameters()),
        "training_molecules": len(train),
        "epochs": len(history.rows),
        "best_epoch": best.epoch,
        "steps": trainer.global_step,
        "training_seconds": sum(seconds),
        "seconds_per_step": statistics.median(seconds) / steps_per_epoch,
        "seconds_of_last_session": time.perf_counter() - started,
        "peak_memory_MB": peak_memory(),
        "units": {name: unit for name, (_, unit) in units.items()},
        **{part: in_units(of_part, task.dataset.properties) for part, of_part in errors.items()},
    }
    save({part: result[part] for part in errors})
    write_json(directory.result, result)
    directory.resume.unlink(missing_ok=True)
    return result


def _save_best(
    config: ExperimentConfig,
    task: Task,
    learner: Any,
    weights: Mapping[str, torch.Tensor],
    epoch: int,
    directory: RunDirectory,
    metrics: Mapping[str, Any],
) -> None:
    model = Model(task.model.config)
    if next(task.model.parameters()).dtype == torch.float64:
        model.double()
    model.load_state_dict(weights)
    save_model(
        model,
        directory.model,
        metadata={
            "name": config.name,
            "data": plain(config.data),
            "dataset": {"name": task.dataset.name, "content_hash": task.dataset.content_hash},
            "properties": plain(task.dataset.properties),
            "training": plain(config.training),
            "split_by": task.split.by,
            "epoch": epoch,
            "metrics": dict(metrics),
        },
        tensors={f"split.{name}": torch.from_numpy(part) for name, part in task.split.parts.items()},
    )


def _epochs(config: ExperimentConfig, steps_per_epoch: int) -> int:
    training = config.training
    every = training.validate_every
    if training.steps is None:
        if training.epochs % every:
            raise ValueError(
                f"training.epochs: {training.epochs} is no multiple of validate_every ({every}), so the last epochs "
                f"would not be validated; take {training.epochs - training.epochs % every + every}"
            )
        return training.epochs
    epochs = -(-training.steps // steps_per_epoch)
    return -(-epochs // every) * every


def _is_first_process() -> bool:
    """Whether this is the process that writes files, as the launchers of distributed runs tell it."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
