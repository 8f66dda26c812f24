"""Whether files of labels are whole, found out before HDF5 reads them: its library loops for ever on some damaged ones.

A file is sealed when it is written: its first bytes, which HDF5 leaves to its users, hold a checksum of the rest. A
file without a seal, as release 0.1.0 wrote them, is first read by a process that may loop or crash.
"""

import hashlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from ..errors import DataError

ROOM = 512
"""Bytes before the contents of a sealed file: the smallest user block of HDF5."""

PATIENCE = 8.0
"""Seconds that reading one structure may take, of some milliseconds that it takes."""

_START = 60.0  # seconds that a process may take to start, on a busy machine
_MARK = b"neural-polarization labels, sha256 of all bytes from 512 on: "
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class DamagedFileError(DataError):
    """The file cannot be read as a file of labels."""


def seal(path: Path) -> None:
    """Stores the checksum of a file in its first bytes; whoever changes a file of labels on purpose calls this.

    Args:
        path: HDF5 file with a user block of `ROOM` bytes.

    Raises:
        DataError: for a file without a user block.
    """
    with path.open("r+b") as file:
        if not _has_room(file):
            raise DataError(f"{path}: has no user block of {ROOM} bytes for a checksum; `npol label` makes one")
        seal = _MARK + _checksum(file)
        file.seek(0)
        file.write(seal.ljust(ROOM, b"\0"))


def copy_with_room(source: Path, target: Path) -> None:
    """Copies an HDF5 file; the copy has a user block, also where the source has none."""
    with source.open("rb") as file, target.open("wb") as copy:
        if not _has_room(file):
            copy.write(b"\0" * ROOM)
        file.seek(0)
        while block := file.read(1 << 20):
            copy.write(block)


def check_whole(files: Iterable[Path]) -> None:
    """Raises for the first file that is not what was written, or that HDF5's library does not get through.

    Raises:
        DamagedFileError: with the remedy.
    """
    for path, reason in damaged(files).items():
        raise DamagedFileError(remedy(path, reason))


def damaged(files: Iterable[Path]) -> dict[Path, str]:
    """Files that must not be opened, and the reason of each."""
    found: dict[Path, str] = {}
    unsealed: list[Path] = []
    for path in files:
        try:
            with path.open("rb") as file:
                is_right = _is_as_sealed(file)
        except OSError as error:
            found[path] = str(error)
            continue
        if is_right is None:
            unsealed.append(path)
        elif not is_right:
            found[path] = (
                "its checksum is not that of its contents; if you changed them on purpose, call "
                "neural_polarization.labelling.integrity.seal"
            )
    return found | (_unreadable(unsealed) if unsealed else {})


def remedy(path: Path, reason: Exception | str) -> str:
    """What is said of a file that cannot be read."""
    return (
        f"{path}: cannot be read as a file of labels ({reason}); it is damaged, cut off or of another kind. Restore it "
        "from a copy, or move it away and run the same command again, which computes its structures anew"
    )


def _has_room(file: IO[bytes]) -> bool:
    file.seek(ROOM)
    return file.read(len(_SIGNATURE)) == _SIGNATURE


def _checksum(file: IO[bytes]) -> bytes:
    file.seek(ROOM)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest().encode()


def _is_as_sealed(file: IO[bytes]) -> bool | None:
    """Whether the contents are those that were sealed; None without a seal."""
    start = file.read(ROOM)
    if not start.startswith(_MARK):
        return None
    return start[len(_MARK) :].rstrip(b"\0") == _checksum(file)


def _unreadable(files: Sequence[Path]) -> dict[Path, str]:
    """Files that a process does not get through, and why."""
    found: dict[Path, str] = {}
    rest = list(files)
    while rest:
        read, reason = _probe(rest)
        if not reason or not read:
            break  # all were read, or the process did not start
        found[rest[read - 1]] = reason
        rest = rest[read:]
    return found


def _probe(files: Sequence[Path]) -> tuple[int, str]:
    """Reads files in a process of its own.

    Returns:
        Number of files that were begun, and what happened in the last of them; empty if all were read.
    """
    from . import probe

    # Without -P the modules of this room would stand before those of other packages.
    words = [sys.executable, "-P", str(probe.__file__)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        lines = _lines_of(process.stdout)
        process.stdin.write(json.dumps([str(file) for file in files]))
        process.stdin.close()
        begun = 0
        try:
            line = lines.get(timeout=_START)
            while line not in (probe.END, ""):
                begun += line == probe.FILE
                line = lines.get(timeout=PATIENCE)
        except queue.Empty:
            return begun, f"HDF5's library did not get through it in {PATIENCE:.0f} seconds"
        finally:
            process.kill()
    return begun, "" if line == probe.END else "HDF5's library crashed"


def _lines_of(stream: Iterable[str]) -> "queue.SimpleQueue[str]":
    """Lines as they come, and an empty one at the end."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def pump() -> None:
        for line in stream:
            lines.put(line.strip())
        lines.put("")

    threading.Thread(target=pump, daemon=True).start()
    return lines
