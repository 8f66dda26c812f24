"""NequIP: gated convolutions with spherical harmonics for irreps of both parities (needs e3nn)."""

import itertools
import math
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from e3nn.math import normalize2mom
from e3nn.nn import FullyConnectedNet
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.attributed import SelfConnection, SpeciesBackbone, SpeciesFeatures
from neural_polarization.geometry import Edges, polynomial_envelope
from neural_polarization.layers import BesselBasis, sum_by_index
from neural_polarization.layers.irreps import (
    NEIGHBOURS,
    SCALAR,
    ChannelwiseProduct,
    Harmonics,
    irreps_of_layers,
    make_irreps,
)

_RADIAL_WIDTHS = (64, 64, 64)
_ENVELOPE_POWER = 6


def features_of_layers(channels: int, lmax: int, num_layers: int, both_parities: bool) -> list[o3.Irreps]:
    """Irreps of the features before the first and after every layer, without those that no later layer reads.

    For example, the last layer does not read pseudoscalars, because their products with harmonics are neither scalars
    nor vectors.
    """
    irreps = irreps_of_layers(channels, lmax, num_layers, both_parities)
    irreps[-2] = make_irreps(block for block in irreps[-2] if block[1] != o3.Irrep(0, -1))
    return irreps


class Gated(nn.Module):
    """SiLU of scalars and tanh of pseudoscalars; every other channel is multiplied by the SiLU of its own scalar.

    As in e3nn, the activations are scaled so that normally distributed input gives a second moment of one.

    Args:
        irreps: Irreps of the result, scalars "0e" first.

    Attributes:
        irreps_in: Irreps of the input: the scalars that gate, followed by `irreps`.
    """

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        self.num_gates = sum(channels for channels, irrep in irreps if irrep.l > 0)
        self.irreps_in = make_irreps([(self.num_gates, SCALAR), *irreps])
        self.silu = normalize2mom(F.silu)
        self.tanh = normalize2mom(torch.tanh)

    def forward(self, features: Float[Tensor, "points irreps_in"]) -> Float[Tensor, "points irreps"]:
        """Features after the nonlinearity."""
        gates = self.silu(features[:, : self.num_gates]).split([n for n, irrep in self.irreps if irrep.l > 0], -1)
        blocks = features[:, self.num_gates :].split([n * irrep.dim for n, irrep in self.irreps], -1)
        parts: list[Tensor] = []
        unused = iter(gates)
        for (channels, irrep), block in zip(self.irreps, blocks, strict=True):
            if irrep.l == 0:
                parts.append(self.silu(block) if irrep.p == 1 else self.tanh(block))
            else:
                channelwise = block.unflatten(-1, (channels, irrep.dim))
                parts.append((channelwise * next(unused).unsqueeze(-1)).flatten(1))
        return torch.cat(parts, -1)


class NequIPLayer(nn.Module):
    """Interaction block and nonlinearity (Batzner et al. 2022, methods and fig. 1).

        L_i  = W sum_j R(r_ij) (Y(r_ij) ⊗ W' V_j) / sqrt(N) + W_z V_i
        V_i <- gated(L_i)

    R is a perceptron of radial functions, and W_z has one matrix per species.

    Args:
        num_species: Number of species.
        irreps_in: Irreps of the features before the layer.
        irreps_out: Irreps of the features after it.
        harmonics: Spherical harmonics of the directions of edges.
        num_basis: Number of radial functions.
        cutoff: Cutoff distance, Angstrom.
    """

    def __init__(
        self,
        num_species: int,
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        harmonics: Harmonics,
        num_basis: int,
        cutoff: float,
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        self.cutoff = cutoff
        self.harmonics = harmonics
        self.basis = BesselBasis(num_basis, cutoff)
        self.gated = Gated(irreps_out)
        self.before = o3.Linear(irreps_in, irreps_in)
        self.product = ChannelwiseProduct(irreps_in, harmonics.irreps, irreps_out)
        # The perceptron has no biases, so that its result is zero where the envelope is zero.
        self.radial = FullyConnectedNet([num_basis, *_RADIAL_WIDTHS, self.product.num_weights], F.silu)
        self.after = o3.Linear(self.product.irreps_out, self.gated.irreps_in)
        self.own = SelfConnection(irreps_in, num_species, self.gated.irreps_in)

    def forward(self, features: SpeciesFeatures, edges: Edges) -> SpeciesFeatures:
        """Features after the messages."""
        values = features.values[:, : self.irreps_in.dim]
        envelope = polynomial_envelope(edges.nuclear_lengths, self.cutoff, _ENVELOPE_POWER)
        radial = (2.0 / self.cutoff) * self.basis(edges.lengths) * envelope.unsqueeze(-1)
        sent = self.before(values)[edges.senders]
        messages = self.product(sent, self.harmonics(edges), self.radial(radial))
        arrived = self.after(sum_by_index(messages, edges.receivers, values.shape[0]) / math.sqrt(NEIGHBOURS))
        return replace(features, values=self.gated(arrived + self.own(values, features.species)))


class NequIP(SpeciesBackbone):
    """Neural equivariant interatomic potential.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree and parity.
        num_layers: Number of interaction blocks.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        lmax: Highest degree, at least 1. The last layer makes scalars and vectors only.
        both_parities: Whether features include pseudoscalars, pseudovectors, and so on.

    References:
        S. Batzner et al., "E(3)-equivariant graph neural networks for data-efficient and accurate interatomic
        potentials", Nat. Commun. 13, 2453 (2022), arXiv:2101.03164; sizes as for rMD17. Deviations: the last layer
        makes vectors beside the scalars; the roots of the Bessel functions are fixed, as in later releases of the
        authors' code; sums are divided by a constant number of neighbours, not by the mean over a data set.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 64,
        num_layers: int = 5,
        cutoff: float = 4.0,
        num_basis: int = 8,
        lmax: int = 3,
        both_parities: bool = True,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        harmonics = Harmonics(lmax)
        irreps = features_of_layers(channels, lmax, num_layers, both_parities)
        self.layers = nn.ModuleList(
            NequIPLayer(num_species, before, after, harmonics, num_basis, cutoff)
            for before, after in itertools.pairwise(irreps)
        )
