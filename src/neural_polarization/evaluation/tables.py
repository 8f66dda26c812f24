"""The table of a comparison: errors, their ratios to the reference seed by seed, and costs."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_polarization.files import write_json, write_text
from neural_polarization.text import markdown_table

MANY = 4
"""Number of properties above which the table is turned, with a row per property instead of one per variant."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds; with one seed the deviation is None."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Mean and standard deviation of some values."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.deviation is None else f"{self.mean:.3f} ± {self.deviation:.3f}"


@dataclass(frozen=True)
class Row:
    """Results of a variant.

    Attributes:
        name: Name of the variant.
        seeds: Finished seeds.
        parameters: Number of parameters.
        relative_step: Time of a step divided by that of the reference.
        minutes: Mean training time in minutes.
        memory: Mean over the trainings of their largest memory, MB.
        sizes: Sizes that were found for the variant, in words.
        errors: MAE of each property by seed, in customary units.
        ratios: Error of each property divided by that of the reference with the same seed.
        overall: Geometric mean of the ratios of all properties.
    """

    name: str
    seeds: tuple[int, ...]
    parameters: int
    relative_step: float
    minutes: float
    memory: float
    sizes: str
    errors: Mapping[str, Mapping[int, float]]
    ratios: Mapping[str, Spread]
    overall: Spread | None


