"""Radial functions and the shifted softplus against their formulas."""

import math

import pytest
import torch

from neural_polarization.layers import BesselBasis, GaussianBasis, ShiftedSoftplus


def test_gaussians_peak_at_their_centres() -> None:
    basis = GaussianBasis(num_basis=6, cutoff=5.0).double()
    values = basis(torch.arange(6, dtype=torch.float64))
    assert torch.equal(values.diagonal(), torch.ones(6, dtype=torch.float64))
    assert values[2, 3].item() == pytest.approx(math.exp(-0.5))
    assert values[1, 3].item() == pytest.approx(math.exp(-2.0))


def test_bessel_functions_are_orthogonal_and_vanish_at_the_cutoff() -> None:
    cutoff = 4.0
    basis = BesselBasis(num_basis=5, cutoff=cutoff).double()
    r = torch.linspace(1e-6, cutoff, 4001, dtype=torch.float64)
    values = basis(r)
    assert values[-1].abs().max() < 1e-6
    overlap = torch.trapezoid(values.unsqueeze(-1) * values.unsqueeze(-2) * r[:, None, None] ** 2, r, dim=0)
    assert torch.allclose(overlap, 0.5 * cutoff * torch.eye(5, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("length", [1e-5, 0.5, 3.999, 4.0, 7.0])
def test_derivatives_are_finite(length: float) -> None:
    for basis in (BesselBasis(8, 4.0), GaussianBasis(8, 4.0)):
        r = torch.tensor([length], requires_grad=True)
        (first,) = torch.autograd.grad(basis(r).sum(), r, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), r)
        assert first.isfinite().all() and second.isfinite().all()


def test_shifted_softplus() -> None:
    activation = ShiftedSoftplus()
    x = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    assert activation(x).tolist() == pytest.approx([math.log(0.5 * math.exp(v) + 0.5) for v in x.tolist()])
    assert activation(torch.tensor([0.0])).item() == pytest.approx(0.0, abs=1e-7)
