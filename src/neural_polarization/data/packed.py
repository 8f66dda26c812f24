"""The library's own file: molecules and labels in one .npz of flat arrays, in internal units.

Arrays: `n_atoms` (molecules,), `atomic_numbers` (atoms,), `positions` (atoms, 3) in Angstrom, and one array per
property under its name. Optional: `charge` and `spin` (molecules,), or other names of them (`properties.STATES`);
`cell` (molecules, 3, 3), NaN for what does not repeat; `pbc` (molecules, 3), 0 or 1, for what repeats along some of
its lattice vectors only; `isolated` (molecules,): 1 for isolated atoms; `molecule` (molecules,): the same number for
all geometries of one molecule; `split` (molecules,): 0 train, 1 validation, 2 test, -1 none; and `properties`: JSON
text that says what the labels are, for instance {"energy": {"unit": "meV", "shape": [], "per_atom": false}}, `unit`
being the one in which results are shown. Without it the arrays with well-known names are taken (see `columns.KNOWN`).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neural_polarization.data.cache import Array
from neural_polarization.data.columns import KNOWN, Column, PropertyConfig, chosen_columns
from neural_polarization.data.counts import warn_of_fields
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.npz import ArrayFile
from neural_polarization.data.origins import about_nuclear_charge
from neural_polarization.data.splits import PARTS, Split
from neural_polarization.errors import DataError, nearest
from neural_polarization.files import write_arrays
from neural_polarization.properties import FIELD, STATES, Property, label_of, normalized
from neural_polarization.units import factor

_STRUCTURE = ("n_atoms", "atomic_numbers", "positions", "charge", "spin", "cell", "pbc", "isolated", "molecule")
RESERVED = (*_STRUCTURE, "split", "properties")
"""Names that no property can have."""


def write_packed(dataset: Dataset, path: str | Path, split: Split | None = None) -> None:
    """Writes a data set so that `read_packed` restores it; an existing file is replaced when all is written.

    Args:
        dataset: molecules and labels.
        path: customary ending .npz.
        split: stored with it; the data set's own stored split if left out.

    Raises:
        DataError: for a property with a reserved name.
    """
    for name in dataset.properties:
        if name in RESERVED:
            raise DataError(f"{path}: a property cannot be called {name!r}; rename it")
    molecules = dataset.molecules
    table = {
        name: {"unit": kind.unit, "shape": list(kind.shape), "per_atom": kind.per_atom}
        for name, kind in dataset.properties.items()
    }
    arrays: dict[str, Array] = {
        "n_atoms": molecules.n_atoms.astype(np.int32),
        "atomic_numbers": molecules.atomic_numbers.astype(np.uint8),
        "positions": molecules.positions,
        "molecule": dataset.groups,
        "properties": np.array(json.dumps(table)),
        **dataset.labels,
    }
    if molecules.charges is not None:
        arrays["charge"] = molecules.charges
    if molecules.cells is not None:
        arrays["cell"] = molecules.cells
    if molecules.pbc is not None:
        arrays["pbc"] = molecules.pbc.astype(np.int8)
    if molecules.spins is not None:
        arrays["spin"] = molecules.spins
    if dataset.isolated.any():
        arrays["isolated"] = dataset.isolated.astype(np.int8)
    split = split or dataset.splits.get("stored")
    if split is not None:
        codes = np.full(len(dataset), -1, np.int8)
        for code, part in enumerate(split.parts.values()):
            codes[part] = code
        arrays["split"] = codes
    write_arrays(Path(path), arrays, compress=True)


def read_packed(
    path: str | Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """Reads the library's own file.

    Args:
        path: the file.
        properties: which labels, keyed by the name they get; all if left out.
        cache_directory: see `Dataset`.

    Returns:
        The data set; a split in the file is its split "stored", by group where no `molecule` is in two parts.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout.
    """
    file = ArrayFile(path, "a packed data set")
    file.require(["n_atoms", "atomic_numbers", "positions"])
    n_atoms = file.numbers("n_atoms", (None,))
    molecules = FlatMolecules.checked(
        str(path),
        n_atoms,
        file.numbers("atomic_numbers", (None,)),
        file.numbers("positions", (None, 3)),
        _state(file, "charge", len(n_atoms)),
        file.numbers("cell", (len(n_atoms), 3, 3)) if "cell" in file else None,
        _spins(file, len(n_atoms)),
        file.numbers("pbc", (len(n_atoms), 3)) if "pbc" in file else None,
    )
    everything = _columns(file)
    columns = chosen_columns(str(path), everything, properties)
    _check_units(str(path), everything, properties or {})
    if FIELD in everything and FIELD not in columns:
        warn_of_fields(str(path), _number_in_fields(file.values(everything[FIELD].source)), len(n_atoms))
    groups = file.numbers("molecule", (len(n_atoms),)) if "molecule" in file else None
    isolated = file.numbers("isolated", (len(n_atoms),)) != 0 if "isolated" in file else None
    labels = {
        name: file.values(column.source).astype(np.float64) * factor(column.unit) for name, column in columns.items()
    }
    for name, config in (properties or {}).items():
        if config.origin is not None:
            kind = columns[name].property
            labels[name] = about_nuclear_charge(str(path), name, kind, labels[name], molecules, config.origin)
    return Dataset(
        name=str(path),
        molecules=molecules,
        properties={name: column.property for name, column in columns.items()},
        labels=labels,
        groups=None if groups is None else groups.astype(np.int64),
        splits=_stored_split(file, len(n_atoms), groups),
        cache_directory=cache_directory,
        isolated=isolated,
    )


def _check_units(source: str, columns: Mapping[str, Column], properties: Mapping[str, PropertyConfig]) -> None:
    """A file with a table of its properties has converted them already: another unit would convert them again."""
    for name, config in properties.items():
        if config.unit is None or columns[config.source or name].unit != "1" or factor(config.unit) == 1.0:
            continue
        raise DataError(
            f"{source}: data.properties.{name}.unit: is {config.unit!r}, but a packed file has labels in Angstrom,"
            " eV and e, whatever they were in before; leave the unit out (shown_in is the unit of results)"
        )


def _number_in_fields(fields: Array) -> int:
    return int(np.nan_to_num(fields.astype(np.float64)).reshape(len(fields), -1).any(1).sum())


def _state(file: ArrayFile, state: str, number: int) -> Array | None:
    """The array of a state by any of its names."""
    known = [name for name in file.names if normalized(name) in {normalized(one) for one in STATES[state]}]
    if len(known) > 1:
        raise DataError(f"{file.path}: the arrays {' and '.join(known)} mean the same; leave one of them out")
    return file.numbers(known[0], (number,)) if known else None


def _spins(file: ArrayFile, number: int) -> Array | None:
    spins, multiplicities = _state(file, "spin", number), _state(file, "multiplicity", number)
    if multiplicities is not None:
        if spins is not None and not np.array_equal(spins, multiplicities - 1.0, equal_nan=True):
            raise DataError(
                f"{file.path}: spin and multiplicity disagree; multiplicity is the unpaired electrons plus one"
            )
        return multiplicities - 1.0
    return spins


def _columns(file: ArrayFile) -> dict[str, Column]:
    """What the labels are, from the file's own table or from their names; the values are in internal units."""
    if "properties" not in file:
        columns: dict[str, Column] = {}
        for name in file.names:
            quantity = None if name in RESERVED else label_of(name)
            if quantity is not None:
                columns[quantity] = replace(KNOWN[quantity], source=name)
        return columns
    try:
        table = json.loads(str(file["properties"]))
        columns = {name: Column(name, "1", _property(name, entry)) for name, entry in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file.path}: the table `properties` is not understood ({error!r}); expected JSON such as "
            '{"energy": {"unit": "meV", "shape": [], "per_atom": false}}'
        ) from None
    for name in columns:
        if name in RESERVED:
            raise DataError(f"{file.path}: the table `properties` names {name!r}, which is no label; rename it")
        if name not in file:
            raise DataError(
                f"{file.path}: the table `properties` names {name!r}, which is no array of the file; "
                f"{nearest(name, file.names)}"
            )
    return columns


def _property(name: str, entry: Mapping[str, Any]) -> Property:
    shape = entry["shape"]
    if not all(type(axis) is int and axis > 0 for axis in shape):
        raise ValueError(f"shape of {name} is {shape}")
    return Property(name, str(entry["unit"]), tuple(shape), bool(entry["per_atom"]))


def _stored_split(file: ArrayFile, number: int, groups: Array | None) -> dict[str, Split]:
    if "split" not in file:
        return {}
    codes = file.numbers("split", (number,))
    strange = ~np.isin(codes, [-1, 0, 1, 2])  # NaN and fractions too
    if strange.any():
        raise DataError(
            f"{file.path}: split of molecule {int(np.argmax(strange))} is {codes[np.argmax(strange)]}; expected "
            "0 (train), 1 (validation), 2 (test) or -1 (none)"
        )
    parts = {name: np.flatnonzero(codes == code) for code, name in enumerate(PARTS)}
    # Whoever made the file chose its parts: they may share out the geometries of one molecule.
    whole = groups is not None and sum(len(np.unique(groups[part])) for part in parts.values()) == len(
        np.unique(groups[codes >= 0])
    )
    return {"stored": Split.from_arrays(parts, "group" if whole else "structure")}
