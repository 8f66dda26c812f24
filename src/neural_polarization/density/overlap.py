"""Overlap of two sums of Gaussian functions, the integral of their product, in closed form.

A function is a derivative of a spherical one by its centre A, phi_lm = N (2 a)^-l S_lm(d/dA) exp(-a |r - A|^2), so that
the overlap of two is the same derivatives of (pi / (a + b))^(3/2) exp(-mu |A - B|^2), mu = a b / (a + b): products of
Hermite functions of the components of A - B.

References:
    T. Helgaker, P. Jørgensen, J. Olsen, "Molecular Electronic-Structure Theory", Wiley 2000, section 9.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.gaussians import cartesian_coefficients, monomials, normalization

_PAIRS_OF_BLOCK = 2**18


def overlap(one: Sequence[Gaussians], other: Sequence[Gaussians]) -> Float[Tensor, ""]:
    """Integral of the product of two sums of functions over all space, e^2/Angstrom^3, float64."""
    device = one[0].centres.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for a in _shells(one):
        for b in _shells(other):
            step = max(1, _PAIRS_OF_BLOCK // max(1, len(b.exponents)))
            for start in range(0, len(a.exponents), step):
                total = total + _of_shells(a.rows(start, start + step), b)
    return total


@dataclass(frozen=True)
class _Shells:
    """Shells of one degree, with the coefficients of the monomials of their harmonics instead of these.

    Attributes:
        degree: l.
        centres: of each shell, Angstrom.
        exponents: 1/Angstrom^2.
        monomials: coefficients with all factors of the functions.
    """

    degree: int
    centres: Float[Tensor, "shells 3"]
    exponents: Float[Tensor, " shells"]
    monomials: Float[Tensor, "shells monomials"]

    def rows(self, start: int, stop: int) -> "_Shells":
        """Some of the shells."""
        rows = slice(start, stop)
        return _Shells(self.degree, self.centres[rows], self.exponents[rows], self.monomials[rows])


def _shells(parts: Sequence[Gaussians]) -> list[_Shells]:
    found: list[_Shells] = []
    for part in parts:
        exact = part.to(dtype=torch.float64)
        for degree, exponents, coefficients in exact.shells():
            factors = normalization(degree, exponents) * (2.0 * exponents) ** -degree
            matrix = cartesian_coefficients(degree).to(coefficients)
            found.append(
                _Shells(
                    degree,
                    exact.centres.repeat_interleave(exponents.shape[1], 0),
                    exponents.flatten(),
                    ((coefficients * factors.unsqueeze(-1)) @ matrix).flatten(0, 1),
                )
            )
    return found


def _of_shells(a: _Shells, b: _Shells) -> Float[Tensor, ""]:
    between = a.centres.unsqueeze(1) - b.centres.unsqueeze(0)
    together = a.exponents.unsqueeze(1) + b.exponents.unsqueeze(0)
    reduced = (a.exponents.unsqueeze(1) * b.exponents.unsqueeze(0) / together).unsqueeze(-1)
    # Derivatives of exp(-mu x^2) of every order, for the three components.
    derivatives = [(-reduced * between.square()).exp()]
    for order in range(a.degree + b.degree):
        lower = order * derivatives[order - 1] if order else 0.0
        derivatives.append(-2.0 * reduced * (between * derivatives[order] + lower))
    by_powers: dict[tuple[int, ...], Tensor] = {}
    for i, power in enumerate(monomials(a.degree)):
        for j, other in enumerate(monomials(b.degree)):
            key = tuple(p + q for p, q in zip(power, other, strict=True))
            product = a.monomials[:, i].unsqueeze(1) * b.monomials[:, j].unsqueeze(0)
            by_powers[key] = by_powers[key] + product if key in by_powers else product
    total = torch.zeros_like(together)
    for (nx, ny, nz), factor in by_powers.items():
        total = total + factor * derivatives[nx][..., 0] * derivatives[ny][..., 1] * derivatives[nz][..., 2]
    sign = (-1.0) ** b.degree  # derivatives by B are those by A with the other sign
    return sign * (total * (math.pi / together) ** 1.5).sum()
