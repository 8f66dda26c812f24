"""Expansions of a length in radial functions, and the shifted softplus of SchNet."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn


class GaussianBasis(nn.Module):
    """Gaussians on a uniform grid from 0 to the cutoff, exp(-(r - mu_k)^2 / (2 spacing^2)).

    Args:
        num_basis: Number of functions.
        cutoff: Cutoff distance, Angstrom.

    References:
        K. T. Schütt et al., "SchNet: a continuous-filter convolutional neural network for modeling quantum
        interactions", NeurIPS 2017, section 4.1.
    """

    centres: Tensor

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0.0, cutoff, num_basis), persistent=False)
        spacing = cutoff / (num_basis - 1)
        self.coefficient = -0.5 / spacing**2

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Values of the functions at each length (Angstrom)."""
        return torch.exp(self.coefficient * (lengths.unsqueeze(-1) - self.centres).square())


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero, sin(n pi r / cutoff) / r.

    Args:
        num_basis: Number of functions.
        cutoff: Cutoff distance, Angstrom.

    References:
        J. Gasteiger, J. Gross, S. Günnemann, "Directional message passing for molecular graphs", ICLR 2020,
        eq. 7 without its constant factor, as PaiNN uses it.
    """

    frequencies: Tensor

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(1, num_basis + 1) * (math.pi / cutoff), persistent=False)

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Values of the functions at each length (Angstrom); lengths from `safe_norm` are never zero."""
        return self.rows(lengths).t()

    def rows(
        self, lengths: Float[Tensor, " edges"], envelope: Float[Tensor, " edges"] | None = None
    ) -> Float[Tensor, "basis edges"]:
        """The functions times an envelope, with one function per row.

        Sums and products over edges then read memory in order. The envelope is divided by the length before it
        multiplies the functions, so that it costs nothing, forward or backward.
        """
        over_length = lengths.reciprocal() if envelope is None else envelope / lengths
        return torch.sin(self.frequencies.unsqueeze(-1) * lengths) * over_length


class ShiftedSoftplus(nn.Module):
    """Softplus that is zero at zero, ln(0.5 e^x + 0.5) (Schütt et al. 2017)."""

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Applies it to every element."""
        return F.softplus(x) - math.log(2.0)
