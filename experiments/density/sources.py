"""Structures, labels and densities of one or several packed data sets, as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.density_points import DensityPoints, read_density_points
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.packed import read_packed
from neural_polarization.properties import DEFINITIONS

LABELS = ("energy", "forces", "dipole", "polarizability", "hirshfeld_charges")
"""Read where they are; a data set that has none of one trains the others."""


@dataclass(frozen=True)
class Data:
    """Structures, labels, points and the parts of the split.

    Attributes:
        dataset: structures and labels.
        prepared: the same, ready for batches.
        points: densities of some of the structures.
        parts: rows of the data set.
    """

    dataset: Dataset
    prepared: PreparedDataset
    points: DensityPoints
    parts: dict[str, np.ndarray[Any, np.dtype[np.int64]]]


def read(files: Sequence[str], densities: Sequence[str], cutoff: float) -> Data:
    """Several files as one data set, each split by molecule as stored; labels that a file does not have are NaN.

    Args:
        files: packed data sets of different molecules.
        densities: the file of densities of each.
        cutoff: of the neighbours, Angstrom.
    """
    datasets = [read_packed(file) for file in files]
    points = [read_density_points(file, dataset.molecules) for file, dataset in zip(densities, datasets, strict=True)]
    first = np.cumsum([0] + [len(dataset) for dataset in datasets])
    parts = {
        part: np.concatenate(
            [dataset.splits["stored"].parts[part] + start for dataset, start in zip(datasets, first, strict=False)]
        )
        for part in ("train", "validation", "test")
    }
    joined = _joined(datasets)
    return Data(joined, joined.prepare(cutoff), _joined_points(points, first), parts)


def _joined(datasets: Sequence[Dataset]) -> Dataset:
    molecules = FlatMolecules.checked(
        "joined",
        np.concatenate([dataset.molecules.n_atoms for dataset in datasets]),
        np.concatenate([dataset.molecules.atomic_numbers for dataset in datasets]),
        np.concatenate([dataset.molecules.positions for dataset in datasets]),
    )
    offsets = np.cumsum([0] + [int(dataset.groups.max()) + 1 for dataset in datasets])
    known = [name for name in LABELS if any(name in dataset.labels for dataset in datasets)]
    labels = {name: np.concatenate([_labels(dataset, name) for dataset in datasets]) for name in known}
    return Dataset(
        name=" and ".join(dataset.name for dataset in datasets),
        molecules=molecules,
        properties={name: DEFINITIONS[name].property for name in known},
        labels=labels,
        groups=np.concatenate([dataset.groups + start for dataset, start in zip(datasets, offsets, strict=False)]),
    )


def _labels(dataset: Dataset, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Labels of a property; NaN where a data set has none of it, as of forces."""
    if name in dataset.labels:
        return np.asarray(dataset.labels[name])
    kind = DEFINITIONS[name].property
    rows = len(dataset.molecules.atomic_numbers) if kind.per_atom else len(dataset)
    return np.full((rows, *kind.shape), np.nan)


def _joined_points(points: Sequence[DensityPoints], first: np.ndarray[Any, np.dtype[np.int64]]) -> DensityPoints:
    return DensityPoints(
        np.concatenate([some.structures + start for some, start in zip(points, first, strict=False)]),
        np.concatenate([some.points for some in points]),
        np.concatenate([some.weights for some in points]),
        np.concatenate([some.deformation for some in points]),
        np.concatenate([some.electrons for some in points]),
        np.concatenate([some.anchors for some in points]),
    )
