"""A grid of trainings: one experiment, named variants of it, several seeds."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neural_polarization.settings import ConfigError, Source, build, dotted, read_yaml, with_overrides
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.directory import RunDirectory


@dataclass(frozen=True)
class MatchConfig:
    """Which cost a variant shares with another variant.

    Attributes:
        variant: Name of the variant that this one is to cost as much as.
        cost: Cost that is to be equal: "parameters" finds the smallest width (`model.backbone.channels`) with at least
            as many of them, "time" the smallest depth (`model.backbone.num_layers`) whose steps take at least as long
            (to 3 %).
    """

    variant: str
    cost: Literal["parameters", "time"]


FOUND = {"parameters": "model.backbone.channels", "time": "model.backbone.num_layers"}
"""The size that is found for each cost."""


@dataclass(frozen=True)
class VariantConfig:
    """The difference of a variant from the base.

    Attributes:
        set: Values of the variant's settings, by dotted key of the experiment.
        match: Cost that the size of the variant is chosen for. Left out: the size stands in `set` or in the base.
    """

    set: Mapping[str, Any] = field(default_factory=dict[str, Any])
    match: MatchConfig | None = None


@dataclass(frozen=True)
class GridConfig:
    """A comparison.

    Attributes:
        base: Experiment that all variants share, or the path of its YAML file.
        variants: Variants by name, in the order of the table.
        seeds: Seeds; each variant is trained once with each.
        reference: Name of the variant that ratios refer to.
        name: Name of the comparison in tables.
        output: Directory of the results. Left out: `runs/<name>`.
        minutes: Training time of every cell in minutes, instead of the base's number of epochs. Each variant gets as
            many steps as fit into it by its measured time per step. Left out: the base's epochs count.
    """

    base: dict[str, Any] | str
    variants: Mapping[str, VariantConfig]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    reference: str = "plain"
    name: str = "comparison"
    output: str | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.reference not in self.variants:
            raise ValueError(
                f"reference: {self.reference!r} is not a variant (there are {', '.join(self.variants)}); name one"
            )
        negative = [seed for seed in self.seeds if seed < 0]
        if negative:
            raise ValueError(f"seeds: {negative[0]} is negative; give whole numbers from 0")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} must be different numbers, at least one")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes: {self.minutes} is not a positive, finite time; leave it out to train by epochs")
        _check_names(self.variants)
        for name, variant in self.variants.items():
            if variant.match is None:
                continue
            size = FOUND[variant.match.cost]
            if size in dotted(variant.set):
                raise ValueError(f"variants.{name}.set: {size} is what `match` looks for; leave one of the two out")
            other = self.variants.get(variant.match.variant)
            if other is None or other.match is not None:
                raise ValueError(
                    f"variants.{name}.match.variant: {variant.match.variant!r} is not a variant with a size of its own"
                )


def _check_names(names: Iterable[str]) -> None:
    """Makes sure that each variant can have a directory of its own, on every system."""
    seen: dict[str, str] = {}
    for name in names:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name):
            raise ValueError(
                f"variants: {name!r} is to be the name of a directory; take letters, digits, _ and -, and dots inside"
            )
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ValueError(f"variants: {other!r} and {name!r} would share a directory on some systems; rename one")


@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        variant: Name of the variant.
        seed: Seed of the training.
        config: Experiment of the training.
    """

    variant: str
    seed: int
    config: ExperimentConfig

    @property
    def directory(self) -> RunDirectory:
        """Directory of the training."""
        assert self.config.output is not None
        return RunDirectory(Path(self.config.output))

    @property
    def file(self) -> Path:
        """File of the experiment, beside the directory of the training."""
        return self.directory.path.with_suffix(".yaml")

    @property
    def log(self) -> Path:
        """File of the training's output."""
        return self.directory.path.with_suffix(".log")


@dataclass(frozen=True)
class Grid:
    """A comparison with the experiment that its variants share.

    Attributes:
        config: Variants and seeds.
        base: Settings of the shared experiment, as nested plain values.
        source: Origin of these settings.
        origin: Origin of the variants.
    """

    config: GridConfig
    base: Mapping[str, Any]
    source: Source
    origin: Source

    @property
    def output(self) -> Path:
        """Directory of the grid."""
        return Path(self.config.output or Path("runs") / self.config.name)

    def experiment(self, variant: str, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
        """The experiment of a variant.

        Raises:
            ConfigError: for keys or values that an experiment does not have.
        """
        chosen = dotted(self.config.variants[variant].set)
        tree = with_overrides(self.base, {**chosen, **(overrides or {})})
        places = {key: self.origin.at(f"variants.{variant}.set.{key}") for key in chosen}
        source = dataclasses.replace(
            self.source,
            name=f"{self.source.name} (variant {variant})",
            replaced={**self.source.replaced, **{key: f"{place} (variant {variant})" for key, place in places.items()}},
        )
        return build(ExperimentConfig, tree, source)

    def cells(self, found: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
        """All trainings, one seed after the other, so that a first table is ready early.

        Args:
            found: Settings that were found for each variant (width, depth, steps).
        """
        return [
            Cell(
                name,
                seed,
                self.experiment(
                    name,
                    {
                        **found.get(name, {}),
                        "training.seed": seed,
                        "name": f"{self.config.name}, {name}",
                        "output": str(self.output / name / f"seed_{seed}"),
                    },
                ),
            )
            for seed in self.config.seeds
            for name in self.config.variants
        ]


def read_grid(path: str | Path, overrides: Mapping[str, Any]) -> Grid:
    """A grid from its YAML file and from settings of the command line.

    Raises:
        ConfigError: for a mistake in the file, or in the file of the experiment if there is one.
    """
    tree, source = read_yaml(path)
    if "variants" not in tree and {"model", "data"} <= tree.keys():
        raise ConfigError(
            f"{path}: is one experiment, which `npol train` takes; a comparison has the keys base (an experiment, or "
            "the path of its file) and variants"
        )
    # The base may stand in a file of its own; overrides of its keys still apply.
    of_base = {key.removeprefix("base."): value for key, value in overrides.items() if key.startswith("base.")}
    of_grid = {key: value for key, value in overrides.items() if not key.startswith("base.")}
    origin = source.replacing(of_grid, "command line, --")
    config = build(GridConfig, with_overrides(tree, of_grid), origin)
    if isinstance(config.base, str):
        base, base_source = read_yaml(Path(path).parent / config.base)
    else:
        base = config.base
        lines = {key.removeprefix("base."): line for key, line in source.lines.items() if key.startswith("base.")}
        base_source = Source(source.name, lines)
    base_source = base_source.replacing(of_base, "command line, --base.")
    grid = Grid(config, with_overrides(base, of_base), base_source, origin)
    for name, variant in config.variants.items():
        for key in ("training.seed", "output", "name"):
            if key in dotted(variant.set):
                raise ConfigError(f"{source.at(f'variants.{name}.set')}: {key} is set by the grid; remove it")
        grid.experiment(name)
    return grid
