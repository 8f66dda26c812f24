"""Losses for whom potentials matter: on the dipole of the density, and on the potential around the molecules.

    python experiments/density/potentials.py runs/density/potentials --seeds 0 1 --steps 800 --points 250

Arguments that are not named here are those of `train.py`. Errors are of all unseen structures (validation and test):
of the density, of its dipole, and of its potential at points on surfaces of 1.4 to 2.0 van der Waals radii. It leaves
FOLDER/CHOICE-SEED.json and repeats none.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import DATA
from sources import Data, read
from train import build, parser, train

from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.density.density import Density
from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.density.potential import integral_over_distance
from neural_polarization.density.surface import surface_points
from neural_polarization.files import write_json
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.text import markdown_table
from neural_polarization.training.densities import density_errors, dipole_differences
from neural_polarization.units import COULOMB, DEBYE

CHOICES = {"density": (0.0, 0.0), "dipole": (5.0, 0.0), "potential": (0.0, 5.0), "both": (5.0, 5.0)}
"""Weights of the dipole of the density (e*Angstrom) and of the potential (V)."""

STORED, DRAWN = 96, 24
"""Points of each structure, and how many of them a step looks at."""

Rows = np.ndarray[Any, np.dtype[np.int64]]


class Surfaces:
    """Points around structures, and what the deformation density adds to the potential there.

    Args:
        data: the structures.
        files: they were read from, in this order.
        rows: structures of interest.
    """

    def __init__(self, data: Data, files: list[str], rows: Rows) -> None:
        self._generator = np.random.default_rng(0)
        self._of: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        wanted, start = set(data.points.of_structures(rows).structures.tolist()), 0
        for file in files:
            dataset = read_packed(file)
            densities = Densities(file.replace(".npz", "_densities.npz"), dataset.molecules)
            for place, row in enumerate((densities.structures + start).tolist()):
                if row in wanted:
                    self._of[row] = self._points(densities[place])
            start += len(dataset)

    def _points(self, reference: Density) -> tuple[torch.Tensor, torch.Tensor]:
        """Places relative to the first atom (Angstrom) and values (V)."""
        points = surface_points(reference.nuclei)
        points = points[torch.from_numpy(self._generator.choice(len(points), min(STORED, len(points)), replace=False))]
        free = Density(free_atoms(reference.nuclei), reference.nuclei)
        values = reference.potential(points) - free.potential(points)
        return (points - reference.nuclei.positions[0]).float(), values.float()

    def differences(
        self, learned: tuple[Gaussians, ...], molecules: Molecules, rows: Rows, number: int | None = None
    ) -> list[torch.Tensor]:
        """Learned values less these, V, of each molecule of a batch, at some of the points or all."""
        found: list[torch.Tensor] = []
        for molecule, row in enumerate(rows.tolist()):
            points, values = self._of[row]
            if number is not None:
                some = torch.from_numpy(self._generator.choice(len(points), min(number, len(points)), replace=False))
                points, values = points[some], values[some]
            first = int((molecules.molecule_index == molecule).nonzero()[0, 0])
            own = tuple(part.select((part.molecule_index == molecule).nonzero()[:, 0]) for part in learned)
            potential = -COULOMB * integral_over_distance(own, points + molecules.positions[first].detach())
            found.append(potential - values)
        return found

    def loss(self, learned: tuple[Gaussians, ...], molecules: Molecules, rows: Rows) -> torch.Tensor:
        """Mean absolute difference, V."""
        return torch.stack([one.abs().mean() for one in self.differences(learned, molecules, rows, DRAWN)]).mean()

    def sizes(self) -> list[float]:
        """Root mean square of the values of each structure, V: the errors of free atoms."""
        return [float(values.square().mean().sqrt()) for _, values in self._of.values()]


def errors(model: Model, data: Data, surfaces: Surfaces, rows: Rows) -> dict[str, float]:
    """Means over structures: density in percent, length of the dipole's difference in D, potential in V."""
    assert model.density_head is not None
    points = data.points.of_structures(rows)
    dipoles, potentials = list[float](), list[float]()
    with torch.no_grad():
        for chosen in np.array_split(points.structures, max(1, len(points) // 8)):
            molecules = data.prepared.batch(chosen).molecules
            learned = model.density_head.deformation(model.represent(molecules), molecules)
            labels = torch.from_numpy(data.dataset.labels["dipole"][chosen])
            dipoles += (dipole_differences(learned, molecules, labels).norm(dim=-1) / DEBYE).tolist()
            potentials += [
                float(one.square().mean().sqrt()) for one in surfaces.differences(learned, molecules, chosen)
            ]
    density = 100 * float(density_errors(model, data.prepared, points).mean())
    return {"density": density, "dipole": float(np.mean(dipoles)), "potential": float(np.mean(potentials))}


def main() -> None:
    """Trains what is not there, and prints a table."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("folder", type=Path)
    own.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    own.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    known, rest = own.parse_known_args()
    torch.set_num_threads(1)
    known.folder.mkdir(parents=True, exist_ok=True)
    files = [str(file) for file in DATA]
    data = read(files, [file.replace(".npz", "_densities.npz") for file in files], 5.0)
    unseen = np.concatenate([data.parts["validation"], data.parts["test"]])
    learned_from, asked = Surfaces(data, files, data.parts["train"]), Surfaces(data, files, unseen)
    print(f"free atoms: potential {np.mean(asked.sizes()):.3f} V", flush=True)
    found: dict[str, list[dict[str, float]]] = {choice: [] for choice in known.choices}
    for seed in known.seeds:
        for choice in known.choices:
            path = known.folder / f"{choice}-{seed}.json"
            if not path.exists():
                dipole, potential = CHOICES[choice]
                words = [*rest, "--seed", str(seed), "--dipole-weight", str(dipole), "-o", ""]
                settings = parser().parse_args(words)
                started = time.process_time()

                def extra(*of_batch: Any, weight: float = potential) -> torch.Tensor:
                    return weight * learned_from.loss(*of_batch)

                model = train(build(settings, data), data, settings, extra if potential else None).eval()
                seconds = time.process_time() - started
                write_json(path, {**errors(model, data, asked, unseen), "seconds": seconds})
            found[choice].append(json.loads(path.read_text(encoding="utf-8")))
            print(path.stem, found[choice][-1], flush=True)
    lines = [["loss", "density, %", "dipole of the density, D", "potential, V", "seconds"]]
    for choice, results in found.items():
        columns = [np.array([one[name] for one in results]) for name in results[0]]
        lines.append([choice, *(f"{values.mean():.3g} ± {np.ptp(values) / 2:.2g}" for values in columns)])
    print(markdown_table(lines))


if __name__ == "__main__":
    main()
