"""Features that know the species of their points, for networks whose weights depend on it in every layer (needs e3nn).

A layer sees features and edges only, so the species travels with the features.
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
    """Features, and the species of the points that have them.

    Attributes:
        values: In e3nn's layout, as `IrrepsBackbone` has them.
        species: As they were embedded.
    """

    values: Float[Tensor, "points irreps"]
    species: Int[Tensor, " points"]


class SelfConnection(nn.Module):
    """Linear map of a point's own features with one matrix per species: sum_z W_z x_i δ(z, z_i).

    Args:
        irreps_in: Irreps of the features before.
        num_species: Number of species.
        irreps_out: Irreps of the features after; those that `irreps_in` lacks are zero.
    """

    def __init__(self, irreps_in: o3.Irreps, num_species: int, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.num_species = num_species
        one_hot = make_irreps([(num_species, SCALAR)])
        # The variance says that one of them is one and the others zero: every matrix starts like that of a linear map.
        variance = [1.0 / num_species]
        self.product = Exact(lambda: o3.FullyConnectedTensorProduct(irreps_in, one_hot, irreps_out, in2_var=variance))

    def forward(
        self, values: Float[Tensor, "points irreps_in"], species: Int[Tensor, " points"]
    ) -> Float[Tensor, "points irreps_out"]:
        """The values that every point keeps of its own."""
        return self.product(values, F.one_hot(species, self.num_species).to(values.dtype))


class SpeciesBackbone(nn.Module):
    """Abstract: a backbone whose features are `SpeciesFeatures`.

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
        self.values = IrrepsBackbone(num_species, channels, cutoff)

    def embed(self, species: Int[Tensor, " points"]) -> SpeciesFeatures:
        """Scalars from the embedding, and the species."""
        return SpeciesFeatures(self.values.embed(species), species)

    def split(self, features: SpeciesFeatures) -> PointFeatures:
        """The scalars, and the vectors (zero where there are none yet)."""
        return self.values.split(features.values)

    def join(self, features: SpeciesFeatures, split: PointFeatures) -> SpeciesFeatures:
        """These scalars and vectors, followed by the other irreps as they were."""
        return replace(features, values=self.values.join(features.values, split))
