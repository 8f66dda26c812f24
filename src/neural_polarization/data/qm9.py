"""QM9: 134 thousand small organic molecules with twelve properties, from the archive or a packed file.

References:
    R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, "Quantum chemistry structures and properties of
    134 kilo molecules", Sci. Data 1, 140022 (2014).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from neural_polarization.data.cache import Arrays
from neural_polarization.data.columns import Column, PropertyConfig, chosen_columns
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.npz import ArrayFile
from neural_polarization.errors import DataError
from neural_polarization.properties import Property
from neural_polarization.units import factor


def _column(name: str, unit: str, shown_in: str) -> Column:
    return Column(name, unit, Property(name, shown_in))


QM9_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        column.source: column
        for column in (
            _column("mu", "D", "mD"),
            _column("alpha", "bohr^3", "bohr^3"),
            _column("homo", "hartree", "meV"),
            _column("lumo", "hartree", "meV"),
            _column("gap", "hartree", "meV"),
            _column("r2", "bohr^2", "bohr^2"),
            _column("zpve", "hartree", "meV"),
            _column("U0", "hartree", "meV"),
            _column("U", "hartree", "meV"),
            _column("H", "hartree", "meV"),
            _column("G", "hartree", "meV"),
            _column("Cv", "cal/mol/K", "cal/mol/K"),
        )
    }
)
"""The twelve targets: dipole moment, isotropic polarizability, orbital energies and their gap, electronic
spatial extent, zero-point energy, internal energy at 0 K and 298.15 K, enthalpy, free energy, heat capacity."""


def read_packed_qm9(
    path: Path,
    properties: Mapping[str, PropertyConfig] | None = None,
    label_source: int | None = None,
    cache_directory: Path | None = None,
) -> Dataset:
    """QM9 from one .npz file of flat arrays.

    The file holds `index` (GDB9 number), `n_atoms`, `atomic_numbers`, `positions` (Angstrom) and any of the
    twelve targets in the archive's units, NaN where one is missing; optionally `label_source`, a bit mask per
    molecule that says where its labels come from.

    Args:
        path: the file.
        properties: which targets, keyed by the name they get; all that the file has if left out.
        label_source: keep molecules with at least one of these bits; all molecules if left out.
        cache_directory: see `Dataset`.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout, or a choice that leaves nothing.
    """
    file = ArrayFile(path, "a packed QM9 file")
    file.require(["index", "n_atoms", "atomic_numbers", "positions"])
    index = file.numbers("index", (None,))
    available = {name: column for name, column in QM9_COLUMNS.items() if name in file}
    columns = chosen_columns(str(path), available, properties)
    arrays = {
        "index": index,
        "n_atoms": file.numbers("n_atoms", (len(index),)),
        "atomic_numbers": file.numbers("atomic_numbers", (None,)),
        "positions": file.numbers("positions", (None, 3)),
    } | {column.source: file.numbers(column.source, (len(index),)) for column in columns.values()}
    dataset = qm9_dataset(str(path), arrays, properties, cache_directory)
    if label_source is None:
        return dataset
    if "label_source" not in file:
        raise DataError(f"{path}: has no array 'label_source' to choose by; leave label_source out")
    bits = file.numbers("label_source", (len(index),)).astype(np.int64)
    chosen = np.flatnonzero(bits & label_source)
    if len(chosen) == 0:
        present = sorted({bit for bit in (1 << k for k in range(16)) if (bits & bit).any()})
        raise DataError(f"{path}: no molecule has label_source {label_source}; bits in the file: {present}")
    return dataset.subset(chosen)


def qm9_dataset(
    name: str,
    arrays: Arrays,
    properties: Mapping[str, PropertyConfig] | None,
    cache_directory: Path | None,
) -> Dataset:
    """A data set from arrays as QM9 files hold them: targets under their own names in the archive's units.

    Args:
        name: what errors begin with.
        arrays: `index`, `n_atoms`, `atomic_numbers`, `positions` and targets.
        properties: which targets, keyed by the name they get; all that there are if left out.
        cache_directory: see `Dataset`.

    Raises:
        DataError: for a target that is not there, or molecules that cannot be.
    """
    available = {key: column for key, column in QM9_COLUMNS.items() if key in arrays}
    columns = chosen_columns(name, available, properties)
    return Dataset(
        name=name,
        molecules=FlatMolecules.checked(name, arrays["n_atoms"], arrays["atomic_numbers"], arrays["positions"]),
        properties={key: column.property for key, column in columns.items()},
        labels={key: arrays[column.source].astype(np.float64) * factor(column.unit) for key, column in columns.items()},
        groups=arrays["index"].astype(np.int64),
        cache_directory=cache_directory,
    )
