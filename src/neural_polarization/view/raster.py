"""Balls, sticks, arrows and surfaces as pictures, seen from one side: rays against shapes, in plain NumPy.

Every pixel keeps what is nearest to the viewer. Shapes are drawn one after the other into the same `Canvas`, whose
picture then has the pixels' colours times the light on them. Matplotlib's own three-dimensional axes sort whole shapes
by their distance, which is wrong wherever two of them touch.
"""

from dataclasses import dataclass, field

import numpy as np

from .scene import Array, Grid

LIGHT = np.array([-0.35, 0.45, 0.82])
"""From where the light comes: left, above, behind the viewer."""

EVEN = 0.45
"""Share of the light that comes from everywhere."""


@dataclass(frozen=True)
class Canvas:
    """Pixels over a rectangle, x to the right, y upwards, z towards the viewer.

    Attributes:
        low: left and lower edge, Angstrom.
        high: right and upper edge, Angstrom.
        pixel: side of a pixel, Angstrom.
    """

    low: Array
    high: Array
    pixel: float
    depth: Array = field(init=False)
    colours: Array = field(init=False)

    def __post_init__(self) -> None:
        columns, rows = np.ceil((self.high - self.low) / self.pixel).astype(int)
        object.__setattr__(self, "depth", np.full((rows, columns), -np.inf))
        object.__setattr__(self, "colours", np.zeros((rows, columns, 4)))

    @property
    def xs(self) -> Array:
        """Middle of every column, Angstrom."""
        return self.low[0] + (np.arange(self.depth.shape[1]) + 0.5) * self.pixel

    @property
    def ys(self) -> Array:
        """Middle of every row from above, Angstrom."""
        return self.high[1] - (np.arange(self.depth.shape[0]) + 0.5) * self.pixel

    def ball(self, centre: Array, radius: float, colour: Array) -> None:
        """Draws a ball."""
        x, y = np.meshgrid(self.xs - centre[0], self.ys - centre[1])
        height = radius**2 - x**2 - y**2
        z = np.sqrt(np.maximum(height, 0.0))
        self._put(np.where(height > 0, centre[2] + z, -np.inf), np.stack([x, y, z], axis=-1) / radius, colour)

    def cone(self, start: Array, end: Array, first: float, last: float, colour: Array) -> None:
        """Draws a round rod whose radius goes from `first` to `last`, without caps."""
        axis = end - start
        length = float(np.linalg.norm(axis))
        if length < 1e-9:
            return
        axis = axis / length
        x, y = np.meshgrid(self.xs - start[0], self.ys - start[1])
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
        self._put(np.where(seen, start[2] + z, -np.inf), normal, colour)

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
        x, y = np.meshgrid(self.xs - centre[0], self.ys - centre[1])
        z = -(x * normal[0] + y * normal[1]) / normal[2]
        seen = x**2 + y**2 + z**2 < radius**2
        self._put(np.where(seen, centre[2] + z, -np.inf), np.broadcast_to(normal, (*x.shape, 3)), colour)

    def surface(self, grid: Grid, turn: Array, level: float, colour: Array, step: float = 0.08) -> Array:
        """Draws the surface on which a grid has a value; gives the places that are seen, (pixels, 3), Angstrom.

        Args:
            grid: in the molecule's axes.
            turn: rows are the picture's axes in the molecule's.
            level: of either sign; the surface lies around what is larger (smaller for a negative one).
            colour: one for the whole surface, (3,).
            step: along the rays, Angstrom.
        """
        return self.coloured_surface(grid, turn, level, lambda places: np.broadcast_to(colour, places.shape), step)

    def _put(self, depth: Array, normals: Array, colours: Array) -> None:
        """Takes over the pixels where something is nearer than what was drawn before."""
        nearer = depth > self.depth
        self.depth[nearer] = depth[nearer]
        light = EVEN + (1 - EVEN) * np.maximum(normals[nearer] @ (LIGHT / np.linalg.norm(LIGHT)), 0.0)
        wanted = colours if colours.ndim == 1 else colours[nearer]
        self.colours[nearer, :3] = wanted * light[:, None]
        self.colours[nearer, 3] = 1.0
