"""Your own network in your own file: `npol` trains, evaluates and uses it.

`config.yaml` beside this file names it (`backbone: {name: "my_network:MyNetwork", ...}`). From the root of this
repository, with its ethanol data:

    npol train examples/own_network/config.yaml
    export PYTHONPATH=examples/own_network        # where this file is
    npol info runs/own_network/model.safetensors --trust my_network
    npol evaluate runs/own_network/model.safetensors --trust my_network
    npol predict runs/own_network/model.safetensors --trust my_network --smiles CCO

A training imports the module, because its configuration names it. A checkpoint imports it only with
`--trust my_network`. Modules are looked for among the installed packages and on PYTHONPATH, and then beside the YAML
file (`npol train`, `npol compare`) or in the current directory (commands with `--trust`).

Molecular dynamics, in Python:

    import neural_polarization as npol

    atoms.calc = npol.NeuralPolarizationCalculator("runs/own_network/model.safetensors", trust=["my_network"])

The constructor gets `num_species`, and those of `channels`, `num_layers`, `cutoff`, `num_basis` and `lmax` that it
takes. docs/polarize_your_own.md explains each method, and how to test the network.
"""

import torch
from torch import Tensor, nn

from neural_polarization.backbones import PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import BesselBasis, mlp


class MyLayer(nn.Module):
    """One round of messages: each neighbour sends scalars, and a vector along the edge."""

    def __init__(self, channels: int, cutoff: float, num_basis: int) -> None:
        super().__init__()
        self.radial = nn.Sequential(BesselBasis(num_basis, cutoff), nn.Linear(num_basis, 2 * channels))
        self.send = nn.Linear(channels, 2 * channels)
        self.update = mlp([2 * channels, channels, channels])

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        weights = self.radial(edges.lengths) * edges.envelope.unsqueeze(-1)
        scalar, along_edge = (self.send(features.scalars)[edges.senders] * weights).chunk(2, -1)
        directions = (edges.vectors / edges.lengths.unsqueeze(-1)).unsqueeze(-1)
        messages = torch.zeros_like(features.scalars).index_add(0, edges.receivers, scalar)
        vectors = features.vectors.index_add(0, edges.receivers, directions * along_edge.unsqueeze(1))
        squares = vectors.square().sum(1)  # not lengths, which have no derivative at zero
        return PointFeatures(features.scalars + self.update(torch.cat([messages, squares], -1)), vectors)


class MyNetwork(nn.Module):
    """Scalars and vectors of equal width."""

    def __init__(
        self, num_species: int, channels: int = 32, num_layers: int = 3, cutoff: float = 5.0, num_basis: int = 8
    ):
        super().__init__()
        self.num_species, self.cutoff = num_species, cutoff
        self.scalar_channels = self.vector_channels = channels
        self.embedding = nn.Embedding(num_species, channels)
        self.layers = nn.ModuleList(MyLayer(channels, cutoff, num_basis) for _ in range(num_layers))

    def embed(self, species: Tensor) -> PointFeatures:
        """Features before any message: scalars of the species, and vectors of zero."""
        scalars = self.embedding(species)
        return PointFeatures(scalars, scalars.new_zeros(len(species), 3, self.vector_channels))

    def split(self, features: PointFeatures) -> PointFeatures:
        """The scalars and vectors among the features, which are all of them."""
        return features

    def join(self, features: PointFeatures, split: PointFeatures) -> PointFeatures:
        """The features with these scalars and vectors instead of their own."""
        return split
