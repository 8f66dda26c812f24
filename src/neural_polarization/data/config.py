"""Which data, and which of it trains: what stands under `data` in an experiment's YAML."""

from dataclasses import dataclass, field
from typing import Literal

from neural_polarization.data.columns import PropertyConfig


@dataclass(frozen=True)
class SplitConfig:
    """Which molecules train, validate and test.

    Attributes:
        kind: "random" structures; whole "group"s (molecules with all of their geometries); the "published"
            split that came with the data; the one that is "stored" in the data file or in `path`.
        train: a whole number of structures (of groups for "group"), a fraction, or all that is left.
        validation: likewise; a tenth if left out (published: a twentieth of the training set; stored: all).
        test: likewise; a tenth if left out (published and stored: all).
        seed: the same seed gives the same split.
        number: which published split, from 1.
        path: a split saved as JSON.
    """

    kind: Literal["random", "group", "published", "stored"] = "random"
    train: int | float | None = None
    validation: int | float | None = None
    test: int | float | None = None
    seed: int = 0
    number: int = 1
    path: str | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed: expected zero or more, got {self.seed}")


@dataclass(frozen=True)
class DataConfig:
    """Which data set, which of its properties, and how it is split.

    Attributes:
        format: "packed", "qm9", "rmd17", "md17", "extxyz" or "ase".
        path: the file; for QM9 also a folder (made where it is missing, if its name has no suffix), into which the
            published archive is downloaded if it is not there.
        properties: which labels, keyed by the name they get; all that a known format has if left out.
        label_source: QM9 packed files: keep molecules with at least one of these bits of their array
            `label_source`.
        exclude: QM9: the published list of molecules that are left out (uncharacterized.txt).
        group: extended XYZ and ASE databases: the key that says which structures are geometries of one molecule;
            structures with equal formulas are taken as such if left out.
        split: which molecules train, validate and test.
        cache: keep neighbour lists on disk between runs.
        cache_directory: where; the user's cache folder if left out.
    """

    format: str = "packed"
    path: str = ""
    properties: dict[str, PropertyConfig] | None = None
    label_source: int | None = None
    exclude: str | None = None
    group: str | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    cache: bool = True
    cache_directory: str | None = None
