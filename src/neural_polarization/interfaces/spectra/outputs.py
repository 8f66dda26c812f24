"""Spectra as figures whose peaks are named, and as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neural_polarization.files import refuse_existing, replacing, write_text
from neural_polarization.interfaces.spectra.time_series import Curve
from neural_polarization.interfaces.spectra.vibrations import Vibrations

FIGURES = (".png", ".svg", ".pdf")
"""Endings of figures."""

_NAMED = 8  # peaks
_APART = 70.0  # 1/cm: names that are closer would cover each other
_ROOM = 1.9  # of the highest peak, for its name above it
_LOWEST = 0.03  # of the highest peak: smaller ones have no name


def check_spectrum(path: Path, overwrite: bool) -> Path:
    """Makes sure that a figure and its CSV can be written; returns the path of the CSV.

    Raises:
        ValueError: for another ending than those of figures.
        FileExistsError: if one of the files is there and `overwrite` is not set.
    """
    if path.suffix.lower() not in FIGURES:
        raise ValueError(f"{path}: a spectrum is written as a figure; the ending must be one of {', '.join(FIGURES)}")
    table = path.with_suffix(".csv")
    for file in (path, table):
        refuse_existing(file, overwrite)
    return table


def write_vibrations(path: Path, found: Vibrations, names: Sequence[str]) -> None:
    """A row per mode: number, wavenumber, intensities, what moves."""
    rows: list[dict[str, Any]] = []
    for mode, name in enumerate(names):
        row: dict[str, Any] = {"mode": mode + 1, "wavenumber [1/cm]": f"{found.wavenumbers[mode]:.2f}"}
        if found.infrared is not None:
            row["infrared [km/mol]"] = f"{found.infrared[mode]:.4g}"
        if found.raman is not None and found.depolarization is not None:
            row["raman [Angstrom^4/amu]"] = f"{found.raman[mode]:.4g}"
            row["depolarization"] = f"{found.depolarization[mode]:.3f}"
        rows.append({**row, "name": name})
    _write_rows(path, rows)


def write_curve(path: Path, curve: Curve) -> None:
    """A row per wavenumber."""
    rows: list[dict[str, Any]] = []
    for point, wavenumber in enumerate(curve.wavenumbers):
        row: dict[str, Any] = {"wavenumber [1/cm]": f"{wavenumber:.2f}"}
        if curve.infrared is not None:
            row["infrared [km/mol cm]"] = f"{curve.infrared[point]:.6g}"
        if curve.raman is not None:
            row["raman [Angstrom^4/amu cm]"] = f"{curve.raman[point]:.6g}"
        rows.append(row)
    _write_rows(path, rows)


def broadened(found: Vibrations, width: float, step: float = 1.0) -> Curve:
    """Lines of a harmonic spectrum as Lorentzians, whose integrals are the intensities; imaginary modes are left out.

    Args:
        found: Vibrations.
        width: Full width at half maximum, 1/cm.
        step: Distance of the points, 1/cm.

    Raises:
        ValueError: for a width that is not positive.
    """
    if not width > 0.0:
        raise ValueError(f"spectrum: expected a width of the lines above zero, got {width:g} 1/cm")
    wavenumbers = np.arange(0.0, max(found.wavenumbers.max(), 0.0) + 20.0 * width + 200.0, step)
    real = found.wavenumbers > 0.0
    shapes = (0.5 * width / np.pi) / ((wavenumbers[:, None] - found.wavenumbers[real]) ** 2 + 0.25 * width**2)
    return Curve(
        wavenumbers,
        None if found.infrared is None else shapes @ found.infrared[real],
        None if found.raman is None else shapes @ found.raman[real],
    )


def write_figure(path: Path, title: str, curve: Curve, found: Vibrations, names: Sequence[str], width: float) -> None:
    """A panel for infrared and one for Raman: the curve, the harmonic lines, and names at the highest peaks.

    Args:
        path: File of the figure.
        title: What stands above it.
        curve: Curve of the spectrum.
        found: Harmonic vibrations, whose lines stand in the figure.
        names: Name of each mode.
        width: Width of a line, 1/cm, from which its height follows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        ("infrared, km/mol per 1/cm", curve.infrared, found.infrared),
        ("Raman activity, Å⁴/amu per 1/cm", curve.raman, found.raman),
    ]
    panels = [panel for panel in panels if panel[1] is not None]
    figure = Figure(figsize=(9.0, 3.2 * len(panels) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(panels), 1, squeeze=False, sharex=True)
    for axis, (label, values, lines) in zip(axes[:, 0], panels, strict=True):
        axis.plot(curve.wavenumbers, values, color="#1f4e79", linewidth=1.2)
        if lines is not None:
            _draw_lines(axis, found.wavenumbers, lines / (0.5 * np.pi * width), names)
        axis.set_ylabel(label)
        axis.set_ylim(0.0, _ROOM * max(axis.dataLim.y1, 1e-12))
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("wavenumber, 1/cm")
    axes[-1, 0].set_xlim(_right_end(curve, found), 0.0)
    axes[0, 0].set_title(title, loc="left")
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=150)


def _draw_lines(
    axis: Any, wavenumbers: Float[np.ndarray, " modes"], heights: Float[np.ndarray, " modes"], names: Sequence[str]
) -> None:
    axis.vlines(wavenumbers, 0.0, heights, color="#c0504d", linewidth=1.4)
    for mode in named_modes(wavenumbers, heights):
        axis.annotate(
            f"{wavenumbers[mode]:.0f} {names[mode]}",
            (wavenumbers[mode], heights[mode]),
            xytext=(0, 4),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=7,
        )


def named_modes(wavenumbers: Float[np.ndarray, " modes"], heights: Float[np.ndarray, " modes"]) -> list[int]:
    """The highest lines, those left out whose name would stand on that of a higher one."""
    heights = np.where(wavenumbers > 0.0, heights, 0.0)
    named: list[int] = []
    for mode in np.argsort(-heights).tolist():
        if heights[mode] > _LOWEST * heights.max() and all(
            abs(wavenumbers[mode] - wavenumbers[other]) >= _APART for other in named
        ):
            named.append(mode)
    return named[:_NAMED]


def _right_end(curve: Curve, found: Vibrations) -> float:
    return float(min(curve.wavenumbers[-1], max(found.wavenumbers.max() + 300.0, 500.0)))


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
