"""Bricks of networks of irreducible representations: what they keep when molecules turn, and what they are at zero."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from torch import Tensor, nn

from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import (
    ChannelwiseProduct,
    Exact,
    Harmonics,
    IrrepsNorm,
    gate,
    irreps_of_layers,
    make_irreps,
)


def _turn() -> Tensor:
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    return -matrix * torch.linalg.det(matrix)  # with a reflection


def _matrix(irreps: o3.Irreps, turn: Tensor) -> Tensor:
    """What the turn does to features, from harmonics of many directions: e3nn's own matrices have seven digits."""
    points = torch.randn(40, 3, dtype=torch.float64)
    blocks: list[Tensor] = []
    for channels, irrep in irreps:
        before, after = (o3.spherical_harmonics(irrep.l, x, normalize=False) for x in (points, points @ turn.T))
        block = torch.linalg.lstsq(before, after).solution.T * (irrep.p * (-1) ** irrep.l)
        blocks += [block] * channels
    return torch.block_diag(*blocks)


def test_irreps_of_layers() -> None:
    found = [str(irreps) for irreps in irreps_of_layers(2, 1, 4, both_parities=True)]
    assert found == ["2x0e", "2x0e+2x1o", "2x0e+2x1o+2x1e", "2x0e+2x1o+2x0o+2x1e", "2x0e+2x1o"]
    assert [str(irreps) for irreps in irreps_of_layers(3, 3, 1)] == ["3x0e", "3x0e+3x1o"]


@pytest.mark.parametrize("made_in", [torch.float32, torch.float64])
def test_products_are_right_to_the_last_digits(made_in: torch.dtype) -> None:
    """Also where they were made in single precision: without `Exact` their error is 1e-8."""
    irreps, harmonics = make_irreps([(2, "0e"), (2, "1o"), (2, "2e")]), o3.Irreps.spherical_harmonics(3)
    torch.set_default_dtype(made_in)
    product = ChannelwiseProduct(irreps, harmonics, irreps)
    plain = o3.FullTensorProduct("2x1o", "1x2e")
    exact = Exact(o3.FullTensorProduct, "2x1o", "1x2e")
    torch.set_default_dtype(torch.float32)
    product, plain, exact = product.double(), plain.double(), exact.double()
    turn = _turn()
    x, y = torch.randn(4, irreps.dim, dtype=torch.float64), torch.randn(4, harmonics.dim, dtype=torch.float64)
    weights = torch.randn(4, product.num_weights, dtype=torch.float64)
    before = product(x, y, weights) @ _matrix(product.irreps_out, turn).T
    after = product(x @ _matrix(irreps, turn).T, y @ _matrix(harmonics, turn).T, weights)
    assert (after - before).abs().max() < 1e-14 * before.abs().max()

    x, y = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    error = float((plain(x, y) - exact(x, y)).abs().max())
    assert (error > 1e-10) == (made_in == torch.float32)
    exact.float().double()
    assert torch.equal(exact(x, y), Exact(o3.FullTensorProduct, "2x1o", "1x2e").double()(x, y))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("assign", [False, True])
def test_loaded_constants_are_exact(dtype: torch.dtype, assign: bool) -> None:
    """A state dict brings the rounding of its type for weights, not for the constants of e3nn that it holds as well."""

    def product() -> Exact:
        return Exact(o3.FullyConnectedTensorProduct, "2x1o", "1x2e", "2x1o")

    exact, other = product().double(), product().double()
    other.load_state_dict(product().to(dtype).state_dict(), assign=assign)
    assert any("w3j" in name for name, _ in exact.module.named_buffers())
    for (name, got), (_, expected) in zip(other.double().named_buffers(), exact.named_buffers(), strict=True):
        assert torch.equal(got, expected), name


