"""Balls, sticks, arrows and surfaces as pictures, seen from one side: rays against shapes, in plain NumPy.

Every pixel keeps what is nearest to the viewer. Shapes are drawn one after the other into the same `Canvas`, whose
picture then has the pixels' colours times the light on them. Matplotlib's own three-dimensional axes sort whole shapes
by their distance, which is wrong wherever two of them touch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy.ndimage import map_coordinates, maximum_filter, spline_filter

from .scene import Array, Grid

LIGHT = np.array([-0.35, 0.45, 0.82])
"""From where the light comes: left, above, behind the viewer."""

EVEN = 0.45
"""Share of the light that comes from everywhere."""

STEP = 0.12
"""Of a ray through a grid, Angstrom."""


Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of a part of the pixels."""


class Field:
    """The values of a grid between its points, on a logarithmic scale, on which they are nearly linear.

    Args:
        grid: outside of it the values are zero.
        scale: values below it are kept as they are, larger ones as their logarithms; the grid's unit.
    """

    def __init__(self, grid: Grid, scale: float) -> None:
        self.grid, self.scale = grid, scale
        self._inverse = np.linalg.inv(grid.spacing)
        self._values = np.arcsinh(grid.values / scale)
        self._spline = spline_filter(self._values)

    def scaled(self, value: float) -> float:
        """A value on the logarithmic scale."""
        return float(np.arcsinh(value / self.scale))

    def at(self, places: Array, smooth: bool = False) -> Array:
        """Values on the logarithmic scale at places, (places, 3) Angstrom; `smooth` has continuous slopes."""
        indices = ((places - self.grid.origin) @ self._inverse).T
        values = self._spline if smooth else self._values
        return map_coordinates(values, indices, order=3 if smooth else 1, prefilter=False, mode="constant")

    def values_at(self, places: Array, smooth: bool = False) -> Array:
        """Values in the grid's unit at places, as `at` has them on the logarithmic scale."""
        return self.scale * np.sinh(self.at(places, smooth))

    def slope(self, places: Array) -> Array:
        """Derivatives on the logarithmic scale at places, (places, 3), per Angstrom."""
        shifts = 0.1 * np.eye(3)
        differences = [self.at(places + shift, smooth=True) - self.at(places - shift, smooth=True) for shift in shifts]
        return np.stack(differences, axis=-1) / 0.2

    def inside(self, level: float) -> Array:
        """Points of the grid above a value (below a negative one), (points, 3), Angstrom."""
        values = self.grid.values
        return self.grid.points[values < level if level < 0 else values > level]

    def farthest(self, direction: Array) -> float:
        """Smallest coordinate of the grid's box along a direction, Angstrom."""
        last = np.array(self.grid.values.shape) - 1
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * last @ self.grid.spacing
        return float(((corners + self.grid.origin) @ direction).min())


