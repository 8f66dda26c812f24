"""Lightning's trainer as an experiment wants it: quiet, interruptible, on the machine that was asked for."""

import contextlib
import importlib.util
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Generator
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from neural_polarization.training.config import ExperimentConfig, MachineConfig
from neural_polarization.training.directory import RunDirectory


def make_trainer(config: ExperimentConfig, directory: RunDirectory, epochs: int, callbacks: list[Callback]) -> Trainer:
    """A trainer without anything that costs time in every step.

    Raises:
        ModuleNotFoundError: for TensorBoard where it is not installed.
        ValueError: for a machine that the trainer's library does not accept.
    """
    machine = config.training.machine
    try:
        return _trainer(config, directory, epochs, callbacks)
    except (MisconfigurationException, ValueError) as error:  # the latter for a strategy that it does not know
        raise ValueError(
            f"training.machine: accelerator {machine.accelerator}, devices {machine.devices}, strategy "
            f"{machine.strategy} and precision {machine.precision} do not go together here ({error}); change one"
        ) from None


def check_machine(machine: MachineConfig) -> None:
    """Makes sure that the devices of this machine are there, before any work is done for them.

    Raises:
        ValueError: if there is no GPU, or there are fewer than asked for.
    """
    if machine.accelerator != "gpu" and machine.precision != "16":
        return  # without a look for GPUs that nobody needs
    found = max(CUDAAccelerator.auto_device_count(), int(MPSAccelerator.is_available()))
    if machine.precision == "16" and found == 0:
        raise ValueError("training.machine.precision: '16' needs a GPU, and there is none here; take 'bf16' or '32'")
    if machine.accelerator != "gpu":
        return
    if found == 0:
        built = torch.version.cuda is not None or torch.version.hip is not None
        why = "none is visible" if built else "this PyTorch was built without support for one"
        raise ValueError(
            f"training.machine.accelerator: 'gpu' is asked for, but PyTorch finds no GPU here ({why}); take 'cpu' or "
            "'auto', or install the PyTorch that fits the GPU and its driver"
        )
    if found < machine.devices:
        raise ValueError(
            f"training.machine.devices: {machine.devices} GPUs are asked for, but there are {found} here; take at most "
            "as many"
        )


def _trainer(config: ExperimentConfig, directory: RunDirectory, epochs: int, callbacks: list[Callback]) -> Trainer:
    training, machine = config.training, config.training.machine
    return lightning.Trainer(
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


def peak_memory() -> float:
    """Largest memory of this process so far, MB: on the GPU where one was used; NaN where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    if sys.platform == "win32":
        return float("nan")
    import resource  # of Unix alone

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e6 if sys.platform == "darwin" else size / 1e3


@contextlib.contextmanager
def interruptible(trainer: Trainer) -> Generator[None]:
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
def without_chatter() -> Generator[None]:
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
