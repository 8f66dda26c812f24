"""The loss: weighted errors of the labels that exist, in units of their scales."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from neural_polarization.data.batching import Batch
from neural_polarization.models import Model
from neural_polarization.predictor import predicted_names
from neural_polarization.properties import DENSITY, FORCES, STRESS
from neural_polarization.training.config import LossConfig
from neural_polarization.training.densities import PERCENT


def _absolute(errors: Tensor, delta: float) -> Tensor:
    return errors.abs()


def _squared(errors: Tensor, delta: float) -> Tensor:
    return errors.square()


def _huber(errors: Tensor, delta: float) -> Tensor:
    return nn.functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=delta)


KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {"mae": _absolute, "mse": _squared, "huber": _huber}
"""Every kind of loss by its name."""


class Losses:
    """sum over properties of weight * mean(kind((prediction - label) / scale)) over the labels that exist.

    Args:
        settings: per property; what is not listed has the default.
        model: its heads and scales are taken.

    Raises:
        ValueError: for settings of something that the model does not predict, or if every weight is zero.
    """

    def __init__(self, settings: Mapping[str, LossConfig], model: Model) -> None:
        names = (*predicted_names(model), *([] if model.density_head is None else [DENSITY]))
        for name in settings:
            if name not in names:
                raise ValueError(
                    f"training.losses: {name!r} is not predicted by this model (it predicts {', '.join(names)}); "
                    "remove it or add a head"
                )
        default = {DENSITY: LossConfig(kind="mae")}
        if STRESS not in settings and (model.knowledge is None or model.knowledge.stress is None):
            default[STRESS] = LossConfig(weight=0.0)  # the training has no label of it
        chosen = {name: settings.get(name, default.get(name, LossConfig())) for name in names}
        self.settings = {name: loss for name, loss in chosen.items() if loss.weight > 0}
        self._predictions = dict(model.predictions)
        self._in_one_direction = [name for name, loss in self.settings.items() if loss.directions == "one"]
        for name in self._in_one_direction:
            if not model.sees_field or name != model.config.field_names.polarizability:
                raise ValueError(
                    f"training.losses.{name}.directions: only the polarizability of a model with a response is "
                    "compared in one direction; set directions to 'all'"
                )
        self.scales = {name: PERCENT if name == DENSITY else model.scale_of(name) for name in self.settings}
        if not self.settings:
            raise ValueError("training.losses: every weight is zero; give one property a positive weight")

    def needs_forces(self, labels: Mapping[str, Tensor]) -> bool:
        """Whether forces have to be predicted for the loss of these labels."""
        return FORCES in self.settings and FORCES in labels

    def needs_stress(self, batch: Batch) -> bool:
        """Whether stresses have to be predicted for the loss of this batch."""
        return STRESS in self.settings and batch.has_stress

    def needed(self, labels: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Properties, derivatives aside, that have to be predicted for the loss of these labels."""
        derived = {FORCES, STRESS} & self.settings.keys() & labels.keys()
        energies = [name for name, kind in self._predictions.items() if kind.forces and derived]
        return tuple(
            name for name in self._predictions if name in energies or (name in self.settings and name in labels)
        )

    @property
    def in_one_direction(self) -> bool:
        """Whether a step compares the polarizability in one direction (`directions`), and not all of it."""
        return bool(self._in_one_direction)

    def sums(self, predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Per property, the weighted sum over the labels that exist and their number."""
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        for name, loss in self.settings.items():
            if name not in labels or name not in predictions:
                continue
            label = labels[name].to(predictions[name].dtype)
            known = ~label.isnan()
            # Where instead of an index keeps the shapes, and zeroes gradients of what is not known. A molecule has no
            # stress: it is left out before the difference, in which it would be NaN.
            errors = torch.where(known, predictions[name], 0.0) - torch.where(known, label, 0.0)
            values = KINDS[loss.kind](errors / self.scales[name], loss.delta)
            sums[name] = (loss.weight * values.sum(), known.sum())
        return sums
