"""What an experiment is: typed, frozen, one YAML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.sources import DataConfig
from neural_polarization.models import HeadConfig, PolarizationConfig, check_head_names


@dataclass(frozen=True)
class ModelSection:
    """The model of an experiment; elements are those of the data unless they are given.

    Attributes:
        heads: how each property, by its name in the data, is predicted.
        backbone: the network.
        polarization: how it is polarized.
        elements: chemical symbols that the model is for; by default those that occur in the data.
    """

    heads: Mapping[str, HeadConfig]
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    polarization: PolarizationConfig = field(default_factory=PolarizationConfig)
    elements: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.heads:
            raise ValueError("heads: a model needs at least one, for instance energy: {kind: extensive}")
        check_head_names(self.heads)


@dataclass(frozen=True)
class LossConfig:
    """How the error of one property enters the loss.

    Attributes:
        weight: factor of its term; 0 leaves the property out of the loss.
        kind: mean of absolute errors, of squared ones, or of Huber's function, of errors in units of the
            property's scale in the training data.
        delta: where Huber's function turns from square to straight, in those units.
    """

    weight: float = 1.0
    kind: Literal["mae", "mse", "huber"] = "mse"
    delta: float = 1.0

    def __post_init__(self) -> None:
        _at_least(0, weight=self.weight)
        _positive(delta=self.delta)


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes.

    Attributes:
        warmup_steps: steps over which it rises linearly from zero.
        decay: "cosine" down to `final` at the last step, "plateau": times `factor` after `patience` validations
            without improvement, or "none".
        final: last learning rate of the cosine and lowest one of the plateau, as a fraction of the first.
        patience: validations without improvement.
        factor: of each reduction.
    """

    warmup_steps: int = 100
    decay: Literal["cosine", "plateau", "none"] = "cosine"
    final: float = 0.01
    patience: int = 10
    factor: float = 0.5

    def __post_init__(self) -> None:
        _at_least(0, warmup_steps=self.warmup_steps, patience=self.patience)
        if not 0 < self.factor < 1:
            raise ValueError(f"factor: {self.factor} must lie between 0 and 1")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final: {self.final} must lie between 0 and 1")


@dataclass(frozen=True)
class MachineConfig:
    """What the training runs on.

    Attributes:
        accelerator: "cpu", "gpu" or "auto".
        devices: processes (on CPU) or GPUs per node.
        nodes: number of nodes.
        strategy: one of Lightning's, for instance "ddp"; "auto" takes "ddp" for more than one device.
        precision: 32 or 64 bits, or mixed precision with "bf16" or "16" (on GPU).
        threads: of each process on CPU; one is best where several processes share a machine.
        num_workers: processes that prepare batches ahead; 0 is best where batches are cheap, as here.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: Literal["32", "64", "bf16", "16"] = "32"
    threads: int | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        _at_least(1, devices=self.devices, nodes=self.nodes, threads=1 if self.threads is None else self.threads)
        _at_least(0, num_workers=self.num_workers)
        if self.precision == "16" and self.accelerator == "cpu":
            raise ValueError("precision: '16' needs a GPU; take 'bf16' or '32' on a CPU")


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: passes over the training set.
        steps: number of optimizer steps instead of `epochs`, rounded up to whole epochs and to `validate_every`.
        batch_size: molecules per step, over all devices together.
        evaluation_batch_size: molecules per batch of validation and test.
        learning_rate: largest one, of AdamW.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        ema_decay: of the moving average of the weights, which is what is validated and saved; 0 averages nothing.
        early_stopping: validations without improvement after which training ends; 0 never ends early.
        validate_every: epochs between validations.
        checkpoint_seconds: least time between two resume files; one is written at the end of an epoch.
        losses: per property (and "forces"); what is not listed has `LossConfig()`. Forces that are not listed are
            left out where the data have none; any loss that is listed with a weight needs labels.
        schedule: of the learning rate.
        machine: what it runs on.
        seed: of initial weights and order of batches.
        compile: whether training steps run compiled: about twice as fast on a CPU, up to five times on a GPU, after
            a minute or more of compiling at the start; needs a C++ compiler, single or double precision, and one
            device.
        logger: "csv" (metrics.csv), or "tensorboard", which needs the extra of that name.
    """

    epochs: int = 100
    steps: int | None = None
    batch_size: int = 32
    evaluation_batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    gradient_clip: float = 10.0
    ema_decay: float = 0.99
    early_stopping: int = 0
    validate_every: int = 1
    checkpoint_seconds: float = 30.0
    losses: Mapping[str, LossConfig] = field(default_factory=dict[str, LossConfig])
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    seed: int = 0
    compile: bool = False
    logger: Literal["csv", "tensorboard"] = "csv"

    def __post_init__(self) -> None:
        _positive(
            epochs=self.epochs,
            steps=1 if self.steps is None else self.steps,
            batch_size=self.batch_size,
            evaluation_batch_size=self.evaluation_batch_size,
            validate_every=self.validate_every,
            learning_rate=self.learning_rate,
        )
        _at_least(
            0,
            weight_decay=self.weight_decay,
            gradient_clip=self.gradient_clip,
            early_stopping=self.early_stopping,
            checkpoint_seconds=self.checkpoint_seconds,
            seed=self.seed,
        )
        if self.compile and (self.machine.precision in ("bf16", "16") or self.machine.devices * self.machine.nodes > 1):
            raise ValueError(
                "compile: compiled steps need one device and precision 32 or 64; set compile to false, or change "
                "training.machine"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: {self.ema_decay} must lie in [0, 1)")


@dataclass(frozen=True)
class ExperimentConfig:
    """One training.

    Attributes:
        model: the network and its heads.
        data: what it learns from.
        training: how.
        name: shown in tables and file names.
        output: directory of the results; `runs/<name>` by default.
    """

    model: ModelSection
    data: DataConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    name: str = "experiment"
    output: str | None = None


def _positive(**values: int | float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:  # which NaN is not either
            raise ValueError(f"{name}: {value} is not positive, or not a finite number")


def _at_least(least: int, **values: int | float) -> None:
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number of at least {least}, got {value}")
