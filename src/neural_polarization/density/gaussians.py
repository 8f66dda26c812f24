"""Gaussian functions: real solid harmonics, normalization, and even-tempered exponents.

    phi_lm(r) = N_l(a) S_lm(r) exp(-a r^2)

S are the real solid harmonics in Racah's normalization, sum_m S_lm(r)^2 = r^(2l), with m = -l..l and z as the polar
axis, so that l = 1 is (y, z, x): the order of e3nn's irreps (where e3nn has x, y, z these have y, z, x) and of PySCF,
but for l = 1, which PySCF orders (x, y, z). N makes the integral of phi^2 one. Lengths are in Angstrom, exponents in
1/Angstrom^2.

References:
    T. Helgaker, P. Jørgensen, J. Olsen, "Molecular Electronic-Structure Theory", Wiley 2000, eq. 6.4.55 to 6.4.58.
"""

import itertools
import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

FIRST_OF_XYZ = (2, 0, 1)
"""Where x, y and z stand among the functions of l = 1."""


def solid_harmonics(x: Tensor, y: Tensor, z: Tensor, lmax: int) -> list[list[Tensor]]:
    """Real solid harmonics S_lm by recursion from one degree to the next: polynomials, smooth everywhere.

    Args:
        x, y, z: components of the vectors, of one shape.
        lmax: highest degree.

    Returns:
        For every degree the values of m = -l..l, each of the shape of `x`.

    Example:
        >>> one = torch.ones(())
        >>> [value.item() for value in solid_harmonics(2 * one, 0 * one, one, 1)[1]]  # y, z, x
        [0.0, 1.0, 2.0]
    """
    squared = x * x + y * y + z * z if lmax > 1 else x
    degrees: list[list[Tensor]] = [[torch.ones_like(x)]]
    if lmax > 0:
        degrees.append([y, z, x])
    for degree in range(1, lmax):
        here, below = degrees[degree], degrees[degree - 1]
        middle: list[Tensor] = []
        for m in range(-degree, degree + 1):
            over = 1.0 / math.sqrt((degree + m + 1) * (degree - m + 1))
            value = z * here[m + degree] * ((2 * degree + 1) * over)
            if abs(m) < degree:
                lower = math.sqrt((degree + m) * (degree - m)) * over
                value = value - squared * below[m + degree - 1] * lower
            middle.append(value)
        outer = math.sqrt((2 * degree + 1) / (2 * degree + 2))
        first = (y * here[-1] + x * here[0]) * outer
        last = (x * here[-1] - y * here[0]) * outer
        degrees.append([first, *middle, last])
    return degrees


def normalization(degree: int, exponents: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """N_l(a) of functions whose square integrates to one, 1/Angstrom^(l + 3/2).

    Args:
        degree: l.
        exponents: 1/Angstrom^2, positive.
    """
    power = degree + 1.5
    of_angles = (2 * degree + 1) / (4.0 * math.pi)
    return (of_angles * 2.0 * (2.0 * exponents) ** power / math.gamma(power)).sqrt()


def charge_of_s(exponents: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Integral of a normalized function of l = 0 over space, (2 pi / a)^(3/4), Angstrom^(3/2)."""
    return (2.0 * math.pi / exponents) ** 0.75


def even_tempered(smallest: float, largest: float, number: int) -> Float[Tensor, " number"]:
    """Exponents with a constant ratio, from the smallest to the largest (1/Angstrom^2), float64.

    References:
        M. W. Schmidt, K. Ruedenberg, J. Chem. Phys. 71, 3951 (1979).

    Example:
        >>> even_tempered(0.5, 8.0, 3).tolist()
        [0.5, 2.0, 8.0]
    """
    if number == 1:
        return torch.tensor([smallest], dtype=torch.float64)
    steps = torch.arange(number, dtype=torch.float64) / (number - 1)
    return smallest * (largest / smallest) ** steps


@lru_cache(maxsize=16)
def monomials(degree: int) -> tuple[tuple[int, int, int], ...]:
    """Powers of x, y and z of every monomial of a degree.

    Example:
        >>> monomials(1)
        ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    """
    powers = itertools.product(range(degree, -1, -1), repeat=3)
    return tuple((i, j, k) for i, j, k in powers if i + j + k == degree)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # the tensor outlives the call, and may be differentiated through
def cartesian_coefficients(degree: int) -> Float[Tensor, "functions monomials"]:
    """Real solid harmonics of a degree as polynomials: the coefficient of every monomial, float64.

    They follow from the values at as many points as it takes to tell the monomials apart.
    """
    powers = monomials(degree)
    generator = torch.Generator().manual_seed(degree)
    points = torch.randn(4 * len(powers), 3, dtype=torch.float64, generator=generator)
    design = torch.stack([(points ** torch.tensor(power)).prod(-1) for power in powers], -1)
    values = torch.stack(solid_harmonics(points[:, 0], points[:, 1], points[:, 2], degree)[degree], -1)
    return torch.linalg.lstsq(design, values, driver="gelsd").solution.T.contiguous()
