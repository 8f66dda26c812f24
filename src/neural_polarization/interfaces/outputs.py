"""Predictions as extended XYZ, CSV, JSON, or a table for people."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_polarization.charges import frame_field
from neural_polarization.files import check_file, write_text
from neural_polarization.interfaces.prediction import Prediction, internal_unit
from neural_polarization.properties import BORN_CHARGES, DEFINITIONS, DISPLACEMENT, FIELD, STRESS, VOIGT
from neural_polarization.text import table as text_table
from neural_polarization.units import factor

AXES = "xyz"

STRESS_UNIT = DEFINITIONS[STRESS].unit

OUTSIDE = "outside_training"
"""Name of how a structure lies outside of what the model was trained on, in every output."""


def write_predictions(
    predictions: Sequence[Prediction], units: Mapping[str, str], path: str | Path, overwrite: bool = False
) -> None:
    """Writes predictions in the format that the ending tells.

    Args:
        predictions: of `predict`.
        units: customary unit per property; without one a value is written in its internal unit.
        path: .extxyz or .xyz (all arrays, displacements among them), .csv (a row per structure, and the longest
            displacement), .json (everything).
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: for another ending.
        FileExistsError: if the file is there and `overwrite` is not set.
    """
    check_output(path, overwrite)
    path = Path(path)
    write_text(path, WRITERS[path.suffix.lower()](predictions, units))


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Makes sure that an output can be written, before the work is done.

    Raises:
        ValueError: for an ending that is not known.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where its folder cannot be written.
    """
    check_file(path, overwrite, WRITERS, "output")


def table(predictions: Sequence[Prediction], units: Mapping[str, str]) -> str:
    """Predictions for people: a line per structure."""
    rows = _rows(predictions, units)
    if not rows:
        return ""
    lines = [list(rows[0]), *([_short(value) for value in row.values()] for row in rows)]
    return text_table(lines)


def _rows(predictions: Sequence[Prediction], units: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, prediction in enumerate(predictions):
        atoms = prediction.atoms
        row: dict[str, Any] = {
            "structure": number,
            "name": atoms.info.get("name") or atoms.info.get("smiles") or "",
            "formula": atoms.get_chemical_formula(),
        }
        if FIELD in atoms.info:
            field = frame_field(atoms, f"structure {number}")
            row |= {f"{FIELD}_{axis} [V/Angstrom]": float(part) for axis, part in zip(AXES, field, strict=True)}
        for name, value in prediction.properties.items():
            shown, unit = in_unit(name, value, units)
            labels = [""] if not value.shape else ["_" + _axes(place) for place in np.ndindex(value.shape)]
            for label, number_ in zip(labels, shown.ravel(), strict=True):
                row[f"{name}{label} [{unit}]"] = float(number_)
        for name, value in prediction.of_atoms.items():
            shown, unit = in_unit(name, value, units)
            row[f"{name} [{unit}]"] = " ".join(f"{number_:.4f}" for number_ in shown.ravel())
        if prediction.forces is not None:
            row["largest force [eV/Angstrom]"] = float(np.linalg.norm(prediction.forces, axis=-1).max())
        if prediction.stress is not None:
            for places, number_ in zip(VOIGT, prediction.stress, strict=True):
                row[f"{STRESS}_{_axes(places)} [{STRESS_UNIT}]"] = float(number_)
        if prediction.born_charges is not None:
            traces = np.trace(prediction.born_charges, axis1=1, axis2=2) / 3.0
            row["Born charges, a third of the trace [e]"] = " ".join(f"{value:.3f}" for value in traces)
        row["largest displacement [Angstrom]"] = float(np.linalg.norm(prediction.displacement, axis=-1).max())
        if prediction.outside:
            row[OUTSIDE] = " ".join(prediction.outside)
        rows.append(row)
    columns = dict.fromkeys(column for row in rows for column in row)  # a crystal has fewer of them than a molecule
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _as_csv(predictions: Sequence[Prediction], units: Mapping[str, str]) -> str:
    rows = _rows(predictions, units)
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _as_json(predictions: Sequence[Prediction], units: Mapping[str, str]) -> str:
    values: list[dict[str, Any]] = []
    for prediction in predictions:
        atoms = prediction.atoms
        of_all = {**prediction.properties, **prediction.of_atoms}
        shown = {name: in_unit(name, value, units) for name, value in of_all.items()}
        entry: dict[str, Any] = {
            **{key: atoms.info[key] for key in ("smiles", "name") if key in atoms.info},
            "symbols": [str(symbol) for symbol in atoms.symbols],
            "positions": atoms.positions.tolist(),
            "properties": {name: {"value": value.tolist(), "unit": unit} for name, (value, unit) in shown.items()},
            DISPLACEMENT: prediction.displacement.tolist(),
        }
        if atoms.pbc.any():
            entry |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist()}
        if FIELD in atoms.info:
            entry[FIELD] = frame_field(atoms, atoms.get_chemical_formula()).tolist()
        if prediction.forces is not None:
            entry["forces"] = prediction.forces.tolist()
        if prediction.stress is not None:
            entry[STRESS] = prediction.stress.tolist()
        if prediction.born_charges is not None:
            entry[BORN_CHARGES] = prediction.born_charges.tolist()
        if prediction.outside:
            entry[OUTSIDE] = list(prediction.outside)
        values.append(entry)
    return (
        json.dumps(
            {
                "units": {
                    "length": "Angstrom",
                    "forces": "eV/Angstrom",
                    STRESS: STRESS_UNIT,
                    BORN_CHARGES: "e",
                    FIELD: "V/Angstrom",
                },
                "structures": values,
            },
            indent=1,
        )
        + "\n"
    )


