"""Spherical Bessel functions and Legendre polynomials against SciPy's and against what defines them."""

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, spherical_jn

from neural_polarization.layers.spherical_bessel import SphericalBesselBasis, legendre

CUTOFF, DEGREES, NUM_BASIS = 5.0, 7, 6


@pytest.fixture
def basis() -> SphericalBesselBasis:
    """The basis of the paper's size, with constants in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        return SphericalBesselBasis(DEGREES, NUM_BASIS, CUTOFF)
    finally:
        torch.set_default_dtype(torch.float32)


def _expected(lengths: np.ndarray) -> np.ndarray:
    rows = []
    for degree in range(DEGREES):
        grid = np.linspace(0.5, 40.0, 40000)
        values = spherical_jn(degree, grid)
        at = np.flatnonzero(values[:-1] * values[1:] < 0.0)[:NUM_BASIS]
        roots = grid[at]
        for _ in range(20):  # Newton
            roots = roots - spherical_jn(degree, roots) / spherical_jn(degree, roots, derivative=True)
        factors = np.sqrt(2.0) / np.abs(spherical_jn(degree + 1, roots))
        rows.append(factors * spherical_jn(degree, lengths[:, None] / CUTOFF * roots))
    return np.stack(rows, 1)


def test_equal_to_scipy(basis: SphericalBesselBasis) -> None:
    """From lengths of 1e-9 Angstrom to a fifth beyond the cutoff, to rounding."""
    lengths = np.concatenate([[1e-9, 1e-5, 1e-3, 0.01, 0.1], np.linspace(0.2, 1.2 * CUTOFF, 100)])
    got = basis(torch.as_tensor(lengths)).numpy()
    assert np.abs(got - _expected(lengths)).max() < 1e-12


def test_vanish_at_the_cutoff_and_stay_bounded(basis: SphericalBesselBasis) -> None:
    assert basis(torch.tensor([CUTOFF], dtype=torch.float64)).abs().max() < 1e-12
    assert basis(torch.tensor([100.0, 1e4], dtype=torch.float64)).abs().max() < 50.0


def test_orthonormal(basis: SphericalBesselBasis) -> None:
    """The integral of r^2 f_ln f_lm over the ball is delta_nm (in units of the cutoff)."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    x, w = 0.5 * (nodes + 1.0), 0.5 * weights
    values = basis(torch.as_tensor(x * CUTOFF)).numpy()
    overlap = np.einsum("q,qln,qlm->lnm", w * x**2, values, values)
    assert np.abs(overlap - np.eye(NUM_BASIS)).max() < 1e-12


def test_derivatives_at_small_lengths(basis: SphericalBesselBasis) -> None:
    """First and second derivatives are those of the power series, j_l(x) ~ x^l / (2 l + 1)!!."""
    length = torch.tensor([1e-6], dtype=torch.float64, requires_grad=True)
    for degree, slope, curvature in ((0, 0.0, -1.0 / 3.0), (1, 1.0 / 3.0, 0.0), (2, 0.0, 2.0 / 15.0), (3, 0.0, 0.0)):
        value = basis(length)[0, degree, 0]
        (first,) = torch.autograd.grad(value, length, create_graph=True)
        (second,) = torch.autograd.grad(first, length)
        root = float(basis.waves[degree, 0, -1] / basis.waves[0, 0, -1]) * np.pi  # z_ln, from the ratio to z_01
        factor = np.sqrt(2.0) / abs(spherical_jn(degree + 1, root))
        scale = root / CUTOFF
        assert first.item() == pytest.approx(slope * scale * factor, abs=1e-5)
        assert second.item() == pytest.approx(curvature * scale**2 * factor, abs=1e-5)


def test_legendre() -> None:
    cosines = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
    got = legendre(cosines, DEGREES).numpy()
    for degree in range(DEGREES):
        expected = np.sqrt((2 * degree + 1) / (4.0 * np.pi)) * eval_legendre(degree, cosines.numpy())
        assert np.abs(got[:, degree] - expected).max() < 1e-13
