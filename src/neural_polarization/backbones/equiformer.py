"""Equiformer: transformer blocks of irreps with attention by a perceptron and nonlinear messages (needs e3nn)."""

import itertools
import math

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.irreps import IrrepsBackbone
from neural_polarization.geometry import Edges
from neural_polarization.layers import GaussianBasis, sum_by_index
from neural_polarization.layers.irreps import (
    NEIGHBOURS,
    SCALAR,
    ChannelwiseProduct,
    Harmonics,
    irreps_of_layers,
    make_irreps,
)
from neural_polarization.layers.softmax import AttentionHeads, edge_softmax

_RADIAL_WIDTH = 64
_HIDDEN = 3  # width of the feed-forward networks in units of the width of the features
_SLOPE = 0.2  # slope of the leaky ReLU for negative numbers


class EquivariantLayerNorm(nn.Module):
    """Layer norm of scalars; division by the root mean square of every higher degree (Liao & Smidt 2023, sec. 4.1).

        V <- w V / sqrt(epsilon^2 + mean over channels and components of V^2)

    Args:
        irreps: Irreps of the features, scalars first.
        epsilon: Size below which vectors fade instead of being scaled up, so that vectors that symmetry makes zero
            stay zero.
    """

    def __init__(self, irreps: o3.Irreps, epsilon: float = 0.1) -> None:
        super().__init__()
        self.of_scalars = nn.LayerNorm(irreps.count(SCALAR))
        self.blocks = [(channels, irrep.dim) for channels, irrep in irreps]
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(sum(channels for channels, _ in self.blocks[1:])))

    def forward(self, features: Float[Tensor, "points irreps"]) -> Float[Tensor, "points irreps"]:
        """Features of the same irreps."""
        scalars, *others = features.split([channels * size for channels, size in self.blocks], -1)
        weights = self.weight.split([channels for channels, _ in self.blocks[1:]])
        parts = [self.of_scalars(scalars)]
        for values, weight, block in zip(others, weights, self.blocks[1:], strict=True):
            scaled = values * torch.rsqrt(self.epsilon**2 + values.square().mean(-1, keepdim=True))
            parts.append((scaled.unflatten(-1, block) * weight.unsqueeze(-1)).flatten(1))
        return torch.cat(parts, -1)


