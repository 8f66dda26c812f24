"""The way in: from a configuration to a data set and its split."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Int

from neural_polarization.data.ase_formats import read_extxyz
from neural_polarization.data.cache import default_cache_directory
from neural_polarization.data.columns import KNOWN, PropertyConfig, check_units, is_energy
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.data.dataset import Dataset, check_leakage
from neural_polarization.data.density_structures import molecules_of, open_densities
from neural_polarization.data.identity import merged_groups
from neural_polarization.data.md17 import published_name, read_md17
from neural_polarization.data.packed import read_packed
from neural_polarization.data.qm9 import QM9_COLUMNS, read_packed_qm9
from neural_polarization.data.qm9_archive import read_excluded, read_qm9
from neural_polarization.data.separate import FILES, files_split, open_files
from neural_polarization.data.splits import (
    Split,
    geometry_split,
    group_split,
    load_split,
    published_split,
    random_split,
    stored_split,
)
from neural_polarization.errors import DataError, nearest
from neural_polarization.properties import FIELD, STRESS, label_of
from neural_polarization.units import factor

__all__ = ["FORMATS", "DataConfig", "PropertyConfig", "SplitConfig", "make_split", "open_dataset"]


def _cache_of(config: DataConfig) -> Path | None:
    if not config.cache:
        return None
    return Path(config.cache_directory) if config.cache_directory else default_cache_directory()


def _open_packed(config: DataConfig) -> Dataset:
    return read_packed(config.path, config.properties, _cache_of(config))


def _open_qm9(config: DataConfig) -> Dataset:
    path, exclude = Path(config.path), Path(config.exclude) if config.exclude else None
    if path.suffix != ".npz":
        if config.label_source is not None:
            raise DataError(f"data.label_source: only packed QM9 files (.npz) say where labels come from, not {path}")
        return read_qm9(path, config.properties, exclude, _cache_of(config))
    dataset = read_packed_qm9(path, config.properties, config.label_source, _cache_of(config))
    if exclude is None:
        return dataset
    return dataset.subset(np.flatnonzero(~np.isin(dataset.groups, read_excluded(exclude))))


def _open_md17(config: DataConfig) -> Dataset:
    return read_md17(Path(config.path), config.properties, _cache_of(config))


def _open_extxyz(config: DataConfig) -> Dataset:
    _check_own_units(config)
    return read_extxyz(Path(config.path), config.properties, config.group, _cache_of(config))


def _check_own_units(config: DataConfig) -> None:
    """Units that the user gives to the keys of a file; before it is read, which may take long."""
    for name, chosen in (config.properties or {}).items():
        key = chosen.source or name
        known = label_of(key)
        if name == STRESS and is_energy(chosen.unit):  # of a virial, which becomes a stress
            chosen = replace(chosen, unit=None)
        measured_in = None if known is None else KNOWN[known].unit
        check_units(config.path, name, chosen, measured_in, _CUSTOMARY.get(name))
    energy, forces = ((config.properties or {}).get(name) for name in ("energy", "forces"))
    if energy is None or forces is None or energy.unit is None or forces.unit is not None:
        return
    if factor(energy.unit) != 1.0:
        warnings.warn(
            f"{config.path}: data.properties.forces: has no unit and is read in eV/Angstrom, but the energy in "
            f"{energy.unit}; give the unit of both",
            stacklevel=4,
        )


_CUSTOMARY: Mapping[str, str] = MappingProxyType(
    {name: column.unit for columns in (QM9_COLUMNS, KNOWN) for name, column in columns.items()}
)
"""A unit of every property whose name everybody understands."""


FORMATS: Mapping[str, Callable[[DataConfig], Dataset]] = MappingProxyType(
    {
        "packed": _open_packed,
        "qm9": _open_qm9,
        "rmd17": _open_md17,
        "md17": _open_md17,
        "extxyz": _open_extxyz,
        "ase": _open_extxyz,
    }
)
"""Readers by the name of their format."""


def open_dataset(config: DataConfig) -> Dataset:
    """Reads the data set that a configuration names.

    Molecules without a label of any chosen property and without a density are left out; others are used for the labels
    they have. Where parts stand in files of their own, the data set holds the structures of all files, and its split
    "files" says which are which.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for an unknown format, a file that does not fit it, or no labels at all.

    Example:
        >>> open_dataset(DataConfig(format="rmd71", path="ethanol.npz"))
        Traceback (most recent call last):
            ...
        neural_polarization.errors.DataError: data.format: 'rmd71' is none; did you mean 'rmd17'? Known: ...
    """
    if config.format not in FORMATS:
        raise DataError(f"data.format: {config.format!r} is none; {nearest(config.format, FORMATS)}")
    if not config.path:
        raise DataError("data.path: is empty; give the file of the data set")
    for option, value, formats in (
        ("label_source", config.label_source, ("qm9",)),
        ("exclude", config.exclude, ("qm9",)),
        ("group", config.group, ("extxyz", "ase")),
        ("densities", config.densities, ("packed",)),
    ):
        if value is not None and config.format not in formats:
            raise DataError(f"data.{option}: is only for {' and '.join(formats)}, not {config.format}; leave it out")
    for part, path in (("validation", config.validation), ("test", config.test)):
        if path == "":
            raise DataError(f"data.{part}: is empty; give the file of the {part} part, or leave it out")
    if config.validation is not None or config.test is not None:
        _check_files(config)
        return open_files(config, open_dataset)
    dataset = FORMATS[config.format](config)
    for name, kind in dataset.properties.items():
        # Only now is it known what stands in a file that says itself what it holds.
        check_units(dataset.name, name, PropertyConfig(), kind.unit, _CUSTOMARY.get(name))
    if not dataset.properties:
        raise DataError(f"{config.path}: no property is chosen; name at least one under data.properties, with its unit")
    labelled = dataset.labelled()
    if config.densities is not None and len(labelled) < len(dataset):
        of_densities = molecules_of(open_densities(config.densities), dataset.molecules)
        labelled = np.union1d(labelled, of_densities[of_densities >= 0])
    if len(labelled) == 0:
        raise DataError(f"{config.path}: no molecule has a label of {', '.join(dataset.properties)}")
    if len(labelled) == len(dataset):
        return dataset
    left_out = {f"no label of {', '.join(dataset.properties)}": len(dataset) - len(labelled)}
    kept = dataset.subset(labelled)
    kept.reading = replace(dataset.reading, left_out={**dataset.reading.left_out, **left_out})
    return kept


def make_split(dataset: Dataset, config: SplitConfig) -> Split:
    """The split that a configuration asks for, checked for leakage.

    Raises:
        FileNotFoundError: where `path` names no file.
        DataError: for sizes that do not fit, a split that the data set does not have, or one that leaks.
    """
    if FILES in dataset.splits:
        split = files_split(dataset, config, make_split)
        split = replace(split, content_hash=dataset.content_hash)
        check_leakage(dataset, split)
        return split
    if config.path and config.kind != "stored":
        raise DataError(f'data.split.path: is for kind "stored", but kind is "{config.kind}"; change one of them')
    sizes = (config.train, config.validation, config.test, config.seed)
    match config.kind:
        case "random":
            # In several fields one geometry has several labels, which all count.
            choose = geometry_split if FIELD in dataset.properties else random_split
            split = choose(dataset.identities(), *sizes)
        case "group":
            groups = merged_groups(dataset.groups, dataset.identities())
            _check_groups(dataset, groups, config)
            split = group_split(groups, *sizes)
        case "published":
            published = dataset.splits[published_name(dataset, config.number)]
            split = published_split(published.train, published.test, *sizes)
        case "stored":
            split = stored_split(_stored(dataset, config), *sizes)
    split = replace(split, content_hash=split.content_hash or dataset.content_hash)
    check_leakage(dataset, split)
    return split


def _check_files(config: DataConfig) -> None:
    """Where parts stand in files of their own, only a missing part is still chosen, at random or by group."""
    if config.split.kind not in ("random", "group"):
        raise DataError(
            f'data.split.kind: is "{config.split.kind}", but data.validation or data.test name files of their own; '
            "leave out one of the two"
        )


def _check_groups(dataset: Dataset, groups: Int[np.ndarray, " molecules"], config: SplitConfig) -> None:
    """Frames of one molecule are one group, which cannot be in several parts."""
    sizes = {"train": config.train, "validation": config.validation, "test": config.test}
    parts = [name for name, size in sizes.items() if size != 0]
    names, first = np.unique(groups, return_index=True)
    if len(names) >= len(parts):
        return
    formulas = ", ".join(dataset.structure(int(index)).get_chemical_formula() for index in first)
    one = len(names) == 1
    raise DataError(
        f"{dataset.name}: data.split.kind: all structures are {'one group' if one else f'{len(names)} groups'} "
        f"({formulas}), which cannot fill the parts {', '.join(parts)}; use split.kind: random to share out the "
        "geometries of a molecule, or name with data.group the key that tells molecules apart"
    )


def _stored(dataset: Dataset, config: SplitConfig) -> Split:
    if config.path:
        return load_split(config.path)
    if "stored" not in dataset.splits:
        raise DataError(f"{dataset.name}: has no stored split; give split.path, or choose split.kind random or group")
    return dataset.splits["stored"]
