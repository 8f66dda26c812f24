"""Extended XYZ files, ASE databases and everything else that ASE reads, with the user's own names and units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np

from neural_polarization.charges import unpaired_electrons
from neural_polarization.data.cache import Array
from neural_polarization.data.columns import KNOWN, PropertyConfig, is_energy
from neural_polarization.data.counts import LabelCount, Reading, warn_of_fields
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.origins import about_nuclear_charge
from neural_polarization.errors import DataError, nearest
from neural_polarization.plausibility import periodic_cell, volume_of
from neural_polarization.properties import DEFINITIONS, FIELD, STRESS, VOIGT, Property, is_virial, label_of, looks_like
from neural_polarization.structures import iterate_structures
from neural_polarization.structures.smiles import canonical_smiles
from neural_polarization.text import counted
from neural_polarization.units import factor

_PER_ATOM = frozenset({"forces", "charges", "magmoms", "energies"})
"""Results of ASE's calculators that have one value per atom."""

_ISOLATED = "isolatedatom"
"""`config_type` of a single atom whose energy is a reference, without case, as many files have it."""


@dataclass(frozen=True)
class _Record:
    """A structure and everything that stands beside it."""

    where: str
    atoms: ase.Atoms
    per_molecule: Mapping[str, object]
    per_atom: Mapping[str, object]

    def place(self, key: str) -> Mapping[str, object] | None:
        """Where a key stands, if it does."""
        return next((place for place in (self.per_molecule, self.per_atom) if key in place), None)