class SmoothLeakyReLU(nn.Module):
    """a x + (1 - a) x sigmoid(x), a leaky ReLU without its corner."""

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Applies it to every element."""
        return _SLOPE * x + (1.0 - _SLOPE) * nn.functional.silu(x)


def _radial(num_basis: int, num_weights: int) -> nn.Sequential:
    """Perceptron of the radial functions, with layer norm as in the original."""
    width = _RADIAL_WIDTH
    hidden = [[nn.Linear(before, width), nn.LayerNorm(width), nn.SiLU()] for before in (num_basis, width)]
    return nn.Sequential(*itertools.chain(*hidden), nn.Linear(width, num_weights))


class Linear(nn.Module):
    """Linear map of the channels of every irrep, with a bias for the scalars.

    It is built at once, while e3nn's linear map generates and compiles code.

    Args:
        irreps_in: Irreps of the features, one block for every irrep.
        irreps_out: Irreps of the result, scalars first; each of them is among `irreps_in`.
        bias: Whether the scalars have a bias.
    """

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, bias: bool = True) -> None:
        super().__init__()
        self.blocks = [(channels, irrep.dim) for channels, irrep in irreps_in]
        kinds = [irrep for _, irrep in irreps_in]
        self.sources = [kinds.index(irrep) for _, irrep in irreps_out]
        shapes = [(self.blocks[source][0], out) for source, (out, _) in zip(self.sources, irreps_out, strict=True)]
        self.weights = nn.ParameterList(torch.randn(before, after) / math.sqrt(before) for before, after in shapes)
        self.bias = nn.Parameter(torch.zeros(irreps_out.count(SCALAR))) if bias else None

    def forward(self, features: Float[Tensor, "items irreps_in"]) -> Float[Tensor, "items irreps_out"]:
        """The mixed features."""
        columns = features.split([channels * size for channels, size in self.blocks], -1)
        parts = [
            torch.einsum("nci,cd->ndi", columns[source].unflatten(-1, self.blocks[source]), weight).flatten(1)
            for source, weight in zip(self.sources, self.weights, strict=True)
        ]
        if self.bias is not None:
            parts[0] = parts[0] + self.bias
        return torch.cat(parts, -1)


class Gate(nn.Module):
    """SiLU of the scalars; every other channel is multiplied by the sigmoid of one additional scalar.

    Args:
        irreps: Irreps of the result, scalars first.

    Attributes:
        irreps_in: Irreps of the input, which include the additional scalars.
    """

    channel_of: Tensor

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        scalars, others = irreps.count(SCALAR), make_irreps(irreps[1:])
        self.irreps_in = make_irreps([(scalars + others.num_irreps, SCALAR), *others])
        self.widths = [scalars, others.num_irreps, others.dim]
        sizes = torch.tensor([irrep.dim for channels, irrep in others for _ in range(channels)])
        self.register_buffer("channel_of", torch.repeat_interleave(sizes), persistent=False)

    def forward(self, features: Float[Tensor, "items irreps_in"]) -> Float[Tensor, "items irreps"]:
        """The gated features."""
        scalars, gates, others = features.split(self.widths, -1)
        return torch.cat([nn.functional.silu(scalars), others * torch.sigmoid(gates)[:, self.channel_of]], -1)


class EdgeDegreeEmbedding(nn.Module):
    """Embedding of where a point's neighbours are, whatever their species (Liao & Smidt 2023, sec. 4.3).

    Linear(sum_j DTP(1, Y_ij; r_ij)) / sqrt(N). The depthwise product DTP of ones with the harmonics is one radial
    function per channel and degree.
    """

    def __init__(self, irreps: o3.Irreps, num_basis: int) -> None:
        super().__init__()
        self.blocks = [(channels, irrep.dim) for channels, irrep in irreps]
        self.radial = _radial(num_basis, irreps.num_irreps)
        self.linear = Linear(irreps, irreps, bias=False)

    def forward(
        self,
        edges: Edges,
        harmonics: Float[Tensor, "edges harmonics"],
        radial: Float[Tensor, "edges basis"],
        num_points: int,
    ) -> Float[Tensor, "points irreps"]:
        """Features of all degrees."""
        weights = self.radial(radial) * edges.envelope.unsqueeze(-1)
        columns = weights.split([channels for channels, _ in self.blocks], -1)
        degrees = harmonics.split([size for _, size in self.blocks], -1)
        products = [
            (column.unsqueeze(-1) * degree.unsqueeze(-2)).flatten(1)
            for column, degree in zip(columns, degrees, strict=True)
        ]
        arrived = sum_by_index(torch.cat(products, -1), edges.receivers, num_points)
        return self.linear(arrived / math.sqrt(NEIGHBOURS))


class GraphAttention(nn.Module):
    """Equivariant graph attention (Liao & Smidt 2023, sec. 4.2).

        x_ij = Linear_dst(x_i) + Linear_src(x_j)
        f_ij = DTP(x_ij, Y_ij; r_ij)
        a_ij = softmax_j(a · LeakyReLU(Linear(f_ij)))       for every head
        v_ij = Linear(DTP(Gate(Linear(f_ij)), Y_ij))
        y_i  = Linear(sum_j a_ij v_ij)                      heads side by side

    DTP are depthwise tensor products with one weight per channel and path. The weights of the first product depend on
    the distance.

    Args:
        irreps_in: Irreps of the features.
        irreps_out: Irreps of the result.
        harmonics: Irreps of the spherical harmonics of edges.
        num_basis: Number of radial functions.
        num_heads: Number of heads.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, harmonics: o3.Irreps, num_basis: int, num_heads: int
    ) -> None:
        super().__init__()
        channels = irreps_in.count(SCALAR)
        self.from_sender = Linear(irreps_in, irreps_in)
        self.from_receiver = Linear(irreps_in, irreps_in, bias=False)
        self.product = ChannelwiseProduct(irreps_in, harmonics, irreps_in)
        self.radial = _radial(num_basis, self.product.num_weights)
        alpha = make_irreps([(channels, SCALAR)])
        self.to_alpha = Linear(self.product.irreps_out, alpha)
        self.alpha_heads = AttentionHeads([(channels, 1)], num_heads)
        self.activation = SmoothLeakyReLU()
        self.alpha = nn.Parameter(torch.empty(num_heads, channels // num_heads))
        nn.init.xavier_uniform_(self.alpha)
        self.gate = Gate(irreps_in)
        self.to_gate = Linear(self.product.irreps_out, self.gate.irreps_in)
        self.value_product = ChannelwiseProduct(irreps_in, harmonics, irreps_out)
        self.value_weights = nn.Parameter(torch.randn(self.value_product.num_weights))
        self.to_value = Linear(self.value_product.irreps_out, irreps_out)
        self.value_heads = AttentionHeads([(channels, irrep.dim) for channels, irrep in irreps_out], num_heads)
        self.project = Linear(irreps_out, irreps_out)

    def forward(
        self,
        features: Float[Tensor, "points irreps_in"],
        edges: Edges,
        harmonics: Float[Tensor, "edges harmonics"],
        radial: Float[Tensor, "edges basis"],
    ) -> Float[Tensor, "points irreps_out"]:
        """Features from the neighbours of every point."""
        mixed = self.from_sender(features)[edges.senders] + self.from_receiver(features)[edges.receivers]
        products = self.product(mixed, harmonics, self.radial(radial))
        hidden = self.activation(self.alpha_heads.split(self.to_alpha(products)))
        logits = (hidden * self.alpha).sum(-1)
        alpha = edge_softmax(logits, edges.envelope, edges.receivers, features.shape[0])
        messages = self.gate(self.to_gate(products))
        weights = self.value_weights.expand(messages.shape[0], -1)
        values = self.value_heads.split(self.to_value(self.value_product(messages, harmonics, weights)))
        arrived = sum_by_index(alpha.unsqueeze(-1) * values, edges.receivers, features.shape[0])
        return self.project(self.value_heads.join(arrived))


class FeedForward(nn.Module):
    """Feed-forward network of each point: linear, gate, linear (Liao & Smidt 2023, sec. 4.3)."""

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        hidden = make_irreps((_HIDDEN * channels, irrep) for channels, irrep in irreps)
        self.gate = Gate(hidden)
        self.first = Linear(irreps, self.gate.irreps_in)
        self.second = Linear(hidden, irreps)

    def forward(self, features: Float[Tensor, "points irreps"]) -> Float[Tensor, "points irreps"]:
        """Features of the same irreps."""
        return self.second(self.gate(self.first(features)))


class EquiformerLayer(nn.Module):
    """Transformer block with norms before attention and feed-forward network.

        x <- x + GraphAttention(LayerNorm(x))
        x <- x + FeedForward(LayerNorm(x))

    The first layer begins with the embedding of edge degrees. The last layer ends with a layer norm of the scalars.

    Args:
        irreps: Irreps of the features.
        irreps_out: Irreps of the result: the first ones of `irreps`.
        harmonics: Spherical harmonics of the directions of edges.
        basis: Radial functions.
        num_basis: Number of radial functions.
        num_heads: Number of heads.
        first: Whether the features come from the embedding and are scalars only.
        last: Whether the layer ends with the layer norm.
    """

    def __init__(
        self,
        irreps: o3.Irreps,
        irreps_out: o3.Irreps,
        harmonics: Harmonics,
        basis: GaussianBasis,
        num_basis: int,
        num_heads: int,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.irreps = irreps
        self.irreps_out = irreps_out
        self.harmonics = harmonics
        self.basis = basis
        self.edge_degree = EdgeDegreeEmbedding(irreps, num_basis) if first else None
        self.norm = EquivariantLayerNorm(irreps)
        self.attention = GraphAttention(irreps, irreps_out, harmonics.irreps, num_basis, num_heads)
        self.feed_norm = EquivariantLayerNorm(irreps_out)
        self.feed = FeedForward(irreps_out)
        self.last_norm = nn.LayerNorm(irreps_out.count(SCALAR)) if last else None

    def forward(self, features: Float[Tensor, "points irreps_in"], edges: Edges) -> Float[Tensor, "points irreps_out"]:
        """Features after the block."""
        harmonics, radial = self.harmonics(edges), self.basis(edges.lengths)
        if self.edge_degree is not None:
            scalars = features[:, : self.irreps.count(SCALAR)]
            padding = scalars.new_zeros(scalars.shape[0], self.irreps.dim - scalars.shape[1])
            neighbourhood = self.edge_degree(edges, harmonics, radial, features.shape[0])
            features = torch.cat([scalars, padding], -1) + neighbourhood
        kept = features[:, : self.irreps_out.dim]
        features = kept + self.attention(self.norm(features), edges, harmonics, radial)
        features = features + self.feed(self.feed_norm(features))
        if self.last_norm is None:
            return features
        # The original has only scalars here. A norm of the vectors would hide their length.
        width = self.irreps.count(SCALAR)
        return torch.cat([self.last_norm(features[:, :width]), features[:, width:]], -1)


class Equiformer(IrrepsBackbone):
    """Equiformer.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree.
        num_layers: Number of transformer blocks.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        lmax: Highest degree, at least 1. The last layer makes scalars and vectors only.
        num_heads: Number of heads; divides `channels`.

    References:
        Y.-L. Liao, T. Smidt, "Equiformer: equivariant graph attention transformer for 3D atomistic graphs", ICLR 2023,
        arXiv:2206.11990; sizes as for QM9, where higher degrees have fewer channels (128, 64, 32) and the last layer
        has 512 scalars. Deviations: the softmax has the envelope and a constant, so that energies are continuous when
        a neighbour leaves; the leaky ReLU is smooth, as in the authors' code; vectors close to zero are not
        normalized; the widths of the Gaussians are not learned; there is no dropout. Features have the parity (-1)^l
        only.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 128,
        num_layers: int = 6,
        cutoff: float = 5.0,
        num_basis: int = 128,
        lmax: int = 2,
        num_heads: int = 4,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        basis, harmonics = GaussianBasis(num_basis, cutoff), Harmonics(lmax)
        irreps = make_irreps((channels, irrep) for _, irrep in harmonics.irreps)
        after = irreps_of_layers(channels, 1, 1)[-1]
        self.layers = nn.ModuleList(
            EquiformerLayer(
                irreps,
                after if layer == num_layers - 1 else irreps,
                harmonics,
                basis,
                num_basis,
                num_heads,
                first=layer == 0,
                last=layer == num_layers - 1,
            )
            for layer in range(num_layers)
        )
