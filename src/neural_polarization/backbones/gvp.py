"""GVP-GNN: geometric vector perceptrons make messages of scalars and vectors, and digest them."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import ScalarsVectors
from neural_polarization.geometry import FEATURE_EPSILON, Edges, safe_norm
from neural_polarization.layers import GaussianBasis, sum_by_index

_EDGE_CHANNELS = 32


class GeometricVectorPerceptron(nn.Module):
    """A dense layer of scalars and vectors (Jing et al. 2021a, algorithm 1; gated as in Jing et al. 2021b).

        V_h  = W_h V
        s_m  = W_m [s, |V_h|] + b
        s'   = SiLU(s_m)
        V'   = sigmoid(W_g s_m + b_g) * W_mu V_h

    Args:
        scalars_in: number of scalar channels before.
        vectors_in: number of vector channels before.
        scalars_out: number of scalar channels after.
        vectors_out: number of vector channels after.
        activate: whether the scalars end with the activation; the last perceptron of a row does without.
        norm_epsilon: smallest norm of a vector channel.
    """

    def __init__(
        self,
        scalars_in: int,
        vectors_in: int,
        scalars_out: int,
        vectors_out: int,
        activate: bool = True,
        norm_epsilon: float = FEATURE_EPSILON,
    ) -> None:
        super().__init__()
        hidden = max(vectors_in, vectors_out)
        self.activate = activate
        self.norm_epsilon = norm_epsilon
        self.hidden = nn.Linear(vectors_in, hidden, bias=False)
        self.of_scalars = nn.Linear(scalars_in + hidden, scalars_out)
        self.of_vectors = nn.Linear(hidden, vectors_out, bias=False)
        self.gate = nn.Linear(scalars_out, vectors_out)
        # Vectors keep their length on the way, as the norm does not stretch them; torch's default shortens them.
        for mix in (self.hidden, self.of_vectors):
            nn.init.orthogonal_(mix.weight, max(1.0, mix.out_features / mix.in_features) ** 0.5)

    def forward(self, features: PointFeatures) -> PointFeatures:
        """Scalars and vectors, of points or of edges."""
        assert features.vectors is not None
        hidden = self.hidden(features.vectors)
        scalars = self.of_scalars(torch.cat([features.scalars, safe_norm(hidden, self.norm_epsilon, dim=1)], -1))
        vectors = self.of_vectors(hidden) * torch.sigmoid(self.gate(scalars)).unsqueeze(1)
        return PointFeatures(F.silu(scalars) if self.activate else scalars, vectors)


class VectorLayerNorm(nn.Module):
    """Layer norm of scalars, and V / sqrt(1 + mean over channels of |V|^2) for vectors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_scalars = nn.LayerNorm(channels)

    def forward(self, features: PointFeatures) -> PointFeatures:
        """Normalized scalars and vectors."""
        assert features.vectors is not None
        square = features.vectors.square().sum(1, keepdim=True).mean(-1, keepdim=True)
        return PointFeatures(self.of_scalars(features.scalars), features.vectors * torch.rsqrt(1.0 + square))


