"""What happens around the steps: averaged weights, the best model, the history, resume files, progress.

All state that a resumed run needs is in tensors and plain values, so that a resume file is read without running
any code from it.
"""

import csv
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from neural_polarization.text import duration
from neural_polarization.training.module import Learner

Row: TypeAlias = "dict[str, int | float]"
"""Numbers of an epoch, by column."""


class Averaging(Callback):
    """Exponential moving average of the weights, in place of the weights during validation.

    The average starts with a short memory that grows to the full one: decay = min(decay, (1 + n) / (10 + n)).

    Args:
        decay: per step; 0 averages nothing.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: list[Tensor] = []
        self._updates = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts from the initial weights, or from those of the resume file."""
        weights = [weight.detach() for weight in _learner(pl_module).model.parameters()]
        stored = self._average or weights
        self._average = [old.to(new.device, new.dtype).clone() for old, new in zip(stored, weights, strict=True)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes in the new weights."""
        if not self.decay:
            return
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        weights = [weight.detach() for weight in _learner(pl_module).model.parameters()]
        get_ema_multi_avg_fn(decay)(self._average, weights, self._updates)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the average in."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes it out again."""
        self._swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Average and number of updates."""
        return {"average": self._average, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._average, self._updates = list(state_dict["average"]), int(state_dict["updates"])

    def _swap(self, module: LightningModule) -> None:
        if not self.decay:
            return
        for weight, average in zip(_learner(module).model.parameters(), self._average, strict=True):
            weight.data, average.data = average.data, weight.data


class KeepBest(Callback):
    """Keeps the weights of the best validation, and stops when nothing has improved for long.

    Must stand before `Averaging` in the list of callbacks, so that the weights it sees are the averaged ones.

    Args:
        patience: validations without improvement after which training ends; 0 never ends it.
        epochs: of the whole training. A run that is continued with more epochs counts its validations anew, or one
            that had ended early would end at once.

    Attributes:
        weights: state of the model at the best validation.
        loss: its validation loss.
        epoch: its epoch, counted from one.
    """

    def __init__(self, patience: int, epochs: int = 0) -> None:
        self.patience, self.epochs = patience, epochs
        self.weights: dict[str, Tensor] = {}
        self.loss = float("inf")
        self.epoch = 0
        self._stale = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends a resumed training that had been ended already when its last resume file was written."""
        self._stop_if_stale(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares and keeps."""
        learner = _learner(pl_module)
        if learner.validation_loss < self.loss:
            self.loss, self.epoch, self._stale = learner.validation_loss, trainer.current_epoch + 1, 0
            self.weights = {name: value.detach().clone() for name, value in learner.model.state_dict().items()}
            return
        self._stale += 1
        self._stop_if_stale(trainer)

    def _stop_if_stale(self, trainer: Trainer) -> None:
        if self.patience and self._stale >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Weights and counters."""
        return {
            "weights": self.weights,
            "loss": self.loss,
            "epoch": self.epoch,
            "stale": self._stale,
            "of": self.epochs,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.weights = dict(state_dict["weights"])
        self.loss, self.epoch = state_dict["loss"], state_dict["epoch"]
        self._stale = state_dict["stale"] if state_dict.get("of", self.epochs) == self.epochs else 0


class History(Callback):
    """One row of numbers per epoch, in `metrics.csv` and in whatever logger the trainer has.

    Args:
        path: the CSV file.
        units: per predicted property, the factor from the internal unit and the customary unit's name.

    Attributes:
        rows: numbers of every epoch that was finished.
    """

    def __init__(self, path: Path, units: Mapping[str, tuple[float, str]]) -> None:
        self.path, self.units = path, units
        self.rows: list[Row] = []
        self._started = 0.0
        self._validation_time = 0.0
        self._validation_started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the file to the state of the resume file."""
        if trainer.is_global_zero:
            self.path.unlink(missing_ok=True)
            for row in self.rows:
                self._append(row)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._started, self._validation_time = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is not counted as training."""
        self._validation_started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is not counted as training."""
        self._validation_time += time.perf_counter() - self._validation_started

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the row of this epoch."""
        learner = _learner(pl_module)
        learner.end_epoch()
        row: Row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "training_loss": learner.epoch_loss,
            "validation_loss": learner.validation_loss,
            "training_seconds": time.perf_counter() - self._started - self._validation_time,
            "validation_seconds": self._validation_time,
        }
        for name, (factor, unit) in self.units.items():
            error = learner.validation_errors.get(name)
            row[f"validation_mae_{name} [{unit}]"] = float("nan") if error is None else error.mae / factor
        self.rows.append(row)
        if trainer.is_global_zero:
            self._append(row)
        if trainer.logger is not None:
            trainer.logger.log_metrics(row, step=trainer.global_step)

    def column(self, name: str) -> list[float]:
        """The values of a column, epoch by epoch."""
        return [float(row[name]) for row in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.rows = list(state_dict["rows"])

    def _append(self, row: Row) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            if new:
                writer.writeheader()
            # An empty cell where there was no validation.
            writer.writerow({key: "" if value != value else value for key, value in row.items()})


class Resume(Callback):
    """Writes the resume file at the end of epochs, complete or not at all. Must be the last callback.

    It is always written at the end of the last epoch, so that a finished run can be trained on.

    Args:
        path: the file.
        seconds: least time between two files.
        also: called after each file, to write what else should be on disk by then.
    """

    def __init__(self, path: Path, seconds: float, also: Callable[[], None]) -> None:
        self.path, self.interval, self._also = path, seconds, also
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes, if it is time."""
        # All processes have to take part in saving, so the first one decides for them.
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        due = trainer.strategy.broadcast(last or time.monotonic() - self._last >= self.interval)
        if not due:
            return
        temporary = self.path.with_suffix(".new")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)
            self._also()
        self._last = time.monotonic()


class Progress(Callback):
    """One line about where the training is and how long it will take.

    In a terminal the line is rewritten in place; in a file it is a new line every half minute.
    """

    def __init__(self, total_epochs: int, units: Mapping[str, tuple[float, str]]) -> None:
        self.total_epochs, self.units = total_epochs, units
        self._terminal = sys.stderr.isatty()
        self._interval = 0.5 if self._terminal else 30.0
        self._shown = 0.0
        self._started = 0.0
        self._first_step = 0
        self._text = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says why nothing happens for a while."""
        if trainer.is_global_zero and _learner(pl_module).compiles:
            sys.stderr.write("compiling the training step, which takes a minute or more ...\n")
            sys.stderr.flush()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock with the first epoch: compiling comes before it, and says nothing about the steps."""
        if not self._started:
            self._started = self._shown = time.monotonic()
            self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shows the line, if it is time."""
        now = time.monotonic()
        if now - self._shown < self._interval or not trainer.is_global_zero:
            return
        self._shown = now
        self._show(trainer, "\r\x1b[K" if self._terminal else "", "" if self._terminal else "\n")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the errors of the last validation."""
        learner = _learner(pl_module)
        if not learner.validation_errors:
            return
        errors = [
            f"{name} {error.mae / self.units[name][0]:.4g} {self.units[name][1]}"
            for name, error in learner.validation_errors.items()
        ]
        more = f", {len(errors) - 3} more" if len(errors) > 3 else ""
        self._text = f"loss {learner.epoch_loss:.3g}, validation MAE {', '.join(errors[:3])}{more}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows how it ended."""
        if trainer.is_global_zero:
            self._show(trainer, "\r\x1b[K" if self._terminal else "", "\n")

    def _show(self, trainer: Trainer, before: str, after: str) -> None:
        total = self.total_epochs * int(trainer.num_training_batches)
        done = trainer.global_step
        elapsed = time.monotonic() - self._started if self._started else 0.0  # no epoch was left to train
        left = (total - done) * elapsed / max(done - self._first_step, 1)
        epoch = min(trainer.current_epoch + 1, self.total_epochs)
        line = f"epoch {epoch}/{self.total_epochs} ({100 * done / max(total, 1):.0f} %)  {self._text}"
        sys.stderr.write(f"{before}{line}  {duration(elapsed)} gone, {duration(left)} left{after}")
        sys.stderr.flush()


def _learner(module: LightningModule) -> Learner:
    assert isinstance(module, Learner)
    return module


def load_resume_file(path: Path) -> dict[str, Any]:
    """The contents of a resume file: tensors and plain values only.

    Raises:
        ValueError: if it is damaged or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as file:  # torch does not look at the checksums
            damaged = file.testzip()
        if damaged:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have errors of their own
        raise ValueError(
            f"{path}: not a readable resume file ({error}); delete it to start from the beginning"
        ) from None
