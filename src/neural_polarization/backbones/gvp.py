"""GVP-GNN: geometric vector perceptrons compute messages of scalars and vectors, and the update of each point."""

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
        scalars_in: Number of scalar channels before the layer.
        vectors_in: Number of vector channels before the layer.
        scalars_out: Number of scalar channels after the layer.
        vectors_out: Number of vector channels after the layer.
        activate: Whether the activation is applied to the scalars; the last perceptron of a sequence has none.
        norm_epsilon: Norm of a vector channel below which the norm turns smooth.
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
        # Orthogonal weights keep the length of vectors. Torch's default shortens them, and the norm would not undo it.
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

    where e_ij is a perceptron of the direction and of Gaussians of the distance. The message contains the features h_i
    of the receiver, as in the authors' code. Before the first layer points have no vectors.
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
        """Mean of the messages from every point's neighbours, weighted by their envelopes."""
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

    The defaults are the sizes that the authors use for the atoms of small molecules and macromolecules (ATOM3D).

    Deviations that make the network smooth: It has SiLU instead of ReLU. The mean over neighbours is weighted by their
    envelopes and counts one neighbour more, because a plain mean jumps when a neighbour comes or goes. Vectors are
    divided by sqrt(1 + mean |V|^2) instead of the root mean square, which would scale rounding errors at sites of high
    symmetry up to vectors of length one; the weights of vectors start orthogonal to make up for that. Other
    deviations: There is no dropout and no layer norm of the Gaussians. Every layer has its own perceptron for the
    edges, because every layer may see another geometry. Readout belongs to heads.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar channels.
        num_layers: Number of layers.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of Gaussians.
        vector_channels: Number of vector channels.
        norm_epsilon: Norm below which norms of vectors turn smooth; larger for a model with a response to fields.

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
