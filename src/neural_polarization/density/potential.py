"""Electrostatic potential of Gaussian functions, in closed form.

The electrons of one function make the potential

    integral phi_lm(r') / |r - r'| dr' = N_l(a) (2 pi / a) S_lm(r) F_l(a r^2)

since phi is a derivative of the spherical function, S_lm(nabla) exp(-a r^2) = (-2 a)^l S_lm(r) exp(-a r^2), as is its
potential of F_0(a r^2) (E. W. Hobson's theorem; T. Helgaker, P. Jørgensen, J. Olsen, "Molecular Electronic-Structure
Theory", Wiley 2000, chapter 9). A nucleus is a ball of charge: its potential is finite everywhere, and exact outside.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.boys import boys
from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.gaussians import normalization, solid_harmonics

_ELEMENTS_OF_BLOCK = 2**20

NUCLEUS = 0.01
"""Radius of the ball over which the charge of a nucleus is spread evenly, Angstrom."""


def inverse_distance(offsets: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Potential of an evenly charged ball of radius `NUCLEUS` and charge one at points around its centre, 1/Angstrom.

    Outside it is 1 / r; inside (3 - r^2 / R^2) / (2 R), so that a point of a grid may be on a nucleus.

    Args:
        offsets: from the centre, Angstrom.

    Example:
        >>> inverse_distance(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])).tolist()
        [150.0, 0.5]
    """
    squared = offsets.square().sum(-1)
    inside = squared < NUCLEUS**2
    outer = torch.where(inside, NUCLEUS**2, squared).rsqrt()  # the inner choice keeps gradients finite
    return torch.where(inside, (1.5 - 0.5 * squared / NUCLEUS**2) / NUCLEUS, outer)


def integral_over_distance(parts: Sequence[Gaussians], points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Integral of the sum of all functions over the distance from each point, e/Angstrom.

    Args:
        parts: functions, in any floating-point type.
        points: Angstrom; the computation has their type.
    """
    total = points.new_zeros(len(points))
    for part in parts:
        here = part.to(points.device, points.dtype)
        shells = max(exponents.shape[1] for exponents in here.exponents)
        step = max(1, _ELEMENTS_OF_BLOCK // max(1, shells * len(here.centres)))
        values = [_of_block(here, block) for block in points.split(step)]
        total = total + torch.cat(values)
    return total


def _of_block(part: Gaussians, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    x, y, z = (points.T.unsqueeze(0) - part.centres.unsqueeze(-1)).unbind(1)
    squared = x * x + y * y + z * z
    harmonics = solid_harmonics(x, y, z, len(part.exponents) - 1)
    total = torch.zeros_like(x)
    for degree, exponents, coefficients in part.shells():
        factors = normalization(degree, exponents) * (2.0 * math.pi / exponents)
        matrix = (coefficients * factors.unsqueeze(-1)).transpose(1, 2)
        of_shells = matrix @ boys(degree, exponents.unsqueeze(-1) * squared.unsqueeze(1))
        for m, harmonic in enumerate(harmonics[degree]):
            total = total + of_shells[:, m] * harmonic
    return total.sum(0)