def test_loaded_signs_are_kept() -> None:
    """Releases of e3nn differ in the signs of coefficients: a file's weights belong to the file's signs."""
    product = Exact(o3.TensorProduct, "1x1o", "1x2e", "1x1o", [(0, 0, 0, "uvu", False)]).double()
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    before = product(x, y)
    product.load_state_dict({name: -value if "w3j" in name else value for name, value in product.state_dict().items()})
    assert torch.equal(product(x, y), -before)
    assert torch.equal(product.float().double()(x, y), -before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_the_same_network(copied: Callable[[nn.Module], nn.Module]) -> None:
    """With e3nn's own copies, constants of a product of several paths get second names, and are not exact."""
    irreps, harmonics = make_irreps([(16, "0e"), (16, "1o"), (16, "2e")]), o3.Irreps.spherical_harmonics(2)
    product = ChannelwiseProduct(irreps, harmonics, make_irreps([(16, "1o"), (16, "1e"), (16, "2e")])).eval()
    again = copied(product)
    assert isinstance(again, ChannelwiseProduct) and not again.training and again is not product
    product.load_state_dict(again.state_dict())
    again.load_state_dict(product.state_dict())
    x, y = torch.randn(4, irreps.dim, dtype=torch.float64), torch.randn(4, harmonics.dim, dtype=torch.float64)
    weights = torch.randn(4, product.num_weights, dtype=torch.float64)
    assert torch.equal(again.double()(x, y, weights), product.double()(x, y, weights))
    for weight, other in zip(again.parameters(), product.parameters(), strict=True):
        assert torch.equal(weight, other) and weight.data_ptr() != other.data_ptr()

    own = Exact(o3.FullyConnectedTensorProduct, "2x1o", "1x2e", "2x1o")
    own.requires_grad_(False)
    other = copied(own)
    assert torch.equal(other(x[:, :6].float(), y[:, :5].float()), own(x[:, :6].float(), y[:, :5].float()))
    assert all(not weight.requires_grad for weight in other.parameters())
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1.0)
    assert all(not torch.equal(a, b) for a, b in zip(own.parameters(), other.parameters(), strict=True) if a.numel())


_MOMENT_SILU, _MOMENT_SIGMOID = 1.679, 1.847
"""Factors of e3nn, 1 / sqrt(<f(z)^2>) for normal z."""


def test_gate() -> None:
    """SiLU of scalars, a sigmoid for every other channel; it turns with its features, scalars apart."""
    irreps = make_irreps([(3, "0e"), (2, "1o"), (1, "2e"), (1, "0o")])
    nonlinearity = gate(irreps).double()
    assert str(nonlinearity.irreps_out) == str(irreps)
    inner = nonlinearity.irreps_in
    assert inner.count(o3.Irrep(0, 1)) == 3 + 2 + 1 + 1
    x, turn = torch.randn(5, inner.dim, dtype=torch.float64), _turn()
    before = nonlinearity(x) @ _matrix(irreps, turn).T
    assert (nonlinearity(x @ _matrix(inner, turn).T) - before).abs().max() < 1e-13
    assert (nonlinearity(torch.zeros_like(x)) == 0.0).all()
    natural, y = gate(make_irreps(irreps[:3])).double(), torch.randn(5, 17, dtype=torch.float64)
    assert torch.allclose(natural(y)[:, :3], _MOMENT_SILU * F.silu(y[:, :3]), rtol=1e-2)
    gates = torch.sigmoid(y[:, 3:6])[:, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]]
    assert torch.allclose(natural(y)[:, 3:], _MOMENT_SIGMOID * gates * y[:, 6:], rtol=1e-2)
    only_scalars = gate(make_irreps([(3, "0e")])).double()
    assert str(only_scalars.irreps_in) == "3x0e"


def test_norm_at_zero() -> None:
    """Epsilon, with derivatives of both orders; elsewhere the norm of every channel."""
    irreps = make_irreps([(2, "1o"), (1, "2e")])
    norm = IrrepsNorm(irreps, epsilon=1e-3)
    zero = torch.zeros(1, irreps.dim, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(norm(zero).sum(), zero, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), zero)
    assert torch.allclose(norm(zero), torch.full((1, 3), 1e-3, dtype=torch.float64))
    assert (slope == 0.0).all() and torch.allclose(curvature, torch.full_like(zero, 1e3))
    x = torch.randn(4, irreps.dim, dtype=torch.float64)
    expected = torch.stack([x[:, :3].norm(dim=1), x[:, 3:6].norm(dim=1), x[:, 6:].norm(dim=1)], 1)
    assert torch.allclose(norm(x), expected, rtol=1e-4)


def test_harmonics() -> None:
    """Degree one is sqrt(3) times the direction; all of them stay finite where two points meet."""
    vectors = torch.cat([torch.randn(4, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)])
    lengths = safe_norm(vectors)
    index = torch.zeros(5, dtype=torch.long)
    values = Harmonics(2)(Edges(index, index, vectors, lengths, lengths, cosine_envelope(lengths, 5.0)))
    directions = vectors / lengths.unsqueeze(-1)
    assert torch.allclose(values[:, 1:4], 3.0**0.5 * directions)
    assert torch.allclose(values[:4, 4:].square().sum(1), torch.full((4,), 5.0, dtype=torch.float64), rtol=1e-6)
    assert (values[4, 0] == 1.0) and (values[4, 1:] == 0.0).all()
