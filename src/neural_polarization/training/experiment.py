"""`fit`: an experiment from its configuration to its result, resumable at any moment."""

import os
import statistics
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.errors import DataError
from neural_polarization.files import write_json
from neural_polarization.metrics import Error, ErrorSums, in_units
from neural_polarization.models import Model
from neural_polarization.properties import DENSITY
from neural_polarization.settings import ConfigError, plain
from neural_polarization.training.batches import BatchOrder, batch_loader, largest_batch
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.densities import PERCENT, DensityErrors, density_errors
from neural_polarization.training.directory import RunDirectory
from neural_polarization.training.learned import changed_files, files_beside, fingerprint
from neural_polarization.training.summary import doubts, summary
from neural_polarization.training.task import Task, prepare
from neural_polarization.user_networks import module_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from torch.utils.data import DataLoader

    from neural_polarization.data.batching import Batch
    from neural_polarization.training.callbacks import History, KeepBest
    from neural_polarization.training.module import Learner


def fit(config: ExperimentConfig, overwrite: bool = False, quiet: bool = False, strict: bool = False) -> dict[str, Any]:
    """Trains a model as its configuration says, or goes on where a run of it ended.

    An interrupted run goes on as if nothing had happened. A run of fewer epochs, finished or not, goes on with the
    state of its optimizer; the learning rate is from there on that of a training of the new length.

    Args:
        config: the experiment.
        overwrite: whether a run in the same directory may be deleted.
        quiet: whether to show no progress.
        strict: whether doubts about the data are errors: what is warned of before the training, names that are not
            used, labels far outside of the others.

    Returns:
        Errors in customary units and costs, as in `result.json`.

    Raises:
        FileExistsError: if a finished run is there, and no more epochs are asked for.
        ConfigError: if an interrupted run with another configuration is there.
        DataError: if `strict` is set and there is a doubt.
        FloatingPointError: if the training diverges.
    """
    directory = RunDirectory(Path(config.output or Path("runs") / config.name))
    # The further processes of a distributed run find the directory as the first one has made it.
    if not _is_first_process():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first process has said it
            session = _prepare(config, directory, not overwrite and directory.resume.is_file(), quiet=True)
        _train(session)
        return {}
    with directory.locked():
        session = _prepare(config, directory, directory.resumable(config, overwrite), quiet, strict)
        # A start that fails, as for a file that is not there, must neither cost a former run nor pass for one.
        directory.begin(config, overwrite)
        return _train(session)


@dataclass(frozen=True)
class _Session:
    """All that a training needs; making it changes no file.

    Attributes:
        started: when it was begun, by the performance counter.
        config: the experiment.
        directory: where its files go.
        task: data, split and model.
        learner: the model in training.
        trainer: with its callbacks.
        loaders: batches that train, and batches that validate.
        best: keeps the best weights.
        history: keeps a row per epoch.
        resume: the file to go on from, if any.
    """

    started: float
    config: ExperimentConfig
    directory: RunDirectory
    task: Task
    learner: "Learner"
    trainer: "Trainer"
    loaders: "tuple[DataLoader[Batch], DataLoader[Batch]]"
    best: "KeepBest"
    history: "History"
    resume: Path | None


