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

_RADIAL_WIDTH = 32  # width of the radial perceptrons, as in the original


class Kernel(nn.Module):
    """Equivariant linear map of the sender's features, sum_k W^{lk}(x_j - x_i) f_j^k (Fuchs et al. 2020, eq. 8).

    Args:
        irreps_in: Irreps of the features.
        harmonics: Irreps of the spherical harmonics of edges.
        irreps_out: Irreps of the result.
        num_basis: Number of radial functions.
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
        """The mapped features of the sender of every edge."""
        return self.linear(self.product(sent, harmonics, self.radial(radial)))


class SE3Attention(nn.Module):
    """Attention over the neighbours of a point (Fuchs et al. 2020, eqs. 10 and 11).

        q_i      = W_Q f_i
        k_ij     = W_K(x_j - x_i) f_j
        alpha_ij = softmax_j(q_i · k_ij / sqrt(width))
        f_i     <- W f_i + W' sum_j alpha_ij W_V(x_j - x_i) f_j

    for every head. The channels of all heads are joined before W'.
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
    """Layer norm and nonlinearity of norms, as in the authors' code, but smooth at a norm of zero.

        s <- SiLU(LayerNorm(s))
        u  = V / sqrt(epsilon^2 + mean over channels of |V|^2),    V <- SiLU(w |u| + b) u

    The first line is for scalars, the second for the other channels, degree by degree.

    Args:
        irreps: Irreps of the features, scalars first.
        epsilon: Size below which vectors fade instead of being scaled up, so that vectors that symmetry makes zero
            stay zero.
        norm_epsilon: Norm below which the norms in gates turn smooth.
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
    """Attention, followed by the nonlinearity except in the last layer, as in the original."""

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
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree.
        num_layers: Number of rounds of attention.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        lmax: Highest degree, at least 1. The last layer makes scalars and vectors only.
        num_heads: Number of heads; divides `channels`.
        norm_epsilon: Norm below which norms of vectors turn smooth; larger for a model with a response to fields.

    References:
        F. B. Fuchs, D. E. Worrall, V. Fischer, M. Welling, "SE(3)-Transformers: 3D roto-translation equivariant
        attention networks", NeurIPS 2020, arXiv:2006.10503; sizes as for QM9. Deviations for smoothness: the softmax
        has the envelope and a constant, so that energies are continuous when a neighbour leaves; the norm nonlinearity
        is not singular at zero; SiLU replaces ReLU. Deviations for speed: kernels have one radial function per channel
        and path, and mix channels afterwards; harmonics have degrees up to `lmax`, not up to twice as much. Other
        deviations: keys and values have all of the channels, while the original has half of them; the distance is
        expanded in radial functions, without layer norm after them; features have the parity (-1)^l, so that
        reflections are symmetries too; there are no bond types.
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
