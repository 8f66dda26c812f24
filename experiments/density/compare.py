"""Densities from functions in different places: trains every choice, and prints the errors side by side.

    python experiments/density/compare.py FOLDER --sizes sp spd full --centres nuclei moving shifted --seeds 0 1 2

Each training is one of `train.py`, with the arguments that are not named here, and leaves FOLDER/NAME.json; those that
are there are not repeated. The error is the mean over the unseen molecules (validation and test, which choose nothing),
then over the seeds. The ratio is to functions on nuclei with the same size, network and seeds; its interval holds 95 %
of 10,000 draws of the unseen molecules with replacement.
"""

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sources import read
from train import build, measure, parser, train

DATA = ("data/small_molecules.npz", "data/ordinary_molecules.npz")


def run(settings: argparse.Namespace, path: Path, data: Any) -> None:
    """Trains and measures one choice, and writes its errors."""
    started = time.process_time()
    model = train(build(settings, data), data, settings)
    result = measure(model, data) | {"processor_seconds": time.process_time() - started}
    path.write_text(json.dumps(result | {"settings": vars(settings)}, indent=1), encoding="utf-8")


def of_unseen(paths: list[Path]) -> np.ndarray[Any, Any]:
    """Error of every unseen molecule, percent, a row per training."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    parts = ("validation", "test")
    return np.array([[e for part in parts for e in r[part]["of_molecules_percent"].values()] for r in results])


def interval(errors: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % of the ratio of two mean errors, from draws of the molecules."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(errors.shape[1], size=(10_000, errors.shape[1]))
    ratios = errors.mean(0)[drawn].mean(1) / reference.mean(0)[drawn].mean(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def table(folder: Path) -> list[str]:
    """A row for every choice that has a result."""
    choices: dict[tuple[str, ...], list[Path]] = {}
    for path in sorted(folder.glob("*.json")):
        *choice, _ = path.stem.split("-")
        choices.setdefault(tuple(choice), []).append(path)
    rows = [
        "| network | messages | functions | on | parameters | seeds | error, % | ratio to nuclei (95 %) | H moved, A |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (backbone, messages, size, centres), paths in sorted(choices.items()):
        results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        errors = of_unseen(paths)
        seeds = {path.stem.split("-")[-1] for path in paths}
        on_nuclei = choices.get((backbone, "riding", size, "nuclei"), [])
        reference = [path for path in on_nuclei if path.stem.split("-")[-1] in seeds]
        ratio = ""
        if centres != "nuclei" and len(reference) == len(paths):
            beside = of_unseen(reference)
            low, high = interval(errors, beside)
            ratio = f"{errors.mean() / beside.mean():.3f} ({low:.3f} to {high:.3f})"
        moved = np.mean([result["distance_of_functions"]["H"] for result in results])
        rows.append(
            f"| {backbone} | {messages} | {size} | {centres} | {results[0]['parameters']:,} | {len(paths)} | "
            f"{errors.mean():.2f} ± {errors.mean(1).std():.2f} | {ratio} | {moved:.2f} |"
        )
    return rows


def main() -> None:
    """Trains what is missing, seed by seed, and prints the table after each."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("folder", type=Path)
    own.add_argument("--sizes", nargs="*", default=[])
    own.add_argument("--centres", nargs="*", default=["nuclei", "moving"])
    own.add_argument("--backbones", nargs="*", default=["painn"])
    own.add_argument("--messages", nargs="*", default=["riding"])
    own.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    arguments, rest = own.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    densities = [file.replace(".npz", "_densities.npz") for file in DATA]
    data = None
    choices = product(arguments.seeds, arguments.backbones, arguments.sizes, arguments.messages, arguments.centres)
    for seed, backbone, size, messages, centres in choices:
        path = arguments.folder / f"{backbone}-{messages}-{size}-{centres}-{seed}.json"
        if path.exists():
            continue
        names = ["--backbone", backbone, "--size", size, "--messages", messages, "--centres", centres]
        settings = parser().parse_args([*names, "--seed", str(seed), "-o", "", *rest])
        data = data or read(DATA, densities, settings.cutoff)
        run(settings, path, data)
        print(path.stem, file=sys.stderr, flush=True)
    print("\n".join(table(arguments.folder)))


if __name__ == "__main__":
    main()
