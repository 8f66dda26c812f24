"""Equiformer: the contract, its attention against the paper's equations in plain loops, and its norm."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.equiformer import (
    Equiformer,
    EquiformerLayer,
    EquivariantLayerNorm,
    Linear,
    SmoothLeakyReLU,
)
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.testing import BackboneContract


class TestEquiformer(BackboneContract):
    def make_backbone(self, num_species: int) -> Equiformer:
        return Equiformer(num_species, channels=4, num_layers=2, cutoff=4.0, num_basis=6, lmax=2, num_heads=2)


def _edges(points: int, cutoff: float) -> Edges:
    positions = torch.randn(points, 3, dtype=torch.float64)
    senders, receivers = (~torch.eye(points, dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, cutoff))


def _layer(number: int) -> EquiformerLayer:
    network = Equiformer(3, channels=4, num_layers=3, cutoff=6.0, num_basis=5, lmax=2, num_heads=2).double()
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn_like(parameter)  # biases and weights of norms are no longer zero and one
    layer = network.layers[number]
    assert isinstance(layer, EquiformerLayer)
    return layer


def _leaky(x: float) -> float:
    return 0.2 * x + 0.8 * x / (1.0 + math.exp(-x))


def _gated(values: Tensor, irreps: o3.Irreps) -> Tensor:
    """SiLU of the scalars; then come the gates, one for each channel of what follows."""
    channels = irreps[0].mul
    found = [F.silu(values[:channels])]
    gate, start = channels, sum(block.mul for block in irreps)
    for block_channels, irrep in irreps[1:]:
        for _ in range(block_channels):
            found.append(values[start : start + irrep.dim] * torch.sigmoid(values[gate]))
            gate, start = gate + 1, start + irrep.dim
    return torch.cat(found)


@torch.no_grad()
def test_attention_is_the_papers_equations() -> None:
    """Point by point and head by head: perceptron attention and nonlinear messages."""
    layer = _layer(1)
    attention, irreps = layer.attention, layer.irreps
    edges = _edges(4, 6.0)
    features = torch.randn(4, irreps.dim, dtype=torch.float64)
    harmonics, radial = layer.harmonics(edges), layer.basis(edges.lengths)
    got = attention(features, edges, harmonics, radial)

    for receiver in range(4):
        arriving = [edge for edge in range(len(edges.receivers)) if edges.receivers[edge] == receiver]
        weights: list[list[float]] = []
        values: list[Tensor] = []
        for edge in arriving:
            y = harmonics[edge : edge + 1]
            sender = int(edges.senders[edge])
            mixed = attention.from_sender(features[[sender]]) + attention.from_receiver(features[[receiver]])
            product = attention.product(mixed, y, attention.radial(radial[edge : edge + 1]))
            hidden = attention.to_alpha(product)[0].tolist()
            logits = [
                sum(float(attention.alpha[head, k]) * _leaky(hidden[2 * head + k]) for k in range(2)) for head in (0, 1)
            ]
            weights.append([float(edges.envelope[edge]) * math.exp(logit) for logit in logits])
            message = _gated(attention.to_gate(product)[0], irreps).unsqueeze(0)
            value = attention.value_product(message, y, attention.value_weights.unsqueeze(0))
            values.append(attention.to_value(value)[0])
        arrived = torch.zeros(irreps.dim, dtype=torch.float64)
        for weight, value in zip(weights, values, strict=True):
            for block, (channels, irrep) in zip(irreps.slices(), irreps, strict=True):
                for channel in range(channels):
                    head = channel // (channels // 2)
                    alpha = weight[head] / (1.0 + sum(other[head] for other in weights))
                    place = slice(block.start + channel * irrep.dim, block.start + (channel + 1) * irrep.dim)
                    arrived[place] += alpha * value[place]
        expected = attention.project(arrived.unsqueeze(0))[0]
        assert (got[receiver] - expected).abs().max() < 1e-13 * expected.abs().max()


@torch.no_grad()
def test_blocks_are_residual() -> None:
    """Norms stand before attention and feed-forward network; the first layer adds the edge degrees, the last norms."""
    edges = _edges(4, 6.0)
    for number in (0, 1, 2):
        layer = _layer(number)
        harmonics, radial = layer.harmonics(edges), layer.basis(edges.lengths)
        features = torch.randn(4, 4 if number == 0 else layer.irreps.dim, dtype=torch.float64)
        x = features
        if number == 0:
            assert layer.edge_degree is not None
            x = layer.edge_degree(edges, harmonics, radial, 4)
            x[:, :4] += features
        after = layer.attention(layer.norm(x), edges, harmonics, radial)
        x = x[:, : after.shape[1]] + after
        x = x + layer.feed(layer.feed_norm(x))
        if number == 2:
            assert layer.last_norm is not None
            x[:, :4] = layer.last_norm(x[:, :4])
        assert (layer(features, edges) - x).abs().max() < 1e-14


@torch.no_grad()
def test_edge_degrees_are_radial_functions_times_harmonics() -> None:
    """Edge by edge and channel by channel, faded by the envelope, over the root of a typical number of neighbours."""
    layer = _layer(0)
    embedding, irreps, edges = layer.edge_degree, layer.irreps, _edges(4, 6.0)
    assert embedding is not None
    harmonics, radial = layer.harmonics(edges), layer.basis(edges.lengths)
    weights = embedding.radial(radial)
    arrived = torch.zeros(4, irreps.dim, dtype=torch.float64)
    for edge, receiver in enumerate(edges.receivers.tolist()):
        for degree, block in enumerate(irreps.slices()):
            y = harmonics[edge, degree**2 : (degree + 1) ** 2]
            terms = [weights[edge, 4 * degree + channel] * y for channel in range(4)]
            arrived[receiver, block] += edges.envelope[edge] * torch.cat(terms) / math.sqrt(NEIGHBOURS)
    expected = embedding.linear(arrived)
    assert (embedding(edges, harmonics, radial, 4) - expected).abs().max() < 1e-13


@torch.no_grad()
def test_radial_perceptron_has_two_hidden_layers_with_norms() -> None:
    perceptron = _layer(1).attention.radial
    x = radial = torch.rand(6, 5, dtype=torch.float64)
    for linear, norm in ((0, 1), (3, 4)):
        weights, scale = perceptron[linear], perceptron[norm]
        x = F.silu(F.layer_norm(F.linear(x, weights.weight, weights.bias), (64,), scale.weight, scale.bias))
    assert (perceptron(radial) - F.linear(x, perceptron[6].weight, perceptron[6].bias)).abs().max() < 1e-13


@torch.no_grad()
def test_feed_forward_networks_are_gated_and_three_times_as_wide() -> None:
    layer = _layer(1)
    features = torch.randn(5, layer.irreps.dim, dtype=torch.float64)
    between = layer.feed.first(features)
    hidden = torch.stack([_gated(values, o3.Irreps("12x0e + 12x1o + 12x2e")) for values in between])
    assert (layer.feed(features) - layer.feed.second(hidden)).abs().max() < 1e-13


@torch.no_grad()
def test_linear_is_that_of_e3nn() -> None:
    before, after = o3.Irreps("4x0e + 3x1o + 2x2e"), o3.Irreps("5x0e + 2x1o")
    mine, theirs = Linear(before, after).double(), o3.Linear(before, after, biases=True).double()
    for parameter in theirs.parameters():
        parameter.normal_()
    weights = theirs.weight.split([4 * 5, 3 * 2])
    for mixed, weight in zip(mine.weights, weights, strict=True):
        mixed.copy_(weight.view_as(mixed) / len(mixed) ** 0.5)
    mine.bias.copy_(theirs.bias)
    features = torch.randn(6, before.dim, dtype=torch.float64)
    assert (mine(features) - theirs(features)).abs().max() < 1e-14


@torch.no_grad()
def test_layer_norm() -> None:
    """Large vectors get a mean square of one; small ones keep their proportion to it, down to zero."""
    irreps = o3.Irreps("4x0e + 4x1o + 4x2e")
    norm = EquivariantLayerNorm(irreps).double()
    features = 1e4 * torch.randn(5, irreps.dim, dtype=torch.float64)
    for block in irreps.slices():
        assert torch.allclose(norm(features)[:, block].square().mean(-1), torch.ones(5, dtype=torch.float64))
    small = 1e-3 * torch.randn(5, irreps.dim, dtype=torch.float64)
    assert torch.allclose(norm(small)[:, 4:], small[:, 4:] / norm.epsilon, rtol=1e-3)
    assert norm.epsilon == 0.1
    assert (norm(torch.zeros_like(small))[:, 4:] == 0.0).all()


def test_smooth_leaky_relu() -> None:
    """The two slopes of the leaky ReLU far from zero, and no corner at zero."""
    x = torch.tensor([-40.0, 0.0, 40.0], requires_grad=True)
    (slope,) = torch.autograd.grad(SmoothLeakyReLU()(x).sum(), x)
    assert torch.allclose(slope, torch.tensor([0.2, 0.6, 1.0]))
