"""What an experiment is: typed, frozen, one YAML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ase.data import chemical_symbols

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.sources import DataConfig
from neural_polarization.electronic import ElectronicInput
from neural_polarization.heads.density import DensityConfig
from neural_polarization.model_config import HeadConfig, ModelConfig, PolarizationConfig, check_head_names
from neural_polarization.response import Response
from neural_polarization.units import factor


@dataclass(frozen=True)
class ModelSection:
    """The model of an experiment; elements are those of the data unless they are given.

    Attributes:
        heads: How each property is predicted, by the name of the property in the data.
        backbone: The network that is polarized.
        polarization: How the network is polarized.
        elements: Chemical symbols of the elements that the model is for. Left out: those that occur in the data.
        density: How the electron density is predicted; training it needs `data.densities`. Left out: no density.
        response: How the model responds to an electric field: "none" refuses fields; "quadratic" takes E - F.mu - 1/2
            F.alpha.F; with "push" the field also displaces the moving points; "push_dual" is the same with the energy
            from points without a field. It needs an energy with forces, a dipole and a polarizability.
        electronic: Additional inputs of the network: "none"; "charge", the total charge; "spin", the number of unpaired
            electrons, or the lowest that is possible if it is not given; or "charge_and_spin".
    """

    heads: Mapping[str, HeadConfig] = field(default_factory=dict[str, HeadConfig])
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    polarization: PolarizationConfig = field(default_factory=PolarizationConfig)
    elements: tuple[str, ...] | None = None
    density: DensityConfig | None = None
    response: Response = Response.NONE
    electronic: ElectronicInput = ElectronicInput.NONE

    def __post_init__(self) -> None:
        if not self.heads and self.density is None:
            raise ValueError("heads: a model needs at least one, for instance energy: {kind: extensive}")
        check_head_names(self.heads)

    def config(self, elements: tuple[str, ...]) -> ModelConfig:
        """What the model is made of, with the elements of the data where no others are given."""
        return ModelConfig(
            self.elements or elements,
            dict(self.heads),
            self.backbone,
            self.polarization,
            self.response,
            self.density,
            self.electronic,
        )


@dataclass(frozen=True)
class LossConfig:
    """How the error of one property enters the loss.

    Attributes:
        weight: Factor of this property's term in the loss. 0 leaves the property out of the loss.
        kind: Function of the errors that is averaged: "mse" squares them, "mae" takes their absolute values, "huber"
            squares small ones only. Errors count in units of the property's spread in the training data.
        delta: Error, in the same units, above which the "huber" function is linear instead of quadratic.
        directions: How much of the polarizability of a model with a response is compared: "all" of it, or in "one"
            random direction per structure and step, which takes less time and has the same mean. "one" needs kind
            "mse".
    """

    weight: float = 1.0
    kind: Literal["mae", "mse", "huber"] = "mse"
    delta: float = 1.0
    directions: Literal["all", "one"] = "all"

    def __post_init__(self) -> None:
        _at_least(0, weight=self.weight)
        _positive(delta=self.delta)
        if self.directions == "one" and self.kind != "mse":
            raise ValueError(
                f"directions: with kind {self.kind!r} the mean over random directions is another loss; set kind to "
                "'mse', or directions to 'all'"
            )


@dataclass(frozen=True)
class ReferenceConfig:
    """Values of free atoms that are known, for instance energies of isolated atoms ("E0s") at the level of the labels.

    Attributes:
        atoms: Value of a free atom of each element. Values of elements that are not listed are fitted to the data.
        unit: Unit of these values.
    """

    atoms: Mapping[str, float]
    unit: str = "eV"

    def __post_init__(self) -> None:
        factor(self.unit)
        for symbol, value in self.atoms.items():
            if symbol not in chemical_symbols[1:]:
                raise ValueError(f"atoms: {symbol!r} is no element; give symbols such as C")
            if not math.isfinite(value):
                raise ValueError(f"atoms.{symbol}: {value} is not a finite number")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes.

    Attributes:
        warmup_steps: Number of steps over which the learning rate rises linearly from zero, at most a tenth of the
            training. They keep the first steps small, when the weights are still random.
        decay: Decrease of the learning rate after the warm-up: "cosine" falls to `final` at the last step, "plateau"
            multiplies by `factor` after `patience` validations without improvement, "none" stays.
        final: Last learning rate of "cosine" and lowest one of "plateau", as a fraction of `learning_rate`.
        patience: Number of validations without improvement before "plateau" lowers the learning rate.
        factor: Factor by which "plateau" lowers the learning rate each time.
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
        accelerator: Kind of device: "cpu", "gpu", or "auto" for a GPU where there is one.
        devices: Number of GPUs per node, or of processes on a CPU.
        nodes: Number of computers that take part.
        strategy: Name of one of Lightning's strategies, for instance "ddp". "auto" takes "ddp" for several devices.
        precision: Number of bits of a floating-point number, "32" or "64", or mixed precision with "bf16" or, on a
            GPU only, "16".
        threads: Number of threads of each process on a CPU. One is best where several processes share a computer.
            Left out: PyTorch's choice.
        num_workers: Number of processes that prepare batches ahead. Batches take little time here, so 0 is best.
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
        epochs: Number of passes over the training set. A larger number extends a finished training.
        steps: Number of optimizer steps instead of `epochs`, rounded up to whole epochs and to `validate_every`. Left
            out: `epochs` counts.
        batch_size: Number of molecules per step, over all devices together.
        evaluation_batch_size: Number of molecules per batch in validation and test.
        learning_rate: Largest learning rate of AdamW; `schedule` changes it from step to step.
        weight_decay: Weight decay of AdamW. With 0 it is the same as Adam.
        gradient_clip: Largest norm of the gradient of one step; longer gradients are shortened to it. 0 does not clip.
        ema_decay: Decay per step of the moving average of the weights. The average is what is validated and saved,
            because it is smoother than the last weights. 0 switches the average off.
        early_stopping: Number of validations without improvement after which the training ends. 0 never ends it early.
        validate_every: Number of epochs from one validation to the next.
        checkpoint_seconds: Least time in seconds between two resume files. A file is written at the end of an epoch.
        losses: How the error of each property, and of "forces", enters the loss. A property that is not listed has the
            default loss. Forces that are not listed are left out where the data have none; every loss that is listed
            with a weight needs labels.
        density_points: Number of points of each density that a step looks at, drawn anew in every step.
        references: Known values of free atoms, per property that is a sum over atoms. Reference values of the other
            elements are those of isolated atoms among the data, or else a least-squares fit to the training labels,
            which leaves them undetermined where compositions do not differ enough.
        isolated_atoms: Use of single neutral atoms among the molecules. "references" sets the reference values of their
            elements and leaves them out of the loss, "both" trains on them too, "train" treats them as molecules.
        schedule: How the learning rate changes.
        machine: What the training runs on.
        seed: Seed of the random numbers that set the first weights and the order of the batches.
        compile: Whether training steps run compiled, which is faster but takes a minute or more at the start. It needs
            a C++ compiler, precision "32" or "64", and one device.
        logger: Where numbers per epoch go: "csv" writes metrics.csv; "tensorboard" writes for TensorBoard too and needs
            the extra of that name.
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
    density_points: int = 500
    references: Mapping[str, ReferenceConfig] = field(default_factory=dict[str, ReferenceConfig])
    isolated_atoms: Literal["references", "both", "train"] = "references"
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
            density_points=self.density_points,
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
        model: The network and its heads.
        data: The molecules and labels.
        training: How it is trained.
        name: Name of the experiment in tables and file names.
        output: Directory of the results. Left out: `runs/<name>`.
        start_from: Checkpoint whose weights the training starts with. Elements, heads and moves that it does not have
            are new; a list says what was taken over. Left out: all weights are random.
    """

    model: ModelSection
    data: DataConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    name: str = "experiment"
    output: str | None = None
    start_from: str | None = None


def _positive(**values: int | float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:  # which NaN is not either
            raise ValueError(f"{name}: {value} is not positive, or not a finite number")


def _at_least(least: int, **values: int | float) -> None:
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number of at least {least}, got {value}")
