"""Grids as text inside a page: whole numbers on a logarithmic scale, compressed.

A value v becomes the whole number round(asinh(v / scale) / step) of 16 bits, which keeps the sign, small values to
`scale` * `step` and large ones to a relative `step`: a density spans eight orders of magnitude between a nucleus and
the edge of a grid. The numbers are stored as differences along the last axis, all low bytes before all high bytes,
which gzip compresses to about a third.
"""

import base64
import gzip
import math
from typing import Any

import numpy as np

from .scene import Array, Grid

LARGEST = 32767
"""Largest whole number of 16 bits with a sign."""


def encoded(grid: Grid, scale: float, most_points: int) -> dict[str, Any]:
    """A grid as plain values for JSON; the page's script reads them.

    Args:
        scale: values below this are resolved evenly, values above it by their ratio; the grid's unit.
        most_points: a larger grid is interpolated on fewer points first.
    """
    levels = np.arcsinh(grid.values.astype(np.float64) / scale)
    levels, spacing = _coarsened(levels, np.asarray(grid.spacing, dtype=np.float64), most_points)
    step = max(float(np.abs(levels).max()), 1e-3) / LARGEST
    numbers = np.rint(levels / step).astype(np.int16)
    return {
        "origin": [round(float(x), 6) for x in grid.origin],
        "spacing": [[round(float(x), 8) for x in row] for row in spacing],
        "shape": list(numbers.shape),
        "scale": scale,
        "step": step,
        "finer": bool(levels.size < grid.values.size),
        "data": _text(numbers),
    }


def _coarsened(levels: Array, spacing: Array, most_points: int) -> tuple[Array, Array]:
    """Values on as many points as are allowed, over the same box, and their spacing."""
    if levels.size <= most_points:
        return levels, spacing
    from scipy.ndimage import zoom

    ratio = (most_points / levels.size) ** (1 / 3)
    shape = [max(2, math.floor(length * ratio)) for length in levels.shape]
    ratios = np.array([(new - 1) / (old - 1) for new, old in zip(shape, levels.shape, strict=True)])
    coarse = zoom(levels, np.divide(shape, levels.shape), order=1, grid_mode=False)
    return np.asarray(coarse), np.asarray(spacing / ratios[:, None])


def _text(numbers: Array) -> str:
    """Whole numbers of 16 bits, compressed, as base64."""
    differences = np.diff(numbers.ravel(), prepend=np.int16(0))  # of 16 bits too: they wrap around, as do their sums
    planes = differences.astype("<i2").view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(gzip.compress(planes.tobytes(), compresslevel=6, mtime=0)).decode()
