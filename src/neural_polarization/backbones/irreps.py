"""What networks of irreducible representations share as backbones: their features are one tensor (needs e3nn)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures


class IrrepsBackbone(nn.Module):
    """Abstract: a backbone whose features are tensors (points, irreps.dim) in e3nn's layout.

    The first `channels` columns are scalars "0e", the next three times as many vectors "1o", then come whatever other
    irreps the network has. Features that have not met a layer are scalars alone; a layer reads as many columns as its
    own irreps have.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every irrep.
        cutoff: Cutoff distance, Angstrom.
    """

    layers: nn.ModuleList
    """Each maps (features, edges) to features; set by the architecture."""

    def __init__(self, num_species: int, channels: int, cutoff: float) -> None:
        super().__init__()
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = channels
        self.embedding = nn.Embedding(num_species, channels)

    def embed(self, species: Int[Tensor, " points"]) -> Float[Tensor, "points irreps"]:
        """Scalars from the embedding, nothing else."""
        return self.embedding(species)

    def split(self, features: Float[Tensor, "points irreps"]) -> PointFeatures:
        """The scalars, and the vectors (zero where there are none yet)."""
        channels = self.scalar_channels
        scalars = features[:, :channels]
        if features.shape[1] == channels:
            return PointFeatures(scalars, scalars.new_zeros(scalars.shape[0], 3, channels))
        return PointFeatures(scalars, features[:, channels : 4 * channels].unflatten(-1, (channels, 3)).transpose(1, 2))

    def join(self, features: Float[Tensor, "points irreps"], split: PointFeatures) -> Float[Tensor, "points joined"]:
        """These scalars and vectors, followed by the other irreps as they were."""
        assert split.vectors is not None
        vectors = split.vectors.transpose(1, 2).flatten(1)
        return torch.cat([split.scalars, vectors, features[:, 4 * self.scalar_channels :]], -1)
