"""The file of labels: HDF5 with one group per structure, safe against crashes.

Layout::

    /                       attributes: format, level, accuracy (JSON), field (JSON), labels (JSON: what each means)
    /structures/KEY         attributes: order, formula, info (JSON), seconds, status (done, failed), reason,
                            not_added (JSON: quantities that were asked for later and failed, and why)
        numbers, positions  the structure
        energy, forces ...  the labels (`properties.DEFINITIONS`), each with its unit as attribute

KEY is a hash of structure, level and field, by which a restart recognises finished structures. A finished structure is
first a small file in `PATH.parts`, which is complete or does not exist. From time to time these are merged into a copy
of the large file, which then replaces it. So a kill at any moment cannot damage finished structures.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import ase
import numpy as np

from ..files import locked
from ..properties import DEFINITIONS
from .calculation import Labels, Request
from .integrity import ROOM, DamagedFileError, check_whole, copy_with_room, damaged, seal
from .records import (
    FORMAT,
    File,
    Record,
    check_description,
    is_hdf5,
    not_added_of,
    open_labels,
    parts_of,
    read_description,
    read_labels,
    record_of,
    structures_of,
)

__all__ = ["DamagedFileError", "LabelStore", "Record", "read_description", "read_labels", "structure_key"]

_MERGE_AT_LEAST = 100


def structure_key(atoms: ase.Atoms, request: Request) -> str:
    """Hash of a calculation: elements, positions to 1e-6 Angstrom, charge, spin, level and field."""
    digest = hashlib.sha256()
    digest.update(np.asarray(atoms.numbers, dtype=np.int64).tobytes())
    # Adding zero turns -0.0 into 0.0.
    digest.update((np.round(np.asarray(atoms.positions, dtype=np.float64), 6) + 0.0).tobytes())
    digest.update(repr((int(atoms.info.get("charge", 0)), int(atoms.info.get("spin", 0)))).encode())
    digest.update(repr((str(request.level), tuple(float(value) for value in request.at(atoms).field))).encode())
    return digest.hexdigest()[:20]


class LabelStore:
    """A file of labels, opened for writing by one process; a context manager.

    Args:
        path: Path of the file, which is made if it does not exist.
        request: Request, with the level, accuracy and field that the file was begun with.

    Raises:
        DamagedFileError: if the file is not readable; the message says what to do.
        ValueError: if the file holds labels of another level, accuracy or field.
        BlockingIOError: if another process is writing to the file.
    """

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        self._request = request
        self._description = _description(request)
        self._parts = parts_of(path)
        self._lock = ExitStack()
        try:
            self._lock.enter_context(locked(_lock_path(path)))
        except BlockingIOError:
            raise BlockingIOError(
                f"{path}: another process is writing labels to it; give another file with -o"
            ) from None
        self._closed = False
        self._contents: dict[str, frozenset[str] | None] = {}
        self._not_added: dict[str, Mapping[str, str]] = {}
        try:
            self._begin()
        except Exception:
            self._lock.close()
            raise

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._contents)

    def close(self) -> None:
        """Merges the remaining parts and releases the file."""
        if self._closed:
            return
        self._merge()
        self._parts.rmdir()
        self._lock.close()
        self._closed = True

    def missing(self, key: str, retry_failed: bool = False) -> bool:
        """Whether this structure still has to be computed.

        A failed structure counts as computed, unless failed ones are retried. One with labels that lacks a requested
        quantity is not done.
        """
        if key not in self._contents:
            return True
        if not self.labelled(key):
            return retry_failed
        return not set(self.lacking(key)).isdisjoint(self.to_compute(key, retry_failed))

    def lacking(self, key: str) -> tuple[str, ...]:
        """The requested quantities of which this structure has not all labels; none if it has no labels at all."""
        labels = self._contents.get(key)
        if labels is None:
            return ()
        return tuple(name for name in self._request.without(labels).quantities if self._request.wanted(name, key))

    def to_compute(self, key: str, retry_failed: bool = False) -> tuple[str, ...]:
        """The requested quantities of this structure, less those that failed when they were to be added."""
        failed = () if retry_failed else self._not_added.get(key, ())
        return tuple(name for name in self._request.quantities if name not in failed)

    def labelled(self, key: str) -> bool:
        """Whether the file has labels of this structure."""
        return self._contents.get(key) is not None

    def labels(self, key: str) -> Labels:
        """The labels of this structure that the file has; empty if it has none."""
        record = self._record(key)
        return {} if record is None else record.labels

    def add(self, key: str, atoms: ase.Atoms, labels: Labels, seconds: float) -> None:
        """Stores the labels of a structure; they are on disk when this returns.

        A structure that has labels already keeps its place in the order and its `atoms.info`.
        """
        record = Record(key, atoms, labels, "", seconds, len(self._contents))
        before = self._record(key)
        if before is not None:
            missing = self._request.without(labels).quantities
            left = {name: reason for name, reason in before.not_added.items() if name in missing}
            record = replace(before, labels=labels, seconds=seconds, not_added=left)
        self._write(record)

    def add_failure(self, key: str, atoms: ase.Atoms, reason: str, seconds: float) -> None:
        """Stores the reason why a structure has no labels, or why it has not got those that it lacks.

        Labels that it has already stay.
        """
        before = self._record(key)
        if before is None:
            self._write(Record(key, atoms, {}, reason, seconds, len(self._contents)))
        else:
            self._write(replace(before, not_added={**before.not_added, **dict.fromkeys(self.lacking(key), reason)}))

    def _begin(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary(self.path)
            with File(temporary, "w", userblock_size=ROOM) as file:
                file.attrs.update(self._description)
                file.attrs["labels"] = json.dumps({name: kind.meaning for name, kind in DEFINITIONS.items()})
                file.create_group("structures")
            _complete(temporary, self.path)
        self._parts.mkdir(exist_ok=True)
        parts = list(self._parts.glob("*.h5"))
        for part in {*damaged(parts), *(part for part in parts if not is_hdf5(part))}:
            part.unlink()  # damaged by a power failure; it is computed again
        check_whole([self.path])
        for file in (self.path, *sorted(self._parts.glob("*.h5"))):
            with open_labels(file) as opened:
                check_description(file, opened, self._description)
                for key, group in opened["structures"].items():
                    self._contents[key] = frozenset(group) if group.attrs["status"] == "done" else None
                    self._not_added[key] = not_added_of(group)

    def _write(self, record: Record) -> None:
        key, atoms, labels = record.key, record.atoms, record.labels
        part = self._part(key)
        temporary = _temporary(part)
        with File(temporary, "w", userblock_size=ROOM) as file:
            file.attrs.update(self._description)
            group = file.create_group(f"structures/{key}")
            group["numbers"] = np.asarray(atoms.numbers, dtype=np.uint8)
            group["positions"] = np.asarray(atoms.positions, dtype=np.float64)
            for name, values in labels.items():
                packing: Any = {"compression": "gzip", "shuffle": True} if values.size > 256 else {}
                dataset = group.create_dataset(name, data=values, **packing)
                dataset.attrs["unit"] = DEFINITIONS[name].unit
            group.attrs.update(
                order=record.order,
                formula=atoms.get_chemical_formula(),
                info=json.dumps(_plain(atoms.info)),
                seconds=record.seconds,
                reason=record.reason,
                status="failed" if record.reason else "done",
                not_added=json.dumps(dict(record.not_added)),
            )
        _complete(temporary, part)
        self._contents[key] = None if record.reason else frozenset(labels)
        self._not_added[key] = record.not_added
        waiting = sum(1 for _ in self._parts.glob("*.h5"))
        if waiting >= max(_MERGE_AT_LEAST, len(self._contents) // 3):
            self._merge()

    def _record(self, key: str) -> Record | None:
        if not self.labelled(key):
            return None
        part = self._part(key)
        with open_labels(part if part.exists() else self.path) as file:
            return record_of(key, structures_of(file)[key])

    def _part(self, key: str) -> Path:
        return self._parts / f"{key}.h5"

    def _merge(self) -> None:
        parts = sorted(self._parts.glob("*.h5"))
        if parts:
            temporary = _temporary(self.path)
            copy_with_room(self.path, temporary)
            with File(temporary, "r+") as file:
                structures: Any = file["structures"]
                for part in parts:
                    with File(part, "r") as opened:
                        for key in list(structures_of(opened)):
                            if key in structures:
                                del structures[key]
                            opened.copy(f"structures/{key}", structures)
            _complete(temporary, self.path)
        for part in self._parts.iterdir():
            part.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _complete(temporary: Path, path: Path) -> None:
    """Seals what was written, and puts it where it belongs."""
    seal(temporary)
    temporary.replace(path)


def _description(request: Request) -> dict[str, str]:
    return {
        "format": FORMAT,
        "level": str(request.level),
        "accuracy": json.dumps(asdict(request.accuracy), sort_keys=True),
        "field": json.dumps([float(value) for value in request.field]),
    }


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `atoms.info` that can be written as JSON."""
    plain: dict[str, Any] = {}
    for name, value in info.items():
        if isinstance(value, np.generic):
            plain[name] = value.item()
        elif isinstance(value, np.ndarray):
            plain[name] = value.tolist()
        elif isinstance(value, str | int | float | bool):
            plain[name] = value
    return plain
