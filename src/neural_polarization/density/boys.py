"""Boys functions, of which every potential of a Gaussian function is made."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gamma, gammainc
from torch import Tensor
from torch.autograd.function import FunctionCtx

_LARGE = 45.0
"""From here on the integral to infinity is the integral to one, to the last digit."""
_PER_UNIT = 16
_TERMS = 7


def boys(order: int, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """F_m(x), the integral of t^(2m) exp(-x t^2) from 0 to 1; differentiable as often as wanted, F_m' = -F_(m+1).

    From a table by a Taylor series, and from Gamma(m + 1/2) / (2 x^(m + 1/2)) where x is large.

    Args:
        order: m.
        x: not negative.

    References:
        S. F. Boys, Proc. R. Soc. A 200, 542 (1950).

    Example:
        >>> round(boys(1, torch.zeros(1, dtype=torch.float64)).item(), 12)
        0.333333333333
    """
    value = _Boys.apply(x, order)
    assert isinstance(value, Tensor)
    return value


class _Boys(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, order: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        ctx.order = order  # pyright: ignore[reportAttributeAccessIssue]
        return _values(order, x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return -grad * boys(ctx.order + 1, x), None  # pyright: ignore[reportAttributeAccessIssue]


def _values(order: int, x: Tensor) -> Tensor:
    inside = x.clamp(max=_LARGE)
    nearest = (inside * _PER_UNIT).round()
    step = nearest / _PER_UNIT - inside
    terms = _table(order).to(x)[nearest.long()]
    value = terms[..., -1]
    for k in reversed(range(_TERMS - 1)):
        value = value * step + terms[..., k]
    outside = 0.5 * gamma(order + 0.5) * x.clamp(min=_LARGE) ** -(order + 0.5)
    return torch.where(x < _LARGE, value, outside)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # the tensor outlives the call
def _table(order: int) -> Float[Tensor, "places terms"]:
    """F_(m+k)(x) / k! at equidistant x, float64: coefficients of the Taylor series in the step backwards."""
    x = np.arange(int(_LARGE * _PER_UNIT) + 1) / _PER_UNIT
    table = np.empty((len(x), _TERMS))
    for k in range(_TERMS):
        half = order + k + 0.5
        table[0, k] = 0.5 / half
        table[1:, k] = 0.5 * gamma(half) * gammainc(half, x[1:]) / x[1:] ** half
        table[:, k] /= gamma(k + 1)
    return torch.from_numpy(table)
