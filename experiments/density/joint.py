"""Energies and forces alone, beside densities, and beside everything: trains all of them, prints errors side by side.

    python experiments/density/joint.py FOLDER --seeds 0 1 2 --steps 300

Each training is one of `train.py` on both data sets, with the arguments that are not named here, and leaves
FOLDER/NAME.json and the model; those that are there are not repeated. Errors are of validation and test molecules, of
which neither chooses anything; of several seeds, the mean and the largest distance from it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sources import Data, read
from train import build, measure, parser, train

from neural_polarization.checkpoints import save_model
from neural_polarization.evaluation.densities import density_evaluation
from neural_polarization.files import write_json
from neural_polarization.settings import plain

EVERYTHING = ["energy", "dipole", "polarizability", "hirshfeld_charges"]
CHOICES: dict[str, dict[str, Any]] = {
    "energy": {"heads": ["energy"], "density_weight": 0.0},
    "energy_dipole": {"heads": ["energy", "dipole"], "density_weight": 0.0},
    "energy_density": {"heads": ["energy"]},
    "everything": {"heads": EVERYTHING},
    "everything_dipole": {"heads": EVERYTHING, "dipole_weight": 5.0},
}
"""What differs from the defaults of `train.py`, by the name of each choice."""

COLUMNS = (
    "energy",
    "forces",
    "dipole",
    "polarizability",
    "hirshfeld_charges",
    "density_nmae_percent",
    "density_dipole",
)
FILES = [f"data/{name}_molecules{{}}.npz" for name in ("small", "ordinary")]


def result_of(choice: str, seed: int, data: Data, folder: Path, rest: list[str]) -> dict[str, float]:
    """Errors over validation and test structures, weighted by their number, in customary units."""
    path = folder / f"{choice}_{seed}.json"
    if not path.is_file():
        arguments = parser().parse_args([*rest, "--seed", str(seed), "-o", str(folder / choice)])
        for name, value in CHOICES[choice].items():
            setattr(arguments, name, value)
        model = train(build(arguments, data), data, arguments)
        found = measure(model, data)
        for part in ("validation", "test"):
            rows = data.parts[part]
            points = data.points.of_part(rows)
            prepared = data.dataset.subset(rows).prepare(model.cutoff)
            found[part] |= density_evaluation(model, prepared, points, data.dataset.properties)
        save_model(model, path.with_suffix(".safetensors"), {"properties": plain(data.dataset.properties)})
        write_json(path, found)
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: _mean(found, name) for name in COLUMNS if name in found["test"]}


def _mean(found: dict[str, Any], name: str) -> float:
    """Mean over both unseen parts: of labels, or of molecules of a density."""
    pairs: list[tuple[float, float]] = []
    for part in (found["validation"], found["test"]):
        value = part.get(name)
        if isinstance(value, dict):
            pairs.append((value["mae"], value["count"]))
        elif value is not None:
            pairs.append((value, part["molecules"]))
    values, numbers = np.array(pairs).T
    return float((values * numbers).sum() / numbers.sum())


def main() -> None:
    """Trains what is not there, and prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    known, rest = arguments.parse_known_args()
    torch.set_num_threads(1)
    known.folder.mkdir(parents=True, exist_ok=True)
    data = read([file.format("") for file in FILES], [file.format("_densities") for file in FILES], 5.0)
    results: dict[str, list[dict[str, float]]] = {choice: [] for choice in known.choices}
    for seed in known.seeds:
        for choice in known.choices:
            results[choice].append(result_of(choice, seed, data, known.folder, rest))
            print(choice, seed, results[choice][-1], flush=True)
    print("| | " + " | ".join(COLUMNS) + " |")
    for choice, rows in results.items():
        cells = [_cell([row[name] for row in rows if name in row]) for name in COLUMNS]
        print(f"| {choice} | " + " | ".join(cells) + " |")


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    mean = float(np.mean(values))
    return f"{mean:.3g} ± {max(abs(value - mean) for value in values):.2g}"


if __name__ == "__main__":
    main()
