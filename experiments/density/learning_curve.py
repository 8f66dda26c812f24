"""Error of densities against the number of molecules that train, on moving points and on nuclei.

    python experiments/density/learning_curve.py runs/density_curve --seeds 0 1 2
    python experiments/density/learning_curve.py runs/density_curve_long --seeds 0 --steps 4800 \\
        --picture docs/pictures/density_learning.png

Every training has as many steps, whatever its number of molecules; arguments that are not named here are those of
`train.py`. Smaller sets are parts of larger ones, another choice for every seed, the same for both centres. The error
is the mean over the unseen molecules (validation and test). It leaves FOLDER/PART-CENTRES-SEED.json and repeats none.
"""

import argparse
import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from compare import DATA
from sources import Data, read
from train import build, parser, train

from neural_polarization.training.densities import by_molecule, density_errors

Curve = dict[str, dict[int, list[float]]]


def reduced(data: Data, part: float, seed: int) -> tuple[Data, int]:
    """The data with some of the molecules to train that have densities, and the number of these molecules."""
    rows = data.parts["train"]
    groups = data.dataset.groups
    molecules = np.unique(groups[data.points.of_structures(rows).structures])
    number = round(part * len(molecules))
    chosen = np.random.default_rng(seed).permutation(molecules)[:number]
    return replace(data, parts=data.parts | {"train": rows[np.isin(groups[rows], chosen)]}), number


def unseen_error(settings: argparse.Namespace, data: Data) -> float:
    """Error of a new training on the molecules that it has not seen, percent."""
    model = train(build(settings, data), data, settings)
    rows = np.concatenate([data.parts["validation"], data.parts["test"]])
    points = data.points.of_structures(rows)
    errors = density_errors(model, data.prepared, points)
    return 100 * float(np.mean(list(by_molecule(errors, data.dataset.groups[points.structures]).values())))


def exponent(of_numbers: dict[int, list[float]]) -> float:
    """b of error = a N^-b, by least squares of the logarithms."""
    numbers = np.log(list(of_numbers))
    errors = np.log([np.mean(errors) for errors in of_numbers.values()])
    return -float(np.polyfit(numbers, errors, 1)[0])


def draw(curve: Curve, path: Path) -> None:
    """The figure, both axes logarithmic."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure((5.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for (centres, of_numbers), colour in zip(sorted(curve.items()), ("tab:blue", "tab:orange"), strict=False):
        numbers = sorted(of_numbers)
        means = [np.mean(of_numbers[number]) for number in numbers]
        spreads = [np.std(of_numbers[number]) for number in numbers]
        label = f"functions on {'moving points' if centres == 'moving' else centres}"
        axes.errorbar(numbers, means, spreads, marker="o", color=colour, label=label)
    ticks = sorted({number for of_numbers in curve.values() for number in of_numbers})
    axes.set(xscale="log", yscale="log", xlabel="molecules that train", ylabel="error of the density, %")
    axes.set_xticks(ticks, [str(number) for number in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains what is missing, prints the errors and the exponents, and draws them."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("folder", type=Path)
    own.add_argument("--parts", type=float, nargs="*", default=[0.125, 0.25, 0.5, 1.0])
    own.add_argument("--centres", nargs="*", default=["nuclei", "moving"])
    own.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    own.add_argument("--data", nargs="+", default=list(DATA))
    own.add_argument("--picture", type=Path)
    arguments, rest = own.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data: Data | None = None
    curve: Curve = {}
    for seed, part, centres in product(arguments.seeds, arguments.parts, arguments.centres):
        path = arguments.folder / f"{part:g}-{centres}-{seed}.json"
        if not path.exists():
            names = ["--centres", centres, "--seed", str(seed), "--steps", "800", "--points", "250", "-o", ""]
            settings = parser().parse_args([*names, *rest])
            files = [file.replace(".npz", "_densities.npz") for file in arguments.data]
            data = data or read(arguments.data, files, settings.cutoff)
            started = time.process_time()
            some, number = reduced(data, part, seed)
            result = {"molecules": number, "error_percent": unseen_error(settings, some)}
            result |= {"processor_seconds": time.process_time() - started, "settings": vars(settings)}
            path.write_text(json.dumps(result, indent=1), encoding="utf-8")
        result = json.loads(path.read_text(encoding="utf-8"))
        curve.setdefault(centres, {}).setdefault(result["molecules"], []).append(result["error_percent"])
        print(path.stem, result["molecules"], f"{result['error_percent']:.2f} %", flush=True)
    for centres, of_numbers in curve.items():
        for number, errors in of_numbers.items():
            print(f"| {centres} | {number} | {len(errors)} | {np.mean(errors):.2f} ± {np.std(errors):.2f} % |")
        print(f"{centres}: error falls as N^-{exponent(of_numbers):.2f}")
    if arguments.picture is not None:
        draw(curve, arguments.picture)


if __name__ == "__main__":
    main()
