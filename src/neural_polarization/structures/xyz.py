"""XYZ and extended XYZ: how a file is cut into structures, and how each of them is read."""

import bz2
import gzip
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase
import ase.io
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.io.extxyz import key_val_str_to_dict

from neural_polarization.errors import UNREADABLE, DataError, reason
from neural_polarization.text import counted

_EXTENDED = re.compile(r"""(^|\s)["']?(Properties|Lattice|pbc)["']?\s*=""")
"""What tells the comment of extended XYZ: its columns, its cell, its periodic directions."""

_COLUMNS = re.compile(r"""Properties["']?\s*=\s*["']?([^\s"']+)""")
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Characters that some programs take for the end of a line; here only a line feed is one."""

_WITH_COLON = re.compile(
    r"""(?<!["'\w])((?:\w+_)?charge|spin|mult|(?:\w+_)?multiplicity):\s*([-+]?\d+)(?![\w.])""", re.IGNORECASE
)
"""A charge or a multiplicity as people write it in a comment, `charge: 1`, which is meant as `charge=1`."""

_MOST_DIGITS = 9
_OPENERS: Mapping[str, Callable[..., Any]] = MappingProxyType({".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open})
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
COMPRESSED = tuple(_OPENERS)
"""Endings of compressed files that are read as what they hold."""


@dataclass(frozen=True)
class XyzFrame:
    """One structure of an XYZ file, as it is written there.

    Attributes:
        path: the file.
        where: what errors begin with: the file, which structure, and its first line.
        first_line: where its number of atoms stands, from 1.
        lines: the number of atoms, the comment, and one line per atom.
    """

    path: Path
    where: str
    first_line: int
    lines: list[str]


def xyz_frames(path: Path) -> Iterator[XyzFrame]:
    """Cuts an XYZ or extended XYZ file into its structures, without understanding their atoms.

    Args:
        path: the file, which may be compressed (.gz, .bz2, .xz).

    Raises:
        DataError: for a file that is no text, is cut off or is of another kind, with the line.
    """
    try:
        with open_text(path) as file:
            yield from _cut(path, file)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is no text file ({error.reason}); expected XYZ or extended XYZ{other_kind(path)}"
        ) from None
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be read ({error}); is the file complete?") from None


def open_text(path: Path) -> io.TextIOWrapper:
    """A text file for reading, compressed or not; a byte order mark is skipped, and lines end at line feeds only."""
    opener = _OPENERS.get(path.suffix.lower(), open)
    return opener(path, "rt", encoding="utf-8-sig", newline="\n")


def content(path: Path) -> bytes:
    """What is in a file, compressed or not.

    Raises:
        DataError: for a compressed file that is damaged.
    """
    try:
        with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
            return file.read()
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be read ({error}); is the file complete?") from None


def _cut(path: Path, file: io.TextIOWrapper) -> Iterator[XyzFrame]:
    number = index = 0  # the line read last, and structures so far
    for line in file:
        number += 1
        count = line.strip()
        if not count:
            continue  # blank lines may stand between structures and at the end
        where = f"{path}: structure {index} (line {number})"
        if not (count.isascii() and count.isdecimal()):
            raise DataError(
                f"{path}: line {number} should be the number of atoms of structure {index}, found "
                f"{count[:60]!r}; is this XYZ?"
            )
        if len(count) > _MOST_DIGITS:
            raise DataError(f"{where}: {count[:20]}... atoms are too many; is this XYZ?")
        if int(count) == 0:
            raise DataError(f"{where}: has no atoms; leave it out")
        lines = [line, *itertools.islice(file, int(count) + 1)]
        if len(lines) < int(count) + 2:
            raise DataError(
                f"{where}: should have {counted(int(count), 'atom')} up to line {number + int(count) + 1}, but the "
                f"file ends at line {number + len(lines) - 1}; it is cut off, or the number is wrong"
            )
        yield XyzFrame(path, where, number, [_SEPARATORS.sub(" ", one).rstrip("\r\n") for one in lines])
        number, index = number + len(lines) - 1, index + 1


def xyz_structure(frame: XyzFrame) -> ase.Atoms:
    """A structure with everything that stands beside it: extended XYZ where the comment says so, else plain XYZ.

    Raises:
        DataError: for a structure that is not understood.
    """
    comment = _WITH_COLON.sub(r"\1=\2", frame.lines[1])
    frame = replace(frame, lines=[frame.lines[0], comment, *frame.lines[2:]])
    return _extended(frame) if _EXTENDED.search(comment) else _plain(frame)


def _extended(frame: XyzFrame) -> ase.Atoms:
    """ASE gets one structure at a time: it takes a blank line between two of them for the end of the file."""
    _check_columns(frame)
    try:
        atoms: Any = ase.io.read(io.StringIO("\n".join(frame.lines) + "\n"), format="extxyz")
    except UNREADABLE as error:
        raise DataError(
            f"{frame.where}: is not understood ({reason(error)}); expected elements, positions and the columns that "
            "Properties names, and a Lattice of nine numbers if there is one"
        ) from None
    # ASE takes the SMILES of hydrogen fluoride, "F", for a truth value.
    if isinstance(atoms.info.get("smiles"), bool | np.bool_):
        atoms.info["smiles"] = "F"
    return atoms


def _check_columns(frame: XyzFrame) -> None:
    """ASE would make room for as many columns as Properties names, however many these are."""
    named = _COLUMNS.search(frame.lines[1])
    if named is None:
        return
    counts = named[1].split(":")[2::3]
    try:
        columns = sum(int(count) for count in counts)
    except ValueError:
        raise DataError(
            f"{frame.where}: Properties={named[1][:60]} is not understood; expected name:kind:columns, such as "
            "species:S:1:pos:R:3"
        ) from None
    found = len(frame.lines[2].split())
    if columns > found or min((int(count) for count in counts), default=1) < 1:
        raise DataError(
            f"{frame.where}: Properties names {columns} columns, but the first atom has {found}; the structure is not "
            "understood: correct Properties"
        )


def _plain(frame: XyzFrame) -> ase.Atoms:
    symbols: list[int] = []
    positions: list[list[float]] = []
    for number, line in enumerate(frame.lines[2:], frame.first_line + 2):
        place = f"{frame.path}: line {number}"
        words = line.split()
        if len(words) < 4:
            raise DataError(f"{place}: expected element, x, y and z, found {line.strip()[:60]!r}")
        element = int(words[0]) if words[0].isdecimal() and len(words[0]) < 4 else 0
        element = element or atomic_numbers.get(words[0].capitalize(), 0)
        if not 0 < element < len(chemical_symbols):
            raise DataError(f"{place}: {words[0][:20]!r} is no element; expected H, C, ... or atomic numbers")
        try:
            positions.append([float(word) for word in words[1:4]])
        except ValueError:
            raise DataError(
                f"{place}: {' '.join(words[1:4])[:60]!r} are not three numbers; expected x, y, z in Angstrom"
            ) from None
        symbols.append(element)
    return ase.Atoms(symbols, np.reshape(positions, (-1, 3)), info=_comment_values(frame.lines[1]))


def _comment_values(comment: str) -> dict[str, Any]:
    """Values of key=value pairs; a comment in plain words has none."""
    if "=" not in comment:
        return {}
    try:
        return key_val_str_to_dict(comment)
    except (ValueError, IndexError, KeyError, RecursionError):
        return {}


def other_kind(path: Path) -> str:
    """A hint that ends an error: what a file that was not understood is instead, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK"):
        return '; it looks like a .npz file: format is then "packed" (or "qm9", "rmd17")'
    if start.startswith((b"- of Ulm", b"SQLite format 3")):
        return '; it looks like a file of ASE: format is then "ase"'
    if start.startswith((b"\x89HDF", b"neural-polariz")):
        return "; it looks like HDF5: labels become a data set by npol pack"
    return ""
