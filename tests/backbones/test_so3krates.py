"""SO3krates: the contract, and its layer against the equations in plain loops."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.so3krates import EuclideanFeatures, SO3krates, SO3kratesLayer, invariants
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.testing import BackboneContract


class TestSO3krates(BackboneContract):
    def make_backbone(self, num_species: int) -> SO3krates:
        return SO3krates(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8, lmax=2, num_heads=2)


def _edges(points: int) -> Edges:
    positions = torch.randn(points, 3, dtype=torch.float64)
    senders, receivers = (~torch.eye(points, dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, 4.0))


def _degrees(euclidean: Tensor) -> list[Tensor]:
    """Degrees 1, 2 and 3 of one point."""
    return [euclidean[degree**2 - 1 : (degree + 1) ** 2 - 1] for degree in (1, 2, 3)]


def _squares(euclidean: Tensor) -> Tensor:
    return torch.stack([(chi @ chi) / math.sqrt(len(chi)) for chi in _degrees(euclidean)])


def _layer(layer: SO3kratesLayer, x: Tensor, chi: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Point by point, edge by edge and head by head; eight channels, two heads, three degrees."""
    directions = edges.vectors / edges.lengths.unsqueeze(-1)
    y = o3.spherical_harmonics([1, 2, 3], directions, normalize=False, normalization="integral")
    arriving = [(edges.receivers == i).nonzero().flatten().tolist() for i in range(len(x))]
    if layer.first:
        mean = [sum(edges.envelope[e] * y[e] for e in arriving[i]) / NEIGHBOURS for i in range(len(x))]
        chi = chi + torch.stack([torch.as_tensor(one) for one in mean])
    radial = layer.basis(edges.lengths)
    new_x, new_chi = x.clone(), chi.clone()
    z = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    for i in range(len(x)):
        for e in arriving[i]:
            j = int(edges.senders[e])
            relative = torch.log(1.0 + _squares(chi[j] - chi[i]))
            filters = [one(radial[e]) + two(relative) for one, two in zip(layer.radial, layer.spherical, strict=True)]
            for h in range(2):
                share = slice(4 * h, 4 * h + 4)
                query = F.silu(layer.of_scalars.query[h] @ z[i, share])
                key = F.silu(layer.of_scalars.key[h] @ z[j, share])
                alpha = edges.envelope[e] * (query * filters[0][share] * key).sum() / 2.0
                new_x[i, share] += alpha * (layer.value[h] @ z[j, share])
            for h in range(3):  # eight channels give two to each degree
                share = slice(2 * h, 2 * h + 2)
                query = F.silu(layer.of_degrees.query[h] @ z[i, share])
                key = F.silu(layer.of_degrees.key[h] @ z[j, share])
                alpha = edges.envelope[e] * (query * filters[1][share] * key).sum() / math.sqrt(2.0)
                _degrees(new_chi[i])[h].add_(alpha * _degrees(y[e])[h])
    for i in range(len(x)):
        change = layer.exchange(torch.cat([new_x[i], torch.log(1.0 + _squares(new_chi[i]))]))
        new_x[i] += change[:8]
        for factor, part in zip(change[8:], _degrees(new_chi[i]), strict=False):  # the last layer has one factor
            part.mul_(1.0 + factor)
    return new_x, new_chi[:, :3] if layer.last else new_chi


def test_layers_are_the_equations() -> None:
    """The first one, which starts the Euclidean variables, one between, and the last, which keeps degree 1."""
    network = SO3krates(3, channels=8, num_layers=3, cutoff=4.0, num_basis=5, lmax=3, num_heads=2).double()
    network.requires_grad_(False)
    edges = _edges(4)
    features = network.embed(torch.tensor([0, 2, 1, 1]))
    for layer in network.layers:
        assert isinstance(layer, SO3kratesLayer)
        x, chi = _layer(layer, features.scalars, features.euclidean, edges)
        features = layer(features, edges)
        assert (features.scalars - x).abs().max() < 1e-12 * x.abs().max()
        assert (features.euclidean - chi).abs().max() < 1e-12 * chi.abs().max()
    assert features.euclidean.shape == (4, 3)
    assert [layer.first for layer in network.layers] == [True, False, False]


def test_invariants_turn_with_nothing() -> None:
    """Of harmonics they are constants: the squared norm of degree l is (2 l + 1) / (4 pi)."""
    directions = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=-1)
    y = o3.spherical_harmonics([1, 2, 3], directions, normalize=False, normalization="integral")
    expected = torch.tensor([math.sqrt(2 * degree + 1) / (4.0 * math.pi) for degree in (1, 2, 3)], dtype=torch.float64)
    assert torch.allclose(invariants(y, 3), expected.expand(5, 3), rtol=1e-6)


def test_vectors_are_degree_one() -> None:
    network = SO3krates(2, channels=8, num_heads=2, lmax=2)
    features = EuclideanFeatures(torch.randn(3, 8), torch.randn(3, 8))
    split = network.split(features)
    assert split.vectors is not None and torch.equal(split.vectors[..., 0], features.euclidean[:, :3])
    joined = network.join(features, network.split(EuclideanFeatures(torch.zeros(3, 8), torch.zeros(3, 8))))
    assert torch.equal(joined.euclidean[:, 3:], features.euclidean[:, 3:])
    assert (joined.euclidean[:, :3] == 0.0).all() and (joined.scalars == 0.0).all()


@pytest.mark.parametrize(("channels", "heads", "lmax"), [(8, 3, 2), (2, 1, 3)])
def test_heads_that_do_not_fit(channels: int, heads: int, lmax: int) -> None:
    make: Callable[[], SO3krates] = lambda: SO3krates(2, channels, num_heads=heads, lmax=lmax)  # noqa: E731
    with pytest.raises(ValueError, match=f"num_heads={heads} heads and lmax={lmax} degrees"):
        make()
