"""Points that know electrons first: energies of few molecules of QM9 (U0), from networks that have learned densities.

    python experiments/density/joint.py runs/density/joint --choices energy energy_density everything \\
        --seeds 0 1 2 --steps 600 --channels 32 --points 250
    python experiments/density/joint.py runs/density/joint/plain --choices energy_density --messages plain \\
        --centres nuclei --seeds 0 1 2 --steps 600 --channels 32 --points 250
    python experiments/why/electrons_first.py PATH/qm9.npz runs/density/joint runs/why/electrons_first --seeds 0 1 2

Riding PaiNN with 32 channels starts from random weights, from energies and forces of the repository's molecules, from
the same and their densities, or from all of their properties; a plain one starts from random weights, or from energies,
forces and densities on nuclei. The head is new in all of them. Each training leaves FOLDER/NAME_SEED.json; those that
are there are not repeated.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from ideas import train

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.files import write_json
from neural_polarization.messages import Messages
from neural_polarization.metrics import in_units
from neural_polarization.models import HeadConfig, PolarizationConfig
from neural_polarization.training.config import ExperimentConfig, LossConfig, ModelSection, TrainingConfig
from neural_polarization.training.experiment import errors_of
from neural_polarization.training.task import prepare

STARTS = {
    "plain": None,
    "plain_after_densities": "plain/energy_density",
    "riding": None,
    "after_energies": "energy",
    "after_densities": "energy_density",
    "after_everything": "everything",
}
"""Name of the training of `joint.py` that each network starts from; None for random weights."""

LOSSES = {"U0": LossConfig(kind="mae")}


def train_one(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Test error of U0, meV, and costs."""
    started, start = time.process_time(), STARTS[name]
    split = SplitConfig(train=arguments.molecules, validation=100, test=1000, seed=0)
    section = ModelSection(
        {"U0": HeadConfig("extensive")},
        BackboneConfig("painn", 32, 3, 5.0, num_basis=20),
        PolarizationConfig(Messages.PLAIN if name.startswith("plain") else Messages.RIDING),
    )
    config = ExperimentConfig(
        section,
        DataConfig("qm9", str(arguments.data), label_source=1, split=split),
        TrainingConfig(losses=LOSSES, seed=seed),
        start_from=None if start is None else str(arguments.starts / f"{start}_{seed}.safetensors"),
    )
    task = prepare(config)
    model = train(task, seed, arguments.epochs, settings=LOSSES, batch_size=20)
    errors = in_units(errors_of(model, task.parts["test"], 100), task.dataset.properties)
    return {
        "U0": errors["U0"]["mae"],
        "molecules": arguments.molecules,
        "epochs": arguments.epochs,
        "seconds": time.process_time() - started,
    }


def main() -> None:
    """Trains what is not there yet, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("starts", type=Path, help="folder of joint.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--molecules", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for seed in arguments.seeds:
        for name in STARTS:
            path = arguments.folder / f"{name}_{seed}.json"
            if not path.is_file():
                write_json(path, train_one(name, seed, arguments))
            result = json.loads(path.read_text(encoding="utf-8"))
            print(name, seed, json.dumps(result), flush=True)
            found[name].append(result["U0"])
    for name, errors in found.items():
        ratios = [error / plain for error, plain in zip(errors, found["plain"], strict=True)]
        spread = f" ± {statistics.stdev(ratios):.2f}" if len(ratios) > 1 else ""
        print(f"| {name} | {statistics.mean(errors):.0f} | {statistics.mean(ratios):.2f}{spread} |")


if __name__ == "__main__":
    main()
