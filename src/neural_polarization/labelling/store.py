"""The file of labels: HDF5 with one group per structure, safe against crashes.

Layout::

    /                       attributes: format, level, accuracy (JSON), field (JSON), labels (JSON: what each means)
    /structures/KEY         attributes: order, formula, info (JSON), seconds, status (done, failed), reason
        numbers, positions  the structure
        energy, forces ...  the labels (`properties.DEFINITIONS`), each with its unit as attribute

KEY is a hash of structure, level and field, by which a restart recognises finished structures. A finished structure is
first a small file in `PATH.parts`, which is complete or does not exist. From time to time these are merged into a copy
of the large file, which then replaces it. So a kill at any moment cannot damage finished structures.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ase
import numpy as np

from ..errors import UNREADABLE, DataError
from ..files import locked
from ..properties import DEFINITIONS, LARGEST_LABEL
from ..structures import check_structure
from .calculation import Labels, Request
from .integrity import ROOM, DamagedFileError, check_whole, copy_with_room, damaged, remedy, seal

try:
    import h5py
except ImportError:
    raise ImportError("files of labels need h5py: pip install 'h5py>=3.11'") from None

FORMAT = "neural-polarization labels 1"
_MERGE_AT_LEAST = 100
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
    """

    key: str
    atoms: ase.Atoms
    labels: Labels
    reason: str
    seconds: float
    order: int


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
        self._parts = _parts(path)
        self._lock = ExitStack()
        try:
            self._lock.enter_context(locked(_lock_path(path)))
        except BlockingIOError:
            raise BlockingIOError(
                f"{path}: another process is writing labels to it; give another file with -o"
            ) from None
        self._closed = False
        try:
            self._contents = self._begin()
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
        labels = self._contents[key]
        if labels is None:
            return retry_failed
        return any(
            kind.quantity and name not in labels and self._request.wanted(kind.quantity, key)
            for name, kind in DEFINITIONS.items()
        )

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
        before = self._record(key)
        if before is not None:
            atoms = before.atoms.copy()
        self._write(key, atoms, labels, "", seconds, None if before is None else before.order)

    def add_failure(self, key: str, atoms: ase.Atoms, reason: str, seconds: float) -> None:
        """Stores the reason why a structure has no labels."""
        self._write(key, atoms, {}, reason, seconds)

    def _begin(self) -> dict[str, frozenset[str] | None]:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary(self.path)
            with h5py.File(temporary, "w", userblock_size=ROOM) as file:
                file.attrs.update(self._description)
                file.attrs["labels"] = json.dumps({name: kind.meaning for name, kind in DEFINITIONS.items()})
                file.create_group("structures")
            _complete(temporary, self.path)
        self._parts.mkdir(exist_ok=True)
        parts = list(self._parts.glob("*.h5"))
        for part in {*damaged(parts), *(part for part in parts if not h5py.is_hdf5(part))}:
            part.unlink()  # damaged by a power failure; it is computed again
        check_whole([self.path])
        contents: dict[str, frozenset[str] | None] = {}
        for file in (self.path, *sorted(self._parts.glob("*.h5"))):
            with _open(file, "r") as opened:
                _check(file, opened, self._description)
                for key, group in opened["structures"].items():
                    contents[key] = frozenset(group) if group.attrs["status"] == "done" else None
        return contents

    def _write(
        self, key: str, atoms: ase.Atoms, labels: Labels, reason: str, seconds: float, order: int | None = None
    ) -> None:
        part = self._part(key)
        temporary = _temporary(part)
        with h5py.File(temporary, "w", userblock_size=ROOM) as file:
            file.attrs.update(self._description)
            group = file.create_group(f"structures/{key}")
            group["numbers"] = np.asarray(atoms.numbers, dtype=np.uint8)
            group["positions"] = np.asarray(atoms.positions, dtype=np.float64)
            for name, values in labels.items():
                packing: Any = {"compression": "gzip", "shuffle": True} if values.size > 256 else {}
                dataset = group.create_dataset(name, data=values, **packing)
                dataset.attrs["unit"] = DEFINITIONS[name].unit
            group.attrs.update(
                order=len(self._contents) if order is None else order,
                formula=atoms.get_chemical_formula(),
                info=json.dumps(_plain(atoms.info)),
                seconds=seconds,
                reason=reason,
                status="failed" if reason else "done",
            )
        _complete(temporary, part)
        self._contents[key] = None if reason else frozenset(labels)
        waiting = sum(1 for _ in self._parts.glob("*.h5"))
        if waiting >= max(_MERGE_AT_LEAST, len(self._contents) // 3):
            self._merge()

    def _record(self, key: str) -> Record | None:
        if not self.labelled(key):
            return None
        part = self._part(key)
        with _open(part if part.exists() else self.path, "r") as file:
            return _read_record(key, _structures(file)[key])

    def _part(self, key: str) -> Path:
        return self._parts / f"{key}.h5"

    def _merge(self) -> None:
        parts = sorted(self._parts.glob("*.h5"))
        if parts:
            temporary = _temporary(self.path)
            copy_with_room(self.path, temporary)
            with h5py.File(temporary, "r+") as file:
                structures: Any = file["structures"]
                for part in parts:
                    with h5py.File(part, "r") as opened:
                        for key in list(_structures(opened)):
                            if key in structures:
                                del structures[key]
                            opened.copy(f"structures/{key}", structures)
            _complete(temporary, self.path)
        for part in self._parts.iterdir():
            part.unlink()


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
        files = (path, *sorted(_parts(path).glob("*.h5")))
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
    with _open(path, "r") as file:
        _check(path, file, {"format": FORMAT})
        try:
            return {key: _record(path, key, group) for key, group in _structures(file).items()}
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
    with _open(path, "r") as file:
        _check(path, file, {"format": FORMAT})
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


def _structures(file: Any) -> Any:
    return file["structures"]


def _record(path: Path, key: str, group: Any) -> Record:
    record = _read_record(key, group)
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


def _read_record(key: str, group: Any) -> Record:
    return Record(
        key=key,
        atoms=ase.Atoms(group["numbers"][()], group["positions"][()], info=json.loads(group.attrs["info"])),
        labels={name: np.asarray(group[name][()]) for name in group if name not in _STRUCTURE},
        reason=str(group.attrs["reason"]),
        seconds=float(group.attrs["seconds"]),
        order=int(group.attrs["order"]),
    )


def _parts(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _complete(temporary: Path, path: Path) -> None:
    """Seals what was written, and puts it where it belongs."""
    seal(temporary)
    temporary.replace(path)


def _open(path: Path, mode: str) -> Any:
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise DamagedFileError(remedy(path, error)) from error


def _check(path: Path, file: Any, expected: Mapping[str, str]) -> None:
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
