"""Structures from files that people have: XYZ, extended XYZ, SDF and lists of SMILES.

Every structure is checked when it is read: a wrong file is an error that names the place and the remedy, never a
strange result later. `atoms.info` holds the total "charge" (e, whole) and "spin" (number of unpaired electrons)
where the file says so.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase
import ase.io
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.io.extxyz import key_val_str_to_dict
from scipy.spatial import KDTree

from neural_polarization.errors import UNREADABLE, DataError, reason

CLOSEST = 0.4
"""Atoms nearer than this, in Angstrom, are at one place: about half of the shortest bond that there is (H2, 0.74)."""


_EXTENDED = re.compile(r"""(^|\s)["']?(Properties|Lattice|pbc)["']?\s*=""")
"""What tells the comment of extended XYZ: its columns, its cell, its periodic directions."""


def read_structures(path: str | Path, seed: int = 0) -> list[ase.Atoms]:
    """All structures of a file, checked.

    Args:
        path: .xyz or .extxyz (any number of structures; `charge=1 spin=1` in the comment line), .sdf or .mol
            (three-dimensional, with all hydrogens), .smi or .smiles (one SMILES per line, a name may follow; they
            are embedded and relaxed in a force field). The last two kinds need RDKit.
        seed: of the embedding of SMILES.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that cannot be read or holds an impossible structure; with line or index and remedy.
        ImportError: where RDKit is needed and missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected one of {', '.join(_READERS)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: the ending {path.suffix!r} is not known; expected one of {', '.join(_READERS)}")
    structures: list[ase.Atoms] = []
    for where, atoms in reader(path, seed):
        check_structure(atoms, where)
        structures.append(atoms)
    if not structures:
        raise DataError(f"{path}: holds no structures; expected at least one")
    return structures


def check_structure(atoms: ase.Atoms, where: str) -> None:
    """Raises where a structure cannot be.

    Args:
        atoms: positions in Angstrom.
        where: what the error begins with: file and line, or an index.

    Raises:
        DataError: for no atoms, an unknown element, positions that are not finite, two atoms at one place, or a
            charge or spin that is not a whole number.
    """
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms; leave it out")
    numbers = np.asarray(atoms.numbers)
    if (numbers < 1).any():
        atom = int(np.argmax(numbers < 1))
        raise DataError(f"{where}: atom {atom} is no element (number {numbers[atom]}); expected H, He, Li ...")
    finite = np.isfinite(atoms.positions).all(axis=1)
    if not finite.all():
        atom = int(np.argmin(finite))
        raise DataError(
            f"{where}: position of atom {atom} ({chemical_symbols[numbers[atom]]}) is "
            f"{atoms.positions[atom].tolist()}; expected three finite numbers in Angstrom"
        )
    pairs = KDTree(atoms.positions).query_pairs(CLOSEST)
    if pairs:
        first, second = min(pairs)
        distance = float(np.linalg.norm(atoms.positions[first] - atoms.positions[second]))
        raise DataError(
            f"{where}: atoms {first} and {second} are {distance:.3f} Angstrom apart, at one place; are positions in "
            "Angstrom, and is no atom there twice?"
        )
    for name in ("charge", "spin"):
        value = atoms.info.get(name, 0)
        if not isinstance(value, int | float | np.number) or float(value) != round(float(value)):
            raise DataError(f"{where}: {name} is {value}; expected a whole number")
        if name == "spin" and value < 0:
            raise DataError(f"{where}: spin is {value}; expected the number of unpaired electrons, 0 or more")


def check_isolated(atoms: ase.Atoms, where: str) -> None:
    """Raises where a structure repeats in space, for calculations of single molecules.

    Raises:
        DataError: for a structure that is periodic in any direction.
    """
    if atoms.pbc.any():
        raise DataError(
            f"{where}: is periodic along {int(atoms.pbc.sum())} of 3 directions, but is computed as an isolated "
            'molecule; set pbc="F F F" if it is one, or leave it out'
        )


def check_electrons(atoms: ase.Atoms, where: str) -> None:
    """Raises where charge and spin do not fit the elements.

    Raises:
        DataError: where no electron is left, or unpaired electrons and electrons are not both even or both odd.
    """
    charge, spin = int(atoms.info.get("charge", 0)), int(atoms.info.get("spin", 0))
    electrons = int(np.sum(atoms.numbers)) - charge
    if electrons < 1:
        raise DataError(f"{where}: charge {charge:+d} leaves {electrons} electrons; expected at least 1")
    if spin > electrons or (electrons - spin) % 2:
        raise DataError(
            f"{where}: {atoms.get_chemical_formula()} with charge {charge:+d} has {electrons} electrons, which cannot "
            f"have {spin} unpaired; give spin={electrons % 2} (or another number that is {_parity(electrons)}) or "
            "another charge in the comment line"
        )


def embedded_molecule(smiles: str, where: str, seed: int = 0) -> Any:
    """An RDKit molecule with hydrogens and one conformer, relaxed in MMFF94 or, where that lacks parameters, UFF.

    Args:
        smiles: of one molecule; where its parts stand that no bond connects, embedding cannot know.
        where: what errors begin with.
        seed: of the embedding.

    Raises:
        DataError: for a SMILES that cannot be read or embedded, or that has several fragments.
        ImportError: without RDKit.
    """
    chem, all_chem = _rdkit()
    plain = chem.MolFromSmiles(smiles)
    if plain is None:
        raise DataError(f"{where}: SMILES {smiles!r} cannot be read by RDKit; are valences and ring closures right?")
    fragments = len(chem.GetMolFrags(plain))
    if fragments > 1:
        raise DataError(
            f"{where}: SMILES {smiles!r} has {fragments} fragments, which would be put on top of each other; give one "
            "molecule, or a complex as .xyz"
        )
    molecule = chem.AddHs(plain)
    if all_chem.EmbedMolecule(molecule, randomSeed=seed) != 0:
        raise DataError(
            f"{where}: no three-dimensional structure was found for SMILES {smiles!r}; give it as .xyz or .sdf"
        )
    field = force_field(molecule)
    for _ in range(20):
        if field.Minimize(maxIts=1000, forceTol=1e-6, energyTol=1e-10) == 0:
            break
    return molecule


def force_field(molecule: Any) -> Any:
    """RDKit's MMFF94 for a molecule with a conformer, or UFF where MMFF94 lacks parameters."""
    _, all_chem = _rdkit()
    if all_chem.MMFFHasAllMoleculeParams(molecule):
        field = all_chem.MMFFGetMoleculeForceField(molecule, all_chem.MMFFGetMoleculeProperties(molecule))
    else:
        field = all_chem.UFFGetMoleculeForceField(molecule)
    field.Initialize()
    return field


def molecule_atoms(molecule: Any) -> ase.Atoms:
    """The structure of an RDKit molecule, with its charge and its unpaired electrons."""
    atoms = ase.Atoms(
        [atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.array(molecule.GetConformer().GetPositions())
    )
    charge = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
    spin = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    atoms.info.update({name: value for name, value in (("charge", charge), ("spin", spin)) if value})
    return atoms


@dataclass(frozen=True)
class XyzFrame:
    """One structure of an XYZ file, as it is written there.

    Attributes:
        where: what errors begin with: the file, which structure, and its first line.
        first_line: where its number of atoms stands, from 1.
        lines: the number of atoms, the comment, and one line per atom.
    """

    where: str
    first_line: int
    lines: list[str]


def xyz_frames(path: Path) -> Iterator[XyzFrame]:
    """Cuts an XYZ or extended XYZ file into its structures, without understanding their atoms.

    Raises:
        DataError: for a file that is no text, is cut off or is of another kind, with the line.
    """
    number = index = 0  # the line read last, and structures so far
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                count = line.strip()
                if not count:
                    continue  # blank lines may stand between structures and at the end
                where = f"{path}: structure {index} (line {number})"
                if not count.isdecimal():
                    raise DataError(
                        f"{path}: line {number} should be the number of atoms of structure {index}, found "
                        f"{count[:60]!r}; is this XYZ?"
                    )
                if int(count) == 0:
                    raise DataError(f"{where}: has no atoms; leave it out")
                lines = [line, *itertools.islice(file, int(count) + 1)]
                if len(lines) < int(count) + 2:
                    raise DataError(
                        f"{where}: should have {int(count)} atoms up to line {number + int(count) + 1}, but the file "
                        f"ends at line {number + len(lines) - 1}; it is cut off, or the number is wrong"
                    )
                yield XyzFrame(where, number, [one.rstrip("\n") for one in lines])
                number, index = number + len(lines) - 1, index + 1
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text file ({error.reason}); expected XYZ or extended XYZ") from None


def extended_xyz(frame: XyzFrame) -> ase.Atoms:
    """A structure of extended XYZ, with everything that ASE reads beside it.

    ASE gets one structure at a time: it takes a blank line between two of them for the end of the file.

    Raises:
        DataError: for a structure that ASE does not understand.
    """
    try:
        atoms: Any = ase.io.read(io.StringIO("\n".join(frame.lines) + "\n"), format="extxyz")
    except UNREADABLE as error:
        raise DataError(
            f"{frame.where}: is not understood ({reason(error)}); expected elements, positions and the columns that "
            "Properties names, and a Lattice of nine numbers if there is one"
        ) from None
    # ASE takes the SMILES of hydrogen fluoride, "F", for a truth value.
    if "smiles" in atoms.info and not isinstance(atoms.info["smiles"], str):
        atoms.info["smiles"] = "F"
    return atoms


def _read_xyz(path: Path, seed: int) -> Iterator[tuple[str, ase.Atoms]]:
    del seed
    for frame in xyz_frames(path):
        extended = _EXTENDED.search(frame.lines[1])
        yield frame.where, extended_xyz(frame) if extended else _plain_xyz(path, frame)


def _plain_xyz(path: Path, frame: XyzFrame) -> ase.Atoms:
    symbols: list[int] = []
    positions: list[list[float]] = []
    for number, line in enumerate(frame.lines[2:], frame.first_line + 2):
        words = line.split()
        if len(words) < 4:
            raise DataError(f"{path}: line {number}: expected element, x, y and z, found {line.strip()[:60]!r}")
        element = int(words[0]) if words[0].isdigit() else atomic_numbers.get(words[0].capitalize(), 0)
        if not 0 < element < len(chemical_symbols):
            raise DataError(f"{path}: line {number}: {words[0]!r} is no element; expected H, C, ... or atomic numbers")
        try:
            positions.append([float(word) for word in words[1:4]])
        except ValueError:
            raise DataError(
                f"{path}: line {number}: {' '.join(words[1:4])!r} are not three numbers; expected x, y, z in Angstrom"
            ) from None
        symbols.append(element)
    return ase.Atoms(symbols, np.reshape(positions, (-1, 3)), info=_comment_values(frame.lines[1]))


def _comment_values(comment: str) -> dict[str, Any]:
    """Values of key=value pairs; a comment in plain words has none."""
    if "=" not in comment:
        return {}
    try:
        return {key: value for key, value in key_val_str_to_dict(comment).items() if value is not True}
    except (ValueError, IndexError, KeyError):
        return {}


def _read_sdf(path: Path, seed: int) -> Iterator[tuple[str, ase.Atoms]]:
    del seed
    chem, _ = _rdkit()
    text = path.read_text(errors="replace")
    line = 1
    for index, block in enumerate(text.split("$$$$\n")):
        where = f"{path}: structure {index} (line {line})"
        line += block.count("\n") + 1
        if not block.strip():
            continue
        molecule = chem.MolFromMolBlock(block, removeHs=False, strictParsing=True)
        if molecule is None:
            raise DataError(f"{where}: cannot be read by RDKit; is it a whole MDL mol block, are valences right?")
        if molecule.GetNumAtoms() and not molecule.GetConformer().Is3D():
            raise DataError(
                f"{where}: has two-dimensional positions only (a drawing); give three-dimensional ones, or SMILES"
            )
        missing = sum(atom.GetNumImplicitHs() for atom in molecule.GetAtoms())
        if missing:
            raise DataError(f"{where}: lacks {missing} hydrogen atoms by its valences; add them with positions")
        atoms = molecule_atoms(molecule)
        if molecule.HasProp("_Name") and molecule.GetProp("_Name"):
            atoms.info["name"] = molecule.GetProp("_Name")
        yield where, atoms


def _read_smiles(path: Path, seed: int) -> Iterator[tuple[str, ase.Atoms]]:
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        words = line.split(maxsplit=1)
        if not words or line.startswith("#"):
            continue
        where = f"{path}: line {number}"
        atoms = molecule_atoms(embedded_molecule(words[0], where, seed))
        atoms.info["smiles"] = words[0]
        if len(words) > 1:
            atoms.info["name"] = words[1].strip()
        yield where, atoms


_READERS: Mapping[str, Callable[[Path, int], Iterator[tuple[str, ase.Atoms]]]] = MappingProxyType(
    {
        ".xyz": _read_xyz,
        ".extxyz": _read_xyz,
        ".sdf": _read_sdf,
        ".mol": _read_sdf,
        ".smi": _read_smiles,
        ".smiles": _read_smiles,
    }
)


def _parity(number: int) -> str:
    return "odd" if number % 2 else "even"


def _rdkit() -> tuple[Any, Any]:
    try:
        from rdkit import Chem
        from rdkit.Chem import AllChem
    except ImportError:
        raise ImportError("SMILES and SDF files need RDKit: pip install 'neural-polarization[smiles]'") from None
    return Chem, AllChem
