"""Costs of variants, and the size at which a plain network costs as much as a polarized one."""

import bisect
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from neural_polarization.data.dataset import Dataset
from neural_polarization.models import Model, ModelConfig
from neural_polarization.training.batches import BatchOrder
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.module import Learner

TOLERANCE = 0.03
"""Relative difference of times per step below which two depths count as equal, because of noise."""


def parameters(config: ExperimentConfig, elements: tuple[str, ...]) -> int:
    """Number of trained parameters of an experiment's model."""
    return sum(weight.numel() for weight in _model(config, elements).parameters())


def step_seconds(
    configs: Mapping[str, ExperimentConfig], training_set: Dataset, elements: tuple[str, ...], rounds: int = 7
) -> dict[str, float]:
    """Time of one training step of each experiment in seconds, measured in turns on the same machine.

    On a CPU this is the processor time of one thread, which other processes on the machine hardly change.

    Args:
        configs: Experiments by name.
        training_set: Molecules of the training set.
        elements: Chemical symbols of the models' elements.
        rounds: Number of steps of each experiment whose median is taken; one step before them does not count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = {name: _Step(config, training_set, elements) for name, config in configs.items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(rounds + 1):
            for name, step in steps.items():
                times[name].append(step(number))
        return {name: float(np.median(values[1:])) for name, values in times.items()}
    finally:
        torch.set_num_threads(threads)


def wider(config: ExperimentConfig, elements: tuple[str, ...], at_least: int) -> int:
    """The smallest number of channels with at least this many parameters and the same number of attention heads.

    A network with fewer heads would be a weaker one to compare with.
    """
    size = config.model.backbone.size
    heads = size.num_heads

    def enough(channels: int) -> bool:
        return parameters(_with_size(config, channels=channels), elements) >= at_least

    def alike(end: int) -> list[int]:
        widths = range(size.channels, end + 1, heads)
        return [channels for channels in widths if replace(size, channels=channels).num_heads == heads]

    end = size.channels
    while not enough(alike(end)[-1]):
        end *= 2
    widths = alike(end)
    return widths[bisect.bisect_left(widths, True, key=enough)]


def deeper(config: ExperimentConfig, like: ExperimentConfig, training_set: Dataset, elements: tuple[str, ...]) -> int:
    """The smallest number of layers whose steps take as long as those of another experiment."""
    first = config.model.backbone.size.num_layers
    times = step_seconds(
        {"first": config, "twice": _with_size(config, num_layers=2 * first), "like": like},
        training_set,
        elements,
        rounds=11,
    )
    per_layer = (times["twice"] - times["first"]) / first
    wanted = (1 - TOLERANCE) * times["like"]
    return max(first, int(np.ceil(first + (wanted - times["first"]) / per_layer)))


class _Step:
    """A timed training step outside of the trainer, always without compilation and without mixed precision."""

    def __init__(self, config: ExperimentConfig, training_set: Dataset, elements: tuple[str, ...]) -> None:
        training = config.training
        model = _model(config, elements)
        self._prepared = training_set.prepare(model.cutoff)
        self._batches = list(BatchOrder(len(self._prepared), training.batch_size, shuffle_seed=0))
        machine = training.machine
        self._gpu = machine.accelerator == "gpu" or (machine.accelerator == "auto" and torch.cuda.is_available())
        self._dtype = torch.float64 if machine.precision == "64" else torch.float32
        learner = Learner(model, training, total_steps=1)
        self._learner = learner.to("cuda" if self._gpu else "cpu", self._dtype).train()
        self._optimizer = self._learner.configure_optimizers()
        self._clip = training.gradient_clip

    def __call__(self, number: int) -> float:
        """Duration of one step in seconds."""
        started = self._clock()
        batch = self._prepared.batch(self._batches[number % len(self._batches)], self._dtype)
        batch = batch.to("cuda") if self._gpu else batch
        self._optimizer.zero_grad()
        self._learner.training_step(batch, 0).backward()
        if self._clip:
            torch.nn.utils.clip_grad_norm_(self._learner.parameters(), self._clip)
        self._optimizer.step()
        return self._clock() - started

    def _clock(self) -> float:
        if not self._gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def _model(config: ExperimentConfig, elements: tuple[str, ...]) -> Model:
    section = config.model
    torch.manual_seed(config.training.seed)
    return Model(ModelConfig(section.elements or elements, dict(section.heads), section.backbone, section.polarization))


def _with_size(
    config: ExperimentConfig, channels: int | None = None, num_layers: int | None = None
) -> ExperimentConfig:
    backbone = config.model.backbone.resolved()
    backbone = replace(backbone, channels=channels or backbone.channels, num_layers=num_layers or backbone.num_layers)
    return replace(config, model=replace(config.model, backbone=backbone))
