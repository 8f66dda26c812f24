"""Reads HDF5 files of labels in a process of its own, which may loop for ever or crash: `integrity` runs this file.

It takes a JSON list of paths from standard input, and writes a line before each file and after each structure.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import h5py

READY, FILE, ALIVE, END = "ready", "file", "alive", "end"
"""The lines that it writes."""


def main() -> None:
    """Reads all that a reader of labels will read. Errors of Python are left to that reader, which says them better."""
    paths = json.load(sys.stdin)
    _write(READY)
    for path in paths:
        _write(FILE)
        with suppress(Exception), h5py.File(path, "r") as file:
            for _ in _read(file):
                _write(ALIVE)
    _write(END)


def _read(file: Any) -> Iterator[None]:
    dict(file.attrs)
    for group in file["structures"].values():
        dict(group.attrs)
        for dataset in group.values():
            dict(dataset.attrs)
            dataset[()]
        yield


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