@dataclass(frozen=True)
class Canvas:
    """Pixels over a rectangle, x to the right, y upwards, z towards the viewer.

    Attributes:
        low: left and lower edge, Angstrom.
        high: right and upper edge, Angstrom.
        pixel: side of a pixel of the picture, Angstrom. Each is drawn as two by two, for smooth edges.
    """

    low: Array
    high: Array
    pixel: float
    depth: Array = field(init=False)
    colours: Array = field(init=False)

    def __post_init__(self) -> None:
        columns, rows = 2 * np.ceil((self.high - self.low) / self.pixel).astype(int)
        object.__setattr__(self, "depth", np.full((rows, columns), -np.inf))
        object.__setattr__(self, "colours", np.zeros((rows, columns, 4)))

    @property
    def xs(self) -> Array:
        """Middle of every column, Angstrom."""
        return self.low[0] + (np.arange(self.depth.shape[1]) + 0.5) * self.pixel / 2

    @property
    def ys(self) -> Array:
        """Middle of every row from above, Angstrom."""
        return self.high[1] - (np.arange(self.depth.shape[0]) + 0.5) * self.pixel / 2

    def picture(self) -> Array:
        """What was drawn, (rows, columns, 4): red, green, blue and opacity of 0 to 1."""
        rows, columns = self.depth.shape
        blocks = self.colours.reshape(rows // 2, 2, columns // 2, 2, 4).mean(axis=(1, 3))
        return np.concatenate([blocks[..., :3] / np.maximum(blocks[..., 3:], 1e-9), blocks[..., 3:]], axis=-1)

    def ball(self, centre: Array, radius: float, colour: Array) -> None:
        """Draws a ball."""
        window = self._window(centre, centre, radius)
        x, y = np.meshgrid(self.xs[window[1]] - centre[0], self.ys[window[0]] - centre[1])
        height = radius**2 - x**2 - y**2
        z = np.sqrt(np.maximum(height, 0.0))
        self._put(np.where(height > 0, centre[2] + z, -np.inf), np.stack([x, y, z], axis=-1) / radius, colour, window)

    def cone(self, start: Array, end: Array, first: float, last: float, colour: Array) -> None:
        """Draws a round rod whose radius goes from `first` to `last`, without caps."""
        axis = end - start
        length = float(np.linalg.norm(axis))
        if length < 1e-9:
            return
        axis = axis / length
        window = self._window(start, end, max(first, last))
        x, y = np.meshgrid(self.xs[window[1]] - start[0], self.ys[window[0]] - start[1])
        # Points start + (x, y, z) with |across| = first + slope * along, a quadratic equation for z.
        slope = (last - first) / length
        flat = x * axis[0] + y * axis[1]
        factor = 1 + slope**2
        a = 1 - factor * axis[2] ** 2
        if a < 1e-9:
            return  # seen along its axis: nothing but the caps
        b = -factor * flat * axis[2] - slope * first * axis[2]
        c = x**2 + y**2 - factor * flat**2 - 2 * slope * first * flat - first**2
        root = b**2 - a * c
        z = (-b + np.sqrt(np.maximum(root, 0.0))) / a
        along = flat + z * axis[2]
        seen = (root > 0) & (along >= 0) & (along <= length)
        across = np.stack([x, y, z], axis=-1) - along[..., None] * axis
        normal = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9) - slope * axis
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        self._put(np.where(seen, start[2] + z, -np.inf), normal, colour, window)

    def arrow(self, start: Array, end: Array, radius: float, colour: Array) -> None:
        """Draws an arrow: a rod and a head, a cone of twice its radius with a round back."""
        length = float(np.linalg.norm(end - start))
        if length < 1e-9:
            return
        head = min(4.5 * radius, 0.6 * length)
        neck = end - (end - start) / length * head
        self.cone(start, neck, radius, radius, colour)
        self.cone(neck, end, 2.2 * radius, 0.0, colour)
        self.ball(neck, 1.0 * radius, colour)
        self.disc(neck, (start - end) / length, 2.2 * radius, colour)

    def disc(self, centre: Array, normal: Array, radius: float, colour: Array) -> None:
        """Draws a flat disc, seen from either side."""
        if abs(normal[2]) < 1e-3:
            return
        normal = normal * np.sign(normal[2])
        window = self._window(centre, centre, radius)
        x, y = np.meshgrid(self.xs[window[1]] - centre[0], self.ys[window[0]] - centre[1])
        z = -(x * normal[0] + y * normal[1]) / normal[2]
        seen = x**2 + y**2 + z**2 < radius**2
        self._put(np.where(seen, centre[2] + z, -np.inf), np.broadcast_to(normal, (*x.shape, 3)), colour, window)

    def surface(self, field: "Field", turn: Array, level: float, colour: Callable[[Array], Array]) -> None:
        """Draws the surface around what is above a value, or below a negative one.

        Args:
            field: in the molecule's axes.
            turn: rows are the picture's axes in the molecule's, (3, 3).
            level: value on the surface.
            colour: of places, (places, 3) Angstrom in the molecule's axes, red, green and blue of 0 to 1.
        """
        columns, rows = np.meshgrid(self.xs, self.ys)
        sign, wanted = (-1.0 if level < 0 else 1.0), abs(field.scaled(level))
        flat = np.stack([columns.ravel(), rows.ravel()], axis=-1) @ turn[:2]
        depth = np.full(columns.size, -np.inf)
        start = self._starts(field.inside(level) @ turn.T).ravel()
        pixels = np.flatnonzero(np.isfinite(start))
        z, far = start[pixels], field.farthest(turn[2])
        before = np.full(len(pixels), -np.inf)
        while len(pixels):  # every ray goes away from the viewer until it is inside or has left the grid
            now = sign * field.at(flat[pixels] + z[:, None] * turn[2]) - wanted
            hit = now > 0
            share = np.where(np.isfinite(before[hit]), now[hit] / (now[hit] - before[hit]), 0.0)
            depth[pixels[hit]] = z[hit] + STEP * share
            going = ~hit & (z > far)
            pixels, before, z = pixels[going], now[going], z[going] - STEP
        seen = np.flatnonzero(np.isfinite(depth))
        places = flat[seen] + depth[seen, None] * turn[2]
        slope = -sign * field.slope(places)
        normals = np.zeros((columns.size, 3))
        normals[seen] = (slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-12)) @ turn.T
        colours = np.zeros((columns.size, 3))
        colours[seen] = colour(places)
        shape = (*columns.shape, 3)
        everything = (slice(None), slice(None))
        self._put(depth.reshape(columns.shape), normals.reshape(shape), colours.reshape(shape), everything)

    def _starts(self, inside: Array, cell: float = 0.3) -> Array:
        """Where rays begin: a little nearer to the viewer than every point inside a surface, -inf where there is none.

        Args:
            inside: points of the grid inside the surface, in the picture's axes, (points, 3), Angstrom.
        """
        rows, columns = (int(np.ceil(size * self.pixel / 2 / cell)) for size in self.depth.shape)
        nearest = np.full((rows + 4, columns + 4), -np.inf)
        x = np.floor((inside[:, 0] - self.low[0]) / cell).astype(int) + 2
        y = np.floor((self.high[1] - inside[:, 1]) / cell).astype(int) + 2
        kept = (x >= 0) & (x < columns + 4) & (y >= 0) & (y < rows + 4)
        np.maximum.at(nearest, (y[kept], x[kept]), inside[kept, 2])
        nearest = maximum_filter(nearest, size=3, mode="nearest") + 2 * cell
        x = np.floor((self.xs - self.low[0]) / cell).astype(int) + 2
        y = np.floor((self.high[1] - self.ys) / cell).astype(int) + 2
        return nearest[np.ix_(y, x)]

    def _window(self, start: Array, end: Array, radius: float) -> Window:
        """Rows and columns of the pixels that a shape between two places can cover."""
        low, high = np.minimum(start, end)[:2] - radius, np.maximum(start, end)[:2] + radius
        side = self.pixel / 2
        rows = np.array([self.high[1] - high[1], self.high[1] - low[1]]) / side
        columns = np.array([low[0] - self.low[0], high[0] - self.low[0]]) / side
        top, left = max(int(rows[0]), 0), max(int(columns[0]), 0)
        return slice(top, max(int(rows[1]) + 1, top)), slice(left, max(int(columns[1]) + 1, left))

    def _put(self, depth: Array, normals: Array, colours: Array, window: Window) -> None:
        """Takes over the pixels of a window where something is nearer than what was drawn before."""
        nearer = depth > self.depth[window]
        self.depth[window][nearer] = depth[nearer]
        light = EVEN + (1 - EVEN) * np.maximum(normals[nearer] @ (LIGHT / np.linalg.norm(LIGHT)), 0.0)
        wanted = colours if colours.ndim == 1 else colours[nearer]
        self.colours[window][nearer, :3] = wanted * light[:, None]
        self.colours[window][nearer, 3] = 1.0
