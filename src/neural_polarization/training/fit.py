"""`fit`: an experiment from its configuration to its result, resumable at any moment."""

import contextlib
import importlib.util
import logging
import os
import resource
import signal
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.open import make_split, open_dataset
from neural_polarization.data.properties import Property
from neural_polarization.data.splits import Split
from neural_polarization.data.units import factor
from neural_polarization.models import Model, ModelConfig
from neural_polarization.training.batches import BatchOrder, batch_loader, largest_batch
from neural_polarization.training.config import ExperimentConfig, MachineConfig
from neural_polarization.training.directory import RunDirectory, write_json
from neural_polarization.training.errors import Error, ErrorSums
from neural_polarization.training.losses import predicted_names
from neural_polarization.training.parsing import plain

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer


@dataclass(frozen=True)
class Task:
    """What an experiment learns, and the untrained model that learns it.

    Attributes:
        dataset: all of it.
        split: which part of it is for what.
        model: with references and scales from the training part.
        parts: "train", "validation" and "test", prepared for batches.
    """

    dataset: Dataset
    split: Split
    model: Model
    parts: Mapping[str, PreparedDataset]


def prepare(config: ExperimentConfig) -> Task:
    """Opens the data and builds the model.

    Raises:
        ValueError: for data that do not have what the heads need.
    """
    dataset = open_dataset(config.data)
    split = make_split(dataset, config.data.split)
    for name, part in split.parts.items():
        if name != "test" and len(part) == 0:
            raise ValueError(f"data.split: the {name} part is empty; give it at least one molecule")
    elements = config.model.elements or dataset.elements
    torch.manual_seed(config.training.seed)
    model = Model(ModelConfig(elements, dict(config.model.heads), config.model.backbone, config.model.polarization))
    _check_shapes(model, dataset)
    model.fit_scales(dataset.labels_of(split.train), torch.from_numpy(dataset.composition(elements, split.train)))
    parts = {name: dataset.subset(part).prepare(model.cutoff) for name, part in split.parts.items() if len(part)}
    return Task(dataset, split, model, parts)


def _check_shapes(model: Model, dataset: Dataset) -> None:
    for name, head in model.config.heads.items():
        kind = dataset.properties.get(name)
        if kind is not None and kind.shape != model.head(name).shape:
            raise ValueError(
                f"model.heads.{name}.kind: {head.kind!r} predicts values of shape {model.head(name).shape}, but the "
                f"labels of {name!r} have shape {kind.shape}; choose another kind"
            )


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
    import lightning

    from neural_polarization.training.callbacks import Averaging, History, KeepBest, Progress, Resume, load_resume_file
    from neural_polarization.training.module import Learner

    started = time.perf_counter()
    training, machine = config.training, config.training.machine
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    task = prepare(config)
    if machine.precision == "64":
        task.model.double()
    steps_per_epoch = -(-len(task.split.train) // training.batch_size)
    epochs = _epochs(config, steps_per_epoch)
    train, validation = task.parts["train"], task.parts["validation"]
    dtype = torch.float64 if machine.precision == "64" else torch.float32
    example = None
    if training.compile:
        order = BatchOrder(len(train), training.batch_size, training.seed)
        example = largest_batch(train, order, epochs, dtype)
    learner = Learner(task.model, training, epochs * steps_per_epoch, example)
    properties = task.dataset.properties
    units = {
        name: (factor(properties[name].unit), properties[name].unit)
        for name in predicted_names(task.model)
        if name in properties
    }
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
    with _without_chatter():
        trainer = lightning.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            num_nodes=machine.nodes,
            strategy=_strategy(machine),
            precision=_precision(machine),
            max_epochs=epochs,
            check_val_every_n_epoch=training.validate_every,
            gradient_clip_val=training.gradient_clip or None,
            callbacks=callbacks,
            logger=_logger(config, directory),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        share = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        with _interruptible(trainer):
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
        "peak_memory_MB": _peak_memory(),
        "units": {name: unit for name, (_, unit) in units.items()},
        **{part: in_units(of_part, properties) for part, of_part in errors.items()},
    }
    save({part: result[part] for part in errors})
    write_json(directory.result, result)
    directory.resume.unlink(missing_ok=True)
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
            predictions = model(batch.molecules)
        sizes = torch.bincount(batch.molecules.molecule_index, minlength=batch.molecules.num_molecules)
        sums.add(predictions, batch.labels, sizes)
    return sums.errors()


def in_units(errors: Mapping[str, Error], properties: Mapping[str, Property]) -> dict[str, dict[str, float | None]]:
    """Errors in the customary units of their properties, as plain values."""
    result: dict[str, dict[str, float | None]] = {}
    for name, error in errors.items():
        size = factor(properties[name].unit)
        per_atom = None if error.mae_per_atom is None else error.mae_per_atom / size
        result[name] = asdict(Error(error.mae / size, error.rmse / size, error.count, per_atom))
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


def _precision(machine: MachineConfig) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    match machine.precision:
        case "bf16":
            return "bf16-mixed"
        case "16":
            return "16-mixed"
        case "32" | "64":  # double precision is a property of the model and of the batches
            return "32-true"


def _strategy(machine: MachineConfig) -> Any:
    if machine.strategy != "auto":
        return machine.strategy
    if machine.devices * machine.nodes == 1:
        return "auto"
    # Some parameters have no gradient in some losses: with forces alone, the last bias of the energy.
    return "ddp_find_unused_parameters_true"


def _logger(config: ExperimentConfig, directory: RunDirectory) -> Any:
    if config.training.logger == "csv":
        return False
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            "training.logger: 'tensorboard' needs a package that is not installed; "
            "pip install 'neural-polarization[tensorboard]', or take logger: csv"
        )
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(str(directory.path), name="", version="tensorboard")


def _peak_memory() -> float:
    """Largest memory of this process so far, MB: on the GPU where one was used."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e6 if sys.platform == "darwin" else size / 1e3


@contextlib.contextmanager
def _interruptible(trainer: "Trainer") -> Generator[None]:
    """Ctrl-C remains what it is elsewhere: the trainer would end the whole process, and ignore the next one.

    Raises:
        KeyboardInterrupt: if the training was interrupted.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    if trainer.interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _without_chatter() -> Generator[None]:
    """Silences what the trainer says about itself; errors and other warnings pass."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            # Weights of one column have strides that no copy keeps; the message itself says it is no error.
            warnings.filterwarnings("ignore", message=".*Grad strides do not match.*")
            # The trainer's own use of something that torch has renamed.
            warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