@dataclass(frozen=True)
class Table:
    """Results of a comparison.

    Attributes:
        name: Name of the comparison.
        reference: Name of the variant that ratios refer to.
        units: Customary unit of each property.
        rows: One row for each variant with results.
        part: Part of the data that errors are computed on: "test", or "validation" if there is no test part.
    """

    name: str
    reference: str
    units: Mapping[str, str]
    rows: tuple[Row, ...]
    part: str = "test"

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """The table as markdown."""
        costs = ["seeds", "parameters", "time per step", "training", "memory"]
        heads = [f"{name} [{unit}]" for name, unit in self.units.items()]
        overall = ["mean ratio"] if len(self.units) > 1 else []
        columns = ["variant", *heads, *overall, *costs]
        body = [self._cells(row) for row in self.rows]
        if len(self.units) > MANY:
            turned = [list(line) for line in zip(columns, *body, strict=True)]
            columns, body = turned[0], turned[1:]
        notes = [f"- {row.name}: {row.sizes}" for row in self.rows if row.sizes]
        return "\n".join(
            [
                f"# {self.name}",
                "",
                f"{self.part.capitalize()} errors (MAE, mean over seeds; in brackets the ratio to "
                f"`{self.reference}` seed by seed, mean ± standard deviation).",
                "",
                markdown_table([columns, *body]),
                *(["", "Found sizes:", "", *notes] if notes else []),
                "",
            ]
        )

    def _cells(self, row: Row) -> list[str]:
        cells = [row.name]
        for name in self.units:
            values = row.errors.get(name)
            text = f"{statistics.fmean(values.values()):.4g}" if values else "-"
            ratio = row.ratios.get(name)
            cells.append(f"{text} ({ratio})" if ratio and row.name != self.reference else text)
        if len(self.units) > 1:
            cells.append("1" if row.name == self.reference else str(row.overall or "-"))
        return [
            *cells,
            str(len(row.seeds)),
            f"{row.parameters:,}",
            f"{row.relative_step:.2f} x",
            f"{row.minutes:.1f} min",
            f"{row.memory:.0f} MB",
        ]

    def long(self) -> str:
        """Every error as CSV: variant, seed, property, unit, MAE."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["variant", "seed", "property", "unit", f"{self.part}_mae", "parameters", "relative_step"])
        for row in self.rows:
            for name, by_seed in row.errors.items():
                for seed, error in by_seed.items():
                    writer.writerow(
                        [row.name, seed, name, self.units[name], error, row.parameters, round(row.relative_step, 4)]
                    )
        return text.getvalue()


def make_table(
    name: str,
    reference: str,
    results: Mapping[str, Mapping[int, Mapping[str, Any]]],
    parameters: Mapping[str, int],
    step_seconds: Mapping[str, float],
    sizes: Mapping[str, str],
) -> Table:
    """The table from the results of the cells.

    Args:
        name: Name of the comparison.
        reference: Name of the variant that ratios refer to.
        results: Contents of `result.json` by variant and seed.
        parameters: Number of parameters of each variant.
        step_seconds: Time per step of each variant, seconds.
        sizes: Sizes that were found for each variant, in words.
    """
    units: dict[str, str] = {}
    errors: dict[str, dict[str, dict[int, float]]] = {}
    everything = [result for by_seed in results.values() for result in by_seed.values()]
    part = "test" if all(result.get("test") for result in everything) else "validation"
    for variant, by_seed in results.items():
        errors[variant] = {}
        for seed, result in by_seed.items():
            for key, error in result[part].items():
                units.setdefault(key, result["units"][key])
                errors[variant].setdefault(key, {})[seed] = error["mae"]
    rows: list[Row] = []
    for variant, by_seed in results.items():
        if not by_seed:
            continue
        ratios = {key: _ratios(errors[variant][key], errors[reference].get(key, {})) for key in errors[variant]}
        common = sorted(set.intersection(*(set(of_key) for of_key in ratios.values()))) if ratios else []
        overall = [math.exp(statistics.fmean(math.log(of[seed]) for of in ratios.values())) for seed in common]
        rows.append(
            Row(
                name=variant,
                seeds=tuple(by_seed),
                parameters=parameters[variant],
                relative_step=step_seconds[variant] / step_seconds[reference],
                minutes=statistics.fmean(result["training_seconds"] for result in by_seed.values()) / 60,
                memory=statistics.fmean(result["peak_memory_MB"] for result in by_seed.values()),
                sizes=sizes.get(variant, ""),
                errors=errors[variant],
                ratios={key: Spread.of(list(of.values())) for key, of in ratios.items() if of},
                overall=Spread.of(overall) if overall else None,
            )
        )
    return Table(name, reference, units, tuple(rows), part)


def write_table(table: Table, directory: Path) -> None:
    """Writes table.md, table.csv, table.json and, where there are ratios, ratios.png."""
    write_text(directory / "table.md", table.markdown())
    write_text(directory / "table.csv", table.long())
    write_json(
        directory / "table.json",
        {
            row.name: {
                "seeds": list(row.seeds),
                "parameters": row.parameters,
                "relative_step": row.relative_step,
                "training_minutes": row.minutes,
                "memory_MB": row.memory,
                "part": table.part,
                "mae": {key: list(of.values()) for key, of in row.errors.items()},
                "ratio": {key: [ratio.mean, ratio.deviation] for key, ratio in row.ratios.items()},
                "overall": None if row.overall is None else [row.overall.mean, row.overall.deviation],
            }
            for row in table.rows
        },
    )
    _plot(table, directory / "ratios.png")


def _ratios(errors: Mapping[int, float], of_reference: Mapping[int, float]) -> dict[int, float]:
    return {seed: error / of_reference[seed] for seed, error in errors.items() if of_reference.get(seed)}


def _plot(table: Table, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in table.rows if row.ratios]
    if not rows:
        path.unlink(missing_ok=True)  # of a former table
        return
    width = max(6.0, 3.0 + 1.2 * len(table.units) * max(len(rows), 2) ** 0.5)
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for k, row in enumerate(rows):
        names = [name for name in table.units if name in row.ratios]
        places = [list(table.units).index(name) + (k - (len(rows) - 1) / 2) * width for name in names]
        axes.bar(
            places,
            [row.ratios[name].mean for name in names],
            width,
            yerr=[row.ratios[name].deviation or 0.0 for name in names],
            label=f"{row.name} ({row.relative_step:.2f} x time)",
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(table.units)), list(table.units))
    axes.set_ylabel(f"{table.part} MAE / that of {table.reference}")
    axes.set_title(table.name, parse_math=False)
    # The legend is outside of the axes, because bars can have any height.
    figure.legend(loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=150)
