"""Samples of densities: they belong to their structures, and draws keep integrals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neural_polarization.data.density_points import DensityPoints, draw_points, read_density_points
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
    points = read_density_points(write(tmp_path / "d.npz", [1]), molecules())
    assert points.electrons == pytest.approx([2.0], rel=1e-5)
    assert points.free_atoms == pytest.approx([0.1 / 1.1], rel=1e-3)


def test_a_draw_keeps_integrals_and_repeats_no_point(tmp_path: Path) -> None:
    points = read_density_points(write(tmp_path / "d.npz", [1, 0]), molecules())
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
    points = read_density_points(write(tmp_path / "d.npz", [1, 0]), molecules())
    assert points.of_structures(np.array([0])).structures.tolist() == [0]
    assert isinstance(points.subset(np.array([], np.int64)), DensityPoints)


def test_files_of_other_molecules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="density 0 is of structure 7, but the data set has 2"):
        read_density_points(write(tmp_path / "a.npz", [7]), molecules())
    with pytest.raises(DataError, match=r"density 0 has 3\.000 electrons, but structure 1 of the data set has 2"):
        read_density_points(write(tmp_path / "b.npz", [1], electrons=3.0), molecules())


def test_sums_over_drawn_points_are_integrals() -> None:
    """The electrons of a free carbon atom and a Gaussian's integral, within three standard errors."""
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])
    points, weights = draw_points(np.array([6, 1]), positions, 200_000, np.random.default_rng(3))
    nuclei = Nuclei(torch.tensor([6]), torch.zeros(1, 3), torch.tensor([0]), 1)
    carbon = weights * free_atom_density(nuclei).evaluate(torch.from_numpy(points), threshold=0.0).numpy()
    gaussian = weights * np.exp(-((points - [0.3, 0.2, 1.3]) ** 2).sum(1))
    for terms, integral in ((carbon, 6.0), (gaussian, np.pi**1.5)):
        assert abs(terms.sum() - integral) < 3.0 * terms.std() * np.sqrt(len(terms))
        assert terms.std() * np.sqrt(len(terms)) < 0.02 * integral


def test_points_of_expansions(tmp_path: Path) -> None:
    """One s function on each hydrogen: deformation and electrons are those of the formula."""
    exponent = 2.0
    coefficient = (exponent / (2 * np.pi)) ** 0.75  # one electron
    np.savez(
        tmp_path / "expansions.npz",
        density_structure=np.array([1]),
        basis_elements=np.array([1]),
        basis_n_shells=np.array([1]),
        basis_degrees=np.array([0]),
        basis_exponents=np.array([exponent]),
        n_coefficients=np.array([2]),
        coefficients=np.array([coefficient, coefficient]),
        fit_error=np.array([0.0]),
    )
    points = read_density_points(tmp_path / "expansions.npz", molecules(), number=500, seed=1)
    assert points.points.shape == (1, 500, 3)
    assert points.electrons == pytest.approx([2 * coefficient * (2 * np.pi / exponent) ** 0.75])
    squared = ((points.points[0].astype(float)[:, None] - LONG) ** 2).sum(-1)
    expected = coefficient * (2 * exponent / np.pi) ** 0.75 * np.exp(-exponent * squared).sum(1)
    nuclei = Nuclei(torch.tensor([1, 1]), torch.from_numpy(LONG), torch.tensor([0, 0]), 1)
    places = torch.from_numpy(points.points[0].astype(float))
    free = free_atom_density(nuclei).evaluate(places, threshold=0.0).numpy()
    np.testing.assert_allclose(points.deformation[0], expected - free, rtol=1e-3, atol=1e-5)
    assert (points.weights[0] * expected).sum() == pytest.approx(points.electrons[0], rel=1e-4)
    again = read_density_points(tmp_path / "expansions.npz", molecules(), number=500, seed=1)
    np.testing.assert_array_equal(points.points, again.points)
