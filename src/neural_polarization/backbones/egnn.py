"""EGNN: scalars from distances, and one vector channel from the coordinate messages."""

import torch
from torch import nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import ScalarsVectors
from neural_polarization.geometry import Edges
from neural_polarization.layers import mlp, sum_by_index


class EGNNLayer(nn.Module):
    """One round of messages (Satorras et al. 2021, eqs. 3 and 5 to 8).

        m_ij = phi_e(h_i, h_j, |x_ij|^2)
        m_i  = sum_j sigmoid(w m_ij + b) envelope_ij m_ij
        v_i  <- phi_v(h_i) v_i + sum_j x_ij / (|x_ij| + 1) envelope_ij phi_x(m_ij)
        h_i  <- h_i + phi_h(h_i, m_i)

    with x_ij = x_j - x_i. Before the first layer there is no velocity, so that this layer has no phi_v.
    """

    def __init__(self, channels: int, first: bool) -> None:
        super().__init__()
        # The first linear map of phi_e is split, so that its large products are taken on points and not on edges.
        self.of_receiver = nn.Linear(channels, channels)
        self.of_sender = nn.Linear(channels, channels, bias=False)
        self.of_square = nn.Linear(1, channels, bias=False)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(channels, channels), nn.SiLU())
        self.weight = nn.Sequential(nn.Linear(channels, 1), nn.Sigmoid())
        self.push = mlp([channels, channels, 1])
        self.keep = None if first else mlp([channels, channels, 1])
        self.update = mlp([2 * channels, channels, channels])

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        scalars, vectors = features.scalars, features.vectors
        assert vectors is not None
        points = scalars.shape[0]
        lengths = edges.lengths.unsqueeze(-1)
        envelope = edges.envelope.unsqueeze(-1)
        messages = self.message(
            self.of_receiver(scalars)[edges.receivers]
            + self.of_sender(scalars)[edges.senders]
            + self.of_square(lengths.square())
        )
        pushes = edges.vectors * (self.push(messages) * envelope / (lengths + 1.0))
        arrived = sum_by_index(messages * (self.weight(messages) * envelope), edges.receivers, points)
        velocity = sum_by_index(pushes, edges.receivers, points).unsqueeze(-1)
        if self.keep is not None:
            velocity = velocity + self.keep(scalars).unsqueeze(-1) * vectors
        return PointFeatures(scalars + self.update(torch.cat([scalars, arrived], -1)), velocity)


class EGNN(ScalarsVectors):
    """E(n) equivariant graph neural network, whose one vector channel is the velocity of the paper's section 3.2.

    The original moves all of its atoms by x_i <- x_i + v_i, without a bound. This backbone does not change the
    geometry, as the authors' network for QM9 does not. `NeuralPolarization` moves the points instead: `VectorMove`
    with `riding` contains the original update as the case of steps of one and no limit.

    Two deviations keep energy and forces continuous and displacements moderate. Every message is multiplied by
    the envelope, while the original connects all pairs. Coordinate messages are divided by |x_ij| + 1 instead of the
    number of atoms, as the authors do in later work.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar channels.
        num_layers: Number of rounds of messages.
        cutoff: Cutoff distance, Angstrom.

    References:
        V. G. Satorras, E. Hoogeboom, M. Welling, "E(n) equivariant graph neural networks", ICML 2021,
        arXiv:2102.09844; the division is from E. Hoogeboom, V. G. Satorras, C. Vignac, M. Welling, "Equivariant
        diffusion for molecule generation in 3D", ICML 2022, arXiv:2203.17003, eq. 12.
    """

    def __init__(self, num_species: int, channels: int = 128, num_layers: int = 4, cutoff: float = 5.0) -> None:
        super().__init__(num_species, channels, vector_channels=1, cutoff=cutoff)
        self.layers = nn.ModuleList(EGNNLayer(channels, first=k == 0) for k in range(num_layers))
