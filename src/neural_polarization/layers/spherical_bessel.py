"""Functions of a distance and an angle: spherical Bessel functions and Legendre polynomials."""

import itertools
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_REACH = 1.25  # in units of the cutoff; the quadrature is exact to rounding below it, and smooth beyond it


class SphericalBesselBasis(nn.Module):
    """Spherical Bessel functions of all degrees, sqrt(2) / |j_{l+1}(z_ln)| j_l(z_ln r / cutoff).

    z_ln is the n-th root of j_l. At small arguments recurrences in l lose digits, and closed forms divide by zero. The
    integral over plane waves (DLMF 10.54.2) does neither and is smooth everywhere:

        j_l(x) = (-1)^(l/2) ∫_0^1 cos(x t) P_l(t) dt          for even l,
                 (-1)^((l-1)/2) ∫_0^1 sin(x t) P_l(t) dt      for odd l,

    by Gauss-Legendre quadrature.

    Args:
        num_degrees: Number of degrees, l = 0 .. num_degrees - 1.
        num_basis: Number of functions of each degree.
        cutoff: Cutoff distance, Angstrom.

    References:
        J. Gasteiger, J. Groß, S. Günnemann, "Directional message passing for molecular graphs", ICLR 2020,
        arXiv:2003.03123, eq. 6, without its constant cutoff^(-3/2).
    """

    waves: Tensor
    phases: Tensor
    weights: Tensor

    def __init__(self, num_degrees: int, num_basis: int, cutoff: float) -> None:
        super().__init__()
        roots, heights = _roots(num_degrees, num_basis)
        nodes, weights = np.polynomial.legendre.leggauss(2 * math.ceil(0.25 * _REACH * roots.max() + 10))
        nodes, weights = nodes[nodes > 0.0], weights[nodes > 0.0]
        degrees = np.arange(num_degrees)
        polynomials = np.polynomial.legendre.legvander(nodes, num_degrees - 1).T  # (degrees, nodes)
        signed = (-1.0) ** (degrees // 2)[:, None] * weights * polynomials
        factors = math.sqrt(2.0) / heights
        self._buffer("waves", roots[:, :, None] / cutoff * nodes)
        self._buffer("phases", 0.5 * math.pi * (degrees % 2)[:, None, None])  # a sine is a delayed cosine
        self._buffer("weights", factors[:, :, None] * signed[:, None, :])

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges degrees basis"]:
        """Values of the functions at each length (Angstrom)."""
        cosines = torch.cos(lengths[:, None, None, None] * self.waves - self.phases)
        return (cosines * self.weights).sum(-1)

    def _buffer(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.as_tensor(values, dtype=torch.get_default_dtype()), persistent=False)


def legendre(cosines: Float[Tensor, " angles"], num_degrees: int) -> Float[Tensor, "angles degrees"]:
    """Spherical harmonics of order zero, sqrt((2 l + 1) / (4 pi)) P_l(cosine), for l = 0 .. num_degrees - 1.

    They take the cosine, because the angle itself has no derivative where three atoms are in line.
    """
    values = [torch.ones_like(cosines), cosines]
    for degree in range(1, num_degrees - 1):
        values.append(((2 * degree + 1) * cosines * values[-1] - degree * values[-2]) / (degree + 1))
    factors = [math.sqrt((2 * degree + 1) / (4.0 * math.pi)) for degree in range(num_degrees)]
    return torch.stack([factor * value for factor, value in zip(factors, values, strict=False)], -1)


def _roots(num_degrees: int, num_basis: int) -> tuple[np.ndarray, np.ndarray]:
    """The first roots z_ln of each j_l, and |j_{l+1}(z_ln)|; both have the shape (degrees, basis)."""
    from scipy.optimize import brentq  # slow to import, and needed only once
    from scipy.special import spherical_jn

    roots = math.pi * np.arange(1, num_basis + num_degrees)  # roots of j_0; those of j_1 lie between them, and so on
    rows = [roots[:num_basis]]
    for degree in range(1, num_degrees):
        brackets = itertools.pairwise(roots)
        roots = np.array([brentq(lambda x, n=degree: spherical_jn(n, x), a, b, xtol=1e-14) for a, b in brackets])
        rows.append(roots[:num_basis])
    heights = [np.abs(spherical_jn(degree + 1, row)) for degree, row in enumerate(rows)]
    return np.stack(rows), np.stack(heights)
