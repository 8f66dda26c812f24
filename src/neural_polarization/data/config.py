"""Which data, and which of it trains: what stands under `data` in an experiment's YAML."""

from dataclasses import dataclass, field
from typing import Literal

from neural_polarization.data.columns import PropertyConfig


@dataclass(frozen=True)
class SplitConfig:
    """Which molecules train, validate and test.

    Attributes:
        kind: Way to choose the parts: "random" structures (of labels in electric fields random geometries, each in all
            its fields); whole "group"s, which are molecules with all of their geometries; the "published" split that
            came with the data; or the one that is "stored" in the data file or in `path`.
        train: Size of the training part: a whole number of structures (of groups for "group", of geometries for
            "random" in fields), or a fraction. Left out: all that the other parts leave.
        validation: Size of the validation part, likewise. Left out: a tenth (a twentieth of the training set for
            "published", all that is stored for "stored").
        test: Size of the test part, likewise. Left out: a tenth (all for "published" and "stored").
        seed: Seed of the random choice. The same seed gives the same split.
        number: Number of the published split, from 1.
        path: JSON file of a split, for "stored". Left out: the split in the data file.
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
        format: Format of the file: "packed", "qm9", "rmd17", "md17", "extxyz" or "ase".
        path: File of the data set. For QM9 it can be a folder, into which the published archive is downloaded if it is
            not there.
        properties: Labels that are read, by the name that they get. Left out: all that the format knows; of extended
            XYZ files and ASE databases energy, forces and dipole.
        label_source: For packed QM9 files only: bits of the array `label_source`; molecules with at least one of them
            are kept. Left out: all molecules.
        exclude: For QM9 only: file with the published list of molecules to leave out (uncharacterized.txt).
        group: For extended XYZ files and ASE databases only: key that is equal for geometries of one molecule. Left
            out: structures with equal formulas count as one molecule. Under `smiles`, all spellings of a molecule's
            SMILES are one (with RDKit).
        split: Which molecules train, validate and test.
        cache: Whether neighbour lists of large data sets are kept on disk between runs.
        cache_directory: Directory of the kept neighbour lists. Left out: the user's cache directory.
        validation: File of the validation part, in the same format, where that part has a file of its own. Left out:
            `split` takes the validation part from `path`. Fractions under `split` do not apply to a part with a file.
        test: File of the test part, in the same format. Left out: `split` takes the test part from `path`, unless there
            is a file for validation: then there is a test part only if `split.test` asks for one.
        densities: For packed files only: file of `npol pack --densities` with electron densities of some of the
            structures, which `model.density` is trained on. It belongs to `path`, whose structures with a density are
            kept even where they have no label.
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
    validation: str | None = None
    test: str | None = None
    densities: str | None = None
