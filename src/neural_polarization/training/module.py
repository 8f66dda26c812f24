"""The Lightning module: one step, one validation, and the optimizer."""

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor

from neural_polarization.data.batching import Batch
from neural_polarization.metrics import Error, ErrorSums
from neural_polarization.models import Model
from neural_polarization.training.compiled import CompiledModel, compile_training
from neural_polarization.training.config import TrainingConfig
from neural_polarization.training.densities import DensityErrors
from neural_polarization.training.directions import in_one_direction
from neural_polarization.training.losses import Losses
from neural_polarization.training.schedule import Schedule


class Learner(lightning.LightningModule):
    """A model in training.

    Args:
        model: with its scales set.
        config: how it is trained.
        total_steps: number of steps of the whole training.
        densities: errors of densities in the batches that train, and in those that validate; None where the model has
            no density.
        example: the largest batch, and the fraction by which others may have more atoms, for a training that is to
            be compiled; None for one that is not.
        files: hashes of the files beside the data (`learned.files_beside`).

    Attributes:
        files: those hashes, which the resume file and the result keep.
        epoch_loss: mean training loss of the last epoch.
        validation_loss: of this epoch's validation, with the weights it was run with; NaN if there was none, or no
            label in it, so that nothing counts as the best of nothing.
        validation_errors: per property, internal units; empty if there was none.
    """

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        total_steps: int,
        example: tuple[Batch, float] | None = None,
        densities: tuple[DensityErrors, DensityErrors] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_config = config
        self.losses = Losses(config.losses, model)
        self.schedule = Schedule(config.schedule, total_steps)
        self.epoch_loss = float("nan")
        self.validation_loss = float("nan")
        self.validation_errors: dict[str, Error] = {}
        self._example = example
        self._densities = densities
        self.files = dict(files or {})
        self._compiled: CompiledModel | None = None
        self._loss_sum: Tensor | None = None
        self._loss_count = 0
        self._error_sums = ErrorSums()
        self._validation_sums: dict[str, tuple[Tensor, Tensor]] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over everything that is trained."""
        config = self.training_config
        # The fused optimizer takes a third of the time, but Lightning does not clip its gradients in mixed precision.
        fused = config.machine.precision in ("32", "64")
        return torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
        )

    @property
    def compiles(self) -> bool:
        """Whether the training step is compiled when the training starts."""
        return self._example is not None

    def on_train_start(self) -> None:
        """Compiles, now that the model is on its device."""
        if self._example is not None:
            batch, slack = self._example
            molecules = batch.molecules.to(self.device)
            stress, names = self.losses.needs_stress(batch), self._asked(batch.labels)
            self._compiled = compile_training(self.model.train(), molecules, slack, stress, names)

    def on_train_epoch_start(self) -> None:
        """Starts the mean of the loss; what there is of a validation is of this epoch or of none."""
        self.validation_loss, self.validation_errors = float("nan"), {}
        self._loss_sum, self._loss_count = None, 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Sets the learning rate of this step."""
        rate = self.training_config.learning_rate * self.schedule(self.global_step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        labels = batch.labels
        if self._compiled is not None:
            predictions = self._compiled(batch.molecules)
        elif self._densities is not None:
            needs_forces = self.losses.needs_forces(labels)
            predictions, labels = self._densities[0](self.model, batch, needs_forces, self.global_step)
        else:
            names = self._asked(labels)
            forces, stress = self.losses.needs_forces(labels), self.losses.needs_stress(batch)
            if names is not None and self.losses.in_one_direction:
                predictions, labels = in_one_direction(self.model, batch, names, forces, stress, self.global_step)
            else:
                predictions = self.model(batch.molecules, forces, names, stress)
        loss = self._total(self.losses.sums(predictions, labels))
        # Added up without a look at the value: on a GPU that would wait for it in every step.
        self._loss_sum = loss.detach() if self._loss_sum is None else self._loss_sum + loss.detach()
        self._loss_count += 1
        return loss

    def end_epoch(self) -> None:
        """Sets the mean loss of the epoch; callbacks are called before the module is, so the history asks for it.

        Raises:
            FloatingPointError: if it is not finite.
        """
        assert self._loss_sum is not None
        total = self._loss_sum.clone()
        if self._distributed():
            torch.distributed.all_reduce(total)
            total /= torch.distributed.get_world_size()
        self.epoch_loss = float(total) / self._loss_count
        if self.epoch_loss != self.epoch_loss or abs(self.epoch_loss) == float("inf"):
            raise FloatingPointError(
                f"the training loss is {self.epoch_loss} in epoch {self.current_epoch + 1}: the training diverged; "
                "lower training.learning_rate or training.gradient_clip, or look for broken labels"
            )

    def on_validation_epoch_start(self) -> None:
        """Starts the sums."""
        self._error_sums, self._validation_sums = ErrorSums(), {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds a batch to the sums; derivatives need the gradient here too, which the model sees to."""
        labels = batch.labels
        if self._densities is None:
            predictions = self.model(batch.molecules, stress=batch.has_stress)
        else:
            predictions, labels = self._densities[1](self.model, batch)
        for name, (loss, count) in self.losses.sums(predictions, labels).items():
            before = self._validation_sums.get(name)
            self._validation_sums[name] = (
                (loss.detach(), count) if before is None else (before[0] + loss.detach(), before[1] + count)
            )
        self._error_sums.add(predictions, labels)

    def on_validation_epoch_end(self) -> None:
        """Loss and errors over the whole validation set."""
        self._error_sums.reduce()
        self.validation_errors = self._error_sums.errors()
        sums = {name: torch.stack([s.double(), n.double()]) for name, (s, n) in self._validation_sums.items()}
        if self._distributed():
            for pair in sums.values():
                torch.distributed.all_reduce(pair)
        means = [float(s / n) for s, n in sums.values() if n > 0]
        if means:
            self.validation_loss = sum(means)
            self.schedule.validated(self.validation_loss)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """A batch moves as one."""
        return batch if device.type == "cpu" else batch.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the state of the schedule, and which data were learned from."""
        checkpoint["schedule"] = self.schedule.state()
        checkpoint["files"] = self.files
        if self.model.knowledge is not None:
            checkpoint["content_hash"] = self.model.knowledge.content_hash

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the state of the schedule."""
        self.schedule.restore(checkpoint["schedule"])

    def _asked(self, labels: Mapping[str, Tensor]) -> tuple[str, ...] | None:
        """What a step predicts; derivatives by a field take long, and a model with a response gives what has labels."""
        return self.losses.needed(labels) if self.model.sees_field else None

    def _distributed(self) -> bool:
        return torch.distributed.is_available() and torch.distributed.is_initialized()

    def _total(self, sums: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Sum of the means; over processes, of the labels of all of them, however unevenly they are spread."""
        counts = torch.stack([count for _, count in sums.values()])
        processes = 1
        if self._distributed():
            counts = counts.clone()
            torch.distributed.all_reduce(counts)
            processes = torch.distributed.get_world_size()
        weighted = torch.stack([total.double() for total, _ in sums.values()])
        return processes * (weighted / counts.clamp(min=1)).sum()
