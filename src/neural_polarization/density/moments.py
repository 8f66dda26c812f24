"""Moments of sums of Gaussian functions over all space, in closed form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.gaussians import FIRST_OF_XYZ, normalization
from neural_polarization.layers import sum_by_index

_ROOT = math.sqrt(3.0)
# Symmetric, traceless matrices A of l = 2: S_m(r) = r^T A_m r.
_OF_D = (
    ((0.0, _ROOT / 2, 0.0), (_ROOT / 2, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (0.0, 0.0, _ROOT / 2), (0.0, _ROOT / 2, 0.0)),
    ((-0.5, 0.0, 0.0), (0.0, -0.5, 0.0), (0.0, 0.0, 1.0)),
    ((0.0, 0.0, _ROOT / 2), (0.0, 0.0, 0.0), (_ROOT / 2, 0.0, 0.0)),
    ((_ROOT / 2, 0.0, 0.0), (0.0, -_ROOT / 2, 0.0), (0.0, 0.0, 0.0)),
)


@dataclass(frozen=True)
class Moments:
    """Integrals of the density of every molecule, float64.

    Attributes:
        electrons: of the density, e.
        first: of r times the density, e*Angstrom.
        second: of r r^T times the density, e*Angstrom^2.
    """

    electrons: Float[Tensor, " molecules"]
    first: Float[Tensor, "molecules 3"]
    second: Float[Tensor, "molecules 3 3"]


def moments(parts: Sequence[Gaussians], origins: Float[Tensor, "molecules 3"]) -> Moments:
    """Moments of zeroth to second order.

    Args:
        parts: functions; every centre belongs to one of the molecules.
        origins: point of each molecule that r starts at, Angstrom.
    """
    origins = origins.to(torch.float64)
    count = len(origins)
    electrons = origins.new_zeros(count)
    first = origins.new_zeros(count, 3)
    second = origins.new_zeros(count, 3, 3)
    for part in parts:
        exact = part.to(dtype=torch.float64)
        index = part.molecule_index
        arms = exact.centres - origins[index]
        q, p, s = _about_centres(exact)
        outer = p.unsqueeze(-1) * arms.unsqueeze(-2)
        squares = q[:, None, None] * arms.unsqueeze(-1) * arms.unsqueeze(-2)
        electrons = electrons + sum_by_index(q, index, count)
        first = first + sum_by_index(q.unsqueeze(-1) * arms + p, index, count)
        second = second + sum_by_index(squares + outer + outer.mT + s, index, count)
    return Moments(electrons, first, second)


def _about_centres(
    part: Gaussians,
) -> tuple[Float[Tensor, " centres"], Float[Tensor, "centres 3"], Float[Tensor, "centres 3 3"]]:
    """Moments of the functions of each centre about that centre."""
    unit = torch.eye(3, dtype=torch.float64, device=part.centres.device)
    charge = part.centres.new_zeros(len(part.centres))
    first = part.centres.new_zeros(len(part.centres), 3)
    second = part.centres.new_zeros(len(part.centres), 3, 3)
    for degree, exponents, coefficients in part.shells():
        # The integral of exp(-a r^2) times the normalization, for every function.
        plain = coefficients * (normalization(degree, exponents) * (math.pi / exponents) ** 1.5).unsqueeze(-1)
        spread = 0.5 / exponents  # <x^2> of exp(-a r^2), Angstrom^2
        if degree == 0:
            charge = plain[..., 0].sum(-1)
            second = second + (plain[..., 0] * spread).sum(-1)[:, None, None] * unit
        elif degree == 1:
            first = (plain * spread.unsqueeze(-1)).sum(1)[:, FIRST_OF_XYZ]
        elif degree == 2:
            of_functions = (plain * (2.0 * spread.square()).unsqueeze(-1)).sum(1)
            second = second + torch.tensordot(of_functions, unit.new_tensor(_OF_D), dims=1)
    return charge, first, second
