"""Arrays kept on disk between runs: written in one step, and made again when a file is damaged."""

import contextlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from neural_polarization.files import write_arrays

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Arrays: TypeAlias = Mapping[str, Array]


WORTH_KEEPING = 5_000_000
"""Pairs of atoms from which on a result is kept on disk: with fewer, making it takes less than a second."""


def default_cache_directory() -> Path | None:
    """`neural_polarization` in $XDG_CACHE_HOME, or in ~/.cache; None where the user has no home directory."""
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "neural_polarization"
    except RuntimeError:  # an unknown user without HOME, as in some containers
        return None


def cached(directory: Path | None, name: str, build: Callable[[], Arrays], valid: Callable[[Arrays], bool]) -> Arrays:
    """What `build` returns, from the disk where an earlier call left it.

    Args:
        directory: where to keep it, created if missing; None, or a place that cannot be written, keeps nothing.
        name: file name without ending; it has to contain a hash of all that the result depends on.
        build: makes the arrays.
        valid: whether arrays that were read back fit together.
    """
    if directory is None:
        return build()
    path = directory / f"{name}.npz"
    if path.exists():
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            if valid(arrays):
                return arrays
            reason = "its arrays do not fit together"
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error)
        warnings.warn(f"the cache {path} is damaged ({reason}); it is made again", stacklevel=2)
    arrays = build()
    with contextlib.suppress(OSError):  # a full or read-only disk only costs the time next time
        write_arrays(path, arrays, compress=False)
    return arrays
