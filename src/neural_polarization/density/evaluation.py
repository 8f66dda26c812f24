"""Values of Gaussian functions at many points: in blocks of bounded memory, without what is too far to matter."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.gaussians import normalization, solid_harmonics

NEGLIGIBLE = 1e-8
"""Density (e/Angstrom^3) below which the functions of a centre are left out: a millionth of what surfaces show."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of points that are done and of all points."""

Weights: TypeAlias = list[tuple[int, Tensor, Tensor]]
"""Degree, exponents (centres, shells) and normalized coefficients (centres, 2 l + 1, shells)."""

_POINTS_OF_BLOCK = {"cpu": 2048, "cuda": 65536}
_ELEMENTS_OF_BLOCK = {"cpu": 2**18, "cuda": 2**26}
"""Values of one array of a block: on a CPU they stay in its cache, on a GPU they fill it."""

_UNDERFLOW = -80.0
"""Logarithm of what counts as zero: an exponential that underflows takes ten times longer."""

_BITS = 10  # of each coordinate along the curve: the smallest boxes are a thousandth of the whole


def evaluate(
    parts: Sequence[Gaussians],
    points: Float[Tensor, "points 3"],
    progress: Progress | None = None,
    threshold: float = NEGLIGIBLE,
) -> Float[Tensor, " points"]:
    """Sum of all functions at points, whatever molecule they belong to.

    Points are taken in the order of a space-filling curve, block by block; each block sees the centres that reach its
    box, so that the work grows as the number of points and not as that times the number of atoms. Gradients by
    points, centres, exponents and coefficients are those of the same sum; the blocks are computed once more for them,
    which keeps their memory bounded too.

    Args:
        parts: functions, in any floating-point type.
        points: Angstrom; the computation has their type and happens on their device.
        progress: called after every block.
        threshold: e/Angstrom^3; zero leaves nothing out.

    Returns:
        e/Angstrom^3.
    """
    if not len(points):
        return points.new_zeros(0)
    wanted = [part.to(points.device, points.dtype) for part in parts if len(part.centres)]
    differentiable = torch.is_grad_enabled() and (points.requires_grad or any(part.requires_grad for part in wanted))
    reaches = [_reach(part, threshold) for part in wanted]
    weights = [_weights(part) for part in wanted]
    order = _along_curve(points.detach())
    size = _POINTS_OF_BLOCK.get(points.device.type, 2048)
    values: list[Tensor] = []
    done = 0
    for block in order.split(size):
        here = points[block]
        inside = here.detach()
        corners = (inside.amin(0), inside.amax(0))
        total = here.new_zeros(len(here))
        for part, reach, weight in zip(wanted, reaches, weights, strict=True):
            total = total + _near(part, weight, reach, corners, here, differentiable)
        values.append(total)
        done += len(block)
        if progress is not None:
            progress(done, len(points))
    return torch.empty_like(points[:, 0]).index_copy(0, order, torch.cat(values))


def _near(
    part: Gaussians,
    weights: Weights,
    reach: Float[Tensor, " centres"],
    corners: tuple[Tensor, Tensor],
    points: Float[Tensor, "points 3"],
    differentiable: bool,
) -> Float[Tensor, " points"]:
    """Sum of the functions of those centres that reach the box between two corners."""
    centres = part.centres.detach()
    outside = torch.maximum(corners[0] - centres, centres - corners[1]).clamp(min=0.0)
    index = (outside.square().sum(-1) < reach.square()).nonzero()[:, 0]
    if not len(index):
        return points.new_zeros(len(points))
    shells = max(exponents.shape[1] for _, exponents, _ in weights)
    limit = _ELEMENTS_OF_BLOCK.get(points.device.type, 2**18)
    step = max(1, limit // (shells * len(points)))
    total = points.new_zeros(len(points))
    for some in index.split(step):
        near: Weights = [(degree, exponents[some], matrix[some]) for degree, exponents, matrix in weights]
        if differentiable:
            value = checkpoint(_sum_of, points, part.centres[some], near, use_reentrant=False)
            assert isinstance(value, Tensor)
        else:
            value = _sum_of(points, part.centres[some], near)
        total = total + value
    return total


def _sum_of(points: Float[Tensor, "points 3"], centres: Float[Tensor, "centres 3"], shells: Weights) -> Tensor:
    """Sum over centres at every point; arrays are (centres, points), the points side by side in memory."""
    x, y, z = (points.T.unsqueeze(0) - centres.unsqueeze(-1)).unbind(1)
    squared = x * x + y * y + z * z
    harmonics = solid_harmonics(x, y, z, shells[-1][0])
    total = torch.zeros_like(x)
    for degree, exponents, matrix in shells:
        radial = (squared.unsqueeze(1) * -exponents.unsqueeze(-1)).clamp(min=_UNDERFLOW).exp()
        of_shells = matrix @ radial
        for m, harmonic in enumerate(harmonics[degree]):
            total = torch.addcmul(total, of_shells[:, m], harmonic)
    return total.sum(0)


def _weights(part: Gaussians) -> Weights:
    return [
        (degree, exponents, (coefficients * normalization(degree, exponents).unsqueeze(-1)).transpose(1, 2))
        for degree, exponents, coefficients in part.shells()
    ]


def _reach(part: Gaussians, threshold: float) -> Float[Tensor, " centres"]:
    if threshold <= 0.0:
        return part.centres.detach().new_full((len(part.centres),), torch.inf)
    return part.reach(threshold).to(part.centres)


def _along_curve(points: Float[Tensor, "points 3"]) -> Int[Tensor, " points"]:
    """Order of points along Morton's curve: neighbours in the order are neighbours in space."""
    low, high = points.amin(0), points.amax(0)
    edge = (high - low).amax().clamp(min=1e-6) * (1.0 + 1e-6)
    boxes = ((points - low) * (2**_BITS / edge)).long()
    code = torch.zeros_like(boxes[:, 0])
    for bit in range(_BITS):
        for axis in range(3):
            code |= ((boxes[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort()
