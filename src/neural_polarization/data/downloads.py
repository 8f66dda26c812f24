"""Fetching a published file: with progress, resumed where it stopped, and checked before it gets its name."""

import hashlib
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast

from neural_polarization.errors import DataError
from neural_polarization.files import locked

BLOCK = 1 << 18
ATTEMPTS = 5
TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        url: where it is.
        size: bytes.
        md5: its checksum, as its publisher states it.
    """

    url: str
    size: int
    md5: str


Report = Callable[[str, int, int], None]
"""Is told the name, the bytes that are here, and the bytes that there will be."""


def print_progress(name: str, done: int, total: int) -> None:
    """One line on the terminal that counts up; nothing where errors do not go to a terminal."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", end=end, file=sys.stderr, flush=True)


def download(file: RemoteFile, path: Path, report: Report = print_progress) -> Path:
    """Makes sure that `path` is the published file, fetching what is missing of it.

    What has arrived is kept in `path` with `.part` behind it, and a later call goes on from there.

    Args:
        file: what to fetch.
        path: where it shall be; its folder is created.
        report: is called while bytes arrive.

    Returns:
        `path`.

    Raises:
        DataError: where the network gives up, or what arrived is not the published file.
    """
    # One process at a time: training on several GPUs starts several.
    with locked(path.parent / ".download.lock", wait=-1.0):
        if path.exists():
            _check(path, file, "delete it, and it is downloaded again")
        else:
            _complete(file, path, report)
    return path


def _complete(file: RemoteFile, path: Path, report: Report) -> None:
    part = path.with_name(path.name + ".part")
    reason: Exception | None = None
    for _ in range(ATTEMPTS):
        if part.exists() and part.stat().st_size >= file.size:
            break
        try:
            _fetch(file, part, path.name, report)
        except urllib.error.HTTPError as error:
            reason = error
            error.close()
            if error.code != 416:  # the part is longer than what the server has: start over
                break
            part.unlink(missing_ok=True)
        except (OSError, HTTPException) as error:
            reason = error
    have = part.stat().st_size if part.exists() else 0
    if have < file.size:
        raise DataError(
            f"{path.name}: {have} of {file.size} bytes came from {file.url} ({reason or 'the connection ended'}); "
            f"run again to go on from there, or get the file by other means and put it at {path}"
        )
    try:
        _check(part, file, "it is deleted; run again")
    except DataError:
        part.unlink()
        raise
    part.replace(path)


def _fetch(file: RemoteFile, part: Path, name: str, report: Report) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    with cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT)) as response:
        if response.status != 206:  # the server sends the whole file whatever part is asked for
            have = 0
        with part.open("ab" if have else "wb") as target:
            report(name, have, file.size)
            while block := response.read(BLOCK):
                target.write(block)
                have += len(block)
                report(name, have, file.size)


def _check(path: Path, file: RemoteFile, remedy: str) -> None:
    size = path.stat().st_size
    if size != file.size:
        raise DataError(f"{path}: has {size} bytes, the published file has {file.size}; {remedy}")
    with path.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 != file.md5:
        raise DataError(f"{path}: has MD5 {md5}, the published file has {file.md5}; {remedy}")
