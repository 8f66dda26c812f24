"""Structures from files that people have: XYZ, SDF, SMILES, and everything that ASE reads.

Every structure is checked when it is read: a wrong file is an error that names the place and the remedy, never a
strange result later. `atoms.info` holds the total "charge" (e, whole) and "spin" (number of unpaired electrons)
where the file says so, by any of the names in `properties.STATES`.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase
import ase.db
import ase.io
import numpy as np
from ase.data import chemical_symbols
from ase.io.formats import filetype

from neural_polarization.charges import LookAlikes, check_columns, check_spin, settle_field, settle_states
from neural_polarization.errors import UNREADABLE, DataError, reason
from neural_polarization.plausibility import check_positions, periodic_cell
from neural_polarization.structures.bounds import check_arrays, check_cif, check_counts, check_occupancies
from neural_polarization.structures.sdf import read_sdf
from neural_polarization.structures.smiles import embedded_molecule, molecule_atoms
from neural_polarization.structures.xyz import COMPRESSED, open_text, other_kind, xyz_frames, xyz_structure
from neural_polarization.text import counted

Places = Iterator[tuple[str, ase.Atoms]]
"""Structures, each with what errors about it begin with."""


def read_structures(
    path: str | Path, seed: int = 0, assumed: Mapping[str, int] = MappingProxyType({})
) -> list[ase.Atoms]:
    """All structures of a file, checked.

    Args:
        path: .xyz or .extxyz (any number of structures; `charge=1 spin=1` in the comment line), also compressed;
            .sdf or .mol (three-dimensional, with all hydrogens) and .smi or .smiles (one SMILES per line, a name may
            follow; they are embedded and relaxed in a force field), which need RDKit; or anything that ASE reads.
        seed: of the embedding of SMILES.
        assumed: "charge" (e) and "spin" (unpaired electrons) of structures that say nothing about them.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that cannot be read or holds an impossible structure; with line or index and remedy.
        ImportError: where RDKit is needed and missing.
    """
    structures: list[ase.Atoms] = []
    for where, atoms in iterate_structures(path, seed, assumed=assumed):
        check_structure(atoms, where)
        structures.append(atoms)
    if not structures:
        raise DataError(f"{path}: holds no structures; expected at least one")
    return structures


def iterate_structures(
    path: str | Path,
    seed: int = 0,
    labels: frozenset[str] = frozenset(),
    assumed: Mapping[str, int] = MappingProxyType({}),
) -> Places:
    """The structures of a file one after the other, with charge, spin and field settled, but not checked otherwise.

    Results that stand in the file are in `atoms.calc`, other values in `atoms.info` and `atoms.arrays`; names that
    look like a charge, a spin or a field and are not understood give one warning.

    Args:
        path: see `read_structures`.
        seed: of the embedding of SMILES.
        labels: names of values and columns that are wanted as labels, whatever they are called.
        assumed: as `read_structures`.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that cannot be read, or a charge or spin that cannot be.
        ImportError: where RDKit is needed and missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected structures, such as an extended XYZ file")
    look_alikes = LookAlikes(str(path))
    for where, atoms in _reader_of(path)(path, seed):
        _check_numbers(atoms, where)
        check_columns(atoms, where, labels)
        settle_states(atoms, where, assumed)
        settle_field(atoms)
        look_alikes.see({name: value for name, value in atoms.info.items() if name not in labels}, where)
        for name in ("name", "smiles"):
            if name in atoms.info:
                atoms.info[name] = str(atoms.info[name])
        yield where, atoms
    look_alikes.warn()


def _check_numbers(atoms: ase.Atoms, where: str) -> None:
    """ASE takes positions and cells as they stand in a file, text and truth values too."""
    for name, array, shape in (
        ("positions", atoms.positions, (len(atoms), 3)),
        ("cell", atoms.cell.array, (3, 3)),
        ("elements", atoms.numbers, (len(atoms),)),
    ):
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise DataError(
                f"{where}: its {name} have shape {array.shape} and type {array.dtype}; expected numbers of shape "
                f"{shape}"
            )


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, without that of a compression.

    Example:
        >>> kind_of(Path("frames.XYZ.gz")), kind_of(Path("POSCAR"))
        ('.xyz', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_of_structures(path: Path) -> bool:
    """Whether the ending of a file says that it holds structures.

    Example:
        >>> is_of_structures(Path("water.xyz")), is_of_structures(Path("model.safetensors"))
        (True, False)
    """
    return kind_of(path) in _READERS


def _reader_of(path: Path) -> Callable[[Path, int], Places]:
    known = _READERS.get(kind_of(path))
    if known is not None:
        return known
    # Files of any name that begin with a number on a line of its own are XYZ.
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].strip()
    named_otherwise = path.name.upper().startswith(("POSCAR", "CONTCAR"))
    return _read_xyz if start.isdigit() and not named_otherwise else _read_ase


