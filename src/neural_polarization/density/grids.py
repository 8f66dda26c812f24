"""Regular grids around a molecule."""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.density import Density
from neural_polarization.units import BOHR

MOLECULAR_SURFACE = 0.002 / BOHR**3
"""Density (e/Angstrom^3) whose surface is taken for a molecule's: 0.002 e/bohr^3 (R. F. W. Bader et al., 1987)."""

MOST_POINTS = 2**28
"""Points of a grid: more than these (a cube file of 3.5 GB) are a mistake in the spacing."""

WIDEST_SPACING = 1.0
"""Angstrom between the points of a grid around a molecule: wider ones miss atoms."""

_STEP = 0.25  # Angstrom by which a side is moved out while the surface is outside
_FACE_SPACING = 0.4  # Angstrom between the points of a side that are looked at


@dataclass(frozen=True)
class Grid:
    """Points on a rectangular grid along x, y and z.

    Attributes:
        origin: the first point, Angstrom.
        shape: points along x, y and z.
        spacing: distance of neighbouring points, Angstrom.

    Raises:
        ValueError: for a spacing that is not positive, or more than `MOST_POINTS` points.

    Example:
        >>> Grid((0.0, 0.0, 0.0), (1, 1, 3), 0.5).points()[:, 2].tolist()
        [0.0, 0.5, 1.0]
    """

    origin: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing: float

    def __post_init__(self) -> None:
        if not 0.0 < self.spacing < math.inf:
            raise ValueError(f"spacing: it must be a positive length in Angstrom, not {self.spacing}")
        if self.num_points > MOST_POINTS:
            enough = self.spacing * (self.num_points / MOST_POINTS) ** (1 / 3)
            raise ValueError(
                f"spacing: {self.spacing} Angstrom makes a grid of {self.num_points:.2g} points; {MOST_POINTS:.1e} are "
                f"the limit: give {math.ceil(100 * enough) / 100} Angstrom or more, or a smaller margin"
            )

    @property
    def num_points(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @property
    def volume_of_point(self) -> float:
        """Volume that each point stands for, Angstrom^3: its product with a sum over all points is an integral."""
        return self.spacing**3

    def points(self, dtype: torch.dtype = torch.float64) -> Float[Tensor, "points 3"]:
        """All points, Angstrom, z running fastest."""
        axes = [
            start + self.spacing * torch.arange(number, dtype=dtype)
            for start, number in zip(self.origin, self.shape, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def grid_around(
    density: Density, spacing: float = 0.1, margin: float | None = None, surface: float = MOLECULAR_SURFACE
) -> Grid:
    """A grid around the nuclei of a density of one molecule.

    Args:
        density: of one molecule (`Density.of_molecule`).
        spacing: distance of neighbouring points, Angstrom; at most `WIDEST_SPACING`.
        margin: distance of the sides from the outermost nuclei, Angstrom. If left out, each side is moved out until
            the density on it is below `surface`, so that this surface is inside and closed.
        surface: e/Angstrom^3.

    Raises:
        ValueError: for several molecules, a margin that is negative, a spacing that misses atoms, or what `Grid`
            refuses.
    """
    density.nuclei.require_one()
    if spacing > WIDEST_SPACING:
        raise ValueError(
            f"spacing: {spacing} Angstrom misses atoms; give {WIDEST_SPACING} Angstrom or less (surfaces: 0.1 to 0.2)"
        )
    if margin is not None and not 0.0 <= margin < math.inf:
        raise ValueError(f"margin: it must be a length in Angstrom, not {margin}")
    positions = density.nuclei.positions.detach().double().cpu()
    low, high = positions.amin(0), positions.amax(0)
    if margin is not None:
        return _between(low - margin, high + margin, spacing)
    # Single precision is enough about the centre; far from the origin, digits would be lost.
    centre = density.detach().nuclei.centre.cpu()
    place = density.detach().to("cpu").shifted(-centre).to(dtype=torch.float32)
    low, high = low - 1.0 - centre[0], high + 1.0 - centre[0]
    while True:
        outside = [side for side in itertools.product(range(3), (0, 1)) if _crosses(place, low, high, side, surface)]
        if not outside:
            return _between(low + centre[0], high + centre[0], spacing)
        for axis, end in outside:
            (high if end else low)[axis] += _STEP if end else -_STEP


def _crosses(density: Density, low: Tensor, high: Tensor, side: tuple[int, int], surface: float) -> bool:
    """Whether the density reaches the value of the surface on one side of the box."""
    axis, end = side
    ticks = [
        torch.linspace(float(low[k]), float(high[k]), 2 + int((high[k] - low[k]) / _FACE_SPACING)) for k in range(3)
    ]
    ticks[axis] = (high if end else low)[axis : axis + 1].float()
    points = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
    return bool((density.evaluate(points, threshold=0.01 * surface) > 0.9 * surface).any())


def _between(low: Tensor, high: Tensor, spacing: float) -> Grid:
    if not 0.0 < spacing < math.inf:
        raise ValueError(f"spacing: it must be a positive length in Angstrom, not {spacing}")
    middle = 0.5 * (low + high)
    numbers = [math.ceil(float(length) / spacing) + 1 for length in high - low]
    x, y, z = [float(m) - 0.5 * spacing * (n - 1) for m, n in zip(middle, numbers, strict=True)]
    return Grid((x, y, z), (numbers[0], numbers[1], numbers[2]), spacing)
