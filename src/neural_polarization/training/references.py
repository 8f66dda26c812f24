"""Reference values of elements: those that a user gives, and those of isolated atoms among the data."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool

from neural_polarization.data.config import SplitConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.sources import make_split
from neural_polarization.data.splits import Split
from neural_polarization.errors import DataError
from neural_polarization.models import Model
from neural_polarization.properties import FIELD
from neural_polarization.training.config import ReferenceConfig
from neural_polarization.units import factor, parsed

SAME_ATOM = 1e-3
"""Values of two isolated atoms of one element that differ by more (internal units) contradict each other."""


def isolated_atoms(dataset: Dataset) -> Bool[np.ndarray, " molecules"]:
    """Which structures are isolated atoms among molecules, without a field; none where there are no molecules."""
    if dataset.isolated.all():
        return np.zeros_like(dataset.isolated)
    field = dataset.labels.get(FIELD)
    return dataset.isolated if field is None else dataset.isolated & ~np.nan_to_num(field).any(axis=1)


def split_without(dataset: Dataset, config: SplitConfig, left_out: Bool[np.ndarray, " molecules"]) -> Split:
    """The split that a configuration asks for, of the structures that are not left out; indices are of the whole set.

    Raises:
        DataError: as `make_split`.
    """
    if not left_out.any():
        return make_split(dataset, config)
    kept = np.flatnonzero(~left_out)
    if config.kind in ("random", "group"):
        split = make_split(dataset.subset(kept), config)
        parts = {name: kept[part] for name, part in split.parts.items()}
    else:  # a split that names indices of the whole set
        split = make_split(dataset, config)
        parts = {name: part[~left_out[part]] for name, part in split.parts.items()}
    return replace(split, **parts, content_hash=dataset.content_hash)


def values_of_atoms(
    model: Model, dataset: Dataset, isolated: Bool[np.ndarray, " molecules"]
) -> dict[str, dict[str, float]]:
    """Per property that is a sum over atoms, the label of each element's isolated atom, internal unit.

    Raises:
        DataError: for two isolated atoms of one element with different labels.
    """
    found: dict[str, dict[str, float]] = {}
    for name in model.config.heads:
        if not model.head(name).of_atoms or name not in dataset.labels:
            continue
        values: dict[str, float] = {}
        for k in np.flatnonzero(isolated & np.isfinite(dataset.labels[name])).tolist():
            symbol = chemical_symbols[int(dataset.molecules.atomic_numbers[dataset.molecules.starts[k]])]
            value = float(dataset.labels[name][k])
            if abs(values.get(symbol, value) - value) > SAME_ATOM:
                raise DataError(
                    f"{dataset.name}: {name} of the isolated atom {symbol} is {value:.6g} in structure {k}, but "
                    f"{values[symbol]:.6g} in another; keep one of the two, give training.references.{name}, or set "
                    "training.isolated_atoms to train"
                )
            if symbol in model.config.elements:
                values.setdefault(symbol, value)
        if values:
            found[name] = values
    return found


def given_references(settings: Mapping[str, ReferenceConfig], dataset: Dataset) -> dict[str, dict[str, float]]:
    """References of a configuration in internal units.

    Raises:
        DataError: for a unit of another quantity than the property's.
    """
    given: dict[str, dict[str, float]] = {}
    for name, of_property in settings.items():
        kind = dataset.properties.get(name)
        if kind is not None and parsed(kind.unit).dimension != parsed(of_property.unit).dimension:
            raise DataError(
                f"training.references.{name}.unit: {of_property.unit!r} is no unit of {name}, which is shown in "
                f"{kind.unit}; give one of the same quantity"
            )
        given[name] = {symbol: value * factor(of_property.unit) for symbol, value in of_property.atoms.items()}
    return given
