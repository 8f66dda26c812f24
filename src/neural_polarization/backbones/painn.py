"""PaiNN: scalars and vectors, coupled by gated messages and a gated update."""

import torch
from torch import nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import ScalarsVectors
from neural_polarization.geometry import FEATURE_EPSILON, Edges, safe_norm
from neural_polarization.layers import BesselBasis, mlp


class PaiNNMessage(nn.Module):
    """Messages of scalars and vectors (Schütt et al. 2021, eqs. 7 and 8)."""

    def __init__(self, channels: int, basis: BesselBasis, num_basis: int) -> None:
        super().__init__()
        self.channels = channels
        self.basis = basis
        self.context = mlp([channels, channels, 3 * channels])
        self.filter = nn.Linear(num_basis, 3 * channels)

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        scalars, vectors = features.scalars, features.vectors
        assert vectors is not None
        if not edges.senders.shape[0] and not edges.lengths.requires_grad:
            return features  # without edges there are no messages, and no gradients of them
        # Arrays over edges make up most of the cost of this layer. So the envelope and the bias are folded into the
        # radial basis, and the product of context and vectors is taken on points before it is sent. The matrix
        # products, forward and backward, are fastest with one radial function per row.
        radial = torch.cat([self.basis.rows(edges.lengths, edges.envelope), edges.envelope.unsqueeze(0)])
        filters = radial.t() @ torch.cat([self.filter.weight.t(), self.filter.bias.unsqueeze(0)])
        of_scalars, along_edge, of_vectors = filters.split(self.channels, -1)
        to_scalars, to_edge, to_vectors = self.context(scalars).split(self.channels, -1)
        # The products make the summed arrays contiguous: index_add is many times slower on a part of an array.
        for_scalars = to_scalars.index_select(0, edges.senders) * of_scalars
        along_edge = to_edge.index_select(0, edges.senders) * along_edge
        sent = (to_vectors.unsqueeze(1) * vectors).index_select(0, edges.senders)
        directions = edges.vectors / edges.lengths.unsqueeze(-1)
        for_vectors = torch.addcmul(of_vectors.unsqueeze(1) * sent, along_edge.unsqueeze(1), directions.unsqueeze(-1))
        return PointFeatures(
            # The casts matter only in mixed precision, where messages have a shorter type than features.
            scalars.index_add(0, edges.receivers, for_scalars.to(scalars.dtype)),
            vectors.index_add(0, edges.receivers, for_vectors.to(vectors.dtype)),
        )


class PaiNNUpdate(nn.Module):
    """Update within a point (Schütt et al. 2021, eqs. 9 and 10)."""

    def __init__(self, channels: int, norm_epsilon: float) -> None:
        super().__init__()
        self.norm_epsilon = norm_epsilon
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.context = mlp([2 * channels, channels, 3 * channels])

    def forward(self, features: PointFeatures) -> PointFeatures:
        """Features after the update."""
        scalars, vectors = features.scalars, features.vectors
        assert vectors is not None
        v, w = self.mix(vectors).chunk(2, -1)
        context = self.context(torch.cat([scalars, safe_norm(v, self.norm_epsilon, dim=1)], -1))
        to_scalars, to_vectors, gate = context.chunk(3, -1)
        return PointFeatures(
            scalars + to_scalars + gate * (v * w).sum(1),
            vectors + to_vectors.unsqueeze(1) * w,
        )


class PaiNNLayer(nn.Module):
    """One interaction: a message followed by an update."""

    def __init__(self, channels: int, basis: BesselBasis, num_basis: int, norm_epsilon: float) -> None:
        super().__init__()
        self.message = PaiNNMessage(channels, basis, num_basis)
        self.update = PaiNNUpdate(channels, norm_epsilon)

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after message and update."""
        return self.update(self.message(features, edges))


class PaiNN(ScalarsVectors):
    """Polarizable atom interaction neural network.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar and of vector channels.
        num_layers: Number of interactions.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        norm_epsilon: Norm below which norms of vectors turn smooth; larger for a model with a response to fields.

    References:
        K. T. Schütt, O. T. Unke, M. Gastegger, "Equivariant message passing for the prediction of tensorial
        properties and molecular spectra", ICML 2021, arXiv:2102.03150.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 128,
        num_layers: int = 3,
        cutoff: float = 5.0,
        num_basis: int = 20,
        norm_epsilon: float = FEATURE_EPSILON,
    ) -> None:
        super().__init__(num_species, channels, vector_channels=channels, cutoff=cutoff)
        basis = BesselBasis(num_basis, cutoff)
        self.layers = nn.ModuleList(PaiNNLayer(channels, basis, num_basis, norm_epsilon) for _ in range(num_layers))
