"""Draws results.png: test errors relative to the plain network, for README.md and docs/results.md.

python docs/pictures/results.py

The numbers stand in results.csv; experiments/LOG.md has the command of each.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).parent
COLOURS = {"wider": "#b9bec6", "deeper": "#7d8794", "moving view": "#d1495b"}
"""Plain networks in grey, the polarized one in red, readable without colour as well."""


@dataclass(frozen=True)
class Bar:
    """One network on one data set: its error over that of the plain network, and the time of its step over plain's."""

    data: str
    network: str
    ratio: float
    deviation: float
    step: float


def read(path: Path) -> list[Bar]:
    """The bars, in the order of the file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Bar(row["data"], row["network"], *(float(row[key]) for key in ("ratio", "deviation", "step")))
            for row in csv.DictReader(file)
        ]


def draw(bars: list[Bar]) -> Figure:
    """Groups of bars with their standard deviations; the line at one is the plain network."""
    groups = list(dict.fromkeys(bar.data for bar in bars))
    networks = list(COLOURS)
    width = 0.8 / len(networks)
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, network in enumerate(networks):
        chosen = [bar for bar in bars if bar.network == network]
        x = [groups.index(bar.data) + (place - (len(networks) - 1) / 2) * width for bar in chosen]
        heights = [bar.ratio for bar in chosen]
        axes.bar(x, heights, 0.94 * width, color=COLOURS[network], label=network)
        axes.errorbar(x, heights, [bar.deviation for bar in chosen], fmt="none", ecolor="black", elinewidth=0.9)
        for middle, bar in zip(x, chosen, strict=True):
            axes.text(middle, 0.03, f"{bar.step:.1f} x", ha="center", va="bottom", fontsize=7, color="black")
    axes.axhline(1.0, color="black", linewidth=0.9)
    axes.text(len(groups) - 0.5, 1.015, "plain", va="bottom", ha="right", fontsize=9)
    axes.set_xticks(range(len(groups)), [group.replace(", ", "\n", 1) for group in groups], fontsize=9)
    axes.set_ylim(0.0, 1.12)
    axes.set_ylabel("test error / plain")
    axes.set_title("Lower is better; at the foot: time of a training step, plain = 1", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=len(networks), fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    draw(read(HERE / "results.csv")).savefig(HERE / "results.png", dpi=160)