def read_extxyz(
    path: Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    group: str | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """Any file of structures with labels: extended XYZ, an ASE database, or another format that ASE reads.

    A property is looked for among energies and forces as ASE understands them, among the key=value pairs of the
    comment line (the key-value pairs and the `data` of a database's row), and among the columns of the atoms.
    Structures without it count as not labelled; `Dataset.reading` says how many these are, and why.

    Args:
        path: the file.
        properties: which labels and in which units; energy (eV), forces (eV/Angstrom) and dipole (e*Angstrom), as
            far as there are any, and the fields that they are in, if left out.
        group: the key that says which structures are geometries of one molecule; structures with equal formulas
            are taken as such if left out. Under "smiles" all spellings of a SMILES are one molecule.
        cache_directory: see `Dataset`.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that cannot be read, a property that no structure has, labels of different shapes,
            or structures that cannot be.
    """
    wanted = frozenset(config.source or name for name, config in (properties or {}).items())
    records = [_record(where, atoms) for where, atoms in iterate_structures(path, labels=wanted)]
    if not records:
        raise DataError(f"{path}: holds no structures; expected at least one")
    chosen = properties if properties is not None else _found(path, records)
    if FIELD not in chosen:
        warn_of_fields(str(path), sum(_in_field(record) for record in records), len(records))
    molecules = _molecules(path, records)
    isolated = _isolated(records, molecules)
    kinds: dict[str, Property] = {}
    labels: dict[str, Array] = {}
    counts: dict[str, LabelCount] = {}
    for name, config in chosen.items():
        kinds[name], labels[name], counts[name] = _labels(path, records, name, config)
        if config.origin is not None or (name == "dipole" and molecules.charges is not None):
            labels[name] = about_nuclear_charge(str(path), name, kinds[name], labels[name], molecules, config.origin)
    return Dataset(
        name=str(path),
        molecules=molecules,
        properties=kinds,
        labels=labels,
        groups=_groups(path, records, group),
        cache_directory=cache_directory,
        isolated=isolated,
        reading=Reading(len(records), counts, isolated_atoms=int(isolated.sum()), notes=_notes(records, counts)),
    )


def _record(where: str, atoms: Any) -> _Record:
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    columns = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
    return _Record(
        where,
        atoms,
        {**atoms.info, **{key: value for key, value in results.items() if key not in _PER_ATOM}},
        {**columns, **{key: value for key, value in results.items() if key in _PER_ATOM}},
    )


def _found(path: Path, records: Sequence[_Record]) -> dict[str, PropertyConfig]:
    keys = _keys(records)
    understood = {label_of(key) for key in keys}
    found = {name: PropertyConfig() for name in ("energy", "forces", "dipole") if name in understood}
    if found and FIELD in understood:
        found[FIELD] = PropertyConfig()
    if not found:
        like = [f"{key} (an {kind}?)" for key in keys if (kind := looks_like(key))]
        raise DataError(
            f"{path}: has neither energy nor forces nor dipole as ASE understands them; name the labels and their "
            f"units under data.properties, such as energy: {{source: {like[0].split()[0] if like else 'KEY'}, unit: "
            f"eV}}. Keys in the file: {', '.join(keys) or 'none'}"
        )
    return found


def _in_field(record: _Record) -> bool:
    field: Any = record.per_molecule.get(FIELD, 0.0)
    return bool(np.any(field))


def _keys(records: Sequence[_Record]) -> list[str]:
    return sorted({key for record in records for key in (*record.per_molecule, *record.per_atom)})


def _molecules(path: Path, records: Sequence[_Record]) -> FlatMolecules:
    structures = [record.atoms for record in records]
    cells, pbc = np.full((len(structures), 3, 3), np.nan), np.zeros((len(structures), 3), bool)
    spins = np.full(len(structures), np.nan)
    for k, record in enumerate(records):
        if periodic_cell(record.atoms, record.where) is not None:
            cells[k], pbc[k] = record.atoms.cell.array, record.atoms.pbc
        spin = unpaired_electrons(record.atoms, record.where)
        spins[k] = np.nan if spin is None else spin
    # `iterate_structures` has settled the charges.
    charges = np.array([float(atoms.info.get("charge", 0)) for atoms in structures])
    return FlatMolecules.checked(
        str(path),
        np.array([len(atoms) for atoms in structures]),
        np.concatenate([atoms.numbers for atoms in structures]),
        np.concatenate([atoms.positions for atoms in structures]),
        charges if charges.any() else None,
        cells if np.isfinite(cells).any() else None,
        spins if np.isfinite(spins).any() else None,
        pbc if np.isfinite(cells).any() else None,
    )


def _isolated(records: Sequence[_Record], molecules: FlatMolecules) -> Array:
    """Neutral single atoms: those that do not repeat, and those that are called isolated."""
    named = np.array([str(record.per_molecule.get("config_type", "")).lower() == _ISOLATED for record in records])
    if (named & (molecules.n_atoms > 1)).any():
        record = records[int(np.argmax(named & (molecules.n_atoms > 1)))]
        raise DataError(
            f"{record.where}: is called config_type=IsolatedAtom, but has {len(record.atoms)} atoms; expected one"
        )
    neutral = np.ones(len(records), bool) if molecules.charges is None else molecules.charges == 0
    return neutral & (molecules.n_atoms == 1) & (named | ~molecules.periodic)


def _groups(path: Path, records: Sequence[_Record], key: str | None) -> Array:
    names: list[str] = []
    for k, record in enumerate(records):
        if key is None:
            names.append(record.atoms.get_chemical_formula())
        elif key in record.per_molecule:
            name = str(record.per_molecule[key])
            names.append(canonical_smiles(name) if key.lower() == "smiles" else name)
        else:
            raise DataError(
                f"{path}: molecule {k} has no {key!r}, by which structures are grouped; "
                f"{nearest(key, record.per_molecule)}"
            )
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _notes(records: Sequence[_Record], counts: Mapping[str, LabelCount]) -> list[str]:
    """Names that were taken for others, and names that look like a label that is read and stand where it lacks."""
    used = {count.source for count in counts.values()}
    notes = [f"{name} is read from {count.source}" for name, count in counts.items() if count.source != name]
    for key in _keys(records):
        quantity = label_of(key) or looks_like(key)
        count = counts.get(quantity or "")
        if key in used or count is None or not count.unlabelled:
            continue
        without = [r for r in records if r.place(key) is not None and r.place(count.source) is None]
        if without:
            notes.append(
                f"{key} is not used: it stands in {counted(len(without), 'structure')} without {count.source} (first: "
                f"{without[0].where}); give both one name, or say data.properties.{quantity}.source: {key}"
            )
    return notes


def _source(records: Sequence[_Record], name: str, config: PropertyConfig) -> str:
    """The key of a property in the file: as the user says, its own name, or another that everybody understands."""
    if config.source or any(record.place(name) is not None for record in records):
        return config.source or name
    others = [key for key in _keys(records) if label_of(key) == name]
    virials = [key for key in _keys(records) if name == STRESS and is_virial(key)]
    return next(iter([*others, *virials]), name)


def _labels(
    path: Path, records: Sequence[_Record], name: str, config: PropertyConfig
) -> tuple[Property, Array, LabelCount]:
    key = _source(records, name, config)
    meant = label_of(key)
    virial = name == STRESS and (is_virial(key) or is_energy(config.unit))
    if config.unit is None and meant is None and not virial:
        raise DataError(
            f"data.properties.{name}: has no unit; give the one in the file, for instance eV, kcal/mol/Angstrom, "
            "D, or 1 for a pure number"
        )
    unit = config.unit or ("eV/Angstrom^3" if virial or meant is None else KNOWN[meant].unit)
    per_atom = config.per_atom
    if per_atom is None:
        per_atom = any(key in record.per_atom for record in records)
    values = [_value(path, k, record, key, per_atom) for k, record in enumerate(records)]
    if name in DEFINITIONS:
        values = [None if value is None else _shaped(name, value) for value in values]
    if name == STRESS:
        values = [
            None if value is None else _stress(record, value, virial)
            for value, record in zip(values, records, strict=True)
        ]
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
    missing = [k for k, value in enumerate(values) if value is None or np.isnan(value).all()]
    why = ""
    if missing:
        first = records[missing[0]]
        found = first.place(key)
        lack = "no" if found is None else "no periodic cell for" if name == STRESS and not _volume(first) else "NaN in"
        why = f"{lack} {key}, first in {first.where.removeprefix(f'{path}: ')}"
    count = LabelCount(key, len(records) - len(missing), len(missing), why)
    shown_in = config.shown_in or (KNOWN[name].property.unit if name in KNOWN else unit)
    return Property(name, shown_in, shape, per_atom), np.concatenate(rows) * factor(unit), count


def _value(path: Path, k: int, record: _Record, key: str, per_atom: bool) -> Array | None:
    places = (record.per_atom, record.per_molecule) if per_atom else (record.per_molecule, record.per_atom)
    found = next((place[key] for place in places if key in place), None)
    if found is None:
        return None
    try:
        raw = np.asarray(found)
        if raw.dtype.kind not in "iuf":
            raise TypeError
        value = raw.astype(np.float64)
    except (ValueError, TypeError):
        raise DataError(
            f"{path}: {key} of molecule {k} is {str(found)[:60]!r}; expected a number or an array of numbers"
        ) from None
    if np.isinf(value).any():
        raise DataError(f"{path}: {key} of molecule {k} is infinite; leave the label out, or correct it")
    if per_atom and (value.ndim == 0 or len(value) != len(record.atoms)):
        raise DataError(
            f"{path}: {key} of molecule {k} has shape {value.shape}; expected one value for each of its "
            + counted(len(record.atoms), "atom")
        )
    return value.reshape(()) if not per_atom and value.shape == (1,) else value


def _volume(record: _Record) -> float:
    """Volume of the cell of what repeats; zero for a molecule, and for a slab without a third vector."""
    return volume_of(record.atoms.cell.array) if record.atoms.pbc.any() else 0.0


def _stress(record: _Record, value: Array, virial: bool) -> Array:
    """A stress as ASE has it, from one or from a virial; NaN for a structure that has none, whatever its file says."""
    volume = _volume(record)
    if not volume:
        return np.full_like(value, np.nan)
    return -value / volume if virial else value


def _shaped(name: str, value: Array) -> Array:
    """A value in the axes of its quantity where a file writes them flat: nine numbers of a tensor, six of a stress."""
    shape = DEFINITIONS[name].shape
    if value.size == 9 and shape in ((3, 3), (6,)):
        value = value.reshape(3, 3)
    if shape == (6,) and value.shape == (3, 3):
        value = np.array([(value[i, j] + value[j, i]) / 2 for i, j in VOIGT])
    return value
