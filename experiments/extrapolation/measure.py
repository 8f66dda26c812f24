"""Errors of every training of a comparison on test sets beyond its own, and their ratios to the reference.

    python experiments/extrapolation/measure.py runs/extrapolation/acac_painn runs/extrapolation/acac

Root mean square errors, as in the literature on AcAc and 3BPA, in meV and meV/Angstrom, of every file of the folder
that is not named train_*, or of those named with --parts. Ratios are to the reference with the same seed: mean and
standard deviation over seeds. All of it goes to GRID/extrapolation.json.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neural_polarization.checkpoints import load_model
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.files import write_json
from neural_polarization.training.experiment import errors_of

PROPERTIES = {"energy": PropertyConfig("energy", "eV"), "forces": PropertyConfig("forces", "eV/Angstrom")}


def measure(checkpoint: Path, files: list[Path]) -> dict[str, dict[str, float]]:
    """Root mean square errors on each file, meV and meV/Angstrom."""
    model, _ = load_model(checkpoint)
    found: dict[str, dict[str, float]] = {}
    for file in files:
        has_forces = "forces" in file.open().readlines(2000)[1]
        names = {name: PROPERTIES[name] for name in ("energy", *(["forces"] if has_forces else []))}
        prepared = open_dataset(DataConfig("extxyz", str(file), properties=names)).prepare(model.cutoff)
        errors = errors_of(model, prepared, 50)
        found[file.stem] = {name: 1e3 * errors[name].rmse for name in names}
    return found


def show(results: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]], reference: str) -> None:
    """Prints the table: errors of the reference, and ratios of the others."""
    others = [name for name in results if name != reference]
    print(f"| test set | {reference} | " + " | ".join(others) + " |\n" + "|---" * (len(others) + 2) + "|")
    first = next(iter(results[reference].values()))
    for part, of_part in first.items():
        for name in of_part:
            plain = {seed: found[part][name] for seed, found in results[reference].items()}
            cells = [f"{statistics.mean(plain.values()):.1f}{_spread(list(plain.values()), 1)}"]
            for other in others:
                ratios = [found[part][name] / plain[seed] for seed, found in results[other].items() if seed in plain]
                cells.append(f"{statistics.mean(ratios):.2f}{_spread(ratios, 2)}" if ratios else "-")
            print(f"| {part}, {name} | " + " | ".join(cells) + " |")


def _spread(values: list[float], digits: int) -> str:
    return f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""


def main() -> None:
    """Measures what is not measured yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--reference", default="plain")
    parser.add_argument("--parts", nargs="+", help="names of files without .xyz")
    arguments = parser.parse_args()
    every = sorted(arguments.data.glob("*.xyz"))
    parts: list[str] = arguments.parts or [file.stem for file in every if not file.stem.startswith("train")]
    files = [file for file in every if file.stem in parts]
    path = arguments.grid / "extrapolation.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for result in sorted(arguments.grid.glob("*/seed_*/result.json")):
        of_variant = results.setdefault(result.parents[1].name, {})
        if result.parent.name not in of_variant:
            of_variant[result.parent.name] = measure(result.parent, files)
            write_json(path, results)
    show(results, arguments.reference)


if __name__ == "__main__":
    main()
