"""SE(3)-Transformer: the contract, and its attention and nonlinearity against their equations in plain loops."""

import math

import torch
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.se3_transformer import NormNonlinearity, SE3Transformer, SE3TransformerLayer
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.testing import BackboneContract


class TestSE3Transformer(BackboneContract):
    def make_backbone(self, num_species: int) -> SE3Transformer:
        return SE3Transformer(num_species, channels=4, num_layers=2, cutoff=4.0, num_basis=6, lmax=2, num_heads=2)


def _edges(points: int, cutoff: float) -> Edges:
    positions = torch.randn(points, 3, dtype=torch.float64)
    senders, receivers = (~torch.eye(points, dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, cutoff))


def _channels_of_head(features: Tensor, irreps: o3.Irreps, head: int, num_heads: int) -> list[Tensor]:
    """Every channel of a head, with its components, for the features of one point or edge."""
    found: list[Tensor] = []
    for block, (channels, irrep) in zip(irreps.slices(), irreps, strict=True):
        share = channels // num_heads
        for channel in range(head * share, (head + 1) * share):
            start = block.start + channel * irrep.dim
            found.append(features[start : start + irrep.dim])
    return found


@torch.no_grad()
def test_attention_is_the_papers_equations() -> None:
    """Eqs. 10 and 11 point by point, head by head, channel by channel."""
    network = SE3Transformer(3, channels=4, num_layers=3, cutoff=6.0, num_basis=5, lmax=2, num_heads=2).double()
    layer = network.layers[1]
    assert isinstance(layer, SE3TransformerLayer)
    attention, irreps = layer.attention, layer.irreps_in
    edges = _edges(4, 6.0)
    features = torch.randn(4, irreps.dim, dtype=torch.float64)
    harmonics, radial = layer.harmonics(edges), layer.basis(edges.lengths)
    got = attention(features, edges, harmonics, radial)

    for receiver in range(4):
        arriving = [edge for edge in range(len(edges.receivers)) if edges.receivers[edge] == receiver]
        query = attention.query(features[receiver : receiver + 1])[0]
        heads: list[list[Tensor]] = []
        for head in range(2):
            weights: list[Tensor] = []
            values: list[list[Tensor]] = []
            for edge in arriving:
                one = slice(edge, edge + 1)
                sent = features[edges.senders[one]]
                key = attention.key(sent, harmonics[one], radial[one])[0]
                value = attention.value(sent, harmonics[one], radial[one])[0]
                of_query = torch.cat(_channels_of_head(query, irreps, head, 2))
                of_key = torch.cat(_channels_of_head(key, irreps, head, 2))
                logit = float(of_query @ of_key) / math.sqrt(len(of_key))
                weights.append(edges.envelope[edge] * math.exp(logit))
                values.append(_channels_of_head(value, irreps, head, 2))
            total = 1.0 + sum(float(weight) for weight in weights)
            heads.append(
                [
                    sum(weight / total * value[k] for weight, value in zip(weights, values, strict=True))
                    for k in range(len(values[0]))
                ]
            )
        # Channels of one degree are those of the first head, then those of the second.
        share = [channels // 2 for channels, _ in irreps]
        starts = [sum(share[:k]) for k in range(len(share))]
        joined = [
            heads[head][start + c] for start, n in zip(starts, share, strict=True) for head in (0, 1) for c in range(n)
        ]
        expected = attention.own(features[receiver : receiver + 1]) + attention.project(torch.cat(joined).unsqueeze(0))
        assert (got[receiver] - expected[0]).abs().max() < 1e-13 * expected.abs().max()


@torch.no_grad()
def test_attention_is_not_a_mean() -> None:
    """Heads and neighbours have weights that differ."""
    network = SE3Transformer(3, channels=4, num_layers=3, cutoff=6.0, num_basis=5, lmax=2, num_heads=2).double()
    layer = network.layers[1]
    assert isinstance(layer, SE3TransformerLayer)
    edges = _edges(4, 6.0)
    features = torch.randn(4, layer.irreps_in.dim, dtype=torch.float64)
    before = layer(features, edges)
    layer.attention.query.weight.zero_()
    assert (layer(features, edges) - before).abs().max() > 1e-3


@torch.no_grad()
def test_nonlinearity_point_by_point() -> None:
    """SiLU of normalized scalars; u = V / sqrt(0.1^2 + mean |V|^2) of every degree, times SiLU(w |u| + b)."""
    irreps = o3.Irreps("4x0e + 3x1o + 2x2e")
    nonlinearity = NormNonlinearity(irreps).double()
    for parameter in nonlinearity.parameters():
        parameter.normal_()
    features = 0.2 * torch.randn(5, irreps.dim, dtype=torch.float64)
    got = nonlinearity(features)
    weight, bias = nonlinearity.weight.tolist(), nonlinearity.bias.tolist()
    for point, values in enumerate(features):
        scalars = values[:4]
        deviation = ((scalars - scalars.mean()).square().mean() + 1e-5).sqrt()
        normal = nonlinearity.layer_norm.weight * (scalars - scalars.mean()) / deviation + nonlinearity.layer_norm.bias
        expected = [normal * torch.sigmoid(normal)]
        for first, block in ((0, values[4:13].view(3, 3)), (3, values[13:].view(2, 5))):
            directions = block / math.sqrt(0.01 + sum(float(v @ v) for v in block) / len(block))
            for channel, u in enumerate(directions, first):
                z = weight[channel] * float(u.norm()) + bias[channel]
                expected.append(z / (1.0 + math.exp(-z)) * u)
        assert (got[point] - torch.cat(expected)).abs().max() < 1e-6


@torch.no_grad()
def test_features_end_as_attention_makes_them() -> None:
    """The nonlinearity stands between layers: after all but the last one."""
    network = SE3Transformer(3, channels=4, num_layers=3, cutoff=6.0, num_basis=5, lmax=2, num_heads=2).double()
    edges = _edges(4, 6.0)
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, SE3TransformerLayer)
        features = torch.randn(4, layer.irreps_in.dim, dtype=torch.float64)
        expected = layer.attention(features, edges, layer.harmonics(edges), layer.basis(edges.lengths))
        if number < 2:
            assert layer.nonlinearity is not None
            expected = layer.nonlinearity(expected)
        assert (layer(features, edges) - expected).abs().max() < 1e-14
