"""What networks of scalars and vectors share as backbones: their features are a `PointFeatures` already."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures


class WithPointFeatures:
    """A backbone's `split` and `join` where its features are scalars and vectors already."""

    def split(self, features: PointFeatures) -> PointFeatures:
        """The features as they are."""
        return features

    def join(self, features: PointFeatures, split: PointFeatures) -> PointFeatures:
        """All of the features are replaced."""
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
    """Each maps (features, edges) to features; set by the architecture."""

    def __init__(self, num_species: int, channels: int, vector_channels: int, cutoff: float) -> None:
        super().__init__()
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = vector_channels
        self.embedding = nn.Embedding(num_species, channels)

    def embed(self, species: Int[Tensor, " points"]) -> PointFeatures:
        """Scalars from the embedding, vectors (if there are any) zero."""
        scalars: Float[Tensor, "points channels"] = self.embedding(species)
        if not self.vector_channels:
            return PointFeatures(scalars, None)
        return PointFeatures(scalars, scalars.new_zeros(species.shape[0], 3, self.vector_channels))
