"""Gaussian functions and Boys functions against e3nn, PySCF's normalization and integrals over a line."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.integrate import quad

from neural_polarization.density.boys import boys
from neural_polarization.density.gaussians import (
    cartesian_coefficients,
    charge_of_s,
    even_tempered,
    monomials,
    normalization,
    solid_harmonics,
)


@pytest.mark.parametrize("degree", range(7))
def test_harmonics_are_those_of_e3nn(degree: int) -> None:
    """e3nn's polar axis is y: what it calls x, y, z is here y, z, x."""
    points = torch.randn(40, 3, dtype=torch.float64)
    ours = torch.stack(solid_harmonics(*points.unbind(-1), 6)[degree], -1)
    theirs = o3.spherical_harmonics(degree, points[:, [1, 2, 0]], normalize=True, normalization="norm")
    torch.testing.assert_close(ours, theirs * points.norm(dim=-1, keepdim=True) ** degree, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.square().sum(-1), points.square().sum(-1) ** degree)


@pytest.mark.parametrize("degree", range(6))
def test_harmonics_as_polynomials(degree: int) -> None:
    points = torch.randn(40, 3, dtype=torch.float64)
    values = torch.stack([(points ** torch.tensor(power)).prod(-1) for power in monomials(degree)], -1)
    expected = torch.stack(solid_harmonics(*points.unbind(-1), degree)[degree], -1)
    torch.testing.assert_close(values @ cartesian_coefficients(degree).T, expected)


@pytest.mark.parametrize("degree", range(5))
def test_squares_integrate_to_one(degree: int) -> None:
    """Over angles, the mean of S_lm^2 is r^(2 l) / (2 l + 1)."""
    exponent = 0.7
    factor = normalization(degree, torch.tensor(exponent, dtype=torch.float64)).item() ** 2 / (2 * degree + 1)
    radial, _ = quad(lambda r: 4 * np.pi * r ** (2 + 2 * degree) * np.exp(-2 * exponent * r * r), 0, np.inf)
    assert factor * radial == pytest.approx(1.0, rel=1e-9)


def test_charge_of_an_s_function() -> None:
    exponent = torch.tensor(1.7, dtype=torch.float64)
    radial, _ = quad(lambda r: 4 * np.pi * r * r * np.exp(-1.7 * r * r), 0, np.inf)
    assert charge_of_s(exponent).item() == pytest.approx(normalization(0, exponent).item() * radial, rel=1e-9)


def test_even_tempered_exponents_have_one_ratio() -> None:
    exponents = even_tempered(0.2, 30.0, 7)
    torch.testing.assert_close(exponents[1:] / exponents[:-1], torch.full((6,), 150.0 ** (1 / 6), dtype=torch.float64))
    assert exponents[[0, -1]].tolist() == pytest.approx([0.2, 30.0])
    assert even_tempered(0.2, 30.0, 1).tolist() == [0.2]


@pytest.mark.parametrize("order", [0, 1, 3, 6])
def test_boys_functions_are_their_integrals(order: int) -> None:
    places = [0.0, 1e-9, 0.03, 0.5, 3.3, 17.0, 44.99, 45.01, 300.0]
    expected = [quad(lambda t, x=x: t ** (2 * order) * np.exp(-x * t * t), 0, 1, epsabs=1e-14)[0] for x in places]
    values = boys(order, torch.tensor(places, dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-13)


def test_boys_functions_can_be_differentiated_twice() -> None:
    x = torch.tensor([0.0, 0.4, 7.0, 44.0, 60.0], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(boys(1, x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, -boys(2, x))
    torch.testing.assert_close(second, boys(3, x))
