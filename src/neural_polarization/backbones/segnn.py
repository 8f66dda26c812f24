"""SEGNN: steerable perceptrons whose weights are conditioned on the directions to neighbours (needs e3nn)."""

import itertools
import math
from typing import cast

import torch
from e3nn import o3
from e3nn.nn import Gate
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.irreps import IrrepsBackbone
from neural_polarization.geometry import Edges
from neural_polarization.layers import sum_by_index
from neural_polarization.layers.clebsch_gordan import ClebschGordan, paths_between
from neural_polarization.layers.irreps import NEIGHBOURS, SCALAR, VECTOR, Harmonics, gate, make_irreps


class Steerable(nn.Module):
    """Linear map conditioned on an attribute, W_a h: their Clebsch-Gordan product with a weight for every path.

    (W_a h)^l_w = b_w δ_l0 + sum over l1, l2, u of W_wu C^l_(l1 l2) h^l1_u a^l2

    Args:
        irreps_in: Irreps of the features h.
        attributes: Irreps of the attribute a, with one channel each.
        irreps_out: Irreps of the result, scalars "0e" first.
    """

    def __init__(self, irreps_in: o3.Irreps, attributes: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.product = ClebschGordan(irreps_in, attributes, paths_between(irreps_in, attributes, irreps_out))
        self.linear = o3.Linear(self.product.irreps_out, irreps_out, biases=True)

    def forward(
        self, features: Float[Tensor, "items irreps_in"], attributes: Float[Tensor, "items attributes"]
    ) -> Float[Tensor, "items irreps_out"]:
        """The mapped features of every item."""
        return self.linear(self.product(features, attributes))


class GatedSteerable(nn.Module):
    """A steerable map followed by a gate.

    Args:
        irreps_in: Irreps of the features.
        attributes: Irreps of the attribute.
        nonlinearity: Gate, which has no parameters and is shared.
    """

    def __init__(self, irreps_in: o3.Irreps, attributes: o3.Irreps, nonlinearity: Gate) -> None:
        super().__init__()
        self.gate = nonlinearity
        self.linear = Steerable(irreps_in, attributes, cast(o3.Irreps, nonlinearity.irreps_in))

    def forward(
        self, features: Float[Tensor, "items irreps_in"], attributes: Float[Tensor, "items attributes"]
    ) -> Float[Tensor, "items irreps_out"]:
        """Features after the gate."""
        return self.gate(self.linear(features, attributes))


def point_attributes(
    harmonics: Float[Tensor, "edges attributes"], edges: Edges, num_points: int
) -> Float[Tensor, "points attributes"]:
    """Mean of the harmonics around a point, a_i = (e_0 + sum_j f_ij Y(r_ij)) / (1 + sum_j f_ij).

    e_0 is a scalar of one. With it and with the envelope f, the mean is smooth when neighbours come and go, and a point
    without neighbours has attributes too.
    """
    envelope = edges.envelope.unsqueeze(-1)
    total = sum_by_index(envelope * harmonics, edges.receivers, num_points)
    weight = 1.0 + sum_by_index(envelope, edges.receivers, num_points)
    return torch.cat([torch.ones_like(weight), total[:, 1:] / weight], -1)


class SEGNNLayer(nn.Module):
    """Messages and update by steerable perceptrons (Brandstetter et al. 2022, section 3).

        a_ij = Y(r_ij),   a_i = mean over neighbours of a_ij
        m_ij = φ_m(f_i, f_j, |r_ij|^2, a_ij)
        f_i <- f_i + φ_f(f_i, sum_j m_ij, a_i)

    φ_m is two gated steerable maps. φ_f is a gated steerable map followed by a plain one.

    Args:
        irreps_in: Irreps of the features. Before the first layer they are scalars only, which a map with a_i embeds.
        irreps_out: Irreps of the result: those within the layer, or only scalars and vectors after the last layer.
        nonlinearity: Gate of the messages and of the features within the layer.
        harmonics: Spherical harmonics of the directions of edges.
        cutoff: Cutoff distance, Angstrom; messages read lengths in this unit.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, nonlinearity: Gate, harmonics: Harmonics, cutoff: float
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        self.irreps_out = irreps_out
        self.harmonics = harmonics
        self.cutoff = cutoff
        attributes, hidden = harmonics.irreps, cast(o3.Irreps, nonlinearity.irreps_out)
        self.embed = None if irreps_in == hidden else Steerable(irreps_in, attributes, hidden)
        both = make_irreps([*hidden, *hidden, (1, SCALAR)])
        self.message1 = GatedSteerable(both, attributes, nonlinearity)
        self.message2 = GatedSteerable(hidden, attributes, nonlinearity)
        self.update1 = GatedSteerable(make_irreps([*hidden, *hidden]), attributes, nonlinearity)
        self.update2 = Steerable(hidden, attributes, irreps_out)

    def forward(self, features: Float[Tensor, "points irreps_in"], edges: Edges) -> Float[Tensor, "points irreps_out"]:
        """Features after messages and update."""
        of_edges = self.harmonics(edges)
        of_points = point_attributes(of_edges, edges, features.shape[0])
        features = features[:, : self.irreps_in.dim]
        if self.embed is not None:
            features = self.embed(features, of_points)
        squares = (edges.lengths / self.cutoff).square().unsqueeze(-1)
        pairs = torch.cat([features[edges.receivers], features[edges.senders], squares], -1)
        messages = self.message2(self.message1(pairs, of_edges), of_edges) * edges.envelope.unsqueeze(-1)
        arrived = sum_by_index(messages, edges.receivers, features.shape[0]) / math.sqrt(NEIGHBOURS)
        update = self.update2(self.update1(torch.cat([features, arrived], -1), of_points), of_points)
        return features[:, : self.irreps_out.dim] + update


class SEGNN(IrrepsBackbone):
    """Steerable E(3) equivariant graph neural network.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree.
        num_layers: Number of layers.
        cutoff: Cutoff distance, Angstrom.
        lmax: Highest degree of the features, at least 1. The last layer makes scalars and vectors only.
        lmax_attributes: Highest degree of the attributes, not below `lmax`.

    References:
        J. Brandstetter, R. Hesselink, E. van der Pol, E. J. Bekkers, M. Welling, "Geometric and physical quantities
        improve E(3) equivariant message passing", ICLR 2022, arXiv:2110.02905; sizes as for QM9, where 36 channels of
        three degrees have as many weights as 128 scalar channels. Deviations: messages and the mean over neighbours
        have the envelope, so that energies are continuous; there is no instance norm, which would make an atom depend
        on all others of its molecule, and sums are divided by the root of a typical number of neighbours instead;
        products are normalized as in e3nn; lengths are in units of the cutoff.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 36,
        num_layers: int = 7,
        cutoff: float = 2.0,
        lmax: int = 2,
        lmax_attributes: int = 3,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        harmonics = Harmonics(lmax_attributes)
        hidden = make_irreps((channels, o3.Irrep(degree, (-1) ** degree)) for degree in range(lmax + 1))
        nonlinearity = gate(hidden)
        scalars, last = make_irreps([(channels, SCALAR)]), make_irreps([(channels, SCALAR), (channels, VECTOR)])
        irreps = [scalars, *[hidden] * (num_layers - 1), last]
        self.layers = nn.ModuleList(
            SEGNNLayer(before, after, nonlinearity, harmonics, cutoff) for before, after in itertools.pairwise(irreps)
        )
