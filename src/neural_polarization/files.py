"""Files that are complete or not there at all: text, JSON and arrays; and locks between processes."""

import json
import os
import tempfile
import time
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

_UMASK = os.umask(0)
os.umask(_UMASK)  # it cannot be read without being set


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Makes sure that a file can be written, and is only replaced on purpose; to be called before the work.

    Raises:
        IsADirectoryError: if the path is that of a folder.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where its folder, which is made, cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of a file")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists; give another path, or --overwrite (in Python overwrite=True) to replace it"
        )
    check_folder(path)


def check_folder(path: Path) -> None:
    """Makes the folder of a file, and makes sure that it can be written; to be called before the work.

    Raises:
        OSError: otherwise.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path}: its folder cannot be written ({error.strerror or error}); choose another one") from None


def check_file(path: str | Path, overwrite: bool, endings: Collection[str], what: str) -> None:
    """Makes sure that a file can be written whose ending says its format; to be called before the work.

    Args:
        path: the file.
        overwrite: whether a file that is there may be replaced.
        endings: those that are known, in small letters.
        what: the file is, for the error of another ending.

    Raises:
        ValueError: for another ending.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where its folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path}: unknown kind of {what}; the ending must be one of {', '.join(endings)}")
    refuse_existing(path, overwrite)


@contextmanager
def replacing(path: Path) -> Generator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends; after an error nothing has changed.

    An existing file keeps its permissions, and a link goes on pointing to its file.

    Args:
        path: its directory is made where it is missing.

    Raises:
        OSError: where the disk cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with replacing(Path(directory) / "results" / "table.txt") as file:
        ...         _ = file.write(b"complete")
        ...     (Path(directory) / "results" / "table.txt").read_text()
        'complete'
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_UMASK
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)  # mkstemp makes files that nobody else can read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Generator[None]:
    """Keeps other processes out for as long as the block lasts; the lock ends with the process, however it ends.

    Args:
        path: the file of the lock, which is there as long as the lock is; its directory is made where it is missing.
        wait: seconds to wait for another process that has the lock; a negative number waits for ever.

    Raises:
        BlockingIOError: where another process still has the lock after this time.
        OSError: where its directory cannot be written, which would look like another process's lock.
    """
    check_folder(path)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise BlockingIOError(f"{path}: another process has this lock") from None
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows removes the file with the lock, not before
            path.unlink(missing_ok=True)
        lock.release()


def remove_leftovers(path: Path, older: float = 0.0) -> None:
    """Removes what writers of a file left behind when they were killed.

    Args:
        path: the file; nobody may be writing it, unless `older` is longer than writing takes.
        older: least age of what is removed, seconds.
    """
    for leftover in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime >= older:
                leftover.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a file that is complete or not there at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes plain values as JSON, complete or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, np.dtype[Any]]], compress: bool) -> None:
    """Writes a .npz file; an existing one is replaced only when the new one is complete.

    Raises:
        OSError: where the disk cannot be written.
    """
    with replacing(path) as file:
        save = np.savez_compressed if compress else np.savez
        save(file, allow_pickle=False, **arrays)
