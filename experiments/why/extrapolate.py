"""Short trainings of a comparison in one process, for its errors far from the training data.

    python experiments/why/extrapolate.py experiments/extrapolation/acac.yaml runs/extrapolation/acac_short --epochs 10
    python experiments/extrapolation/measure.py runs/extrapolation/acac_short runs/extrapolation/acac

Variants and data are those of the comparison, steps are eager, and the weights are the averaged ones of the last step.
Each training leaves FOLDER/VARIANT/seed_SEED/model.safetensors; those that are there are not repeated.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from ideas import train

from neural_polarization.checkpoints import save_model
from neural_polarization.evaluation.grid import read_grid
from neural_polarization.files import write_json
from neural_polarization.training.task import prepare


def main() -> None:
    """Trains what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=["plain", "riding"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = read_grid(arguments.grid, {})
    for seed in arguments.seeds:
        for variant in arguments.only:
            directory = arguments.folder / variant / f"seed_{seed}"
            if (directory / "result.json").is_file():
                continue
            config = grid.experiment(variant)
            task = prepare(replace(config, training=replace(config.training, seed=seed)))
            started = time.process_time()
            training = config.training
            model = train(task, seed, arguments.epochs, settings=training.losses, batch_size=training.batch_size)
            directory.mkdir(parents=True, exist_ok=True)
            save_model(model, directory / "model.safetensors", {})
            seconds = time.process_time() - started
            write_json(directory / "result.json", {"seconds": seconds, "epochs": arguments.epochs})
            print(variant, seed, f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
