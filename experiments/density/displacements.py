"""Length and direction of a trained model's displacements, by element and neighbour.

    python experiments/density/displacements.py src/neural_polarization/pretrained/small.safetensors

Atoms of all structures of the data sets. The cosine is that of the displacement with the direction from the nucleus
to the mean centre of the localized orbitals of its atom (core and lone pairs whole, bonds half), unseen in training.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols, covalent_radii

from neural_polarization.checkpoints import load_model
from neural_polarization.data.packed import read_packed
from neural_polarization.models import Model

DATA = ("data/small_molecules", "data/ordinary_molecules")
FEWEST = 40


def orbital_centres(numbers: Any, positions: Any, centroids: Any, owners: Any) -> np.ndarray[Any, Any]:
    """Mean centre of the localized orbitals of every atom, (atoms, 3), Angstrom; not a number without any."""
    total, weight = np.zeros_like(positions), np.zeros(len(numbers))
    for centre, pair in zip(centroids, owners, strict=True):
        for owner in set(pair.tolist()):
            share = 1.0 / len(set(pair.tolist()))
            total[owner] += share * centre
            weight[owner] += share
    return np.where(weight[:, None] > 0, total / np.maximum(weight, 1e-9)[:, None], np.nan)


def environment(atom: int, numbers: Any, positions: Any) -> str:
    """An atom and its bonded neighbours, hydrogens counted, such as "O with C, H"."""
    reach = 1.25 * (covalent_radii[numbers[atom]] + covalent_radii[numbers])
    bonded = np.linalg.norm(positions - positions[atom], axis=1) < reach
    bonded[atom] = False
    others = sorted(chemical_symbols[number] for number in numbers[bonded])
    return f"{chemical_symbols[numbers[atom]]} with {', '.join(others) or 'no other'}"


def main(checkpoint: str) -> None:
    """Prints one row per environment that occurs often enough."""
    model, _ = load_model(checkpoint)
    assert isinstance(model, Model)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name in DATA:
        dataset = read_packed(Path(f"{name}.npz"))
        prepared, molecules = dataset.prepare(model.cutoff), dataset.molecules
        with np.load(f"{name}_densities.npz") as file:
            arrays = {key: file[key] for key in file.files if key.startswith(("centroid", "n_centroids"))}
        stops = np.cumsum(arrays["n_centroids"])
        for structure, stop, count in zip(arrays["centroid_structure"], stops, arrays["n_centroids"], strict=True):
            batch = prepared.batch(np.array([structure]))
            with torch.no_grad():
                displacement = model.represent(batch.molecules).displacement.double().numpy()
            rows, here = molecules.atoms_of(np.array([structure])), slice(stop - count, stop)
            numbers, positions = molecules.atomic_numbers[rows], molecules.positions[rows]
            centres = orbital_centres(
                numbers, positions, arrays["centroid_positions"][here], arrays["centroid_owners"][here]
            )
            lengths, towards = np.linalg.norm(displacement, axis=1), centres - positions
            cosines = (displacement * towards).sum(1) / (lengths * np.linalg.norm(towards, axis=1) + 1e-12)
            for atom in range(len(numbers)):
                found[environment(atom, numbers, positions)].append((lengths[atom], cosines[atom]))
    print("| atom | number | length, A | spread | cosine with orbital centre |\n|---|---|---|---|---|")
    for name, values in sorted(found.items()):
        if len(values) >= FEWEST:
            lengths, cosines = np.array(values).T
            print(
                f"| {name} | {len(values)} | {lengths.mean():.3f} | {lengths.std():.3f} | {np.nanmean(cosines):.2f} |"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
