"""MACE: the contract, and its product basis: equivariant, complete, and the polynomials that it says."""

import math

import pytest
import torch
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.mace import (
    MACE,
    EquivariantPolynomials,
    MACELayer,
    SymmetricContraction,
    symmetric_couplings,
)
from neural_polarization.layers.irreps import Exact, make_irreps
from neural_polarization.testing import BackboneContract


class TestMACE(BackboneContract):
    def make_backbone(self, num_species: int) -> MACE:
        return MACE(num_species, channels=4, num_layers=2, cutoff=4.0, num_basis=6, lmax=2, lmax_features=2)


def _multiplicity(lmax: int, order: int, degree: int) -> int:
    """How often degree L of natural parity is in the symmetric power of all harmonics, by characters of O(3)."""
    angles = (torch.arange(4000, dtype=torch.float64) + 0.5) * (math.pi / 4000)

    def character(degrees: range, parity: int, turns: int) -> Tensor:
        return sum(
            (parity**turns) ** l * torch.sin((l + 0.5) * turns * angles) / torch.sin(0.5 * turns * angles)
            for l in degrees  # noqa: E741
        )

    total = 0.0
    for parity in (1, -1):
        x, x2, x3 = (character(range(lmax + 1), parity, turns) for turns in (1, 2, 3))
        power = {1: x, 2: (x**2 + x2) / 2, 3: (x**3 + 3 * x * x2 + 2 * x3) / 6}[order]
        of_degree = character(range(degree, degree + 1), parity, 1)
        total += float(((1 - torch.cos(angles)) * power * of_degree).mean()) / 2
    assert abs(total - round(total)) < 1e-6
    return round(total)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_every_equivariant_polynomial_once(order: int, degree: int) -> None:
    for lmax in (1, 2, 3):
        couplings = symmetric_couplings(lmax, order, degree)
        assert len(couplings) == _multiplicity(lmax, order, degree)
        flat = couplings.flatten(1)
        assert not len(flat) or torch.linalg.matrix_rank(flat) == len(flat)


def test_polynomials_turn() -> None:
    """Contracted with harmonics of one more direction they are invariant, with reflection too, to the last digits."""
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    matrix = -matrix * torch.linalg.det(matrix)
    neighbours, weights = torch.randn(5, 6, 3, dtype=torch.float64), torch.randn(5, 6, 2, dtype=torch.float64)
    direction = torch.randn(1, 3, dtype=torch.float64)
    for degree in range(3):
        polynomials = Exact(EquivariantPolynomials, 3, 3, [degree]).double()

        def invariants(turn: Tensor, degree: int = degree, polynomials: Exact = polynomials) -> Tensor:
            harmonics = o3.spherical_harmonics([0, 1, 2, 3], neighbours @ turn.T, False, normalization="component")
            values = polynomials(torch.einsum("njk,njc->nck", harmonics, weights))
            outer = o3.spherical_harmonics(degree, direction @ turn.T, False)[0]
            return torch.einsum("ncmk,m->nck", values.unflatten(-1, (2 * degree + 1, -1)), outer)

        before, after = invariants(torch.eye(3, dtype=torch.float64)), invariants(matrix)
        assert (after - before).abs().max() < 1e-13 * before.abs().max()


def test_vectors_of_a_vector() -> None:
    """The polynomials of a scalar s and a vector v that are known without coefficients."""
    s, v = torch.randn(7, 1, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    values = torch.cat([s, v], -1).unsqueeze(1)
    known = {
        (2, 0): [s * s, (v * v).sum(-1, keepdim=True)],
        (2, 1): [s * v],
        (3, 0): [s**3, s * (v * v).sum(-1, keepdim=True)],
        (3, 1): [s * s * v, (v * v).sum(-1, keepdim=True) * v],
    }
    for (order, degree), expected in known.items():
        couplings = symmetric_couplings(1, order, degree)
        monomials = torch.stack([values[:, 0, list(m)].prod(-1) for m in _combinations(4, order)], -1)
        got = torch.einsum("kmp,np->knm", couplings, monomials).flatten(1)
        truth = torch.stack([e.flatten() for e in expected])
        solution = torch.linalg.lstsq(truth.T, got.T).solution
        assert len(got) == len(truth)
        assert (truth.T @ solution - got.T).abs().max() < 1e-13
        assert torch.linalg.matrix_rank(solution) == len(truth)


def _combinations(components: int, order: int) -> list[tuple[int, ...]]:
    """In lexical order, as the library counts monomials."""
    if order == 1:
        return [(k,) for k in range(components)]
    return [(k, *rest) for k in range(components) for rest in _combinations(components, order - 1) if rest[0] >= k]


@torch.no_grad()
def test_weights_start_as_a_mean_over_the_paths_of_an_order() -> None:
    contraction = SymmetricContraction(50, 60, 2, 3, make_irreps([(60, "0e"), (60, "1o")]))
    counts = [len(symmetric_couplings(2, order, degree)) for degree in (0, 1) for order in (1, 2, 3)]
    for weights, count in zip(contraction.weights.split(counts, -1), counts, strict=True):
        assert float(weights.std()) == pytest.approx(1.0 / count, rel=0.05)


def test_weights_of_the_own_species() -> None:
    """A point's message uses the weights of its species and of no other."""
    network = MACE(3, channels=2, num_layers=2, cutoff=4.0, num_basis=4, lmax=2).double()
    layer = network.layers[0]
    assert isinstance(layer, MACELayer)
    values = torch.randn(3, 2, 9, dtype=torch.float64)
    species = torch.tensor([0, 2, 1])
    before = layer.contraction(values, species)
    with torch.no_grad():
        layer.contraction.weights[2] *= 2.0
    after = layer.contraction(values, species)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert torch.allclose(after[1], 2.0 * before[1], rtol=1e-12)
