"""The picture of the README: `python docs/pictures/moving_points.py`.

Acetaldehyde from the repository's own labels (B3LYP/6-31G(2df,p)): left the molecule as balls and sticks, right its
electrons, inside the surface of 0.002 e/bohr^3, with the moving points as arrows. They are no network's: each arrow has
the direction and twice the length of the way from a nucleus to the mean centre of the localized orbitals of its atom.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.view import Grid, Scene
from neural_polarization.view.figures import draw_density, draw_sticks

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "data"
SMILES = "CC=O"
SPACING = 0.15  # Angstrom
MARGIN = 3.0  # Angstrom around the nuclei
INK = "#7d858f"  # grey that is read on white and on black paper


def main() -> None:
    scene = labelled(SMILES)
    figure = Figure(figsize=(8.0, 3.9), dpi=150)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.0, right=1.0, bottom=0.08, top=0.92, wspace=0.0)
    left, right = figure.subplots(1, 2)
    draw_sticks(left, dataclasses.replace(scene, moving_points=None))
    draw_density(right, scene, opacity=0.4, factor=2)
    left.set(xlim=right.get_xlim(), ylim=right.get_ylim())  # both at the same size
    left.set_title("balls and sticks: every atom at its nucleus", color=INK, fontsize=11)
    right.set_title("its electrons: every atom has a moving point too", color=INK, fontsize=11)
    words = "acetaldehyde, B3LYP density of 0.002 e/bohr³; arrows: to the centres of localized orbitals, twice as long"
    figure.text(0.5, 0.03, words, color=INK, fontsize=8.5, ha="center")
    figure.savefig(HERE / "moving_points.png", transparent=True)


def labelled(smiles: str) -> Scene:
    """The relaxed structure of a molecule with its density and the centres of its orbitals, from the stored labels."""
    with np.load(DATA / "small_molecules.npz") as file:
        labels = {name: file[name] for name in ("smiles", "frame", "n_atoms", "atomic_numbers", "positions")}
    row = int(np.flatnonzero((labels["smiles"] == smiles) & (labels["frame"] == 0))[0])
    atoms = slice_of(labels["n_atoms"], row)
    numbers, positions = labels["atomic_numbers"][atoms].astype(int), labels["positions"][atoms]
    densities = Densities(DATA / "small_molecules_densities.npz", read_packed(DATA / "small_molecules.npz").molecules)
    density = densities[int(np.flatnonzero(densities.structures == row)[0])]
    with np.load(DATA / "small_molecules_densities.npz") as file:
        which = int(np.flatnonzero(file["centroid_structure"] == row)[0])
        orbitals = slice_of(file["n_centroids"], which)
        centres, owners = file["centroid_positions"][orbitals].astype(float), file["centroid_owners"][orbitals]
    origin = positions.min(axis=0) - MARGIN
    shape = tuple(np.ceil((positions.max(axis=0) + MARGIN - origin) / SPACING).astype(int))
    empty = Grid(origin, SPACING * np.eye(3), np.zeros(shape))
    values = density.evaluate(torch.from_numpy(empty.points.reshape(-1, 3))).numpy()
    return Scene(
        title="",
        atomic_numbers=numbers,
        positions=positions,
        moving_points=moving_points(numbers, positions, centres, owners)[None],
        density=dataclasses.replace(empty, values=values.reshape(shape)),
    )


def moving_points(numbers: np.ndarray, positions: np.ndarray, centres: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Mean centre of the orbitals of every atom, (atoms, 3), Angstrom; hydrogen's is the orbital nearest to it."""
    moved = np.zeros_like(positions)
    for n, number in enumerate(numbers):
        if number == 1:
            moved[n] = centres[np.argmin(np.linalg.norm(centres - positions[n], axis=-1))]
        else:
            shares = np.mean(owners == n, axis=1)  # 1 for a core or a lone pair, a half for a bond
            moved[n] = shares @ centres / shares.sum()
    return moved


def slice_of(counts: np.ndarray, row: int) -> slice:
    """Where a row stands in a flat array of rows of different lengths."""
    start = int(counts[:row].sum())
    return slice(start, start + int(counts[row]))


if __name__ == "__main__":
    main()