class GVPLayer(nn.Module):
    """Messages, then a feed-forward network within each point (graph propagation of Jing et al. 2021a).

        m_ij = g([h_j, h_i, e_ij]),   three perceptrons
        h_i  <- norm(h_i + sum_j envelope_ij m_ij / (1 + sum_j envelope_ij))
        h_i  <- norm(h_i + f(h_i)),   two perceptrons

    with e_ij a perceptron of Gaussians of the distance and of the direction; the receiver's features h_i are in the
    message as in the authors' code. In the first layer points have no vectors to send yet.
    """

    def __init__(
        self,
        channels: int,
        vector_channels: int,
        basis: GaussianBasis,
        num_basis: int,
        first: bool,
        norm_epsilon: float,
    ) -> None:
        super().__init__()
        self.basis = basis
        self.first = first
        known = 0 if first else 2 * vector_channels
        perceptron = partial(GeometricVectorPerceptron, norm_epsilon=norm_epsilon)
        self.edge = perceptron(num_basis, 1, _EDGE_CHANNELS, 1, activate=False)
        self.message = nn.Sequential(
            perceptron(2 * channels + _EDGE_CHANNELS, known + 1, channels, vector_channels),
            perceptron(channels, vector_channels, channels, vector_channels),
            perceptron(channels, vector_channels, channels, vector_channels, activate=False),
        )
        self.norm = VectorLayerNorm(channels)
        self.feed_forward = nn.Sequential(
            perceptron(channels, vector_channels, 4 * channels, 2 * vector_channels),
            perceptron(4 * channels, 2 * vector_channels, channels, vector_channels, activate=False),
        )
        self.last_norm = VectorLayerNorm(channels)

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after messages and feed-forward network."""
        features = self.norm(_sum(features, self._arriving(features, edges)))
        return self.last_norm(_sum(features, self.feed_forward(features)))

    def _arriving(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Mean of the messages of every point's neighbours, each counted by its envelope."""
        assert features.vectors is not None
        senders, receivers, points = edges.senders, edges.receivers, features.scalars.shape[0]
        directions = (edges.vectors / edges.lengths.unsqueeze(-1)).unsqueeze(-1)
        edge: PointFeatures = self.edge(PointFeatures(self.basis(edges.lengths), directions))
        assert edge.vectors is not None
        scalars = torch.cat([features.scalars[senders], features.scalars[receivers], edge.scalars], -1)
        vectors = edge.vectors
        if not self.first:
            vectors = torch.cat([features.vectors[senders], features.vectors[receivers], vectors], -1)
        messages: PointFeatures = self.message(PointFeatures(scalars, vectors))
        assert messages.vectors is not None
        envelope = edges.envelope.unsqueeze(-1)
        weights = envelope / (1.0 + sum_by_index(envelope, receivers, points))[receivers]
        return PointFeatures(
            sum_by_index(messages.scalars * weights, receivers, points),
            sum_by_index(messages.vectors * weights.unsqueeze(-1), receivers, points),
        )


class GVP(ScalarsVectors):
    """Graph neural network of geometric vector perceptrons, with gated vectors.

    The defaults are the sizes that the authors use for atoms of small molecules and macromolecules (ATOM3D).

    Deviations, which make the network smooth: SiLU instead of ReLU; the mean over neighbours weighs them by their
    envelope and counts one more, since a plain mean jumps where a neighbour comes or goes; vectors are divided by
    sqrt(1 + mean |V|^2) instead of the root mean square, which turns rounding errors at sites of high symmetry into
    vectors of length one. The weights of vectors start orthogonal to make up for that. There is no dropout and no
    layer norm of the distances' Gaussians, and every layer has its own perceptron for the edges, since every layer
    may see another geometry. Readout belongs to heads.

    Args:
        num_species: number of species in the embedding.
        channels: number of scalar channels.
        num_layers: number of layers.
        cutoff: Angstrom.
        num_basis: number of Gaussians.
        vector_channels: number of vector channels.
        norm_epsilon: norm below which norms of vectors turn smooth; larger where a field is seen.

    References:
        B. Jing, S. Eismann, P. Suriana, R. J. L. Townshend, R. Dror, "Learning from protein structure with geometric
        vector perceptrons", ICLR 2021 (2021a), arXiv:2009.01411; B. Jing, S. Eismann, P. N. Soni, R. O. Dror,
        "Equivariant graph neural networks for 3D macromolecular structure", 2021 (2021b), arXiv:2106.03843.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 100,
        num_layers: int = 5,
        cutoff: float = 4.5,
        num_basis: int = 16,
        vector_channels: int = 16,
        norm_epsilon: float = FEATURE_EPSILON,
    ) -> None:
        super().__init__(num_species, channels, vector_channels=vector_channels, cutoff=cutoff)
        basis = GaussianBasis(num_basis, cutoff)
        self.layers = nn.ModuleList(
            GVPLayer(channels, vector_channels, basis, num_basis, k == 0, norm_epsilon) for k in range(num_layers)
        )


def _sum(first: PointFeatures, second: PointFeatures) -> PointFeatures:
    assert first.vectors is not None and second.vectors is not None
    return PointFeatures(first.scalars + second.scalars, first.vectors + second.vectors)
