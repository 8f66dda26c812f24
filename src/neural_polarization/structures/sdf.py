"""MDL mol and SDF files, read by RDKit."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import ase

from neural_polarization.errors import DataError
from neural_polarization.properties import STATES, normalized
from neural_polarization.structures.smiles import molecule_atoms, rdkit
from neural_polarization.structures.xyz import content


def read_sdf(path: Path) -> Iterator[tuple[str, ase.Atoms]]:
    """The structures of an SDF or mol file, each with what errors about it begin with.

    Raises:
        DataError: for a structure that RDKit cannot read, a drawing, or one without its hydrogen atoms.
        ImportError: without RDKit.
    """
    chem, _ = rdkit()
    text = content(path).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    for index, (line, block) in enumerate(_blocks(text)):
        where = f"{path}: structure {index} (line {line})"
        molecule = chem.MolFromMolBlock(block, removeHs=False, strictParsing=True)
        if molecule is None:
            raise DataError(f"{where}: cannot be read by RDKit; is it a whole MDL mol block, are valences right?")
        missing = sum(atom.GetNumImplicitHs() for atom in molecule.GetAtoms())
        flat = molecule.GetNumAtoms() and not molecule.GetConformer().Is3D()
        # Without a dimension code a planar molecule looks like a drawing; one with all its hydrogens is none.
        if flat and (missing or _dimension(block) == "2D"):
            raise DataError(
                f"{where}: has two-dimensional positions only (a drawing); give three-dimensional ones, or SMILES"
            )
        if missing:
            raise DataError(f"{where}: lacks {missing} hydrogen atoms by its valences; add them with positions")
        atoms = molecule_atoms(molecule, where)
        if molecule.HasProp("_Name") and molecule.GetProp("_Name"):
            atoms.info["name"] = molecule.GetProp("_Name")
        _add_fields(atoms, block, where)
        yield where, atoms


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """The records of a file, which end at lines of four dollar signs, and the line at which each begins."""
    lines: list[str] = []
    first = 1
    for number, line in enumerate(text.split("\n"), 1):
        if line.rstrip() != "$$$$":
            lines.append(line.rstrip("\r"))
            continue
        if any(one.strip() for one in lines):
            yield first, "\n".join(lines)
        lines, first = [], number + 1
    if any(one.strip() for one in lines):
        yield first, "\n".join(lines)


def _dimension(block: str) -> str:
    lines = block.split("\n")
    return lines[1][20:22] if len(lines) > 1 else ""


def _add_fields(atoms: ase.Atoms, block: str, where: str) -> None:
    """Data fields (`>  <NAME>`, then a line with the value) beside the molecule."""
    lines = block.split("\n")
    for line, value in itertools.pairwise(lines):
        if not (line.startswith(">") and "<" in line):
            continue
        name = line[line.index("<") + 1 :].split(">")[0].strip()
        if not name:
            continue
        own = next((state for state in ("charge", "spin") if normalized(name) in _names(state)), None)
        # The atoms of a mol block say their charges and radicals themselves.
        if own is not None and own in atoms.info and str(_number(value)) != str(atoms.info[own]):
            raise DataError(
                f"{where}: its atoms have together the {own} {atoms.info[own]}, but its field <{name}> says "
                f"{value.strip()[:40]!r}; correct one of them"
            )
        if own is not None or name not in atoms.info:
            atoms.info[own or name] = _number(value)


def _names(state: str) -> set[str]:
    return {normalized(name) for name in STATES[state]}


def _number(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()