def _prepare(
    config: ExperimentConfig, directory: RunDirectory, resuming: bool, quiet: bool, strict: bool = False
) -> _Session:
    started = time.perf_counter()
    training, machine = config.training, config.training.machine
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    task = _prepare_strictly(config) if strict else prepare(config)
    # The trainer's library takes seconds to import: a mistake in the data is said before.
    from neural_polarization.training.callbacks import Averaging, History, KeepBest, Progress, Resume, load_resume_file
    from neural_polarization.training.compiled import require_compiler
    from neural_polarization.training.module import Learner
    from neural_polarization.training.trainer import check_machine, make_trainer, without_chatter

    check_machine(machine)
    if training.compile:
        require_compiler()
    if not quiet and not resuming:
        sys.stderr.write("".join(f"{line}\n" for line in task.taken_over))
    train, validation = task.parts["train"], task.parts["validation"]
    steps_per_epoch = -(-len(train) // training.batch_size)
    epochs = _epochs(config, steps_per_epoch)
    dtype = torch.float64 if machine.precision == "64" else torch.float32
    example = None
    if training.compile:
        order = BatchOrder(len(train), training.batch_size, training.seed)
        example = largest_batch(train, order, epochs, dtype)
    densities, files = _errors_of_densities(config, task), files_beside(config.data)
    learner = Learner(task.model, training, epochs * steps_per_epoch, example, densities, files)
    best, history = KeepBest(training.early_stopping, epochs), History(directory.metrics, task.units)
    callbacks: list[Callback] = [
        best,
        Averaging(training.ema_decay),
        history,
        *([] if quiet else [Progress(epochs, task.units)]),
        Resume(directory.resume, training.checkpoint_seconds, lambda: _save_best(config, task, best, directory, {})),
    ]
    epochs_done = 0
    if resuming:
        state = load_resume_file(directory.resume)
        epochs_done = int(state["epoch"]) + 1  # the file is written at the end of that epoch, within it
        _check_same_data(directory, state, task, files)
        if not quiet:
            sys.stderr.write(_resuming(config, directory, learner.schedule(int(state["global_step"]))))
    with without_chatter():
        trainer = make_trainer(config, directory, epochs, callbacks)
    if not quiet:
        sys.stderr.write(f"{summary(task, config, trainer.strategy.root_device)}\n")
        sys.stderr.flush()
    share = {"rank": trainer.global_rank, "world_size": trainer.world_size}
    order = BatchOrder(len(train), training.batch_size, training.seed, **share)
    order.set_epoch(epochs_done)  # the trainer does so only after its workers have begun with the first batches
    unshuffled = BatchOrder(len(validation), training.evaluation_batch_size, None, **share)
    return _Session(
        started=started,
        config=config,
        directory=directory,
        task=task,
        learner=learner,
        trainer=trainer,
        loaders=(batch_loader(train, order, dtype, machine.num_workers), batch_loader(validation, unshuffled, dtype)),
        best=best,
        history=history,
        resume=directory.resume if resuming else None,
    )


def _prepare_strictly(config: ExperimentConfig) -> Task:
    """The task, if there is nothing to warn of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        task = prepare(config)
    found = [str(one.message) for one in said if issubclass(one.category, UserWarning)] + doubts(task)
    if found:
        raise DataError(f"{'; '.join(found)} (with --strict, or strict=True, this is an error)")
    return task


def _check_same_data(directory: RunDirectory, resumed: Mapping[str, Any], task: Task, files: Mapping[str, str]) -> None:
    """Raises where the interrupted run learned from other data than there are now: its split would mean nothing."""
    changed = changed_files(resumed.get("files", {}), files)
    if changed:
        raise ConfigError(
            f"{directory.path}: the file of {' and of '.join(changed)} has changed since this run was interrupted, so "
            "that molecules of its test part may have trained; put the former file back, give another `output`, or "
            "--overwrite to begin anew"
        )
    knowledge = task.model.knowledge
    before = resumed.get("content_hash")  # runs of 0.1.0 did not write it
    if before and knowledge and before != knowledge.content_hash:
        raise ConfigError(
            f"{directory.path}: {task.dataset.name} has changed since this run was interrupted (contents "
            f"{before[:12]}, now {knowledge.content_hash[:12]}), so that molecules of its test part may have trained; "
            "put the former file back, give another `output`, or --overwrite to begin anew"
        )


def _resuming(config: ExperimentConfig, directory: RunDirectory, factor: float) -> str:
    """What is said of a run that is continued; `factor` is that of the schedule at its next step."""
    longer = directory.length_change(config)
    if not longer:
        return f"resuming {directory.path}\n"
    if config.training.schedule.decay != "cosine":
        return f"training {directory.path} on ({longer}); the learning rate goes on as it was\n"
    return (
        f"training {directory.path} on ({longer}); the learning rate follows the cosine of the new length, and is "
        f"{config.training.learning_rate * factor:.3g} at the next step\n"
    )


def _train(session: _Session) -> dict[str, Any]:
    from neural_polarization.training.trainer import interruptible, without_chatter

    trainer = session.trainer
    with without_chatter(), interruptible(trainer):
        trainer.fit(
            session.learner,
            *session.loaders,
            ckpt_path=None if session.resume is None else str(session.resume),
            weights_only=True,
        )
    if not trainer.is_global_zero:
        return {}
    if not session.best.weights:
        raise FloatingPointError(
            "no validation gave a finite loss: the training diverged; lower training.learning_rate"
        )
    return _finish(session)


def _finish(session: _Session) -> dict[str, Any]:
    """Writes the best model and the result; the resume file stays, for whoever trains on."""
    from neural_polarization.training.trainer import peak_memory

    config, directory, task = session.config, session.directory, session.task
    trainer, best = session.trainer, session.best
    _save_best(config, task, best, directory, {})
    model, _ = load_model(directory.model, [module_of(config.model.backbone.name)])
    device = session.learner.device if trainer.strategy.root_device.type == "cpu" else trainer.strategy.root_device
    errors = {
        name: errors_of(model.to(device), task.parts[name], config.training.evaluation_batch_size)
        for name in ("validation", "test")
        if name in task.parts
    }
    seconds = session.history.column("training_seconds")
    result: dict[str, Any] = {
        "name": config.name,
        "seed": config.training.seed,
        "parameters": sum(weight.numel() for weight in task.model.parameters()),
        "training_molecules": len(task.parts["train"]),
        "content_hash": fingerprint(task.dataset),
        "files": session.learner.files,
        "epochs": len(session.history.rows),
        "best_epoch": best.epoch,
        "steps": trainer.global_step,
        "training_seconds": sum(seconds),
        "seconds_per_step": statistics.median(seconds) / len(session.loaders[0]),
        "seconds_of_last_session": time.perf_counter() - session.started,
        "peak_memory_MB": peak_memory(),
        "units": {name: unit for name, (_, unit) in task.units.items()},
        **{part: _in_units(task, part, model, of_part) for part, of_part in errors.items()},
    }
    _save_best(config, task, best, directory, {part: result[part] for part in errors})
    write_json(directory.result, result)
    return result


def _errors_of_densities(config: ExperimentConfig, task: Task) -> "tuple[DensityErrors, DensityErrors] | None":
    """Errors of densities in the batches that train, at some points, and in those that validate, at all points."""
    if not task.densities:
        return None
    train, validation = (task.densities[part] for part in ("train", "validation"))
    return (
        DensityErrors(train, len(task.parts["train"]), config.training.density_points, config.training.seed),
        DensityErrors(validation, len(task.parts["validation"])),
    )


def _in_units(task: Task, part: str, model: Model, errors: Mapping[str, Error]) -> dict[str, dict[str, float | None]]:
    """Errors of a part in customary units, with that of the density where there is one."""
    result = in_units(errors, task.dataset.properties)
    if part in task.densities and len(task.densities[part]):
        of_density = density_errors(model, task.parts[part], task.densities[part]) / PERCENT
        mean, square = float(of_density.mean()), float((of_density**2).mean() ** 0.5)
        result[DENSITY] = asdict(Error(mean, square, len(of_density)))
    return result


def errors_of(
    model: Model, prepared: PreparedDataset, batch_size: int = 256, dtype: torch.dtype | None = None
) -> dict[str, Error]:
    """Errors of a model over prepared molecules, internal units.

    Args:
        model: on any device; its mode is left as it is.
        prepared: with labels.
        batch_size: molecules per batch.
        dtype: floating-point type of the input; that of the model's weights if left out.
    """
    sums = ErrorSums()
    weight = next(model.parameters())
    for indices in BatchOrder(len(prepared), batch_size):
        batch = prepared.batch(indices, dtype or weight.dtype).to(weight.device)
        with torch.no_grad():
            predictions = model(batch.molecules, stress=batch.has_stress)
        sizes = torch.bincount(batch.molecules.molecule_index, minlength=batch.molecules.num_molecules)
        sums.add(predictions, batch.labels, sizes)
    return sums.errors()


def _save_best(
    config: ExperimentConfig, task: Task, best: "KeepBest", directory: RunDirectory, metrics: Mapping[str, Any]
) -> None:
    """Writes the best model so far, if there is one."""
    if not best.weights:
        return
    model = Model(task.model.config)
    if next(task.model.parameters()).dtype == torch.float64:
        model.double()
    model.load_state_dict(best.weights)
    model.knowledge = task.model.knowledge
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
            "epoch": best.epoch,
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
