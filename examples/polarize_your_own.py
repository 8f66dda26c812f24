"""Polarize your own network: the protocol in forty lines, and the contract that tests them.

python -m pytest examples/polarize_your_own.py
"""

# --8<-- [start:network]
import torch
from torch import Tensor, nn

from neural_polarization.backbones import PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import BesselBasis, mlp
from neural_polarization.testing import BackboneContract


class Layer(nn.Module):
    """A function of the features and of the edges of this call: keep nothing about geometry between calls."""

    def __init__(self, channels: int, cutoff: float) -> None:
        super().__init__()
        self.radial = nn.Sequential(BesselBasis(8, cutoff), nn.Linear(8, 2 * channels))
        self.send = nn.Linear(channels, 2 * channels)
        self.update = mlp([2 * channels, channels, channels])

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after messages along the edges."""
        assert features.vectors is not None
        weights = self.radial(edges.lengths) * edges.envelope.unsqueeze(-1)  # the envelope makes energies smooth
        to_scalars, along_edge = (self.send(features.scalars)[edges.senders] * weights).chunk(2, -1)
        directions = (edges.vectors / edges.lengths.unsqueeze(-1)).unsqueeze(-1)
        scalars = features.scalars.index_add(0, edges.receivers, to_scalars)
        vectors = features.vectors.index_add(0, edges.receivers, directions * along_edge.unsqueeze(1))
        # Squares, not lengths, of vectors: they are smooth where a vector is zero.
        return PointFeatures(scalars + self.update(torch.cat([scalars, vectors.square().sum(1)], -1)), vectors)


class MyNetwork(nn.Module):
    """The attributes and methods that `NeuralPolarization` needs."""

    def __init__(self, num_species: int, channels: int = 64, num_layers: int = 3, cutoff: float = 5.0) -> None:
        super().__init__()
        self.num_species, self.cutoff = num_species, cutoff
        self.scalar_channels = self.vector_channels = channels
        self.embedding = nn.Embedding(num_species, channels)
        self.layers = nn.ModuleList(Layer(channels, cutoff) for _ in range(num_layers))

    def embed(self, species: Tensor) -> PointFeatures:
        """Scalars of each species; no vectors yet."""
        return PointFeatures(
            self.embedding(species), self.embedding.weight.new_zeros(len(species), 3, self.vector_channels)
        )

    def split(self, features: PointFeatures) -> PointFeatures:
        """The scalars and vectors among the features: here that is all of them."""
        return features

    def join(self, features: PointFeatures, split: PointFeatures) -> PointFeatures:
        """The same features with these scalars and vectors in place of their own."""
        return split


# --8<-- [end:network]


class TestMyNetwork(BackboneContract):
    """Symmetries, batching, smoothness, forces, the reduction to the plain network, and more."""

    def make_backbone(self, num_species: int) -> MyNetwork:
        """A small one is enough."""
        return MyNetwork(num_species, channels=8, num_layers=2, cutoff=4.0)
