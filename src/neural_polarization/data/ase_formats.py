"""Extended XYZ files and ASE databases, with the user's own property names and units."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.db
import numpy as np

from neural_polarization.data.cache import Array
from neural_polarization.data.columns import KNOWN, PropertyConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.errors import UNREADABLE, DataError, nearest, reason
from neural_polarization.properties import Property
from neural_polarization.structures import extended_xyz, xyz_frames
from neural_polarization.units import factor

_PER_ATOM = frozenset({"forces", "charges", "magmoms", "energies"})
"""Results of ASE's calculators that have one value per atom."""


@dataclass(frozen=True)
class _Record:
    """A structure and everything that stands beside it."""

    atoms: ase.Atoms
    per_molecule: Mapping[str, object]
    per_atom: Mapping[str, object]


def read_extxyz(
    path: Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    group: str | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """Any extended XYZ file.

    A property is looked for among energies and forces as ASE understands them, among the key=value pairs of the
    comment line, and among the columns of the atoms. Structures without it count as not labelled.

    Args:
        path: the file.
        properties: which labels and in which units; energy (eV), forces (eV/Angstrom) and dipole (e*Angstrom), as
            far as there are any, if left out.
        group: the key that says which structures are geometries of one molecule; structures with equal formulas
            are taken as such if left out.
        cache_directory: see `Dataset`.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that cannot be read, a property that no structure has, labels of different shapes,
            or structures that cannot be.
    """
    return _dataset(path, list(_extxyz_records(path)), properties, group, cache_directory)


def read_ase_database(
    path: Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    group: str | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """Any ASE database (.db, .json).

    A property is looked for among the calculator's results, the key-value pairs and the `data` of a row; arguments
    and errors are those of `read_extxyz`.
    """
    return _dataset(path, list(_database_records(path)), properties, group, cache_directory)


def _extxyz_records(path: Path) -> Iterator[_Record]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected an extended XYZ file")
    for frame in xyz_frames(path):
        atoms: Any = extended_xyz(frame)
        results = dict(atoms.calc.results) if atoms.calc is not None else {}
        columns = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
        yield _Record(
            atoms,
            {**atoms.info, **{key: value for key, value in results.items() if key not in _PER_ATOM}},
            {**columns, **{key: value for key, value in results.items() if key in _PER_ATOM}},
        )


def _database_records(path: Path) -> Iterator[_Record]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; expected an ASE database")
    connected: Any = ase.db.connect(path)
    row_id = 0
    try:
        with connected as database:  # without `with` ASE leaves connections open
            for row in database.select():
                row_id = int(row.id)
                atoms = row.toatoms()
                results = dict(atoms.calc.results) if atoms.calc is not None else {}
                # A row's attribute `charge`, the sum of initial charges, hides a key-value pair of that name.
                charge = vars(row).get("charge", row.charge)
                own = {**row.key_value_pairs, "charge": charge, **row.data}
                yield _Record(
                    atoms,
                    {**own, **{key: value for key, value in results.items() if key not in _PER_ATOM}},
                    {key: value for key, value in results.items() if key in _PER_ATOM},
                )
    except (*UNREADABLE, sqlite3.DatabaseError) as error:
        raise DataError(
            f"{path}: cannot be read after row {row_id} ({reason(error)}); expected an ASE database (.db or .json)"
        ) from None


def _dataset(
    path: Path,
    records: Sequence[_Record],
    properties: Mapping[str, PropertyConfig] | None,
    group: str | None,
    cache_directory: Path | None,
) -> Dataset:
    if not records:
        raise DataError(f"{path}: holds no structures; expected at least one")
    chosen = properties if properties is not None else _found(path, records)
    kinds: dict[str, Property] = {}
    labels: dict[str, Array] = {}
    for name, config in chosen.items():
        kinds[name], labels[name] = _labels(path, records, name, config)
    return Dataset(
        name=str(path),
        molecules=_molecules(path, records),
        properties=kinds,
        labels=labels,
        groups=_groups(path, records, group),
        cache_directory=cache_directory,
    )


def _found(path: Path, records: Sequence[_Record]) -> dict[str, PropertyConfig]:
    keys = _keys(records)
    found = {name: PropertyConfig() for name in ("energy", "forces", "dipole") if name in keys}
    if not found:
        raise DataError(
            f"{path}: has neither energy nor forces nor dipole as ASE understands them; name the labels and their "
            f"units under data.properties. Keys in the file: {', '.join(keys) or 'none'}"
        )
    return found


def _keys(records: Sequence[_Record]) -> list[str]:
    return sorted({key for record in records for key in (*record.per_molecule, *record.per_atom)})


def _molecules(path: Path, records: Sequence[_Record]) -> FlatMolecules:
    structures = [record.atoms for record in records]
    cells = np.full((len(structures), 3, 3), np.nan)
    charges = np.zeros(len(structures))
    for k, (atoms, record) in enumerate(zip(structures, records, strict=True)):
        if atoms.pbc.any() and not atoms.pbc.all():
            raise DataError(
                f"{path}: molecule {k} is periodic along {int(atoms.pbc.sum())} of 3 directions; only none or all "
                "are supported: set pbc to all, with a cell that leaves vacuum where nothing repeats"
            )
        if atoms.pbc.all():
            if abs(np.linalg.det(atoms.cell.array)) < 1e-6:
                raise DataError(f"{path}: molecule {k} is periodic, but its cell has no volume; give its Lattice")
            cells[k] = atoms.cell.array
        charge = record.per_molecule.get("charge", 0.0)
        if not isinstance(charge, int | float | np.number):
            raise DataError(f"{path}: molecule {k} has charge {charge!r}; expected a number of e")
        charges[k] = round(float(charge), 6)  # sums of partial charges are not quite whole
    return FlatMolecules.checked(
        str(path),
        np.array([len(atoms) for atoms in structures]),
        np.concatenate([atoms.numbers for atoms in structures]),
        np.concatenate([atoms.positions for atoms in structures]),
        charges if charges.any() else None,
        cells if np.isfinite(cells).any() else None,
    )


def _groups(path: Path, records: Sequence[_Record], key: str | None) -> Array:
    names: list[str] = []
    for k, record in enumerate(records):
        if key is None:
            names.append(record.atoms.get_chemical_formula())
        elif key in record.per_molecule:
            names.append(str(record.per_molecule[key]))
        else:
            raise DataError(
                f"{path}: molecule {k} has no {key!r}, by which structures are grouped; "
                f"{nearest(key, record.per_molecule)}"
            )
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _labels(path: Path, records: Sequence[_Record], name: str, config: PropertyConfig) -> tuple[Property, Array]:
    key = config.source or name
    if config.unit is None and key not in KNOWN:
        raise DataError(
            f"data.properties.{name}: has no unit; give the one in the file, for instance eV, kcal/mol/Angstrom, "
            "D, or 1 for a pure number"
        )
    unit = config.unit or KNOWN[key].unit
    per_atom = config.per_atom
    if per_atom is None:
        per_atom = any(key in record.per_atom for record in records)
    values = [_value(path, k, record, key, per_atom) for k, record in enumerate(records)]
    shapes = [None if value is None else value.shape[1:] if per_atom else value.shape for value in values]
    shape = next((shape for shape in shapes if shape is not None), None)
    if shape is None:
        raise DataError(f"{path}: no structure has {key!r}; {nearest(key, _keys(records))}")
    strange = next((k for k, other in enumerate(shapes) if other not in (None, shape)), None)
    if strange is not None:
        raise DataError(
            f"{path}: {key} of molecule {strange} has shape {shapes[strange]}, but others have {shape}; give all "
            "the same shape, or set per_atom where there is one value per atom"
        )
    rows = [
        np.full((len(record.atoms) if per_atom else 1, *shape), np.nan) if value is None else value.reshape(-1, *shape)
        for record, value in zip(records, values, strict=True)
    ]
    shown_in = config.shown_in or (KNOWN[name].property.unit if name in KNOWN else unit)
    return Property(name, shown_in, shape, per_atom), np.concatenate(rows) * factor(unit)


def _value(path: Path, k: int, record: _Record, key: str, per_atom: bool) -> Array | None:
    places = (record.per_atom, record.per_molecule) if per_atom else (record.per_molecule, record.per_atom)
    found = next((place[key] for place in places if key in place), None)
    if found is None:
        return None
    try:
        value = np.asarray(found, dtype=np.float64)
    except (ValueError, TypeError):
        raise DataError(
            f"{path}: {key} of molecule {k} is {found!r}; expected a number or an array of numbers"
        ) from None
    if per_atom and (value.ndim == 0 or len(value) != len(record.atoms)):
        raise DataError(
            f"{path}: {key} of molecule {k} has shape {value.shape}; expected one value for each of its "
            f"{len(record.atoms)} atoms"
        )
    return value.reshape(()) if not per_atom and value.shape == (1,) else value
