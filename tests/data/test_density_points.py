"""Samples of densities: they belong to their structures, and draws keep integrals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neural_polarization.data.density_points import DensityPoints, read_samples
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.density.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.errors import DataError

SHORT, LONG = (np.array([[0.0, 0.0, 0.0], [0.0, 0.0, length]]) for length in (0.74, 1.1))


def molecules() -> FlatMolecules:
    """Two molecules of hydrogen."""
    return FlatMolecules.checked("two", np.array([2, 2]), np.array([1, 1, 1, 1]), np.concatenate([SHORT, LONG]))


def write(path: Path, structures: list[int], electrons: float = 2.0, points: int = 300) -> Path:
    """Densities that are 1.1 of two free atoms at the points, with weights that give the number of electrons."""
    generator = np.random.default_rng(1)
    number = len(structures) * points
    places = generator.normal(size=(number, 3)) * 0.5
    nuclei = Nuclei(torch.tensor([1, 1]), torch.from_numpy(LONG), torch.tensor([0, 0]), 1)
    density = 1.1 * free_atom_density(nuclei).evaluate(torch.from_numpy(places), threshold=0.0).numpy()
    weights = electrons / (points * density)
    np.savez(
        path,
        density_structure=np.array(structures),
        n_points=np.full(len(structures), points),
        points=places.astype(np.float32),
        weights=weights.astype(np.float32),
        density=density.astype(np.float32),
    )
    return path


def test_deformation_is_the_density_less_free_atoms(tmp_path: Path) -> None:
    points = read_samples(write(tmp_path / "d.npz", [1]), molecules())
    assert points.electrons == pytest.approx([2.0], rel=1e-5)
    assert points.free_atoms == pytest.approx([0.1 / 1.1], rel=1e-3)


def test_a_draw_keeps_integrals_and_repeats_no_point(tmp_path: Path) -> None:
    points = read_samples(write(tmp_path / "d.npz", [1, 0]), molecules())
    drawn = points.drawn(150, np.random.default_rng(0))
    assert drawn.points.shape == (2, 150, 3)
    assert len(np.unique(drawn.points[0], axis=0)) == 150
    everything = points.drawn(300, np.random.default_rng(0))
    np.testing.assert_allclose(everything.free_atoms, points.free_atoms, rtol=1e-5)
    means = [points.drawn(100, np.random.default_rng(seed)).free_atoms[0] for seed in range(60)]
    assert np.mean(means) == pytest.approx(points.free_atoms[0], rel=0.02)
    with pytest.raises(ValueError, match="expected 1 to 300, got 301"):
        points.drawn(301, np.random.default_rng(0))


def test_parts_of_a_split(tmp_path: Path) -> None:
    points = read_samples(write(tmp_path / "d.npz", [1, 0]), molecules())
    assert points.of_structures(np.array([0])).structures.tolist() == [0]
    assert isinstance(points.subset(np.array([], np.int64)), DensityPoints)


def test_files_of_other_molecules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="density is of structure 7, but the data set has 2"):
        read_samples(write(tmp_path / "a.npz", [7]), molecules())
    with pytest.raises(DataError, match=r"density 0 has 3\.000 electrons, but structure 1 of the data set has 2"):
        read_samples(write(tmp_path / "b.npz", [1], electrons=3.0), molecules())
