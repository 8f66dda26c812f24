"""CGCNN: gated convolutions of the features of two neighbours and their distance; it has scalars only."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import ScalarsVectors
from neural_polarization.geometry import Edges
from neural_polarization.layers import GaussianBasis, sum_by_index


class CGCNNLayer(nn.Module):
    """One convolution (Xie & Grossman 2018, eq. 5).

        v_i <- v_i + sum_j envelope_ij sigmoid(z_ij W_f + b_f) * softplus(z_ij W_s + b_s)

    where z_ij joins v_i, v_j and the Gaussians of the distance of i and j.
    """

    def __init__(self, channels: int, basis: GaussianBasis, num_basis: int) -> None:
        super().__init__()
        self.basis = basis
        # (W_f, W_s) are split by the parts of z, so that the large products are taken on points and not on edges.
        self.of_receiver = nn.Linear(channels, 2 * channels)
        self.of_sender = nn.Linear(channels, 2 * channels, bias=False)
        self.of_length = nn.Linear(num_basis, 2 * channels, bias=False)

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        scalars = features.scalars
        filters, cores = (
            self.of_receiver(scalars)[edges.receivers]
            + self.of_sender(scalars)[edges.senders]
            + self.of_length(self.basis(edges.lengths))
        ).chunk(2, -1)
        messages = torch.sigmoid(filters) * F.softplus(cores) * edges.envelope.unsqueeze(-1)
        return PointFeatures(scalars + sum_by_index(messages, edges.receivers, scalars.shape[0]), None)


class CGCNN(ScalarsVectors):
    """Crystal graph convolutional neural network, on molecules and crystals alike.

    It sees only distances. With polarization, its points move along edges.

    Deviations: This is eq. 5 as it stands. The authors' code also normalizes over the batch within and after every
    convolution, and applies a softplus to the result. Batch norm would make a molecule's energy depend on the other
    molecules of its batch. Every message is multiplied by the envelope, and all points within the cutoff are
    neighbours instead of the nearest twelve; both keep energy and forces continuous. Atoms start from a learned
    embedding instead of a table of properties of the elements.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar channels.
        num_layers: Number of convolutions.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of Gaussians; by default one every 0.2 Angstrom.

    References:
        T. Xie, J. C. Grossman, "Crystal graph convolutional neural networks for an accurate and interpretable
        prediction of material properties", Phys. Rev. Lett. 120, 145301 (2018), arXiv:1710.10324. The sizes are
        those of the authors' code.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 64,
        num_layers: int = 3,
        cutoff: float = 8.0,
        num_basis: int = 41,
    ) -> None:
        super().__init__(num_species, channels, vector_channels=0, cutoff=cutoff)
        basis = GaussianBasis(num_basis, cutoff)
        self.layers = nn.ModuleList(CGCNNLayer(channels, basis, num_basis) for _ in range(num_layers))
