"""What stands in a file of labels, and how it is read; `store` describes its layout and writes it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np

from ..errors import UNREADABLE, DataError
from ..properties import DEFINITIONS, LARGEST_LABEL
from ..structures import check_structure
from .calculation import Labels
from .integrity import DamagedFileError, check_whole, remedy

try:
    from h5py import File, is_hdf5
except ImportError:
    raise ImportError("files of labels need h5py: pip install 'h5py>=3.11'") from None

__all__ = [
    "FORMAT",
    "File",
    "Record",
    "check_description",
    "is_hdf5",
    "not_added_of",
    "open_labels",
    "parts_of",
    "read_description",
    "read_labels",
    "record_of",
    "structures_of",
]

FORMAT = "neural-polarization labels 1"
_STRUCTURE = frozenset({"numbers", "positions"})


@dataclass(frozen=True)
class Record:
    """One structure of the file.

    Attributes:
        key: Hash of structure, level and field.
        atoms: The structure, with `atoms.info` as it was given.
        labels: Labels; empty if the calculation failed.
        reason: Reason of a failure, or empty.
        seconds: Processor time, seconds.
        order: Place in the order in which structures were finished.
        not_added: Quantities that were asked for later and could not be computed, with the reason of each.
    """

    key: str
    atoms: ase.Atoms
    labels: Labels
    reason: str
    seconds: float
    order: int
    not_added: Mapping[str, str] = field(default_factory=dict[str, str])


def read_labels(path: Path) -> Iterator[Record]:
    """The structures of a file of labels, in the order in which they were finished.

    A file that is still being written can be read; it has the finished structures.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedFileError: if it is not a readable file of labels.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file of labels; make it with 'npol label'")
    records: dict[str, Record] = {}
    # If parts are merged while they are read here, they are in the large file, which is read once more.
    while True:
        files = (path, *sorted(parts_of(path).glob("*.h5")))
        try:
            check_whole(files)
            for file in files:
                records.update(_records(file))
            break
        except DamagedFileError:
            if all(file.exists() for file in files):
                raise
    yield from sorted(records.values(), key=lambda record: record.order)


def _records(path: Path) -> dict[str, Record]:
    with open_labels(path) as file:
        check_description(path, file, {"format": FORMAT})
        try:
            return {key: _checked_record(path, key, group) for key, group in structures_of(file).items()}
        except DataError:
            raise
        except UNREADABLE as error:
            raise DamagedFileError(remedy(path, error)) from error


def read_description(path: Path) -> dict[str, str]:
    """Format, level, accuracy and field of a file of labels.

    Raises:
        DamagedFileError: if it is not a readable file of labels.
    """
    check_whole([path])
    with open_labels(path) as file:
        check_description(path, file, {"format": FORMAT})
        try:
            description = {name: str(value) for name, value in file.attrs.items()}
        except UNREADABLE as error:
            raise DamagedFileError(remedy(path, error)) from error
    for name in ("level", "accuracy", "field"):
        if name not in description:
            raise DamagedFileError(
                f"{path}: says nothing about the {name} of its labels; label again, or restore a copy"
            )
    for name, kind in (("accuracy", dict), ("field", list)):
        try:
            wrong = not isinstance(json.loads(description[name]), kind)
        except (ValueError, RecursionError):
            wrong = True
        if wrong:
            raise DamagedFileError(f"{path}: its {name}, {description[name][:60]!r}, is not understood; restore a copy")
    return description


def structures_of(file: Any) -> Any:
    """The groups of an open file, by key."""
    return file["structures"]


def _checked_record(path: Path, key: str, group: Any) -> Record:
    record = record_of(key, group)
    where = f"{path}: structure {key}"
    check_structure(record.atoms, where)
    for name, values in record.labels.items():
        definition = DEFINITIONS.get(name)
        if definition is None or not definition.trainable:
            continue
        expected = (len(record.atoms), *definition.shape) if definition.per == "atom" else definition.shape
        if values.shape != expected or values.dtype.kind not in "iuf" or not (np.abs(values) < LARGEST_LABEL).all():
            raise DamagedFileError(
                f"{where}: {name} has shape {values.shape} and type {values.dtype}; expected finite numbers of shape "
                f"{expected}: label the structure again, or restore a copy"
            )
    return record


def record_of(key: str, group: Any) -> Record:
    """The structure of a group, as it is written."""
    return Record(
        key=key,
        atoms=ase.Atoms(group["numbers"][()], group["positions"][()], info=json.loads(group.attrs["info"])),
        labels={name: np.asarray(group[name][()]) for name in group if name not in _STRUCTURE},
        reason=str(group.attrs["reason"]),
        seconds=float(group.attrs["seconds"]),
        order=int(group.attrs["order"]),
        not_added=not_added_of(group),
    )


def not_added_of(group: Any) -> dict[str, str]:
    """Quantities of a group that were asked for later and could not be computed, with the reason of each."""
    return dict(json.loads(group.attrs.get("not_added", "{}")))


def parts_of(path: Path) -> Path:
    """The directory of finished structures that are not in the file yet."""
    return path.with_name(path.name + ".parts")


def open_labels(path: Path) -> Any:
    """A file of labels, open for reading.

    Raises:
        DamagedFileError: if HDF5 cannot open it.
    """
    try:
        return File(path, "r")
    except OSError as error:
        raise DamagedFileError(remedy(path, error)) from error


def check_description(path: Path, file: Any, expected: Mapping[str, str]) -> None:
    """Makes sure that an open file is one of labels, with these attributes.

    Raises:
        DamagedFileError: if it is none.
        ValueError: for another value of an attribute.
    """
    try:
        known = file.attrs.get("format") == FORMAT and "structures" in file
    except UNREADABLE as error:
        raise DamagedFileError(remedy(path, error)) from error
    if not known:
        raise DamagedFileError(f"{path}: an HDF5 file, but not '{FORMAT}'; give another path with -o, or move it away")
    for name, value in expected.items():
        if file.attrs.get(name) != value:
            raise ValueError(
                f"{path}: holds labels with {name} {file.attrs.get(name)}, asked for {value}; give another file with -o"
            )
