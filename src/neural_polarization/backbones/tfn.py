"""Tensor field network: convolutions with spherical harmonics, self-interaction, norm nonlinearity (needs e3nn)."""

import itertools
import math

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.irreps import IrrepsBackbone
from neural_polarization.geometry import FEATURE_EPSILON, Edges
from neural_polarization.layers import GaussianBasis, ShiftedSoftplus
from neural_polarization.layers.irreps import SCALAR, Convolution, Harmonics, IrrepsNorm, irreps_of_layers, make_irreps


class NormNonlinearity(nn.Module):
    """eta(s + b) for scalars, eta(|V| + b) V for every other channel (Thomas et al. 2018, section 4.3).

    Args:
        irreps: Irreps of the features, scalars first.
        norm_epsilon: Norm below which norms turn smooth.
    """

    channel_of: Tensor

    def __init__(self, irreps: o3.Irreps, norm_epsilon: float) -> None:
        super().__init__()
        self.activation = ShiftedSoftplus()
        self.num_scalars = irreps.count(SCALAR)
        # eta is 1 at this bias, so that at the start vectors and higher degrees pass unchanged, not as their squares.
        one = math.log(2.0 * math.e - 1.0)
        self.bias = nn.Parameter(torch.full((irreps.num_irreps,), one))
        nn.init.zeros_(self.bias[: self.num_scalars])
        self.norm = IrrepsNorm(make_irreps(irreps[1:]), norm_epsilon)
        sizes = torch.tensor([irrep.dim for channels, irrep in irreps[1:] for _ in range(channels)])
        self.register_buffer("channel_of", torch.repeat_interleave(sizes), persistent=False)

    def forward(self, features: Float[Tensor, "points irreps"]) -> Float[Tensor, "points irreps"]:
        """Features of the same irreps."""
        n = self.num_scalars
        scalars, others = features[:, :n], features[:, n:]
        gates = self.activation(self.norm(others) + self.bias[n:])
        return torch.cat([self.activation(scalars + self.bias[:n]), others * gates[:, self.channel_of]], -1)


class TFNLayer(nn.Module):
    """Self-interaction, convolution, self-interaction, nonlinearity (Thomas et al. 2018, sections 4.1 to 4.3).

        L_i  = sum_j R(|r_ij|) Y(r_ij) ⊗ (W V_j) + W' V_i
        V_i <- eta(L_i)

    The second term is the point's own contribution to the convolution; at distance zero the filter is a scalar.
    """

    def __init__(
        self,
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        harmonics: Harmonics,
        basis: GaussianBasis,
        num_basis: int,
        norm_epsilon: float,
    ) -> None:
        super().__init__()
        self.basis = basis
        self.harmonics = harmonics
        self.irreps_in = irreps_in
        self.before = o3.Linear(irreps_in, irreps_in)
        self.own = o3.Linear(irreps_in, irreps_out)
        self.convolution = Convolution(irreps_in, harmonics.irreps, irreps_out, (num_basis, num_basis))
        self.nonlinearity = NormNonlinearity(irreps_out, norm_epsilon)

    def forward(self, features: Float[Tensor, "points irreps_in"], edges: Edges) -> Float[Tensor, "points irreps_out"]:
        """Features after the messages."""
        features = features[:, : self.irreps_in.dim]
        arrived = self.convolution(self.before(features), edges, self.harmonics(edges), self.basis(edges.lengths))
        return self.nonlinearity(self.own(features) + arrived)


class TFN(IrrepsBackbone):
    """Tensor field network.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree.
        num_layers: Number of convolutions.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions, and width of the perceptron that reads them.
        lmax: Highest degree, at least 1. The last layer makes scalars and vectors only.
        norm_epsilon: Norm below which norms of vectors turn smooth; larger for a model with a response to fields.

    References:
        N. Thomas et al., "Tensor field networks: rotation- and translation-equivariant neural networks for 3D point
        clouds", 2018, arXiv:1802.08219; sizes of its section 5.3. Deviations: messages have the envelope, so that
        energies are continuous; sums are divided by the root of a typical number of neighbours; products are
        normalized as in e3nn.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 15,
        num_layers: int = 3,
        cutoff: float = 5.0,
        num_basis: int = 20,
        lmax: int = 1,
        norm_epsilon: float = FEATURE_EPSILON,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        basis, harmonics = GaussianBasis(num_basis, cutoff), Harmonics(lmax)
        irreps = irreps_of_layers(channels, lmax, num_layers)
        self.layers = nn.ModuleList(
            TFNLayer(before, after, harmonics, basis, num_basis, norm_epsilon)
            for before, after in itertools.pairwise(irreps)
        )
