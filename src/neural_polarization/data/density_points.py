"""Reference densities at points of space, as many for every structure, which densities are trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.npz import ArrayFile
from neural_polarization.density.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.errors import DataError


@dataclass(frozen=True)
class DensityPoints:
    """Densities at points that were drawn by importance: sums of weights times values are integrals.

    Attributes:
        structures: row of each density's structure in its data set.
        points: Angstrom.
        weights: Angstrom^3.
        deformation: the density less that of free atoms, e/Angstrom^3.
        electrons: integral of each density, e.
        free_atoms: integral of the absolute value of the deformation over that of the density: the normalized error
            of free atoms, which every model has to beat.
    """

    structures: Int[np.ndarray, " densities"]
    points: Float[np.ndarray, "densities points 3"]
    weights: Float[np.ndarray, "densities points"]
    deformation: Float[np.ndarray, "densities points"]
    electrons: Float[np.ndarray, " densities"]

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def free_atoms(self) -> Float[np.ndarray, " densities"]:
        """Normalized error of free atoms."""
        return (self.weights * np.abs(self.deformation)).sum(1) / self.electrons

    def subset(self, chosen: Int[np.ndarray, " chosen"]) -> "DensityPoints":
        """Some of the densities."""
        return DensityPoints(
            self.structures[chosen],
            self.points[chosen],
            self.weights[chosen],
            self.deformation[chosen],
            self.electrons[chosen],
        )

    def of_structures(self, structures: Int[np.ndarray, " some"]) -> "DensityPoints":
        """Those of some structures of the data set, such as its training part."""
        return self.subset(np.flatnonzero(np.isin(self.structures, structures)))

    def drawn(self, number: int, generator: np.random.Generator) -> "DensityPoints":
        """Some of the points of every density, the same number of each, without repetition.

        Weights grow, so that integrals keep their size.

        Raises:
            ValueError: for more points than there are.
        """
        density, available = self.weights.shape
        if not 0 < number <= available:
            raise ValueError(f"number of points: expected 1 to {available}, got {number}")
        columns = generator.permuted(np.tile(np.arange(available), (density, 1)), axis=1)[:, :number]
        rows = np.arange(density)[:, None]
        return DensityPoints(
            self.structures,
            self.points[rows, columns],
            self.weights[rows, columns] * np.float32(available / number),
            self.deformation[rows, columns],
            self.electrons,
        )


def read_samples(path: str | Path, molecules: FlatMolecules) -> DensityPoints:
    """Densities of a file of `npol pack --densities` that holds samples (`points`, `weights`, `density`).

    Args:
        path: the file.
        molecules: of the packed data set that it belongs to.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout, or one that does not belong to these molecules.
    """
    file = ArrayFile(path, "densities beside a packed data set")
    structures = file.numbers("density_structure", (None,)).astype(np.int64)
    counts = file.numbers("n_points", (len(structures),)).astype(np.int64)
    if len(np.unique(counts)) != 1:
        raise DataError(f"{path}: densities have {counts.min()} to {counts.max()} points; one number for all is read")
    if structures.min() < 0 or structures.max() >= len(molecules):
        raise DataError(
            f"{path}: a density is of structure {structures.max()}, but the data set has {len(molecules)}; give the "
            "data set that was packed with this file"
        )
    total, number = int(counts.sum()), int(counts[0])
    points = file.numbers("points", (total, 3)).reshape(-1, number, 3)
    weights = file.numbers("weights", (total,)).reshape(-1, number)
    density = file.numbers("density", (total,)).reshape(-1, number)
    electrons = (weights.astype(np.float64) * density).sum(1)
    _check_electrons(str(path), electrons, structures, molecules)
    deformation = density - np.stack(
        [_of_free_atoms(molecules, int(row), points[k]) for k, row in enumerate(structures)]
    )
    return DensityPoints(structures, points, weights, deformation.astype(np.float32), electrons)


def _of_free_atoms(
    molecules: FlatMolecules, structure: int, points: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, " points"]:
    rows = molecules.atoms_of(np.array([structure]))
    numbers = torch.from_numpy(molecules.atomic_numbers[rows])
    index = torch.zeros_like(numbers)
    density = free_atom_density(Nuclei(numbers, torch.from_numpy(molecules.positions[rows]), index, 1))
    return density.evaluate(torch.from_numpy(points.astype(np.float64)), threshold=0.0).numpy()


def _check_electrons(
    path: str, electrons: Float[np.ndarray, " densities"], structures: Int[np.ndarray, " densities"], of: FlatMolecules
) -> None:
    """The electrons of a density are those of its structure, or the file is of another data set."""
    nuclear = np.add.reduceat(of.atomic_numbers.astype(np.float64), of.starts)
    charges = 0.0 if of.charges is None else of.charges
    wrong = np.abs(electrons - (nuclear - charges)[structures]) > 0.01
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{path}: density {first} has {electrons[first]:.3f} electrons, but structure {structures[first]} of the "
            f"data set has {(nuclear - charges)[structures[first]]:g}; give the data set that was packed with this file"
        )
