from collections.abc import Callable
from typing import Any

import ase
import numpy as np
import pytest
from pyscf.dft import numint

from neural_polarization.labelling.calculation import Request, converge
from neural_polarization.labelling.expansion import (
    electrons_of_functions,
    expansion_on_points,
    fit_density,
    fit_error,
    fitting_shells,
    rounded,
)
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import LEAN, Accuracy, build_grid, build_molecule
from neural_polarization.units import BOHR


@pytest.fixture(scope="module", params=["HF/6-31G(d)", "PBE/def2-SVP"])
def water(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """PySCF's molecule and density matrix, with six Cartesian and with five pure d functions."""
    positions = [[0.03, -0.05, 0.12], [0.76, 0.02, -0.47], [-0.74, 0.11, -0.50]]
    level = Level.parse(request.param)
    molecule = build_molecule(ase.Atoms("OHH", positions), level, Accuracy())
    return molecule, np.asarray(converge(molecule, Request(level)).make_rdm1())


def test_density_of_water_on_a_grid(water: tuple[Any, Any]) -> None:
    molecule, density_matrix = water
    coefficients = rounded(molecule, fit_density(molecule, density_matrix))
    grid = build_grid(molecule, LEAN)
    grid.build()
    exact = numint.eval_rho(molecule, numint.eval_ao(molecule, grid.coords), density_matrix)
    fitted = expansion_on_points(molecule, coefficients, grid.coords)
    error = grid.weights @ np.abs(fitted - exact) / 10
    assert error < 1e-3
    assert fit_error(molecule, density_matrix, coefficients) == pytest.approx(error, rel=0.1)
    # The dipole is a condition of the fit, and its electrons are those of the molecule after rounding, too.
    difference = (grid.weights * (fitted - exact)) @ grid.coords * BOHR
    np.testing.assert_allclose(difference, 0.0, atol=2e-5)
    assert electrons_of_functions(molecule) @ coefficients.astype(float) == pytest.approx(10, abs=1e-6)


def test_the_potential_of_the_fit(water: tuple[Any, Any]) -> None:
    """The Coulomb fit is made for this: the potential of the electrons, here by quadrature, a little off the nuclei."""
    molecule, density_matrix = water
    coefficients = fit_density(molecule, density_matrix)
    grid = build_grid(molecule, LEAN)
    grid.build()
    fitted = expansion_on_points(molecule, coefficients, grid.coords) * grid.weights
    exact = numint.eval_rho(molecule, numint.eval_ao(molecule, grid.coords), density_matrix) * grid.weights
    for point in ([3.0, 0.0, 0.0], [0.0, -4.0, 1.0]):
        distances = np.linalg.norm(grid.coords - point, axis=1)
        assert np.sum(fitted / distances) == pytest.approx(np.sum(exact / distances), abs=1e-4)


@pytest.mark.parametrize(
    ("degree", "place", "harmonic"),
    [
        (0, 0, lambda x, y, z: np.ones_like(x)),
        (1, 0, lambda x, y, z: y),
        (1, 1, lambda x, y, z: z),
        (1, 2, lambda x, y, z: x),
        (2, 0, lambda x, y, z: np.sqrt(3) * x * y),
        (2, 2, lambda x, y, z: z**2 - (x**2 + y**2) / 2),
        (2, 4, lambda x, y, z: np.sqrt(3) / 2 * (x**2 - y**2)),
        (3, 3, lambda x, y, z: z * (2 * z**2 - 3 * x**2 - 3 * y**2) / 2),
    ],
)
def test_the_convention_of_functions(degree: int, place: int, harmonic: Callable[..., Any]) -> None:
    """Racah's solid harmonics, y, z, x for l = 1; the square of a function integrates to one; Angstrom."""
    molecule = build_molecule(ase.Atoms("He", [[0.1, 0.2, -0.1]]), Level.parse("HF/6-31G"), Accuracy())
    shells = fitting_shells("He")
    first = next(index for index, shell in enumerate(shells) if shell[0] == degree)
    coefficients = np.zeros(sum(2 * shell[0] + 1 for shell in shells))
    coefficients[sum(2 * shell[0] + 1 for shell in shells[:first]) + place] = 1.0
    exponent = shells[first][1] / BOHR**2
    points = np.random.default_rng(1).normal(size=(20, 3)) * 0.3
    x, y, z = (points - [0.1, 0.2, -0.1]).T
    # The integral of (S_lm exp(-a r^2))^2 is a gamma function in the radius times 4 pi / (2 l + 1).
    radial = {0: 1.0, 1: 3.0, 2: 15.0, 3: 105.0}[degree] / 2 ** (degree + 2) * np.sqrt(np.pi)
    squared = 4 * np.pi / (2 * degree + 1) * radial / (2 * exponent) ** (degree + 1.5)
    expected = harmonic(x, y, z) * np.exp(-exponent * (x**2 + y**2 + z**2)) / np.sqrt(squared)
    found = expansion_on_points(molecule, coefficients, points / BOHR) / BOHR**3
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)


def test_heavy_elements_are_refused() -> None:
    with pytest.raises(ValueError, match="Br: densities are fitted for elements up to Ar"):
        fitting_shells("Br")
