"""Reading .npz files with errors that say what is wrong with the file."""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import numpy as np

from neural_polarization.data.cache import Array
from neural_polarization.errors import DataError, nearest

_DAMAGED = (zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, MemoryError)
_MOST_COMPRESSED = 1100
"""Deflate never makes data more than 1,032 times smaller."""


@final
class ArrayFile:
    """The arrays of a .npz file, read when they are asked for.

    Args:
        path: the file.
        layout: what the file should be, for errors: "a packed QM9 file".

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for another kind of file, or one that is cut off.
    """

    def __init__(self, path: str | Path, layout: str) -> None:
        self.path = Path(path)
        self._layout = layout
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; expected {layout}")
        try:
            # numpy leaves a damaged file open if it opened it.
            with self.path.open("rb") as stream:
                file = np.load(stream, allow_pickle=False)
                if not isinstance(file, np.lib.npyio.NpzFile):
                    raise DataError(f"{path}: is a single array (.npy); expected {layout} (.npz)")
                self.names: tuple[str, ...] = tuple(file.files)
        except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
            raise DataError(
                f"{path}: cannot be read as .npz ({error}); expected {layout}. Is the file complete?"
            ) from None
        except DataError:
            raise
        except ValueError:  # numpy takes it for a pickle
            raise DataError(f"{path}: is not a .npz file; expected {layout}") from None

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def require(self, names: Iterable[str]) -> None:
        """Makes sure that arrays are there.

        Raises:
            DataError: naming the first one that is missing.
        """
        for name in names:
            if name not in self.names:
                raise DataError(
                    f"{self.path}: has no array {name!r}; expected {self._layout}; {nearest(name, self.names)}"
                )

    def __getitem__(self, name: str) -> Array:
        self.require([name])
        self._check_size(name)
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                array = file[name]
        except ValueError as error:
            if "pickle" not in str(error).lower():
                raise DataError(f"{self.path}: array {name!r} is damaged ({error}); get the file again") from None
            raise DataError(
                f"{self.path}: array {name!r} holds Python objects, which could run code when loaded; store it as "
                "numbers or text"
            ) from None
        except _DAMAGED as error:
            raise DataError(f"{self.path}: array {name!r} is damaged ({error}); get the file again") from None
        if not isinstance(array, np.ndarray):
            raise DataError(f"{self.path}: {name!r} is no array of numpy; expected {self._layout}")
        return array

    def _check_size(self, name: str) -> None:
        """The size that an array claims has to be the one that it has, before room is made for it."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                member = next(info for info in archive.infolist() if info.filename in (name, f"{name}.npy"))
                if member.file_size > _MOST_COMPRESSED * (member.compress_size + 1):
                    raise DataError(
                        f"{self.path}: array {name!r} claims {member.file_size:,} bytes in {member.compress_size:,}; "
                        "the file is damaged: get it again"
                    )
                with archive.open(member) as stream:
                    claimed = _claimed_bytes(stream)
                    header = stream.tell()
        except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.path}: array {name!r} is damaged ({error}); get the file again") from None
        except (ValueError, SyntaxError, RecursionError, tokenize.TokenError):
            raise DataError(
                f"{self.path}: {name!r} is no array of numpy, or its header is damaged; expected {self._layout}"
            ) from None
        if claimed is not None and claimed != member.file_size - header:
            raise DataError(
                f"{self.path}: array {name!r} claims {claimed:,} bytes and has {member.file_size - header:,}; the file "
                "is damaged: get it again"
            )

    def numbers(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """An array of numbers of a certain shape.

        Args:
            name: key in the file.
            shape: expected length of each axis; None where any will do.

        Raises:
            DataError: where it is missing, damaged, not numbers or of another shape.
        """
        array = self[name]
        fits = array.ndim == len(shape) and all(
            want is None or want == have for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in "iuf":
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise DataError(
                f"{self.path}: array {name!r} has shape {array.shape} and type {array.dtype}; expected numbers of "
                f"shape ({wanted})"
            )
        return array

    def values(self, name: str) -> Array:
        """An array of numbers of any shape.

        Raises:
            DataError: where it is missing, damaged, or no real numbers (complex, true and false, dates, text).
        """
        array = self[name]
        if array.dtype.kind not in "iuf":
            raise DataError(f"{self.path}: array {name!r} has type {array.dtype}; expected real numbers")
        return array


def _claimed_bytes(stream: Any) -> int | None:
    """Bytes that the header of an array claims; None for Python objects, which are refused elsewhere."""
    # numpy's own types of the header's readers do not know the members of an archive.
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    return None if kind.hasobject else math.prod(shape) * kind.itemsize
