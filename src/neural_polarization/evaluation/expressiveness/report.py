"""The table and the figure of which structures networks distinguish, compared with theory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neural_polarization.architectures import ARCHITECTURES
from neural_polarization.evaluation.expressiveness.cases import Case, all_cases
from neural_polarization.evaluation.expressiveness.suite import CHOICES, SEPARATED, Results, least_layers
from neural_polarization.evaluation.expressiveness.symmetry import SymmetryErrors
from neural_polarization.files import replacing, write_text
from neural_polarization.messages import Messages
from neural_polarization.text import markdown_table

IMPOSSIBLE = ("4-body-chiral", "2-star-turned", "3-star-turned", "enantiomers")
"""Cases that no equivariant network can tell apart, because of symmetry."""

INVARIANT = ("schnet", "cgcnn", "egnn")
"""Networks that without polarization see only distances along the edges, in which no pair of stars differs."""

ROUNDING = 1e-9
"""Largest error of a symmetry that counts as rounding in float64."""


def backbones_of(results: Results) -> list[str]:
    """Names of the measured networks, in the order of `ARCHITECTURES`."""
    measured = {name for name, _, _ in results}
    return [name for name in ARCHITECTURES if name in measured]


def table(results: Results) -> str:
    """Markdown table of the least number of layers per network and case: plain / riding / both views."""
    cases = all_cases()
    head = ["network", *(case.name for case in cases)]
    lines = [head]
    lines += [[name, *(_cell(results, name, case.name) for case in cases)] for name in backbones_of(results)]
    return markdown_table(lines)


def symmetry_table(results: Results) -> str:
    """Markdown table of the largest symmetry errors per network, over all of its sizes and choices."""
    head = ["network", "rotation", "reflection", "out of plane", "at inversion centre"]
    lines = [head]
    for name in backbones_of(results):
        errors = [cell.symmetry for (backbone, _, _), cell in results.items() if backbone == name]
        worst = dataclasses.astuple(SymmetryErrors.worst(errors))
        lines.append([name, *(f"{value:.0e}" for value in worst)])
    return markdown_table(lines)


def theory(cases: Sequence[Case]) -> str:
    """Markdown list of what a network needs in order to tell the structures of each case apart."""
    return "\n".join(f"- **{case.name}**: {case.theory}." for case in cases)


def violations(results: Results) -> list[str]:
    """All results that contradict theory; empty if there are none."""
    found: list[str] = []
    for name in backbones_of(results):
        for case in all_cases():
            least = {choice: least_layers(results, name, choice, case.name) for choice in CHOICES}
            if case.name in IMPOSSIBLE and any(least.values()):
                found.append(f"{name} tells {case.name} apart, which symmetry forbids")
            plain = least[Messages.PLAIN]
            if name in INVARIANT and plain is not None:
                found.append(f"{name}, plain, tells {case.name} apart, though all distances that it sees are equal")
            for choice in CHOICES[1:]:
                polarized = least[choice]
                if plain is not None and (polarized is None or polarized > plain):
                    found.append(f"{name} needs more layers for {case.name} with {choice.value} than plain")
    for (name, messages, layers), cell in results.items():
        errors = cell.symmetry
        for what, error in (
            ("rotation", errors.rotation),
            ("reflection", errors.reflection),
            ("the plane of a planar molecule", errors.out_of_plane),
            ("an inversion centre", errors.at_centre),
        ):
            if error > ROUNDING:
                found.append(f"{name}, {messages}, {layers} layers: {what} is kept to {error:.0e} only")
    return found


def write_report(results: Results, directory: Path) -> list[Path]:
    """Writes expressiveness.md and expressiveness.png, and returns their paths."""
    layers = max(layers for _, _, layers in results)
    seeds = max(len(values) for cell in results.values() for values in cell.differences.values())
    broken = violations(results)
    verdict = (
        "Nothing contradicts theory." if not broken else "\n".join(["Against theory:", *(f"- {x}" for x in broken)])
    )
    text = f"""# What networks tell apart

Least number of layers with which a network tells the two structures of a case apart for each of {seeds} draws of
its weights: plain / riding / both views; - where none of up to {layers} does. Apart means that a pooled scalar differs
by more than {SEPARATED:g} of the largest, in float64.

{table(results)}

{theory(all_cases())}

{verdict}

## Symmetries

Largest errors over all sizes, choices and seeds, in float64, relative to the largest value or to the limit of
displacements.

{symmetry_table(results)}
"""
    report, figure = directory / "expressiveness.md", directory / "expressiveness.png"
    write_text(report, text)
    _draw(results, figure)
    return [report, figure]


def _cell(results: Results, name: str, case: str) -> str:
    layers = (least_layers(results, name, choice, case) for choice in CHOICES)
    return " / ".join("-" if least is None else str(least) for least in layers)


def _draw(results: Results, path: Path) -> None:
    """Draws one panel per choice. The colour is the difference of the two structures, the number the least depth."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names, cases = backbones_of(results), all_cases()
    figure, axes = plt.subplots(
        1, len(CHOICES), figsize=(2 + 3.6 * len(CHOICES), 1.8 + 0.34 * len(names)), sharey=True, layout="constrained"
    )
    image = None
    for axis, choice in zip(axes, CHOICES, strict=True):
        strength = np.array([[_strength(results, name, choice, case.name) for case in cases] for name in names])
        image = axis.imshow(strength, vmin=-12, vmax=-1, cmap="viridis", aspect="auto")
        for y, name in enumerate(names):
            for x, case in enumerate(cases):
                least = least_layers(results, name, choice, case.name)
                colour = "black" if strength[y, x] > -5 else "white"
                axis.text(x, y, "-" if least is None else least, ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(choice.value.replace("_", " "))
        axis.set_xticks(range(len(cases)), [case.name for case in cases], rotation=70, ha="right", fontsize=8)
        axis.set_yticks(range(len(names)), names)
    assert image is not None
    figure.colorbar(image, ax=axes, label="log10 of the relative difference (least seed, deepest network)")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=130)
    plt.close(figure)


def _strength(results: Results, name: str, choice: Messages, case: str) -> float:
    deepest = max(layers for backbone, messages, layers in results if (backbone, messages) == (name, choice.value))
    return float(np.log10(max(min(results[name, choice.value, deepest].differences[case]), 1e-16)))
