"""Cormorant: Clebsch-Gordan products, mixed by linear maps, are the only nonlinearity (needs e3nn)."""

import itertools
import math

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.irreps import IrrepsBackbone
from neural_polarization.geometry import Edges
from neural_polarization.layers import BesselBasis, sum_by_index
from neural_polarization.layers.clebsch_gordan import ClebschGordan, paths_between, paths_of_square
from neural_polarization.layers.irreps import NEIGHBOURS, SCALAR, Harmonics, irreps_of_layers, make_irreps


class CormorantLayer(nn.Module):
    """One Clebsch-Gordan layer (Anderson et al. 2019, section 4).

        g_ij^l = f_ij W_l [F_i . F_j, R(r_ij)]         one for each channel; the dot products of all degrees
        G_ij^l = g_ij^l Y^l(r_ij)
        F_i   <- W [sum_j F_j ⊗ G_ij, F_i, F_i ⊗ F_i]

    R are radial functions, f is the envelope, and the products are taken channel by channel.

    Args:
        irreps_in: Irreps of the features before the layer.
        irreps_out: Irreps of the features after it.
        harmonics: Spherical harmonics of the directions of edges.
        basis: Radial functions.
        num_basis: Number of radial functions.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, harmonics: Harmonics, basis: BesselBasis, num_basis: int
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        self.harmonics, self.basis = harmonics, basis
        channels = irreps_in.count(SCALAR)
        self.sizes = [irrep.dim for _, irrep in harmonics.irreps]
        self.edge = nn.Linear(irreps_in.num_irreps + num_basis, len(self.sizes) * channels)
        of_edges = make_irreps((channels, irrep) for _, irrep in harmonics.irreps)
        self.with_neighbours = ClebschGordan(irreps_in, of_edges, paths_between(irreps_in, of_edges, irreps_out))
        self.with_itself = ClebschGordan(irreps_in, irreps_in, paths_of_square(irreps_in, irreps_out))
        concatenated = [*self.with_neighbours.irreps_out, *irreps_in, *self.with_itself.irreps_out]
        self.mix = o3.Linear(make_irreps(concatenated), irreps_out)

    def forward(self, features: Float[Tensor, "points irreps_in"], edges: Edges) -> Float[Tensor, "points irreps_out"]:
        """Features after the products and their mixing."""
        features = features[:, : self.irreps_in.dim]
        sent = features[edges.senders]
        products = self.with_neighbours(sent, self.edge_features(features, edges))
        arrived = sum_by_index(products, edges.receivers, features.shape[0]) / math.sqrt(NEIGHBOURS)
        return self.mix(torch.cat([arrived, features, self.with_itself(features, features)], -1))

    def edge_features(
        self, features: Float[Tensor, "points irreps_in"], edges: Edges
    ) -> Float[Tensor, "edges irreps_of_edges"]:
        """The paper's G: harmonics times learned scalars, with the features' number of channels for each degree."""
        pairs = features[edges.senders] * features[edges.receivers]
        blocks = pairs.split([channels * irrep.dim for channels, irrep in self.irreps_in], -1)
        dots = [
            block.unflatten(-1, (channels, irrep.dim)).sum(-1) / math.sqrt(irrep.dim)
            for (channels, irrep), block in zip(self.irreps_in, blocks, strict=True)
        ]
        scalars = self.edge(torch.cat([*dots, self.basis(edges.lengths)], -1)) * edges.envelope.unsqueeze(-1)
        harmonics = self.harmonics(edges).split(self.sizes, -1)
        of_degrees = scalars.unflatten(-1, (len(self.sizes), -1)).unbind(1)
        parts = [g.unsqueeze(-1) * y.unsqueeze(1) for g, y in zip(of_degrees, harmonics, strict=True)]
        return torch.cat([part.flatten(1) for part in parts], -1)


class Cormorant(IrrepsBackbone):
    """Covariant molecular neural network.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree.
        num_layers: Number of Clebsch-Gordan layers; at least 2.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        lmax: Highest degree, at least 1. The last layer makes scalars and vectors only.

    References:
        B. Anderson, T.-S. Hy, R. Kondor, "Cormorant: covariant molecular neural networks", NeurIPS 2019,
        arXiv:1906.04015. Deviations: real irreps instead of complex ones, and only those of natural parity (-1)^l, so
        that features transform under reflections too; Bessel functions instead of powers of 1 / r, which would grow
        without limit when points come close; the envelope instead of a learned cutoff; scalars of edges that are
        computed anew in every layer, because the edges are; sums that are divided by the root of a typical number of
        neighbours.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 16,
        num_layers: int = 4,
        cutoff: float = 5.0,
        num_basis: int = 16,
        lmax: int = 3,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        basis, harmonics = BesselBasis(num_basis, cutoff), Harmonics(lmax)
        irreps = irreps_of_layers(channels, lmax, num_layers)
        self.layers = nn.ModuleList(
            CormorantLayer(before, after, harmonics, basis, num_basis) for before, after in itertools.pairwise(irreps)
        )