def _as_extxyz(predictions: Sequence[Prediction], units: Mapping[str, str]) -> str:
    import ase.io

    frames = [_frame(prediction, units) for prediction in predictions]
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


def _frame(prediction: Prediction, units: Mapping[str, str]) -> Any:
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    frame = prediction.atoms.copy()
    frame.calc = None
    for name in (*all_properties, BORN_CHARGES, OUTSIDE):
        # A file's own energy or forces, or those of another model, would be read back as the model's.
        frame.info.pop(name, None)
        frame.arrays.pop(name, None)
    for name, value in frame.info.items():
        if isinstance(value, str):  # ASE writes a line break as it is, and a last backslash before the closing quote
            frame.info[name] = " ".join(value.splitlines()).rstrip("\\")
    # ASE's own names are in ASE's units, which are the internal ones; every other property says its unit.
    standard: dict[str, Any] = {} if prediction.forces is None else {"forces": prediction.forces}
    if prediction.stress is not None:
        standard[STRESS] = prediction.stress
    for name, value in prediction.properties.items():
        if name in ("energy", "dipole"):
            standard[name] = value if value.shape else float(value)
            continue
        shown, unit = in_unit(name, value, units)
        frame.info[name] = shown if value.shape else float(shown)
        frame.info[f"{name}_unit"] = unit
    for name, value in prediction.of_atoms.items():
        frame.arrays[name], frame.info[f"{name}_unit"] = in_unit(name, value, units)
    frame.calc = SinglePointCalculator(frame, **standard)
    frame.arrays[DISPLACEMENT] = prediction.displacement
    if prediction.born_charges is not None:
        frame.arrays[BORN_CHARGES] = prediction.born_charges.reshape(len(frame), 9)
    if prediction.outside:
        frame.info[OUTSIDE] = " ".join(prediction.outside)
    return frame


WRITERS: dict[str, Callable[[Sequence[Prediction], Mapping[str, str]], str]] = {
    ".extxyz": _as_extxyz,
    ".xyz": _as_extxyz,
    ".csv": _as_csv,
    ".json": _as_json,
}
"""Every kind of output by its ending."""


def in_unit(name: str, value: NDArray[np.float64], units: Mapping[str, str]) -> tuple[NDArray[np.float64], str]:
    """A property in its customary unit and the name of that; as it is where no unit is known.

    A property that was learned without labels of its own, such as the polarizability of a response, has the unit of its
    definition.
    """
    if name not in units and name not in DEFINITIONS:
        return value, "internal units"
    unit = internal_unit(units[name] if name in units else DEFINITIONS[name].property.unit)
    return np.asarray(value / factor(unit)), unit


def _axes(place: tuple[int, ...]) -> str:
    return "".join(AXES[k] if k < len(AXES) else str(k) for k in place)


def _short(value: Any) -> str:
    """A number with all the digits that a model can mean: tenths of meV of a total energy too."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) >= 1 else f"{value:.5g}"
