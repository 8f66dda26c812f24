"""Kinds of dipole heads on dimers of molecules, whose dipoles have to add up when they are far apart.

    python experiments/response/dimers.py water_dimers_1000.npz dipole dipole_balanced --seeds 0 1 2

The file has the dimers of A. Grisafi et al., Phys. Rev. Lett. 120, 036002 (2018), in atomic units: `atomic_numbers`,
`positions` (Angstrom) and `dipole`. Most train, 200 are the test; PaiNN riding, 32 channels, one thread. It prints the
mean length of the error, and how much the dipoles of two waters 20 Angstrom apart miss the sum of both.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import molecule

from neural_polarization.checkpoints import load_model
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.packed import read_packed, write_packed
from neural_polarization.data.splits import Split
from neural_polarization.molecules import Molecules
from neural_polarization.properties import Property
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from neural_polarization.units import BOHR, factor

TEST = 200


def convert(source: Path, target: Path) -> None:
    """The dimers as a packed data set in our units."""
    arrays = np.load(source)
    count, atoms = arrays["positions"].shape[:2]
    numbers = np.tile(arrays["atomic_numbers"], count)
    positions = arrays["positions"].reshape(-1, 3).astype(np.float64)
    molecules = FlatMolecules.checked("dimers", np.full(count, atoms), numbers, positions)
    labels = {"dipole": arrays["dipole"].astype(np.float64) * BOHR}
    order = np.random.default_rng(0).permutation(count)
    parts = {"test": order[:TEST], "validation": order[TEST : TEST + 20], "train": order[TEST + 20 :]}
    properties = {"dipole": Property("dipole", "e*Angstrom", (3,))}
    write_packed(Dataset("dimers", molecules, properties, labels), target, Split.from_arrays(parts, "structure"))


def train(data: Path, output: Path, kind: str, seed: int, epochs: int) -> None:
    """One model of dipoles alone."""
    values = {
        "name": f"{kind}-{seed}",
        "output": str(output),
        "data": {"format": "packed", "path": str(data), "split": {"kind": "stored"}, "properties": {"dipole": {}}},
        "model": {
            "backbone": {"name": "painn", "channels": 32, "num_layers": 2, "cutoff": 5.0, "num_basis": 20},
            "polarization": {"messages": "riding"},
            "heads": {"dipole": {"kind": kind}},
        },
        "training": {
            "epochs": epochs,
            "batch_size": 10,
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "validate_every": epochs,
            "seed": seed,
        },
    }
    fit(build(ExperimentConfig, values, Source("experiments/response/dimers.py")), overwrite=True, quiet=True)


def measure(data: Path, output: Path) -> dict[str, float]:
    """Errors in mD."""
    model, _ = load_model(output)
    model = model.double().eval()
    dataset = read_packed(data)
    test = dataset.subset(dataset.splits["stored"].test)
    batch = test.prepare(model.cutoff).batch(np.arange(len(test)), torch.float64)
    one, other = molecule("H2O"), molecule("H2O")
    other.set_distance(0, 1, 1.2, fix=0)  # an unequal molecule, whose surplus of charge is another
    other.rotate(70.0, "y")
    other.positions += [20.0, 0.0, 0.0]
    frames: list[ase.Atoms] = [one + other, one, other]
    with torch.no_grad():
        errors = model(batch.molecules)["dipole"] - batch.labels["dipole"]
        both, first, second = model(Molecules.from_ase(frames, model.cutoff, torch.float64))["dipole"]
    milli = factor("mD")
    return {"error": float(errors.norm(dim=-1).mean()) / milli, "apart": float((both - first - second).norm()) / milli}


def main() -> None:
    """Prints a line for each training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("kinds", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    known = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "dimers.npz"
        convert(known.source, data)
        for seed in known.seeds:
            for kind in known.kinds:
                start = time.process_time()
                output = Path(folder) / f"{kind}-{seed}"
                train(data, output, kind, seed, known.epochs)
                seconds = time.process_time() - start
                line = {"kind": kind, "seed": seed, **measure(data, output), "processor_seconds": seconds}
                print(
                    json.dumps({name: round(v, 1) if isinstance(v, float) else v for name, v in line.items()}),
                    flush=True,
                )


if __name__ == "__main__":
    main()
