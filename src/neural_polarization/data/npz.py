"""Reading .npz files with errors that say what is wrong with the file."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import final

import numpy as np

from neural_polarization.data.cache import Array
from neural_polarization.errors import DataError, nearest


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
        except (zipfile.BadZipFile, EOFError, OSError) as error:
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
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return file[name]
        except ValueError as error:
            if "pickle" not in str(error).lower():
                raise DataError(f"{self.path}: array {name!r} is damaged ({error}); get the file again") from None
            raise DataError(
                f"{self.path}: array {name!r} holds Python objects, which could run code when loaded; store it as "
                "numbers or text"
            ) from None
        except (zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
            raise DataError(f"{self.path}: array {name!r} is damaged ({error}); get the file again") from None

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
