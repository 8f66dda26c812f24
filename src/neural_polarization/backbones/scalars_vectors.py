"""Base classes of networks of scalars and vectors, whose features are a `PointFeatures`."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures


class WithPointFeatures:
    """`split` and `join` of a backbone whose features are scalars and vectors."""

    def split(self, features: PointFeatures) -> PointFeatures:
        """The features as they are."""
        return features

    def join(self, features: PointFeatures, split: PointFeatures) -> PointFeatures:
        """The new scalars and vectors, which replace all of the features."""
        return split


class ScalarsVectors(WithPointFeatures, nn.Module):
    """Abstract: a backbone whose features are scalars, and vectors if it has any.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar channels.
        vector_channels: Number of vector channels; 0 for a network without vectors.
        cutoff: Cutoff distance, Angstrom.
    """

    layers: nn.ModuleList
    """The layers, which map (features, edges) to features. The architecture sets them."""

    def __init__(self, num_species: int, channels: int, vector_channels: int, cutoff: float) -> None:
        super().__init__()
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = vector_channels
        self.embedding = nn.Embedding(num_species, channels)

    def embed(self, species: Int[Tensor, " points"]) -> PointFeatures:
        """Scalars from the embedding, and vectors (if there are any) of zero."""
        scalars: Float[Tensor, "points channels"] = self.embedding(species)
        if not self.vector_channels:
            return PointFeatures(scalars, None)
        return PointFeatures(scalars, scalars.new_zeros(species.shape[0], 3, self.vector_channels))
