"""Features that carry the species of their points, for networks whose layers have weights per species (needs e3nn).

A layer sees only features and edges, so the species has to be part of the features.
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.irreps import IrrepsBackbone
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.layers.irreps import SCALAR, Exact, make_irreps


@dataclass(frozen=True)
class SpeciesFeatures:
    """Features of points together with the species of the points.

    Attributes:
        values: Features in e3nn's layout, as in `IrrepsBackbone`.
        species: Species of each point, as it was embedded.
    """

    values: Float[Tensor, "points irreps"]
    species: Int[Tensor, " points"]


class SelfConnection(nn.Module):
    """Linear map of a point's own features with one matrix per species: sum_z W_z x_i δ(z, z_i).

    Args:
        irreps_in: Irreps of the features before the map.
        num_species: Number of species.
        irreps_out: Irreps of the features after the map; irreps that `irreps_in` lacks are zero.
    """

    def __init__(self, irreps_in: o3.Irreps, num_species: int, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.num_species = num_species
        one_hot = make_irreps([(num_species, SCALAR)])
        # With this variance each matrix starts like that of a linear map: of the species one is one, the others zero.
        variance = [1.0 / num_species]
        self.product = Exact(o3.FullyConnectedTensorProduct, irreps_in, one_hot, irreps_out, in2_var=variance)

    def forward(
        self, values: Float[Tensor, "points irreps_in"], species: Int[Tensor, " points"]
    ) -> Float[Tensor, "points irreps_out"]:
        """The mapped features of every point."""
        return self.product(values, F.one_hot(species, self.num_species).to(values.dtype))


class SpeciesBackbone(nn.Module):
    """Abstract: a backbone whose features are `SpeciesFeatures`.

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
        self.values = IrrepsBackbone(num_species, channels, cutoff)

    def embed(self, species: Int[Tensor, " points"]) -> SpeciesFeatures:
        """Scalars from the embedding, and the species."""
        return SpeciesFeatures(self.values.embed(species), species)

    def split(self, features: SpeciesFeatures) -> PointFeatures:
        """The scalars and the vectors; before the first layer vectors are zero."""
        return self.values.split(features.values)

    def join(self, features: SpeciesFeatures, split: PointFeatures) -> SpeciesFeatures:
        """The features with these scalars and vectors; the other irreps are unchanged."""
        return replace(features, values=self.values.join(features.values, split))
