"""SchNet: continuous filters of the distance; it has scalars only."""

from torch import nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import ScalarsVectors
from neural_polarization.geometry import Edges
from neural_polarization.layers import GaussianBasis, ShiftedSoftplus, mlp, sum_by_index


class SchNetLayer(nn.Module):
    """One interaction, x_i <- x_i + f(sum_j W_in x_j * filter(|r_ij|)) (Schütt et al. 2017, section 4.1)."""

    def __init__(self, channels: int, basis: GaussianBasis, num_basis: int) -> None:
        super().__init__()
        self.basis = basis
        self.filter = mlp([num_basis, channels, channels], ShiftedSoftplus)
        self.before = nn.Linear(channels, channels, bias=False)
        self.after = mlp([channels, channels, channels], ShiftedSoftplus)

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        scalars = features.scalars
        filters = self.filter(self.basis(edges.lengths)) * edges.envelope.unsqueeze(-1)
        messages = self.before(scalars)[edges.senders] * filters
        return PointFeatures(scalars + self.after(sum_by_index(messages, edges.receivers, scalars.shape[0])), None)


class SchNet(ScalarsVectors):
    """Continuous-filter convolutional network.

    It sees only distances. With polarization, its points move along edges, and the distances between the moving points
    then depend on angles.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar channels and of filters.
        num_layers: Number of interactions.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.

    References:
        K. T. Schütt et al., "SchNet: a continuous-filter convolutional neural network for modeling quantum
        interactions", NeurIPS 2017, arXiv:1706.08566. The filters fade out at the cutoff as in K. T. Schütt
        et al., "SchNetPack", J. Chem. Theory Comput. 15, 448 (2019), and the width of the Gaussians is their spacing.
        In the first paper the 300 Gaussians between 0 and 30 Angstrom are 0.22 Angstrom wide instead of 0.1.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 128,
        num_layers: int = 3,
        cutoff: float = 5.0,
        num_basis: int = 20,
    ) -> None:
        super().__init__(num_species, channels, vector_channels=0, cutoff=cutoff)
        basis = GaussianBasis(num_basis, cutoff)
        self.layers = nn.ModuleList(SchNetLayer(channels, basis, num_basis) for _ in range(num_layers))
