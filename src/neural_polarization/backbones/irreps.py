"""Base class of networks of irreducible representations, whose features are one tensor (needs e3nn)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures


class IrrepsBackbone(nn.Module):
    """Abstract: a backbone whose features are tensors (points, irreps.dim) in e3nn's layout.

    The first `channels` columns are scalars "0e", the next 3 `channels` columns are vectors "1o", and the other irreps
    of the network follow. Before the first layer features are scalars only. A layer reads as many columns as its own
    irreps have.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every irrep.
        cutoff: Cutoff distance, Angstrom.
    """

    layers: nn.ModuleList
    """The layers, which map (features, edges) to features. The architecture sets them."""

    def __init__(self, num_species: int, channels: int, cutoff: float) -> None:
        super().__init__()
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = channels
        self.embedding = nn.Embedding(num_species, channels)

    def embed(self, species: Int[Tensor, " points"]) -> Float[Tensor, "points irreps"]:
        """Scalars from the embedding; there are no other irreps yet."""
        return self.embedding(species)

    def split(self, features: Float[Tensor, "points irreps"]) -> PointFeatures:
        """The scalars and the vectors; before the first layer vectors are zero."""
        channels = self.scalar_channels
        scalars = features[:, :channels]
        if features.shape[1] == channels:
            return PointFeatures(scalars, scalars.new_zeros(scalars.shape[0], 3, channels))
        return PointFeatures(scalars, features[:, channels : 4 * channels].unflatten(-1, (channels, 3)).transpose(1, 2))

    def join(self, features: Float[Tensor, "points irreps"], split: PointFeatures) -> Float[Tensor, "points joined"]:
        """The features with these scalars and vectors; the other irreps are unchanged."""
        assert split.vectors is not None
        vectors = split.vectors.transpose(1, 2).flatten(1)
        return torch.cat([split.scalars, vectors, features[:, 4 * self.scalar_channels :]], -1)
