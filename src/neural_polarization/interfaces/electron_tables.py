"""What charges and force fields take from a density: charges of atoms, and the potential on surfaces, as tables."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import ase
import numpy as np
from jaxtyping import Shaped

from neural_polarization.density.density import Density
from neural_polarization.density.partition import PARTITIONS
from neural_polarization.density.surface import surface_points
from neural_polarization.files import write_arrays, write_text
from neural_polarization.interfaces.electrons import check_molecules, output_paths, predict_density, require_density
from neural_polarization.interfaces.prediction import check_elements
from neural_polarization.knowledge import Watch
from neural_polarization.predictor import Predictor

ENDINGS = (".csv", ".npz")


class Table(ABC):
    """Numbers that follow from a density, a row each."""

    units: ClassVar[Mapping[str, str]]
    """Unit of each column that has one."""

    @abstractmethod
    def columns(self, density: Density) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
        """Columns by their names of the density of one molecule; a column of vectors has a second axis.

        Raises:
            ValueError: for what the numbers are not defined for.
        """


class Charges(Table):
    """Hirshfeld and MBIS charges and dipoles of atoms."""

    units: ClassVar[Mapping[str, str]] = {"positions": "Angstrom"} | {
        f"{name}_{what}": unit for name in PARTITIONS for what, unit in (("charges", "e"), ("dipoles", "e*Angstrom"))
    }

    def columns(self, density: Density) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
        """A row of each atom."""
        nuclei = density.nuclei
        table = {"atomic_numbers": nuclei.atomic_numbers.numpy(), "positions": nuclei.positions.numpy()}
        for name, partition in PARTITIONS.items():
            found = partition(density)
            table |= {f"{name}_charges": found.charges.numpy(), f"{name}_dipoles": found.dipoles.numpy()}
        return table


class Surface(Table):
    """Electrostatic potential at points of `surface_points`, which charges of force fields are fitted to."""

    units: ClassVar[Mapping[str, str]] = {"points": "Angstrom", "potential": "V"}

    def columns(self, density: Density) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
        """A row of each point."""
        points = surface_points(density.nuclei)
        return {"points": points.numpy(), "potential": density.potential(points).numpy()}


TABLES: dict[str, Table] = {"charges": Charges(), "surface": Surface()}
"""Every table by its name on the command line."""


def write_tables(
    model: Predictor, structures: Sequence[ase.Atoms], output: str | Path, kind: str, overwrite: bool = False
) -> list[Path]:
    """Writes charges, or potentials on a surface, of the densities that a model predicts of structures, a file each.

    Args:
        model: with a density.
        structures: molecules.
        output: ends on .csv or .npz; with several structures each file gets a number, "q_0.csv", "q_1.csv".
        kind: one of `TABLES`.
        overwrite: whether files that are there may be replaced.

    Returns:
        The files.

    Raises:
        ValueError: for a model without a density, an element that it does not know or that has no free atom or radius,
            a kind that does not exist, another ending, or a periodic system.
        OSError: for files that are there already or cannot be written.
    """
    if kind not in TABLES:
        raise ValueError(f"kind: {kind!r} is not known; choose one of {', '.join(TABLES)}")
    model = require_density(model)
    check_elements(model, structures)
    check_molecules(structures)
    paths = output_paths(output, len(structures), overwrite, ENDINGS)
    table, watch = TABLES[kind], Watch()
    for structure, path in zip(structures, paths, strict=True):
        columns = table.columns(predict_density(model, structure, watch))
        if path.suffix == ".npz":
            units = {f"{name}_unit": np.array(unit) for name, unit in table.units.items()}
            write_arrays(path, {**columns, **units}, compress=True)
        else:
            write_text(path, _as_csv(columns, table.units))
    return paths


def _as_csv(columns: dict[str, Shaped[np.ndarray, "rows ..."]], units: Mapping[str, str]) -> str:
    """A line of names with units, and the rows; vectors have three columns."""
    names: list[str] = []
    for name, values in columns.items():
        unit = f" [{units[name]}]" if name in units else ""
        names += [f"{name}_{axis}{unit}" for axis in "xyz"] if values.ndim == 2 else [f"{name}{unit}"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for k in range(len(next(iter(columns.values())))):
        numbers = [number for values in columns.values() for number in np.atleast_1d(values[k]).tolist()]
        writer.writerow([f"{number:.8g}" if isinstance(number, float) else number for number in numbers])
    return text.getvalue()
