"""Pictures of an evaluation: parity, the course of the training, and how far the moving points went."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_polarization.evaluation.outcome import Evaluation, Parity
from neural_polarization.files import replacing

FEW = 50
"""Fewer errors than this are drawn one by one: a histogram of them would be all noise."""

_MOST_BINS = 60


def write_plots(evaluation: Evaluation, directory: Path) -> list[Path]:
    """Writes parity_NAME.png per property, displacements.png, and learning_curve.png where the training is known."""
    files: list[Path] = []
    for name, unit in evaluation.units.items():
        of_parts = {
            part: of_part[name]
            for part, of_part in evaluation.parities.items()
            if name in of_part and len(of_part[name].label)
        }
        if of_parts:
            errors = {part: evaluation.errors[part][name]["mae"] for part in of_parts}
            files.append(_save(_parity(name, unit, of_parts, errors), directory / f"parity_{name}.png"))
    moved = {symbol: lengths for symbol, lengths in evaluation.displacements.items() if lengths.any()}
    if moved:
        files.append(_save(_displacements(moved), directory / "displacements.png"))
    if evaluation.history is not None:
        figure = _learning_curve(evaluation.history)
        if figure is not None:
            files.append(_save(figure, directory / "learning_curve.png"))
    return files


def bins(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Edges that suit the number of values: half of the square root of it, at most 60; broad tails are cut off.

    Example:
        >>> len(bins([np.linspace(-1.0, 1.0, 400)])) - 1
        10
    """
    together = np.concatenate(list(values))
    low, high = np.quantile(together, [0.002, 0.998]) if len(together) > 1000 else (together.min(), together.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    smallest = min(len(of_part) for of_part in values)
    return np.linspace(low, high, 1 + int(np.clip(0.5 * smallest**0.5, 5, _MOST_BINS)))


def _parity(name: str, unit: str, parts: Mapping[str, Parity], errors: Mapping[str, float | None]) -> Any:
    figure = _figure((9.0, 4.4))
    left, right = figure.subplots(1, 2)
    reduced = any(parity.baseline.any() for parity in parts.values())
    for part, parity in parts.items():
        # Thousands of points in a vector of ink: dots without edges, drawn as pixels.
        size = 6 if len(parity.label) < FEW else 2
        x, y = parity.label - parity.baseline, parity.predicted - parity.baseline
        left.plot(x, y, ".", markersize=size, label=f"{part}: MAE {errors[part]:.4g} {unit}", rasterized=True)
    low, high = left.get_xlim()
    left.plot([low, high], [low, high], color="black", linewidth=0.8)
    what = f"{name} less the references of the elements" if reduced else name
    left.set_xlabel(f"{what}: label [{unit}]")
    left.set_ylabel(f"{what}: prediction [{unit}]")
    left.legend(fontsize="small")
    differences = {part: parity.predicted - parity.label for part, parity in parts.items()}
    _errors(right, differences)
    right.set_xlabel(f"error of {name} [{unit}]")
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=5)
        axes.ticklabel_format(style="sci", scilimits=(-3, 4), useOffset=False)
    return figure


def _errors(axes: Any, differences: Mapping[str, NDArray[np.float64]]) -> None:
    """Many errors as histograms of fractions, few of them as marks, one line per part."""
    many = {part: values for part, values in differences.items() if len(values) >= FEW}
    if many:
        edges = bins(list(many.values()))
        for part, values in many.items():
            axes.hist(values, edges, weights=np.full(len(values), 1.0 / len(values)), histtype="step", label=part)
        axes.set_ylabel("fraction of labels")
    few = {part: values for part, values in differences.items() if len(values) < FEW}
    top = axes.get_ylim()[1]
    for k, (part, values) in enumerate(few.items()):
        height = -0.05 * top * (k + 1)
        axes.plot(values, np.full(len(values), height), "|", markersize=9, label=f"{part} ({len(values)} labels)")
    if few and not many:
        axes.set_yticks([])


def _displacements(moved: Mapping[str, NDArray[np.float64]]) -> Any:
    """Quartiles and extremes by element."""
    figure = _figure((max(4.0, 1.2 + 0.8 * len(moved)), 3.6))
    axes = figure.subplots()
    axes.boxplot(list(moved.values()), whis=(1, 99), showfliers=False, medianprops={"color": "black"})
    axes.set_xticks(range(1, len(moved) + 1), [f"{symbol}\n{len(lengths):,}" for symbol, lengths in moved.items()])
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("element, number of atoms")
    axes.set_ylabel("length of displacement [Angstrom]\n(quartiles; whiskers: 1st and 99th percentile)")
    return figure


def _learning_curve(history: Path) -> Any | None:
    """Losses and validation errors by epoch, on logarithmic axes; None for a history of one epoch."""
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 2:
        return None
    errors = [key for key in rows[0] if key.startswith("validation_mae_")]
    figure = _figure((9.0, 4.0))
    left, right = figure.subplots(1, 2)
    for key, label in (("training_loss", "training"), ("validation_loss", "validation")):
        left.plot(*_curve(rows, key), ".-", markersize=3, linewidth=0.8, label=label)
    left.set_ylabel("loss")
    for key in errors[:6]:
        right.plot(*_curve(rows, key), ".-", markersize=3, linewidth=0.8, label=key.removeprefix("validation_mae_"))
    right.set_ylabel("validation MAE")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
        axes.legend(fontsize="small")
    return figure


def _curve(rows: Sequence[Mapping[str, str]], key: str) -> tuple[list[int], list[float]]:
    """Epochs that have a positive value, and the values."""
    pairs = [(int(row["epoch"]), float(row[key])) for row in rows if row.get(key) and float(row[key]) > 0]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> Path:
    with replacing(path) as file:
        figure.savefig(file, dpi=130, format="png")
    return path
