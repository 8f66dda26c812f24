"""Values of Gaussian functions at many points: in blocks of bounded memory, without what is too far to matter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    wanted = [_Prepared.of(part.to(points.device, points.dtype), threshold) for part in parts if len(part.centres)]
    differentiable = torch.is_grad_enabled() and (points.requires_grad or any(part.requires_grad for part in parts))
    order = _along_curve(points.detach())
    values: list[Tensor] = []
    done = 0
    for block in order.split(_POINTS_OF_BLOCK.get(points.device.type, 2048)):
        here = points[block]
        total = here.new_zeros(len(here))
        for part in wanted:
            total = total + _near(part, here, differentiable)
        values.append(total)
        done += len(block)
        if progress is not None:
            progress(done, len(points))
    return torch.empty_like(points[:, 0]).index_copy(0, order, torch.cat(values))


@dataclass(frozen=True)
class _Shells:
    """All shells of one degree of a part.

    Attributes:
        degree: l.
        exponents: 1/Angstrom^2.
        matrix: coefficients times the normalization of the functions.
        reach: distance from which each shell is negligible, Angstrom.
    """

    degree: int
    exponents: Float[Tensor, "centres shells"]
    matrix: Float[Tensor, "centres functions shells"]
    reach: Float[Tensor, "centres shells"]

    def select(self, centres: Int[Tensor, " some"], distances: Float[Tensor, " some"]) -> "_Shells":
        """Those of some centres, without the shells that none of them needs at these distances."""
        near = (self.reach[centres] > distances.unsqueeze(-1)).any(0).nonzero()[:, 0]
        rows = centres.unsqueeze(-1)
        return _Shells(
            self.degree,
            self.exponents[rows, near],
            self.matrix[centres][..., near],
            self.reach[rows, near],
        )


@dataclass(frozen=True)
class _Prepared:
    """A part with all that does not depend on the points."""

    centres: Float[Tensor, "centres 3"]
    reach: Float[Tensor, " centres"]
    shells: tuple[_Shells, ...]

    @classmethod
    def of(cls, part: Gaussians, threshold: float) -> "_Prepared":
        """Prepares a part."""
        reaches = part.reach(threshold)
        shells = tuple(
            _Shells(
                degree,
                exponents,
                (coefficients * normalization(degree, exponents).unsqueeze(-1)).transpose(1, 2),
                reaches[degree].to(part.centres),
            )
            for degree, exponents, coefficients in part.shells()
        )
        return cls(part.centres, torch.cat([of_shells.reach for of_shells in shells], -1).amax(-1), shells)


def _near(part: _Prepared, points: Float[Tensor, "points 3"], differentiable: bool) -> Float[Tensor, " points"]:
    """Sum of the functions of those centres that reach the box around the points, the nearest first."""
    centres, inside = part.centres.detach(), points.detach()
    outside = torch.maximum(inside.amin(0) - centres, centres - inside.amax(0)).clamp(min=0.0)
    distances = outside.square().sum(-1).sqrt()
    index = (distances < part.reach).nonzero()[:, 0]
    total = points.new_zeros(len(points))
    if not len(index):
        return total
    index = index[distances[index].argsort()]
    shells = max(of_shells.exponents.shape[1] for of_shells in part.shells)
    limit = _ELEMENTS_OF_BLOCK.get(points.device.type, 2**18)
    for some in index.split(max(1, limit // (shells * len(points)))):
        near = [of_shells.select(some, distances[some]) for of_shells in part.shells]
        near = [of_shells for of_shells in near if of_shells.exponents.shape[1]]
        if differentiable:
            value = checkpoint(_sum_of, points, part.centres[some], near, use_reentrant=False)
            assert isinstance(value, Tensor)
        else:
            value = _sum_of(points, part.centres[some], near)
        total = total + value
    return total


def _sum_of(points: Float[Tensor, "points 3"], centres: Float[Tensor, "centres 3"], shells: list[_Shells]) -> Tensor:
    """Sum over centres at every point; arrays are (centres, points), the points side by side in memory."""
    x, y, z = (points.T.unsqueeze(0) - centres.unsqueeze(-1)).unbind(1)
    squared = x * x + y * y + z * z
    harmonics = solid_harmonics(x, y, z, shells[-1].degree)
    total = torch.zeros_like(x)
    for of_shells in shells:
        logarithms = squared.unsqueeze(1) * -of_shells.exponents.unsqueeze(-1)
        # Arrays are as large as the cache: where no gradient needs them they are overwritten.
        larger = torch.clamp if logarithms.requires_grad else torch.clamp_
        radial = larger(logarithms, min=_UNDERFLOW).exp_()
        of_degree = of_shells.matrix @ radial
        for m, harmonic in enumerate(harmonics[of_shells.degree]):
            total = torch.addcmul(total, of_degree[:, m], harmonic)
    return total.sum(0)


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
