"""SE(3)-Transformer: attention whose keys and values are kernels of a tensor field network (needs e3nn)."""

import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.irreps import IrrepsBackbone
from neural_polarization.geometry import FEATURE_EPSILON, Edges
from neural_polarization.layers import GaussianBasis, mlp, sum_by_index
from neural_polarization.layers.irreps import (
    SCALAR,
    ChannelwiseProduct,
    Harmonics,
    IrrepsNorm,
    irreps_of_layers,
    make_irreps,
)
from neural_polarization.layers.softmax import AttentionHeads, edge_softmax

_RADIAL_WIDTH = 32  # of the original's radial perceptrons


class Kernel(nn.Module):
    """Equivariant linear map of the sender's features, sum_k W^{lk}(x_j - x_i) f_j^k (Fuchs et al. 2020, eq. 8).

    Args:
        irreps_in: of the features.
        harmonics: of the edges.
        irreps_out: of the result.
        num_basis: number of radial functions.
    """

    def __init__(self, irreps_in: o3.Irreps, harmonics: o3.Irreps, irreps_out: o3.Irreps, num_basis: int) -> None:
        super().__init__()
        self.product = ChannelwiseProduct(irreps_in, harmonics, irreps_out)
        self.radial = mlp([num_basis, _RADIAL_WIDTH, _RADIAL_WIDTH, self.product.num_weights])
        self.linear = o3.Linear(self.product.irreps_out, irreps_out)

    def forward(
        self,
        sent: Float[Tensor, "edges irreps_in"],
        harmonics: Float[Tensor, "edges harmonics"],
        radial: Float[Tensor, "edges basis"],
    ) -> Float[Tensor, "edges irreps_out"]:
        """What the receiver sees of every edge's sender."""
        return self.linear(self.product(sent, harmonics, self.radial(radial)))


