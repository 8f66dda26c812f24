"""Tensor field network: the contract, and its convolution and nonlinearity against the paper's equations in loops."""

import math

import torch
from e3nn import o3

from neural_polarization.backbones.tfn import TFN, NormNonlinearity, TFNLayer
from neural_polarization.geometry import FEATURE_EPSILON, Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.testing import BackboneContract


class TestTFN(BackboneContract):
    def make_backbone(self, num_species: int) -> TFN:
        return TFN(num_species, channels=4, num_layers=2, cutoff=4.0, num_basis=6, lmax=2)


def _edges(points: int, cutoff: float) -> Edges:
    positions = torch.randn(points, 3, dtype=torch.float64)
    senders, receivers = (~torch.eye(points, dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, cutoff))


def test_convolution_is_the_papers_sum() -> None:
    """Every path l_in, l_filter -> l_out in a plain loop over edges and channels."""
    network = TFN(3, channels=2, num_layers=3, cutoff=6.0, num_basis=5, lmax=2).double()
    layer = network.layers[1]
    assert isinstance(layer, TFNLayer)
    edges = _edges(4, 6.0)
    irreps = layer.irreps_in
    features = torch.randn(4, irreps.dim, dtype=torch.float64)
    convolution = layer.convolution
    harmonics, radial = layer.harmonics(edges), layer.basis(edges.lengths)
    got = convolution(features, edges, harmonics, radial)

    product = convolution.product.product.module
    assert isinstance(product, o3.TensorProduct)
    weights = convolution.weights(radial) * edges.envelope.unsqueeze(-1)
    arrived = torch.zeros(4, product.irreps_out.dim, dtype=torch.float64)
    offset = 0
    for path in product.instructions:
        channels, irrep = irreps[path.i_in1]
        filter_irrep, out = product.irreps_in2[path.i_in2].ir, product.irreps_out[path.i_out].ir
        coefficients = o3.wigner_3j(irrep.l, filter_irrep.l, out.l, dtype=torch.float64) * math.sqrt(out.dim)
        paths_to_out = sum(other.i_out == path.i_out for other in product.instructions)
        for channel in range(channels):
            start_in = irreps.slices()[path.i_in1].start + channel * irrep.dim
            start_out = product.irreps_out.slices()[path.i_out].start + channel * out.dim
            for edge in range(len(edges.senders)):
                sender, receiver = int(edges.senders[edge]), int(edges.receivers[edge])
                value = features[sender, start_in : start_in + irrep.dim]
                y = harmonics[edge, product.irreps_in2.slices()[path.i_in2]]
                term = torch.einsum("abc,a,b->c", coefficients, value, y) * weights[edge, offset + channel]
                arrived[receiver, start_out : start_out + out.dim] += term / math.sqrt(paths_to_out)
        offset += channels
    expected = convolution.linear(arrived / math.sqrt(NEIGHBOURS))
    assert (got - expected).abs().max() < 1e-12 * expected.abs().max()
    assert offset == product.weight_numel


@torch.no_grad()
def test_nonlinearity_is_the_papers() -> None:
    """eta(s + b) of scalars, eta(|V| + b) V of vectors and higher degrees, with eta the shifted softplus."""
    irreps = o3.Irreps("2x0e + 3x1o + 2x2e")
    nonlinearity = NormNonlinearity(irreps, FEATURE_EPSILON).double()
    nonlinearity.bias.normal_()
    features = torch.randn(4, irreps.dim, dtype=torch.float64)
    bias, got = nonlinearity.bias.tolist(), nonlinearity(features)

    def eta(x: float) -> float:
        return math.log(0.5 * math.exp(x) + 0.5)

    for point, values in enumerate(features):
        expected = [torch.tensor([eta(float(values[k]) + bias[k])], dtype=torch.float64) for k in range(2)]
        channels = [*values[2:11].split(3), *values[11:].split(5)]
        expected += [eta(float(value.norm()) + b) * value for value, b in zip(channels, bias[2:], strict=True)]
        assert (got[point] - torch.cat(expected)).abs().max() < 1e-7


@torch.no_grad()
def test_small_vectors_pass_the_nonlinearity_unchanged_at_the_start() -> None:
    nonlinearity = NormNonlinearity(o3.Irreps("2x0e + 3x1o"), FEATURE_EPSILON).double()
    features = 1e-3 * torch.randn(4, 11, dtype=torch.float64)
    got = nonlinearity(features)
    assert torch.allclose(got[:, 2:], features[:, 2:], rtol=1e-2)
    assert torch.allclose(got[:, :2], features[:, :2] / 2.0, rtol=1e-2)


@torch.no_grad()
def test_a_point_mixes_its_channels_before_and_beside_the_convolution() -> None:
    layer = TFN(3, channels=2, num_layers=3, cutoff=6.0, num_basis=5, lmax=2).double().layers[1]
    assert isinstance(layer, TFNLayer)
    edges = _edges(4, 6.0)
    features = torch.randn(4, layer.irreps_in.dim, dtype=torch.float64)
    mixed = layer.before(features)
    arrived = layer.convolution(mixed, edges, layer.harmonics(edges), layer.basis(edges.lengths))
    expected = layer.nonlinearity(layer.own(features) + arrived)
    assert (layer(features, edges) - expected).abs().max() < 1e-13
    assert (mixed - features).abs().max() > 0.1