def check_structure(atoms: ase.Atoms, where: str) -> None:
    """Raises where a structure cannot be.

    Args:
        atoms: positions in Angstrom.
        where: what the error begins with: file and line, or an index.

    Raises:
        DataError: for no atoms, an unknown element, positions that are not finite, two atoms at one place, a cell
            that cannot repeat, or a charge or spin that is not a whole number.
    """
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms; leave it out")
    numbers = np.asarray(atoms.numbers)
    unreal = (numbers < 1) | (numbers >= len(chemical_symbols))
    if unreal.any():
        atom = int(np.argmax(unreal))
        raise DataError(f"{where}: atom {atom} is no element (number {numbers[atom]}); expected H, He, Li ...")
    settle_states(atoms, where)
    check_positions(np.asarray(atoms.positions, np.float64), where, periodic_cell(atoms, where))


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
        raise DataError(f"{where}: charge {charge:+d} leaves {counted(electrons, 'electron')}; expected at least 1")
    check_spin(spin, atoms.numbers, charge, where)


def _read_xyz(path: Path, seed: int) -> Places:
    del seed
    for frame in xyz_frames(path):
        yield frame.where, xyz_structure(frame)


def _read_sdf(path: Path, seed: int) -> Places:
    del seed
    yield from read_sdf(path)


def _read_smiles(path: Path, seed: int) -> Places:
    try:
        with open_text(path) as file:
            lines = list(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text file ({error.reason}); expected one SMILES per line") from None
    for number, line in enumerate(lines, 1):
        words = line.split(maxsplit=1)
        if not words or line.startswith("#"):
            continue
        where = f"{path}: line {number}"
        atoms = molecule_atoms(embedded_molecule(words[0], where, seed), where)
        atoms.info["smiles"] = words[0]
        if len(words) > 1:
            atoms.info["name"] = words[1].strip()
        yield where, atoms


def _read_database(path: Path, seed: int) -> Places:
    """Rows of an ASE database: key-value pairs and data of a row stand in `atoms.info`."""
    del seed
    row_id = 0
    if path.suffix.lower() == ".json":
        check_arrays(path)
    try:
        connected: Any = ase.db.connect(path)
        with connected as database:  # without `with` ASE leaves connections open
            for row in database.select():
                row_id = int(row.id)
                atoms = row.toatoms()
                # Pairs that are called as an attribute of a row (charge) are hidden by it.
                own = {key: vars(row).get(key, value) for key, value in row.key_value_pairs.items()}
                atoms.info = {**atoms.info, **own, **row.data}
                yield f"{path}: row {row_id}", atoms
    except DataError:
        raise
    except (*UNREADABLE, sqlite3.Error) as error:
        raise DataError(
            f"{path}: cannot be read after row {row_id} ({reason(error)}); expected an ASE database (.db or .json)"
        ) from None


def _read_ase(path: Path, seed: int) -> Places:
    """What ASE recognizes by name or content: trajectories, CIF, POSCAR, outputs of programs."""
    del seed
    check_counts(path)
    check_cif(path)
    index = -1
    try:
        # ASE tells charge and multiplicity of these as settings of a calculation only.
        kind = filetype(str(path))
        of_gaussian: dict[str, Any] = {"attach_calculator": True} if kind == "gaussian-in" else {}
        # A name may have an @, which ASE would take for the beginning of an index.
        frames = ase.io.iread(path, index=":", do_not_split_by_at_sign=True, **of_gaussian)
        for index, atoms in enumerate(frames):
            where = f"{path}: structure {index}"
            check_occupancies(atoms, where, columns=kind == "proteindatabank")
            if of_gaussian and atoms.calc is not None:
                settings, atoms.calc = atoms.calc.parameters, None
                told = {"charge": settings.get("charge"), "multiplicity": settings.get("mult")}
                atoms.info = {name: value for name, value in told.items() if value is not None}
            yield where, atoms
    except DataError:
        raise
    except Exception as error:  # ASE's readers have many kinds of their own
        raise DataError(
            f"{path}: cannot be read by ASE after {counted(index + 1, 'structure')} ({reason(error)}); expected one of "
            f"{', '.join(_READERS)}, or another format that ASE knows{other_kind(path)}"
        ) from None


_READERS: Mapping[str, Callable[[Path, int], Places]] = MappingProxyType(
    {
        ".xyz": _read_xyz,
        ".extxyz": _read_xyz,
        ".sdf": _read_sdf,
        ".mol": _read_sdf,
        ".smi": _read_smiles,
        ".smiles": _read_smiles,
        ".db": _read_database,
        ".json": _read_database,
    }
)
