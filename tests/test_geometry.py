"""Norms, bounds and envelopes with their derivatives at zero; neighbour lists against ASE's."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from neural_polarization.geometry import (
    NORM_EPSILON,
    all_pairs,
    bound,
    cosine_envelope,
    periodic_neighbours,
    polynomial_envelope,
    safe_norm,
)

LENGTHS = st.floats(0.0, 1e3, allow_subnormal=False)


def _smooth_functions() -> dict[str, object]:
    return {
        "safe_norm": lambda v: safe_norm(v, 0.1),
        "safe_norm across": lambda v: safe_norm(v, 0.1, dim=0),
        "bound": lambda v: bound(v, 0.5),
    }


@pytest.mark.parametrize("name", _smooth_functions())
def test_first_and_second_derivatives_at_zero(name: str) -> None:
    function = _smooth_functions()[name]
    vectors = torch.tensor([[0.0, 0.0, 0.0], [0.02, 0.0, -0.01], [0.4, -0.3, 0.2]], dtype=torch.float64)
    assert gradcheck(function, vectors.requires_grad_())
    assert gradgradcheck(function, vectors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_at_exactly_zero_in_half_precision(dtype: torch.dtype) -> None:
    vector = torch.zeros(1, 3, dtype=dtype, requires_grad=True)
    norm = safe_norm(vector)
    (first,) = torch.autograd.grad(norm.sum(), vector)
    assert norm.item() == pytest.approx(NORM_EPSILON)
    assert (first == 0.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_at_exactly_zero_is_finite_in_every_type(dtype: torch.dtype) -> None:
    vector = torch.zeros(1, 3, dtype=dtype, requires_grad=True)
    norm = safe_norm(vector)
    (first,) = torch.autograd.grad(norm.sum(), vector, create_graph=True)
    (second,) = torch.autograd.grad(first[0, 0], vector)
    assert norm.item() == pytest.approx(NORM_EPSILON)
    assert (first == 0.0).all()
    assert second[0].tolist() == pytest.approx([1.0 / NORM_EPSILON, 0.0, 0.0])


def test_norm_of_a_bond_is_the_norm() -> None:
    vectors = torch.randn(100, 3, dtype=torch.float64)
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    assert (safe_norm(vectors) - 1.0).abs().max() < 6e-11  # as the docstring of NORM_EPSILON says


@given(st.tuples(*[st.floats(-1e3, 1e3, allow_subnormal=False)] * 3), st.floats(0.01, 2.0))
def test_bound_is_below_the_limit_and_keeps_the_direction(vector: tuple[float, ...], limit: float) -> None:
    v = torch.tensor([vector], dtype=torch.float64)
    bounded = bound(v, limit)
    assert bounded.norm() <= limit * (1 + 1e-12)
    assert bounded.norm() <= v.norm() * (1 + 1e-12)
    assert torch.linalg.cross(bounded, v).abs().max() <= 1e-9 * v.norm() * limit
    assert (bounded * v).sum() >= 0.0


def test_bound_is_the_identity_for_short_vectors() -> None:
    v = torch.tensor([[1e-4, -2e-4, 3e-4]], dtype=torch.float64)
    assert torch.allclose(bound(v, 0.5), v, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("envelope", [cosine_envelope, polynomial_envelope])
class TestEnvelopes:
    def test_from_one_to_zero(self, envelope: object) -> None:
        lengths = torch.linspace(0.0, 6.0, 61, dtype=torch.float64)
        values = envelope(lengths, 5.0)
        assert values[0] == 1.0
        assert (values[50:] == 0.0).all()
        assert (values.diff() <= 0.0).all()

    def test_slope_vanishes_at_the_cutoff(self, envelope: object) -> None:
        lengths = torch.tensor([5.0 - 1e-6, 5.0, 5.0 + 1e-6], dtype=torch.float64, requires_grad=True)
        values = envelope(lengths, 5.0)
        (slope,) = torch.autograd.grad(values.sum(), lengths)
        assert values.abs().max() < 1e-12
        assert slope.abs().max() < 1e-6


def test_polynomial_envelope_has_a_continuous_curvature() -> None:
    lengths = torch.tensor([5.0 - 1e-7], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(polynomial_envelope(lengths, 5.0).sum(), lengths, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), lengths)
    assert curvature.abs().item() < 1e-5
    x = 2.0 / 5.0  # the paper's formula with p = 6
    expected = 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8
    assert polynomial_envelope(torch.tensor([2.0]), 5.0).item() == pytest.approx(expected)


def test_cosine_envelope_at_half_the_cutoff() -> None:
    assert cosine_envelope(torch.tensor([2.5]), 5.0).item() == pytest.approx(0.5)


def _pairs(edge_index: Tensor) -> set[tuple[int, int]]:
    return {(int(s), int(r)) for s, r in edge_index.T}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(0.5, 6.0), st.integers(0, 1000))
def test_all_pairs_are_those_of_ase(sizes: list[int], cutoff: float, seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(0.0, 5.0, (sum(sizes), 3))
    molecule_index = torch.repeat_interleave(torch.tensor(sizes))
    edge_index = all_pairs(torch.tensor(positions), molecule_index, cutoff)
    expected: set[tuple[int, int]] = set()
    start = 0
    for size in sizes:
        atoms = ase.Atoms("H" * size, positions[start : start + size])
        receivers, senders = neighbor_list("ij", atoms, cutoff)
        expected |= {(int(s) + start, int(r) + start) for s, r in zip(senders, receivers, strict=True)}
        start += size
    assert _pairs(edge_index) == expected
    assert len(expected) == edge_index.shape[1]
    assert (edge_index[1].diff() >= 0).all()


def test_all_pairs_of_nothing() -> None:
    edge_index = all_pairs(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 5.0)
    assert edge_index.shape == (2, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cutoff", [3.0, 5.5])
def test_periodic_neighbours_are_those_of_ase(dtype: torch.dtype, cutoff: float) -> None:
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    crystal.cell[1, 0] += 0.7  # a cell with skew angles, smaller than the larger cutoff
    crystal.rattle(0.1, seed=1)
    positions = torch.tensor(crystal.positions, dtype=dtype)
    cell = torch.tensor(crystal.cell.array, dtype=dtype)
    edge_index, shifts = periodic_neighbours(positions, cell, cutoff)
    assert shifts.dtype == dtype
    vectors = positions[edge_index[0]] + shifts - positions[edge_index[1]]
    receivers, senders, expected = neighbor_list("ijD", crystal, cutoff)
    assert len(receivers) == edge_index.shape[1]
    mine = np.column_stack([edge_index[0], edge_index[1], vectors.double().numpy().round(3)])
    theirs = np.column_stack([senders, receivers, expected.round(3)])
    assert _rows(mine) == _rows(theirs)
    assert (edge_index[1].diff() >= 0).all()


def test_cell_lists_of_a_molecule_are_all_pairs() -> None:
    positions = torch.tensor(np.random.default_rng(0).uniform(0.0, 12.0, (200, 3)))
    edge_index, shifts = periodic_neighbours(positions, torch.zeros(3, 3, dtype=torch.float64), 4.0)
    expected = all_pairs(positions, torch.zeros(200, dtype=torch.long), 4.0)
    assert _pairs(edge_index) == _pairs(expected)
    assert (shifts == 0.0).all()


def _rows(table: np.ndarray) -> list[tuple[float, ...]]:
    # Minus zero is zero; the last digit is left to rounding by the comparison on a coarse grid.
    return sorted(tuple(float(x) + 0.0 for x in row) for row in table.round(2))
