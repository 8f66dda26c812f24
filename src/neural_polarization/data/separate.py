"""Data whose parts stand in files of their own: one data set of all files, and the split that the files are."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from neural_polarization.data.cache import Array
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.data.counts import joined_readings, warn_of_fields
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.splits import Split, stored_split
from neural_polarization.errors import DataError
from neural_polarization.properties import FIELD, Property
from neural_polarization.text import counted

FILES = "files"
"""Name of the split of a data set whose parts stand in files of their own."""


def open_files(config: DataConfig, open_one: Callable[[DataConfig], Dataset]) -> Dataset:
    """The structures of all files one after the other, with the split "files".

    Args:
        config: with a file for validation, for test, or both.
        open_one: reads one file.

    Raises:
        DataError: for files whose labels differ in kind, or a structure that stands in two of them.
    """
    named = {"train": config.path, "validation": config.validation, "test": config.test}
    files = {part: path for part, path in named.items() if path is not None}
    parts: dict[str, Dataset] = {}
    for part, path in files.items():
        densities = config.densities if part == "train" else None  # their file belongs to the first one
        parts[part] = open_one(replace(config, path=path, validation=None, test=None, densities=densities))
    whole = joined(list(parts.values()))
    ends = np.cumsum([len(part) for part in parts.values()])
    rows = dict(zip(parts, np.split(np.arange(len(whole)), ends[:-1]), strict=True))
    _check_shared(whole, files, rows)
    nothing = np.arange(0)
    split = Split(rows["train"], rows.get("validation", nothing), rows.get("test", nothing))
    return Dataset(
        whole.name,
        whole.molecules,
        whole.properties,
        whole.labels,
        whole.groups,
        {FILES: split},
        whole.cache_directory,
        whole.isolated,
        whole.reading,
    )


def joined(datasets: list[Dataset]) -> Dataset:
    """Several data sets as one, with the properties of the first; labels that another one lacks are missing there.

    Fields that the first one does not have are not read, which is a warning. Groups of different data sets are
    different groups. Rows of a file (`FlatMolecules.file_rows`) are those of the first.

    Raises:
        DataError: for a property that is another kind of quantity in a later data set.
    """
    first = datasets[0]
    for dataset in datasets[1:]:
        if FIELD in dataset.properties and FIELD not in first.properties:
            inside = int(np.nan_to_num(dataset.labels[FIELD]).any(1).sum())
            warn_of_fields(dataset.name, inside, len(dataset))
    molecules = [dataset.molecules for dataset in datasets]
    charges = [np.zeros(len(of)) if of.charges is None else of.charges for of in molecules]
    cells = [np.full((len(of), 3, 3), np.nan) if of.cells is None else of.cells for of in molecules]
    pbc = [np.repeat(of.periodic[:, None], 3, axis=1) if of.pbc is None else of.pbc for of in molecules]
    spins = [np.full(len(of), np.nan) if of.spins is None else of.spins for of in molecules]
    rows = np.arange(len(first)) if first.molecules.file_rows is None else first.molecules.file_rows
    first_group = np.cumsum([0, *(int(dataset.groups.max()) + 1 for dataset in datasets[:-1])])
    groups = [dataset.groups + int(start) for dataset, start in zip(datasets, first_group, strict=True)]
    return Dataset(
        name=", ".join(dataset.name for dataset in datasets),
        molecules=FlatMolecules(
            n_atoms=np.concatenate([of.n_atoms for of in molecules]),
            atomic_numbers=np.concatenate([of.atomic_numbers for of in molecules]),
            positions=np.concatenate([of.positions for of in molecules]),
            charges=None if all(of.charges is None for of in molecules) else np.concatenate(charges),
            cells=None if all(of.cells is None for of in molecules) else np.concatenate(cells),
            pbc=None if all(of.pbc is None for of in molecules) else np.concatenate(pbc),
            spins=None if all(of.spins is None for of in molecules) else np.concatenate(spins),
            file_rows=np.concatenate([rows, np.full(sum(map(len, molecules[1:])), -1)]),
        ),
        properties=first.properties,
        labels={
            name: np.concatenate([_labels(dataset, name, kind) for dataset in datasets])
            for name, kind in first.properties.items()
        },
        groups=np.concatenate(groups),
        cache_directory=first.cache_directory,
        isolated=np.concatenate([dataset.isolated for dataset in datasets]),
        reading=joined_readings([dataset.reading for dataset in datasets]),
    )


def files_split(dataset: Dataset, config: SplitConfig, cut: Callable[[Dataset, SplitConfig], Split]) -> Split:
    """The split of a data set whose parts stand in files of their own.

    A part without a file is taken from the training file. A whole number takes some structures of a part. A fraction
    says how one file is divided: it does not apply to a part that has a file of its own, nor to what is left to train.

    Args:
        dataset: as `open_files` made it.
        config: sizes, and how the training file is cut.
        cut: makes the split of one file.

    Raises:
        DataError: where a part has fewer structures than are asked for.
    """
    files = dataset.splits[FILES]
    has_validation, has_test = len(files.validation) > 0, len(files.test) > 0
    train = _number(config.train)
    validation = _number(config.validation) if has_validation else None
    test = _number(config.test) if has_test else None
    if has_validation and (has_test or config.test is None):
        return stored_split(files, train, validation, test, config.seed)
    # In the training file only the parts without a file are cut off.
    here = dataclasses.replace(
        config,
        train=train,
        validation=0 if has_validation else config.validation,
        test=0 if has_test else config.test,
    )
    training = dataset.subset(files.train)
    training.splits.clear()  # it is one file now
    inside = cut(training, here)
    others = stored_split(files, None, validation, test, config.seed)
    return Split(
        files.train[inside.train],
        others.validation if has_validation else files.train[inside.validation],
        others.test if has_test else files.train[inside.test],
        inside.by,
    )


def _number(size: int | float | None) -> int | None:
    """A size that is a number of structures; None for a fraction."""
    return size if isinstance(size, int) else None


def _labels(dataset: Dataset, name: str, kind: Property) -> Array:
    """Labels of a property, missing ones where the data set has none of it."""
    other = dataset.properties.get(name)
    if other is None:
        rows = len(dataset.molecules.atomic_numbers) if kind.per_atom else len(dataset)
        return np.full((rows, *kind.shape), np.nan)
    if (other.shape, other.per_atom) != (kind.shape, kind.per_atom):
        raise DataError(
            f"{dataset.name}: {name!r} has one value of shape {other.shape} per "
            f"{'atom' if other.per_atom else 'molecule'}, in the training file of shape {kind.shape} per "
            f"{'atom' if kind.per_atom else 'molecule'}; the files must hold the same quantity"
        )
    return dataset.labels[name]


def _check_shared(whole: Dataset, files: Mapping[str, str], rows: Mapping[str, Array]) -> None:
    """No molecule may stand in two files, whatever its orientation and the order of its atoms."""
    identity = whole.identities()
    names = list(files)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            # An isolated atom in every file sets the reference value of its element; it is no structure of a part.
            shared = np.isin(identity[rows[one]], identity[rows[other]]) & ~whole.isolated[rows[one]]
            if not shared.any():
                continue
            first = int(np.argmax(shared))
            twin = int(np.argmax(identity[rows[other]] == identity[rows[one][first]]))
            raise DataError(
                f"{files[one]}: {files[other]}, the {other} part, also has "
                f"{counted(int(shared.sum()), 'structure')} of this file, the {one} part: for instance its labelled "
                f"structure {first} is structure {twin} there (both counted from 0); remove them from one of the two "
                "files"
            )
