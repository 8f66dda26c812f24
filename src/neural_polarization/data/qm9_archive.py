"""QM9 as it was published: an archive of 133,885 text files, and a list of those that are left out."""

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from ase.data import atomic_numbers as number_of

from neural_polarization.data.cache import Array, Arrays, cached
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.downloads import RemoteFile, Report, download, print_progress
from neural_polarization.data.qm9 import QM9_COLUMNS, qm9_dataset
from neural_polarization.errors import DataError
from neural_polarization.text import counted

ARCHIVE = "dsgdb9nsd.xyz.tar.bz2"
UNCHARACTERIZED = "uncharacterized.txt"

PUBLISHED: Mapping[str, RemoteFile] = MappingProxyType(
    {
        ARCHIVE: RemoteFile(
            "https://ndownloader.figshare.com/files/3195389", 86_144_227, "ad1ebd51ee7f5b3a6e32e974e5d54012"
        ),
        UNCHARACTERIZED: RemoteFile(
            "https://ndownloader.figshare.com/files/3195404", 486_752, "a361887bacb427b8a0ce7903d92a53b4"
        ),
    }
)
"""The files of doi:10.6084/m9.figshare.c.978904 that are used, with the checksums stated there."""

_MOST_MOLECULES = 10**9
_LARGEST_RECORD = 100_000  # bytes; the longest one has 3 thousand
_FIELDS = ("A", "B", "C", *QM9_COLUMNS)  # three rotational constants, then the targets in this order


def download_qm9(
    folder: Path, published: Mapping[str, RemoteFile] = PUBLISHED, report: Report = print_progress
) -> Path:
    """Makes sure that the published files are in a folder.

    Args:
        folder: created if missing.
        published: what to fetch, by file name.
        report: is told of the progress.

    Returns:
        The archive.

    Raises:
        DataError: as `download`.
    """
    for name, file in published.items():
        download(file, folder / name, report)
    return folder / ARCHIVE


def read_qm9(
    path: Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    exclude: Path | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """QM9 from its published archive.

    Args:
        path: the .tar.bz2 file, or a folder (what has no suffix is one, and is made) into which it and the list of
            molecules without a consistent geometry are downloaded if they are not there; these molecules are then
            left out.
        properties: which of the twelve targets, keyed by the name they get; all if left out.
        exclude: a list of GDB9 numbers that are left out (uncharacterized.txt).
        cache_directory: where the parsed archive and neighbour lists are kept; None keeps nothing.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that is cut off or not understood, naming the line.
    """
    if path.is_dir() or not (path.suffix or path.exists()):
        folder = path
        path = download_qm9(folder)
        exclude = exclude or folder / UNCHARACTERIZED
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected {ARCHIVE}, or a folder to download it into")
    left_out = np.zeros(0, np.int64) if exclude is None else read_excluded(exclude)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    arrays = cached(cache_directory, f"qm9-1-{digest[:32]}", lambda: _parse_archive(path), _valid)
    dataset = qm9_dataset(str(path), arrays, properties, cache_directory)
    return dataset.subset(np.flatnonzero(~np.isin(arrays["index"], left_out))) if len(left_out) else dataset


def read_excluded(path: Path) -> Array:
    """GDB9 numbers of molecules to leave out: the first column of the published table, or one per line.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: where the file has no such number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected {UNCHARACTERIZED}")
    rows = [line.split() for line in path.read_text(errors="replace").splitlines()]
    # The table ends with its number of rows in words: two words, unlike any row of it.
    numbers = [int(row[0]) for row in rows if row and row[0].isdigit() and len(row) != 2]
    if not numbers:
        raise DataError(f"{path}: has no line that begins with a number; expected {UNCHARACTERIZED}")
    return np.array(numbers, np.int64)


def _valid(arrays: Arrays) -> bool:
    return {"index", "n_atoms", "atomic_numbers", "positions", *QM9_COLUMNS} == set(arrays)


def _parse_archive(path: Path) -> Arrays:
    index: list[int] = []
    sizes: list[int] = []
    numbers: list[int] = []
    positions: list[list[float]] = []
    targets: list[list[float]] = []
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                place = f"{path}: {member.name}"
                if not member.name.endswith(".xyz") or member.isdir():
                    continue
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None or member.size > _LARGEST_RECORD:
                    raise DataError(f"{place}: is no small text file; expected {ARCHIVE} as published")
                gdb, values, elements, points = parse_record(place, stream.read().decode(errors="replace"))
                index.append(gdb)
                sizes.append(len(elements))
                numbers += elements
                positions += points
                targets.append(values)
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: cannot be read after {counted(len(index), 'molecule')} ({error}); the archive is cut off or "
            "damaged: delete it and download it again"
        ) from None
    if not index:
        raise DataError(f"{path}: holds no .xyz file; expected {ARCHIVE}")
    order = np.argsort(index, kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        raise DataError(f"{path}: its molecules are not in ascending order; expected {ARCHIVE} as published")
    columns = np.array(targets, np.float64)
    return {
        "index": np.array(index, np.int64),
        "n_atoms": np.array(sizes, np.int64),
        "atomic_numbers": np.array(numbers, np.int64),
        "positions": np.array(positions, np.float64),
    } | {name: columns[:, k] for k, name in enumerate(QM9_COLUMNS)}


def parse_record(place: str, text: str) -> tuple[int, list[float], list[int], list[list[float]]]:
    """One file of the archive.

    Args:
        place: what errors begin with.
        text: number of atoms; "gdb", the GDB9 number, three rotational constants and the twelve targets; one line
            per atom with element, position and Mulliken charge; further lines that are not used. Some numbers
            are written as 1.5*^-6.

    Returns:
        GDB9 number, targets in the archive's units, atomic numbers and positions (Angstrom).

    Raises:
        DataError: naming the line that is not understood.
    """
    lines = [one.rstrip("\r") for one in text.replace("*^", "e").removeprefix("\ufeff").split("\n")]
    line = 0
    try:
        size = int(lines[0])
        line = 1
        head = lines[1].split()
        gdb = int(head[1])
        values = [float(word) for word in head[2:]]
        if len(values) != len(_FIELDS):
            raise ValueError(f"{len(values)} numbers instead of {len(_FIELDS)}")
        elements: list[int] = []
        positions: list[list[float]] = []
        for line in range(2, 2 + size):
            symbol, x, y, z, _ = lines[line].split()
            elements.append(number_of[symbol])
            positions.append([float(x), float(y), float(z)])
    except (ValueError, KeyError, IndexError) as error:
        expected = "an atom" if line > 1 else ("the number of atoms", "gdb, a number and 15 values")[line]
        found = repr(lines[line][:80]) if any(lines[line:]) else "the end of the file"
        raise DataError(
            f"{place}: line {line + 1} is not understood ({error}); expected {expected}, found {found}"
        ) from None
    after = lines[2 + size].split() if 2 + size < len(lines) else []
    if (after and after[0] in number_of) or size < 1 or not 0 <= gdb < _MOST_MOLECULES:
        raise DataError(
            f"{place}: its first line says {counted(size, 'atom')} and its second GDB9 number {gdb}, but line "
            f"{size + 3} is {' '.join(after)[:60]!r}; the record is damaged"
        )
    return gdb, values[3:], elements, positions
