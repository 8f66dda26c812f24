"""What ASE makes room for, or takes as it is, without a look at it: checked before ASE reads a file."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np

from neural_polarization.errors import DataError

_SHAPES = re.compile(rb'"__ndarray__"\s*:\s*\[\s*\[([\d,\s]*)\]')
_CELL = re.compile(r"^\s*_cell_(length|angle)_(\w+)\s+(\S+)", re.MULTILINE)
_WHOLE = 0.99
"""Least occupancy of a site that counts as one: some files have 0.999."""

_POSCAR = ("POSCAR", "CONTCAR")


def check_arrays(path: Path) -> None:
    """No array of an ASE database in JSON may have more numbers than its file has bytes.

    Raises:
        DataError: for a larger one.
    """
    content = path.read_bytes()
    for shape in _SHAPES.findall(content):
        sides = [int(side[:20]) for side in shape.replace(b",", b" ").split()]
        if math.prod(sides) > len(content):
            raise DataError(f"{path}: has an array of shape {shape[:60].decode()}, larger than the file; it is damaged")


def check_counts(path: Path) -> None:
    """A POSCAR file may not claim more atoms than it has lines.

    Raises:
        DataError: for a larger number.
    """
    if not any(name in path.name.upper() for name in _POSCAR) and path.suffix.lower() not in (".vasp", ".poscar"):
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[5:7], 6):  # without the line of symbols the counts stand in line 6
        words = line.split(b"!")[0].split()
        if words and all(word.isdigit() for word in words):
            claimed = sum(min(int(word[:20]), 10**12) for word in words)
            if claimed > len(lines):
                raise DataError(
                    f"{path}: line {number} claims {claimed:,} atoms, but the file has {len(lines):,} lines; it is cut "
                    "off or damaged"
                )
            return


def check_cif(path: Path) -> None:
    """Lengths of a cell in CIF are positive, and angles between 0 and 180 degrees: ASE makes a cell of any others.

    Raises:
        DataError: for other ones.
    """
    if path.suffix.lower() != ".cif":
        return
    for kind, name, word in _CELL.findall(path.read_text(encoding="utf-8", errors="replace")):
        try:
            value = float(word.partition("(")[0])  # 5.64(2) has an uncertainty
        except ValueError:
            continue  # of which ASE says more
        if not 0.0 < value < (180.0 if kind == "angle" else math.inf):
            expected = "degrees between 0 and 180" if kind == "angle" else "a positive length in Angstrom"
            raise DataError(f"{path}: _cell_{kind}_{name} is {word}; expected {expected}: correct it")


def check_occupancies(atoms: ase.Atoms, where: str, columns: bool) -> None:
    """Every site of a structure has one whole atom: of shared ones ASE takes the commonest, or all of them.

    In PDB files some programs write an occupancy of 0 for every atom that they built: those are whole.

    Args:
        atoms: as ASE's reader of CIF or PDB gives them.
        where: what the error begins with.
        columns: whether the atoms' column "occupancy" is that of PDB.

    Raises:
        DataError: for a site that an atom has in part.
    """
    sites = atoms.info.get("occupancy")
    if isinstance(sites, Mapping):
        of_site: Any = next((shares for shares in sites.values() if _in_part(list(shares.values()))), None)
    else:
        shares = np.asarray(atoms.arrays.get("occupancy", ()) if columns else ())
        parts = np.flatnonzero([_in_part([share]) for share in shares.tolist()])
        of_site = {str(atoms.symbols[parts[0]]): float(shares[parts[0]])} if len(parts) else None
    if of_site is not None:
        shared = ", ".join(f"{share:g} {symbol}" for symbol, share in of_site.items())
        raise DataError(
            f"{where}: is disordered: a site has {shared}; expected one whole atom at each site: give one of the "
            "arrangements"
        )


def _in_part(shares: list[Any]) -> bool:
    return any(isinstance(share, int | float) and 0.0 < share < _WHOLE for share in shares)
