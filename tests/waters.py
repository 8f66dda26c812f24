"""Water-like molecules on an analytic potential: data that a tiny network learns in seconds."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.packed import write_packed
from neural_polarization.properties import Property

EQUILIBRIUM = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
SPRING, REFERENCE = 20.0, {1: -13.6, 8: -2043.0}  # eV/Angstrom^2, eV


def energies_and_forces(numbers: np.ndarray, positions: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Springs between all pairs of a molecule, around the distances of the equilibrium, and a constant per element."""
    x = torch.from_numpy(positions).requires_grad_()
    energies: list[torch.Tensor] = []
    start = 0
    for size in sizes:
        part, z = x[start : start + size], numbers[start : start + size]
        rest = torch.from_numpy(EQUILIBRIUM[:size])
        bond, natural = torch.pdist(part), torch.pdist(rest)
        energies.append(0.5 * SPRING * (bond - natural).square().sum() + sum(REFERENCE[int(k)] for k in z))
        start += size
    total = torch.stack(energies)
    (gradient,) = torch.autograd.grad(total.sum(), x)
    return total.detach().numpy(), -gradient.numpy()


def waters(count: int = 40, seed: int = 0) -> Dataset:
    """Water and hydroxyl in turn, thermally displaced; some forces and dipoles are missing."""
    rng = np.random.default_rng(seed)
    sizes = np.array([3 if k % 3 else 2 for k in range(count)])
    numbers = np.concatenate([np.array([8, 1, 1])[:size] for size in sizes])
    positions = np.concatenate([EQUILIBRIUM[:size] for size in sizes])
    positions = positions + rng.normal(scale=0.05, size=positions.shape)
    energy, forces = energies_and_forces(numbers, positions, sizes)
    forces[: sizes[0]] = np.nan
    charges = np.where(numbers == 8, -0.4, 0.2)[:, None] * positions
    dipole = np.add.reduceat(charges, np.concatenate([[0], np.cumsum(sizes)[:-1]]))
    dipole[1] = np.nan
    return Dataset(
        "waters",
        FlatMolecules.checked("waters", sizes, numbers, positions),
        {
            "energy": Property("energy", "meV"),
            "forces": Property("forces", "meV/Angstrom", (3,), per_atom=True),
            "dipole": Property("dipole", "mD", (3,)),
        },
        {"energy": energy, "forces": forces, "dipole": dipole},
        groups=np.arange(count),
    )


def experiment(folder: Path, **training: Any) -> dict[str, Any]:
    """A small experiment as plain values; writes its data into the folder."""
    data = folder / "waters.npz"
    if not data.exists():
        write_packed(waters(), data)
    return {
        "name": "waters",
        "output": str(folder / "run"),
        "data": {
            "format": "packed",
            "path": str(data),
            "cache": False,
            "split": {"train": 24, "validation": 8, "test": 8, "seed": 1},
        },
        "model": {
            "backbone": {"channels": 8, "num_layers": 2, "cutoff": 4.0, "num_basis": 6},
            "heads": {"energy": {"kind": "extensive", "forces": True}},
        },
        "training": {
            "epochs": 4,
            "batch_size": 8,
            "learning_rate": 0.01,
            "ema_decay": 0.9,
            "machine": {"accelerator": "cpu"},
            **training,
        },
    }


def write_experiment(folder: Path, **training: Any) -> Path:
    """The same as a YAML file."""
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment(folder, **training), sort_keys=False))
    return path


@contextlib.contextmanager
def interrupted(at_step: int) -> Generator[None]:
    """Ctrl-C in the training inside of it, once so many steps are done."""
    from neural_polarization.training.module import Learner  # takes seconds, and not every test trains

    begin = Learner.on_train_batch_start

    def interrupt(self: Learner, *arguments: Any) -> None:
        if self.global_step == at_step:
            raise KeyboardInterrupt
        begin(self, *arguments)  # which sets the learning rate

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "on_train_batch_start", interrupt)
        yield