class SE3Attention(nn.Module):
    """Attention of a point to its neighbours (Fuchs et al. 2020, eqs. 10 and 11).

        q_i      = W_Q f_i
        k_ij     = W_K(x_j - x_i) f_j
        alpha_ij = softmax_j(q_i · k_ij / sqrt(width))
        f_i     <- W f_i + W' sum_j alpha_ij W_V(x_j - x_i) f_j

    for every head, whose channels are joined before W'.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, harmonics: o3.Irreps, num_basis: int, num_heads: int
    ) -> None:
        super().__init__()
        self.query = o3.Linear(irreps_in, irreps_in)
        self.key = Kernel(irreps_in, harmonics, irreps_in, num_basis)
        self.value = Kernel(irreps_in, harmonics, irreps_out, num_basis)
        self.key_heads = AttentionHeads([(channels, irrep.dim) for channels, irrep in irreps_in], num_heads)
        self.value_heads = AttentionHeads([(channels, irrep.dim) for channels, irrep in irreps_out], num_heads)
        self.scale = math.sqrt(num_heads / irreps_in.dim)
        self.project = o3.Linear(irreps_out, irreps_out)
        self.own = o3.Linear(irreps_in, irreps_out)

    def forward(
        self,
        features: Float[Tensor, "points irreps_in"],
        edges: Edges,
        harmonics: Float[Tensor, "edges harmonics"],
        radial: Float[Tensor, "edges basis"],
    ) -> Float[Tensor, "points irreps_out"]:
        """Features after the messages."""
        sent = features[edges.senders]
        queries = self.key_heads.split(self.query(features))[edges.receivers]
        keys = self.key_heads.split(self.key(sent, harmonics, radial))
        logits = (queries * keys).sum(-1) * self.scale
        alpha = edge_softmax(logits, edges.envelope, edges.receivers, features.shape[0])
        values = self.value_heads.split(self.value(sent, harmonics, radial))
        arrived = sum_by_index(alpha.unsqueeze(-1) * values, edges.receivers, features.shape[0])
        return self.own(features) + self.project(self.value_heads.join(arrived))


class NormNonlinearity(nn.Module):
    """Layer norm and nonlinearity of norms, as in the authors' code but smooth where a norm is zero.

        s <- SiLU(LayerNorm(s))
        u  = V / sqrt(epsilon^2 + mean over channels of |V|^2),    V <- SiLU(w |u| + b) u

    for scalars, and for the other channels, degree by degree.

    Args:
        irreps: of the features, scalars first.
        epsilon: below it vectors fade rather than being blown up, so that those which symmetry makes zero stay it.
        norm_epsilon: value at zero of the norms that gates are made of.
    """

    channel_of: Tensor

    def __init__(self, irreps: o3.Irreps, epsilon: float = 0.1, norm_epsilon: float = FEATURE_EPSILON) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.num_scalars = irreps.count(SCALAR)
        self.layer_norm = nn.LayerNorm(self.num_scalars)
        others = make_irreps(irreps[1:])
        self.blocks = [(channels, irrep.dim) for channels, irrep in others]
        self.norm = IrrepsNorm(others, norm_epsilon)
        self.weight = nn.Parameter(torch.ones(others.num_irreps))
        self.bias = nn.Parameter(torch.ones(others.num_irreps))
        sizes = torch.tensor([irrep.dim for channels, irrep in others for _ in range(channels)])
        self.register_buffer("channel_of", torch.repeat_interleave(sizes), persistent=False)

    def forward(self, features: Float[Tensor, "points irreps"]) -> Float[Tensor, "points irreps"]:
        """Features of the same irreps."""
        scalars, others = features[:, : self.num_scalars], features[:, self.num_scalars :]
        parts = [
            part * torch.rsqrt(self.epsilon**2 + part.square().sum(-1, keepdim=True) / channels)
            for part, (channels, _) in zip(others.split([c * d for c, d in self.blocks], -1), self.blocks, strict=True)
        ]
        directions = torch.cat(parts, -1)
        gates = F.silu(self.norm(directions) * self.weight + self.bias)
        return torch.cat([F.silu(self.layer_norm(scalars)), directions * gates[:, self.channel_of]], -1)


class SE3TransformerLayer(nn.Module):
    """Attention, and the nonlinearity between layers; features end as attention makes them, as in the original."""

    def __init__(
        self,
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        harmonics: Harmonics,
        basis: GaussianBasis,
        num_basis: int,
        num_heads: int,
        last: bool,
        norm_epsilon: float,
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        self.harmonics = harmonics
        self.basis = basis
        self.attention = SE3Attention(irreps_in, irreps_out, harmonics.irreps, num_basis, num_heads)
        self.nonlinearity = None if last else NormNonlinearity(irreps_out, norm_epsilon=norm_epsilon)

    def forward(self, features: Float[Tensor, "points irreps_in"], edges: Edges) -> Float[Tensor, "points irreps_out"]:
        """Features after the messages."""
        features = features[:, : self.irreps_in.dim]
        features = self.attention(features, edges, self.harmonics(edges), self.basis(edges.lengths))
        return features if self.nonlinearity is None else self.nonlinearity(features)


class SE3Transformer(IrrepsBackbone):
    """SE(3)-Transformer.

    Args:
        num_species: number of species in the embedding.
        channels: number of channels of every degree.
        num_layers: number of rounds of attention.
        cutoff: Angstrom.
        num_basis: number of radial functions.
        lmax: highest degree, at least 1. The last layer makes scalars and vectors only.
        num_heads: number of heads; divides `channels`.
        norm_epsilon: norm below which norms of vectors turn smooth; larger where a field is seen.

    References:
        F. B. Fuchs, D. E. Worrall, V. Fischer, M. Welling, "SE(3)-Transformers: 3D roto-translation equivariant
        attention networks", NeurIPS 2020, arXiv:2006.10503; sizes as for QM9. Deviations, to be smooth: envelope and
        constant in the softmax, so that energies are continuous when a neighbour leaves; a norm nonlinearity that is
        not singular at zero; SiLU for ReLU. To be fast: kernels have one radial function per channel and path and mix
        channels afterwards; harmonics go up to `lmax`, not twice as far. Keys and values have all of the channels
        (half of them in the original), the distance is expanded in radial functions, without layer norm after them.
        Features keep the parity (-1)^l, so that reflections are symmetries too. There are no bond types.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 32,
        num_layers: int = 7,
        cutoff: float = 5.0,
        num_basis: int = 20,
        lmax: int = 3,
        num_heads: int = 8,
        norm_epsilon: float = FEATURE_EPSILON,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        basis, harmonics = GaussianBasis(num_basis, cutoff), Harmonics(lmax)
        irreps = irreps_of_layers(channels, lmax, num_layers)
        self.layers = nn.ModuleList(
            SE3TransformerLayer(
                before, after, harmonics, basis, num_basis, num_heads, layer == num_layers, norm_epsilon
            )
            for layer, (before, after) in enumerate(itertools.pairwise(irreps), start=1)
        )
