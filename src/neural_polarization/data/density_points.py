"""Reference densities at points of space, as many for every structure, which densities are trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from neural_polarization.data.densities import Densities, nuclei_of
from neural_polarization.data.density_structures import check_electrons, molecules_of, open_densities
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.npz import ArrayFile
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.errors import DataError
from neural_polarization.molecules import Molecules


@dataclass(frozen=True)
class DensityPoints:
    """Densities at points that were drawn by importance: sums of weights times values are integrals.

    Attributes:
        structures: row of each density's structure in its data set.
        points: Angstrom.
        weights: Angstrom^3.
        deformation: the density less that of free atoms, e/Angstrom^3.
        electrons: integral of each density, e.
        anchors: position of the first atom of each structure in the frame of the points, Angstrom; batches in single
            precision move molecules about their centres.
        free_atoms: integral of the absolute value of the deformation over that of the density: the normalized error
            of free atoms, which every model has to beat.
    """

    structures: Int[np.ndarray, " densities"]
    points: Float[np.ndarray, "densities points 3"]
    weights: Float[np.ndarray, "densities points"]
    deformation: Float[np.ndarray, "densities points"]
    electrons: Float[np.ndarray, " densities"]
    anchors: Float[np.ndarray, "densities 3"]

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
            self.anchors[chosen],
        )

    def of_structures(self, structures: Int[np.ndarray, " some"]) -> "DensityPoints":
        """Those of some structures of the data set, such as its training part."""
        return self.subset(np.flatnonzero(np.isin(self.structures, structures)))

    def of_part(self, part: Int[np.ndarray, " part"]) -> "DensityPoints":
        """Those of a part of the data set, with structures that count the part: row k is structure part[k]."""
        here = self.of_structures(part)
        order = np.argsort(part)
        return replace(here, structures=order[np.searchsorted(part, here.structures, sorter=order)])

    def in_frame_of(self, molecules: Molecules) -> Float[np.ndarray, "densities points 3"]:
        """The points where these molecules are: density k is that of molecule k."""
        first = np.searchsorted(molecules.molecule_index.cpu().numpy(), np.arange(molecules.num_molecules))
        return self.moved_to(molecules.positions.detach().cpu().double().numpy()[first])

    def moved_to(self, anchors: Float[np.ndarray, "densities 3"]) -> Float[np.ndarray, "densities points 3"]:
        """The points after a shift that puts the first atom of each structure there, Angstrom."""
        return (self.points + (anchors - self.anchors)[:, None]).astype(np.float32)

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
        return replace(
            self,
            points=self.points[rows, columns],
            weights=self.weights[rows, columns] * np.float32(available / number),
            deformation=self.deformation[rows, columns],
        )


def read_density_points(path: str | Path, molecules: FlatMolecules, number: int = 2000, seed: int = 0) -> DensityPoints:
    """Points of the densities of a file of `npol pack --densities`.

    Of a file of expansions, points are drawn around the atoms (`draw_points`); an older file has points of its own,
    drawn from a quadrature grid, and all of these are taken.

    Args:
        path: the file.
        molecules: of the packed data set that it belongs to, all of them or some.
        number: of points of each density, where they are drawn.
        seed: of the points that are drawn.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout, one that does not belong to these molecules, or one without densities.
    """
    file = open_densities(path)
    if "coefficients" not in file:
        return _samples(file, molecules)
    densities = Densities(path, molecules)
    if not len(densities):
        raise DataError(f"{path}: holds no densities; label structures with --quantities density, and pack them again")
    return _points_of_expansions(densities, molecules, number, seed)


def draw_points(
    atomic_numbers: Int[np.ndarray, " atoms"],
    positions: Float[np.ndarray, "atoms 3"],
    number: int,
    generator: np.random.Generator,
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
    """Points around atoms, dense where electrons are, with weights such that sums of weight times value are integrals.

    The distance from an atom is the sum of three exponential variables, whose density falls as exp(-r / a): a is
    0.22 Angstrom for the valence and 0.08 Angstrom, a quarter of the points, for what is near the nucleus. Hydrogen
    atoms get 0.6 of the points of others.

    Args:
        atomic_numbers: of the atoms.
        positions: Angstrom.
        number: of points.
        generator: of random numbers.

    Returns:
        Points (Angstrom) and weights (Angstrom^3).
    """
    hydrogen = atomic_numbers == 1
    chances = np.where(hydrogen, 0.6, 1.0) / np.where(hydrogen, 0.6, 1.0).sum()
    widths = np.where(hydrogen, 0.9, 1.0)[None] * np.array(_WIDTHS)[:, None]
    atom = generator.choice(len(positions), number, p=chances)
    shell = generator.choice(len(_WIDTHS), number, p=_SHARES)
    directions = generator.normal(size=(number, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = positions[atom] + (generator.gamma(3.0, size=number) * widths[shell, atom])[:, None] * directions
    distances = np.linalg.norm(points[:, None] - positions, axis=-1)
    density = np.zeros(number)
    for share, width in zip(_SHARES, widths, strict=True):
        density += (share * chances * np.exp(-distances / width) / (8.0 * np.pi * width**3)).sum(1)
    return points, 1.0 / (number * density)


_WIDTHS, _SHARES = (0.22, 0.08), (0.75, 0.25)


def _points_of_expansions(densities: Densities, molecules: FlatMolecules, number: int, seed: int) -> DensityPoints:
    generator = np.random.default_rng(seed)
    found: list[tuple[Float[np.ndarray, "points 3"], ...]] = []
    electrons: list[float] = []
    for k, structure in enumerate(densities.structures.tolist()):
        rows = molecules.atoms_of(np.array([structure]))
        points, weights = draw_points(molecules.atomic_numbers[rows], molecules.positions[rows], number, generator)
        reference = densities[k]
        values = reference.evaluate(torch.from_numpy(points)).numpy()
        total = reference.electrons.item()
        # Scaled so that the sum over the points is the exact number of electrons.
        weights = weights * (total / (weights * values).sum())
        found.append((points, weights, values - _of_free_atoms(molecules, structure, points)))
        electrons.append(total)
    points, weights, deformation = (np.stack(arrays).astype(np.float32) for arrays in zip(*found, strict=True))
    anchors = molecules.positions[molecules.starts[densities.structures]]
    return DensityPoints(densities.structures, points, weights, deformation, np.array(electrons), anchors)


def _samples(file: ArrayFile, molecules: FlatMolecules) -> DensityPoints:
    """The points that a file holds."""
    found = molecules_of(file, molecules)
    counts = file.numbers("n_points", (len(found),)).astype(np.int64)
    if len(np.unique(counts)) != 1:
        raise DataError(
            f"{file.path}: densities have {counts.min(initial=0)} to {counts.max(initial=0)} points; one number for "
            "all is read"
        )
    total, number = int(counts.sum()), int(counts[0])
    here = found >= 0
    structures = found[here]
    points = file.numbers("points", (total, 3)).reshape(-1, number, 3)[here]
    weights = file.numbers("weights", (total,)).reshape(-1, number)[here]
    density = file.numbers("density", (total,)).reshape(-1, number)[here]
    electrons = (weights.astype(np.float64) * density).sum(1)
    check_electrons(file.path, electrons, structures, molecules)
    deformation = density - np.stack(
        [_of_free_atoms(molecules, int(row), points[k]) for k, row in enumerate(structures)]
    )
    anchors = molecules.positions[molecules.starts[structures]]
    return DensityPoints(structures, points, weights, deformation.astype(np.float32), electrons, anchors)


def _of_free_atoms(
    molecules: FlatMolecules, structure: int, points: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, " points"]:
    density = free_atom_density(nuclei_of(molecules, np.array([structure])))
    return density.evaluate(torch.from_numpy(points.astype(np.float64)), threshold=0.0).numpy()
