"""Cormorant: the contract, and its layer against the paper's formulas with Clebsch-Gordan coefficients in loops."""

import math

import torch
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.cormorant import Cormorant, CormorantLayer
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.testing import BackboneContract

CHANNELS, CUTOFF = 2, 4.0


class TestCormorant(BackboneContract):
    def make_backbone(self, num_species: int) -> Cormorant:
        return Cormorant(num_species, channels=8, num_layers=2, cutoff=CUTOFF, num_basis=6, lmax=2)


def _edges(points: int) -> Edges:
    positions = torch.randn(points, 3, dtype=torch.float64)
    senders, receivers = (~torch.eye(points, dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, CUTOFF))


def _degrees(features: Tensor) -> list[Tensor]:
    """(channels, 2 l + 1) of every degree of natural parity of one point."""
    parts, start = [], 0
    while start < len(features):
        size = CHANNELS * (2 * len(parts) + 1)
        parts.append(features[start : start + size].view(CHANNELS, -1))
        start += size
    return parts


def _products(x: list[Tensor], y: list[Tensor], lmax: int, square: bool) -> list[list[Tensor]]:
    """Products channel by channel for every degree of the result; parity keeps those with even l1 + l2 + l."""
    found: list[list[Tensor]] = [[] for _ in range(lmax + 1)]
    for l1, first in enumerate(x):
        for l2, second in enumerate(y):
            for degree in range(abs(l1 - l2), min(l1 + l2, lmax) + 1):
                if (l1 + l2 + degree) % 2 or (square and l1 > l2):
                    continue
                coefficients = o3.wigner_3j(l1, l2, degree, dtype=torch.float64) * math.sqrt(2 * degree + 1)
                found[degree] += [
                    torch.einsum("abc,a,b->c", coefficients, first[channel], second[channel])
                    for channel in range(CHANNELS)
                ]
    return found


def _layer(layer: CormorantLayer, features: Tensor, edges: Edges, lmax: int) -> Tensor:
    """Point by point; the mixing by matrices cut out of the linear map's weights."""
    directions = edges.vectors / edges.lengths.unsqueeze(-1)
    out: list[Tensor] = []
    for i, own in enumerate(features):
        f_i = _degrees(own)
        arrived: list[list[Tensor]] = []
        for e in (edges.receivers == i).nonzero().flatten().tolist():
            f_j = _degrees(features[int(edges.senders[e])])
            dots = torch.cat([(a * b).sum(1) / math.sqrt(a.shape[1]) for a, b in zip(f_i, f_j, strict=True)])
            radial = layer.basis(edges.lengths[e : e + 1])[0]
            scalars = edges.envelope[e] * (layer.edge.weight @ torch.cat([dots, radial]) + layer.edge.bias)
            g = scalars.view(-1, CHANNELS)
            y = [
                o3.spherical_harmonics(degree, directions[e], normalize=False, normalization="component")
                for degree in range(len(g))
            ]
            of_edge = [torch.outer(g[degree], y[degree]) for degree in range(len(g))]
            arrived.append(_products(f_j, of_edge, lmax, square=False))
        squares = _products(f_i, f_i, lmax, square=True)
        for degree in range(lmax + 1):
            total = sum(torch.stack(one[degree]) for one in arrived) / math.sqrt(NEIGHBOURS)
            same = f_i[degree : degree + 1]  # none where the features have no such degree yet
            columns = torch.cat([torch.as_tensor(total), *same, *[one.unsqueeze(0) for one in squares[degree]]])
            matrices = [
                weight
                for path, weight in zip(layer.mix.instructions, layer.mix.weight_views(), strict=True)
                if layer.mix.irreps_in[path.i_in].ir.l == degree
            ]
            out.append((torch.cat(matrices).T @ columns / math.sqrt(len(columns))).flatten())
    return torch.cat(out).view(len(features), -1)


def test_layers_are_the_papers_formulas() -> None:
    """From scalars to all degrees, between those, and to scalars and vectors."""
    network = Cormorant(3, channels=CHANNELS, num_layers=3, cutoff=CUTOFF, num_basis=3, lmax=2).double()
    network.requires_grad_(False)
    edges = _edges(4)
    features = network.embed(torch.tensor([0, 2, 1, 1]))
    for layer, lmax in zip(network.layers, (2, 2, 1), strict=True):
        assert isinstance(layer, CormorantLayer)
        expected = _layer(layer, features, edges, lmax)
        features = layer(features, edges)
        assert (features - expected).abs().max() < 1e-12 * expected.abs().max()
    assert features.shape == (4, CHANNELS * 4)
