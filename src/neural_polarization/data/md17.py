"""MD17 and its revision: trajectories of one molecule each with energies and forces, kcal/mol and Angstrom.

References:
    S. Chmiela et al., "Machine learning of accurate energy-conserving molecular force fields", Sci. Adv. 3,
    e1603015 (2017).
    A. S. Christensen, O. A. von Lilienfeld, "On the role of gradients for machine learning of molecular
    energies and forces", Mach. Learn.: Sci. Technol. 1, 045018 (2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from neural_polarization.data.cache import Array
from neural_polarization.data.columns import KNOWN, Column, PropertyConfig, chosen_columns
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.npz import ArrayFile
from neural_polarization.data.splits import Split
from neural_polarization.errors import DataError, nearest
from neural_polarization.units import factor

PUBLISHED_SPLITS = 5
"""rMD17 comes with five pairs of 1,000 training and 1,000 test frames."""


@dataclass(frozen=True)
class _Layout:
    numbers: str
    positions: str
    energies: str
    forces: str


_LAYOUTS: Mapping[str, _Layout] = MappingProxyType(
    {
        "a packed rMD17 file": _Layout("atomic_numbers", "positions", "energies", "forces"),
        "a published rMD17 file": _Layout("nuclear_charges", "coords", "energies", "forces"),
        "a published MD17 file": _Layout("z", "R", "E", "F"),
    }
)


def read_md17(
    path: Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """A trajectory of MD17 or rMD17, in any of the layouts in which they are passed on.

    Published splits are taken from arrays train_01, test_01, ... of the file, or from the tables
    splits/index_train_01.csv, ... beside it or one folder up, as in the published archive.

    Args:
        path: the .npz file of one molecule.
        properties: `energy` and `forces` under other names or without one of them; both if left out.
        cache_directory: see `Dataset`.

    Returns:
        A data set whose frames are all of one group, with the splits "published_1" to "published_5" where
        they are known.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout.
    """
    file = ArrayFile(path, "an MD17 or rMD17 file")
    layout = _layout_of(file)
    numbers = file.numbers(layout.numbers, (None,))
    positions = file.numbers(layout.positions, (None, len(numbers), 3))
    frames = len(positions)
    energy_unit = _text(file, "e_unit", "kcal/mol")
    length_unit = _text(file, "r_unit", "Angstrom")
    known = {
        "energy": Column(layout.energies, energy_unit, KNOWN["energy"].property),
        "forces": Column(
            layout.forces,
            f"{energy_unit}/{length_unit}",
            KNOWN["forces"].property,
        ),
    }
    columns = chosen_columns(str(path), known, properties)
    labels: dict[str, Array] = {}
    for name, column in columns.items():
        scale = factor(column.unit)
        if column.property.per_atom:
            values = file.numbers(column.source, (frames, len(numbers), 3)).reshape(-1, 3)
        else:
            values = file.values(column.source)
            if values.shape not in ((frames,), (frames, 1)):
                raise DataError(
                    f"{path}: array {column.source!r} has shape {values.shape}; expected one number for each of "
                    f"{frames} frames"
                )
            values = values.reshape(-1)
        labels[name] = values.astype(np.float64) * scale
    return Dataset(
        name=str(path),
        molecules=FlatMolecules.checked(
            str(path),
            np.full(frames, len(numbers)),
            np.tile(numbers, frames),
            positions.reshape(-1, 3) * factor(length_unit),
        ),
        properties={name: column.property for name, column in columns.items()},
        labels=labels,
        groups=np.zeros(frames, np.int64),
        splits=_published_splits(file, frames),
        cache_directory=cache_directory,
    )


def _layout_of(file: ArrayFile) -> _Layout:
    if "n_atoms" in file:  # beside positions and atomic numbers of other shapes
        raise DataError(f"{file.path}: is a packed data set, no MD17 or rMD17 file; set data.format to packed")
    for layout in _LAYOUTS.values():
        if layout.numbers in file and layout.positions in file:
            return layout
    expected = "; or ".join(
        f"{name}: {layout.numbers}, {layout.positions}, {layout.energies}, {layout.forces}"
        for name, layout in _LAYOUTS.items()
    )
    raise DataError(f"{file.path}: is no MD17 or rMD17 file; expected {expected}; found {', '.join(file.names)}")


def _text(file: ArrayFile, name: str, default: str) -> str:
    """Units that sGDML's variant of the files carries as text."""
    if name not in file:
        return default
    value = file[name]
    text = value.item() if value.size == 1 else default
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _published_splits(file: ArrayFile, frames: int) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for number in range(1, PUBLISHED_SPLITS + 1):
        parts = [_indices(file, part, number, frames) for part in ("train", "test")]
        if parts[0] is not None and parts[1] is not None:
            splits[f"published_{number}"] = Split(parts[0], np.zeros(0, np.int64), parts[1])
    return splits


def _indices(file: ArrayFile, part: str, number: int, frames: int) -> Array | None:
    name = f"{part}_{number:02d}"
    if name in file:
        source, rows = str(file.path), file.numbers(name, (None,))
    else:
        for folder in (file.path.parent, file.path.parent.parent):
            table = folder / "splits" / f"index_{name}.csv"
            if table.is_file():
                break
        else:
            return None
        source = str(table)
        try:
            rows = np.loadtxt(table, dtype=np.int64, ndmin=1)
        except ValueError as error:
            raise DataError(f"{table}: expected one frame number per line ({error})") from None
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= frames:
        raise DataError(
            f"{source}: split {name} has frames up to {int(rows.max()) if len(rows) else -1}, but "
            f"{file.path} has {frames}; the two belong to different files"
        )
    return rows.astype(np.int64)


def published_name(dataset: Dataset, number: int) -> str:
    """The name of a published split of a data set.

    Raises:
        DataError: where the data set has no such split.
    """
    name = f"published_{number}"
    if name not in dataset.splits:
        raise DataError(f"{dataset.name}: has no split {name!r}; {nearest(name, dataset.splits)}")
    return name
