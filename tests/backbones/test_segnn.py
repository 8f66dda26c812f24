"""SEGNN: the contract, and its layers against the paper's equations in plain loops."""

import math

import torch
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.segnn import SEGNN, GatedSteerable, SEGNNLayer, Steerable, point_attributes
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.testing import BackboneContract

CUTOFF = 4.0


class TestSEGNN(BackboneContract):
    def make_backbone(self, num_species: int) -> SEGNN:
        return SEGNN(num_species, channels=4, num_layers=2, cutoff=CUTOFF, lmax=1, lmax_attributes=2)


def _edges(points: int) -> Edges:
    positions = torch.randn(points, 3, dtype=torch.float64)
    senders, receivers = (~torch.eye(points, dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, CUTOFF))


def _steerable(steerable: Steerable, features: Tensor, attribute: Tensor) -> Tensor:
    """One item's map, path by path and channel by channel."""
    product, linear = steerable.product, steerable.linear
    paths = [path for path in linear.instructions if path.i_in >= 0]  # the others are biases
    views = linear.weight.split([math.prod(path.path_shape) for path in paths])
    weights = {
        (product.irreps_out[path.i_in].ir, path.i_out): view.view(path.path_shape)
        for path, view in zip(paths, views, strict=True)
    }
    out = torch.zeros(linear.irreps_out.dim, dtype=torch.float64)
    row: dict[o3.Irrep, int] = {}
    assert len(linear.bias) == linear.irreps_out.count(o3.Irrep(0, 1))
    for one, two, made in product.paths:
        coefficients = o3.wigner_3j(one.l, two.l, made.l, dtype=torch.float64) * math.sqrt(made.dim)
        a = attribute[product.second.slices()[two.l]]
        for block, (channels, irrep) in zip(product.first.slices(), product.first, strict=True):
            for channel in range(channels if irrep == one else 0):
                start = block.start + channel * one.dim
                coupled = torch.einsum("abc,a,b->c", coefficients, features[start : start + one.dim], a)
                coupled = coupled / math.sqrt(product.irreps_out.count(made))
                u = row.get(made, 0)
                for i_out, to in enumerate(linear.irreps_out.slices()):
                    if linear.irreps_out[i_out].ir == made:
                        out[to] += torch.outer(weights[made, i_out][u], coupled).flatten()
                row[made] = u + 1
    return out + torch.nn.functional.pad(linear.bias, (0, len(out) - len(linear.bias)))


def _gated(step: GatedSteerable, features: Tensor, attribute: Tensor) -> Tensor:
    return step.gate(_steerable(step.linear, features, attribute).unsqueeze(0)).squeeze(0)


def test_layers_are_the_papers_equations() -> None:
    """The first layer, with its embedding, and the last one, which makes scalars and vectors."""
    network = SEGNN(3, channels=2, num_layers=2, cutoff=CUTOFF, lmax=2, lmax_attributes=3).double()
    network.requires_grad_(False)
    for layer in network.layers:
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # biases begin at zero
    edges = _edges(3)
    features = network.embed(torch.tensor([2, 0, 1]))
    for layer in network.layers:
        assert isinstance(layer, SEGNNLayer)
        got = layer(features, edges)
        harmonics = layer.harmonics(edges)
        around = point_attributes(harmonics, edges, 3)
        f = [x if layer.embed is None else _steerable(layer.embed, x, around[i]) for i, x in enumerate(features)]
        for i in range(3):
            total = torch.zeros_like(f[i])
            for edge in (edges.receivers == i).nonzero().flatten().tolist():
                square = (edges.lengths[edge] / CUTOFF) ** 2
                pair = torch.cat([f[i], f[int(edges.senders[edge])], square.view(1)])
                message = _gated(layer.message2, _gated(layer.message1, pair, harmonics[edge]), harmonics[edge])
                total += message * edges.envelope[edge] / math.sqrt(NEIGHBOURS)
            hidden = _gated(layer.update1, torch.cat([f[i], total]), around[i])
            expected = f[i][: layer.irreps_out.dim] + _steerable(layer.update2, hidden, around[i])
            assert (got[i] - expected).abs().max() < 1e-12 * expected.abs().max()
        features = got
    assert features.shape == (3, 2 * (1 + 3))


def test_attributes_of_points() -> None:
    """The mean of the harmonics, to which a point itself contributes a scalar; alone it is that."""
    edges, harmonics = _edges(4), torch.randn(12, 9, dtype=torch.float64)
    harmonics[:, 0] = 1.0
    got = point_attributes(harmonics, edges, 5)
    for i in range(4):
        weights = edges.envelope * (edges.receivers == i)
        expected = (torch.eye(9, dtype=torch.float64)[0] + weights @ harmonics) / (1.0 + weights.sum())
        assert torch.allclose(got[i], expected, rtol=1e-12, atol=0.0)
    assert torch.equal(got[4], torch.eye(9, dtype=torch.float64)[0])
