"""Costs of variants, and the size at which a plain network costs as much as a polarized one."""

import bisect
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.density_points import DensityPoints
from neural_polarization.models import Model
from neural_polarization.training.batches import BatchOrder
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.densities import DensityErrors
from neural_polarization.training.module import Learner

TOLERANCE = 0.03
"""Relative difference of times per step below which two depths count as equal, because of noise."""

_CORRECTIONS = 4
"""How often a depth is measured anew that was guessed wrongly."""


def parameters(config: ExperimentConfig, elements: tuple[str, ...]) -> int:
    """Number of trained parameters of an experiment's model."""
    return sum(weight.numel() for weight in _model(config, elements).parameters())


def step_seconds(
    configs: Mapping[str, ExperimentConfig],
    training_set: Dataset,
    elements: tuple[str, ...],
    densities: DensityPoints | None = None,
    rounds: int = 7,
) -> dict[str, float]:
    """Time of one training step of each experiment in seconds, measured in turns on the same machine.

    On the CPU this is the processor time of one thread. Other processes still disturb it, by caches and clocks, but all
    experiments of a round alike: what counts is the median over rounds of the time over that of the first experiment in
    the same round.

    Args:
        configs: Experiments by name.
        training_set: Molecules of the training set.
        elements: Chemical symbols of the models' elements.
        densities: Reference densities of the training set, for models that predict densities.
        rounds: Number of steps of each experiment that count; one step before them does not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = {name: _Step(config, training_set, elements, densities) for name, config in configs.items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(rounds + 1):
            for name, step in steps.items():
                times[name].append(step(number))
        return in_turns({name: values[1:] for name, values in times.items()})
    finally:
        torch.set_num_threads(threads)


def in_turns(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Times that can be compared, from measurements in rounds: median ratios to the first, times its median.

    Example:
        >>> in_turns({"plain": [1.0, 4.0, 1.0], "wider": [2.0, 8.0, 9.0]})  # the machine was busy in the second round
        {'plain': 1.0, 'wider': 2.0}
    """
    reference = np.array(next(iter(times.values())))
    return {
        name: float(np.median(np.array(values) / reference) * np.median(reference)) for name, values in times.items()
    }


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


def deeper(
    config: ExperimentConfig,
    like: ExperimentConfig,
    training_set: Dataset,
    elements: tuple[str, ...],
    densities: DensityPoints | None = None,
) -> int:
    """The smallest number of layers whose steps take as long as those of another experiment.

    Two depths give a first guess; it and its neighbours are then measured in turns with the other experiment, so that
    the load of the machine does not choose.

    Raises:
        ValueError: where more layers took no longer.
    """
    first = config.model.backbone.size.num_layers

    def measured(depths: Iterable[int], rounds: int) -> dict[int, float]:
        """Times of these depths in units of the other experiment's."""
        experiments = {"like": like, **{str(depth): _with_size(config, num_layers=depth) for depth in depths}}
        times = step_seconds(experiments, training_set, elements, densities, rounds)
        return {int(name): seconds / times["like"] for name, seconds in times.items() if name != "like"}

    wanted = 1 - TOLERANCE
    guess = measured((first, 2 * first), rounds=7)
    per_layer = (guess[2 * first] - guess[first]) / first
    if per_layer <= 0:
        raise ValueError(
            f"match: {2 * first} layers took no longer than {first}, so that no depth can be found by its time; the "
            "machine is too busy: run again, or match parameters"
        )
    depth = max(first, math.ceil(first + (wanted - guess[first]) / per_layer))
    for _ in range(_CORRECTIONS):
        found = measured(range(max(first, depth - 1), depth + 2), rounds=11)
        enough = [one for one, time_of_one in found.items() if time_of_one >= wanted]
        if enough and (min(enough) > min(found) or min(enough) == first):
            return min(enough)
        depth = max(first, depth - 2) if enough else depth + 2  # the answer lies beyond the depths that were measured
    return depth


class _Step:
    """A timed training step outside of the trainer, always without compilation and without mixed precision."""

    def __init__(
        self,
        config: ExperimentConfig,
        training_set: Dataset,
        elements: tuple[str, ...],
        densities: DensityPoints | None,
    ) -> None:
        training = config.training
        model = _model(config, elements)
        self._prepared = training_set.prepare(model.cutoff)
        self._batches = list(BatchOrder(len(self._prepared), training.batch_size, shuffle_seed=0))
        machine = training.machine
        self._gpu = machine.accelerator == "gpu" or (machine.accelerator == "auto" and torch.cuda.is_available())
        self._dtype = torch.float64 if machine.precision == "64" else torch.float32
        errors = None
        if densities is not None and model.density_head is not None:
            errors = DensityErrors(densities, len(training_set), training.density_points, training.seed)
        learner = Learner(model, training, total_steps=1, densities=None if errors is None else (errors, errors))
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
    torch.manual_seed(config.training.seed)
    return Model(config.model.config(elements))


def _with_size(
    config: ExperimentConfig, channels: int | None = None, num_layers: int | None = None
) -> ExperimentConfig:
    backbone = config.model.backbone.resolved()
    backbone = replace(backbone, channels=channels or backbone.channels, num_layers=num_layers or backbone.num_layers)
    return replace(config, model=replace(config.model, backbone=backbone))
