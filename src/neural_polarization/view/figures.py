"""Figures of a molecule and its electrons for papers and slides, with matplotlib.

`write_figure` puts together what a scene has: balls and sticks with the moving points as arrows, the surface of the
density in the colours of its potential, and slices of the density and of the deformation density through the plane
of the molecule. The single panels can be drawn into axes of one's own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import check_file, replacing
from ..units import BOHR, DEBYE
from .page import ball_radius, element_colour, orientation, principal_axes
from .raster import Canvas, Field
from .scene import Array, Grid, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOVING = "#d81b74"
"""Colour of the moving points."""

DENSITY = "#8fa3bd"
"""Colour of a density without a potential."""

SURFACE = 0.002 / BOHR**3
"""Value of the density on the surface that is drawn, e/Angstrom^3: 0.002 e/bohr^3."""

ENDINGS = (".png", ".svg", ".pdf")
"""What a figure can be written as."""

FACTORS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
"""How many times as long an arrow can be as its displacement."""

_PIXELS = 520  # of the longer side of a picture


def check_figure(path: str | Path, overwrite: bool = False) -> None:
    """Makes sure that a figure can have this name, before its scene is made.

    Raises:
        ValueError: for another ending than .png, .svg or .pdf.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where its folder cannot be written.
    """
    check_file(path, overwrite, ENDINGS, "figure")


def write_figure(scene: Scene, path: str | Path, overwrite: bool = False, dpi: int = 200, title: str = "") -> None:
    """Writes a figure with a panel for everything that a scene has.

    Args:
        scene: one structure.
        path: ends with .png, .svg or .pdf; its folder is made where it is missing.
        overwrite: whether a file that is there may be replaced.
        dpi: pixels per inch.
        title: above the panels, by default that of the scene.

    Raises:
        ValueError: for another ending.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    check_figure(path, overwrite)
    panels = panels_of(scene)
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.0 * rows), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title or scene.title or scene.formula, parse_math=False)  # a dollar sign is one
    for place, panel in enumerate(panels):
        panel(figure.add_subplot(rows, columns, place + 1), scene)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())


def panels_of(scene: Scene) -> Sequence[Callable[["Axes", Scene], None]]:
    """The panels for what a scene has."""
    found: list[Callable[[Axes, Scene], None]] = [draw_sticks]
    if scene.density is not None:
        found += [draw_density, draw_density_slice]
    if scene.deformation is not None:
        found.append(draw_deformation_slice)
    return found


def draw_sticks(axes: "Axes", scene: Scene, layer: int = -1, factor: int | None = None) -> None:
    """Draws balls and sticks, and the moving points as arrows from the surface of their balls.

    Args:
        axes: of matplotlib.
        layer: whose displacements are shown, by default the last one's.
        factor: length of an arrow over that of its displacement, by default `arrow_factor`.
    """
    canvas = _canvas(scene, 1.0)
    _draw_atoms(canvas, scene, layer, factor)
    _show(axes, canvas)
    axes.set_title(_arrow_words(scene, layer, factor), fontsize="small")


def draw_density(
    axes: "Axes", scene: Scene, level: float = SURFACE, opacity: float = 1.0, factor: int | None = None
) -> None:
    """Draws the surface of the density, in the colours of the potential if there is one.

    Args:
        axes: of matplotlib.
        level: value of the density on the surface, e/Angstrom^3.
        opacity: below 1 the atoms and arrows inside are seen through the surface.
        factor: length of an arrow over that of its displacement, by default `arrow_factor`.

    Raises:
        ValueError: for a scene without a density.
    """
    canvas = _canvas(scene, 2.3)
    colours = _draw_surface(canvas, scene, level)
    picture = canvas.picture()
    if opacity < 1:
        inside = _canvas(scene, 2.3)
        _draw_atoms(inside, scene, -1, factor)
        picture = over(picture * np.array([1.0, 1.0, 1.0, opacity]), inside.picture())
    _show(axes, canvas, picture)
    axes.set_title(f"density {level * BOHR**3:.3g} e/bohr³", fontsize="small")
    if isinstance(colours, PotentialColours):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        bar = axes.figure.colorbar(
            ScalarMappable(Normalize(colours.low, colours.high), "RdBu"), ax=axes, shrink=0.6, pad=0.02
        )
        bar.set_label("electrostatic potential (V)")


def draw_density_slice(axes: "Axes", scene: Scene) -> None:
    """Draws the density in the plane of the molecule; every line stands for twice the density of the one outside it.

    Raises:
        ValueError: for a scene without a density.
    """
    from matplotlib.colors import LogNorm

    plane = _Plane(scene, _needed(scene, "density"), scale=1e-4)
    values = np.maximum(plane.values, 1e-9) * BOHR**3
    levels = 0.002 * 2.0 ** np.arange(0, 12)
    axes.contourf(plane.xs, plane.ys, values, levels, cmap="Blues", norm=LogNorm(0.0005, 8.0), extend="max")
    axes.contour(plane.xs, plane.ys, values, levels, colors="black", linewidths=0.4, alpha=0.6)
    plane.draw_atoms(axes)
    axes.set_title("density: 0.002 e/bohr³, then twofold from line to line", fontsize="small")


def draw_deformation_slice(axes: "Axes", scene: Scene) -> None:
    """Draws the deformation density in the plane of the molecule, in two colours.

    Raises:
        ValueError: for a scene without a deformation density.
    """
    plane = _Plane(scene, _needed(scene, "deformation"), scale=1.0)
    values = plane.values * BOHR**3
    limit = max(float(np.quantile(np.abs(values), 0.97)), 1e-6)
    shown = axes.pcolormesh(plane.xs, plane.ys, values, cmap="PuOr", vmin=-limit, vmax=limit, shading="gouraud")
    shown.set_rasterized(True)
    lines = limit * np.array([-0.8, -0.4, -0.2, 0.2, 0.4, 0.8])
    axes.contour(plane.xs, plane.ys, values, lines, colors="black", linewidths=0.4, alpha=0.6)
    plane.draw_atoms(axes)
    axes.set_title("deformation density", fontsize="small")
    axes.figure.colorbar(shown, ax=axes, shrink=0.6, pad=0.02).set_label("e/bohr³; above 0: more than free atoms")


class PotentialColours:
    """Colours of a surface by the potential on it: red where electrons attract a positive charge, blue where not.

    Args:
        scene: with a density and a potential.
        level: value of the density on the surface, e/Angstrom^3.

    Attributes:
        low: potential of the reddest colour, V.
        high: potential of the bluest colour, V. The white one stands for zero, except on surfaces of one sign.
    """

    def __init__(self, scene: Scene, level: float) -> None:
        density, potential = _needed(scene, "density"), _needed(scene, "potential")
        self._field = Field(potential, 0.3)
        near = np.abs(np.log(np.maximum(density.values, 1e-12) / level)) < 0.4
        seen = self._field.values_at(density.points[near]) if near.any() else np.zeros(1)
        self.low, self.high = (float(value) for value in np.quantile(seen, [0.005, 0.995]))
        if self.low < 0 < self.high:
            self.high = max(self.high, -self.low)
            self.low = -self.high
        self.high = max(self.high, self.low + 0.01)

    def __call__(self, places: Array) -> Array:
        """Red, green and blue of 0 to 1 at places, (places, 3) Angstrom."""
        from matplotlib import colormaps

        share = (self._field.values_at(places) - self.low) / (self.high - self.low)
        return colormaps["RdBu"](np.clip(share, 0.0, 1.0))[:, :3]


def arrow_factor(scene: Scene, layer: int = -1) -> int:
    """A round number that makes the longest arrow of a layer as long as a bond at most."""
    if scene.displacements is None:
        return 1
    longest = float(np.linalg.norm(scene.displacements[layer], axis=-1).max())
    return max([factor for factor in FACTORS if factor * longest <= 0.9], default=1)


def over(front: Array, back: Array) -> Array:
    """One picture of red, green, blue and opacity in front of another."""
    seen = back[..., 3:] * (1 - front[..., 3:])
    opacity = front[..., 3:] + seen
    colours = front[..., :3] * front[..., 3:] + back[..., :3] * seen
    return np.concatenate([colours / np.maximum(opacity, 1e-9), opacity], axis=-1)


class _Plane:
    """A slice through the middle of a molecule, in the plane in which it is widest."""

    def __init__(self, scene: Scene, grid: Grid, scale: float, margin: float = 2.0, step: float = 0.04) -> None:
        self.scene, self.axes = scene, principal_axes(scene.positions)
        self.middle = scene.positions.mean(axis=0)
        self.flat = (scene.positions - self.middle) @ self.axes.T
        low, high = self.flat.min(axis=0) - margin, self.flat.max(axis=0) + margin
        self.xs, self.ys = np.arange(low[0], high[0], step), np.arange(low[1], high[1], step)
        x, y = np.meshgrid(self.xs, self.ys)
        places = self.middle + x[..., None] * self.axes[0] + y[..., None] * self.axes[1]
        self.values = Field(grid, scale).values_at(places.reshape(-1, 3), smooth=True).reshape(x.shape)

    def draw_atoms(self, axes: "Axes") -> None:
        """Draws the atoms and, in their true length, the displacements of the moving points."""
        for symbol, place in zip(self.scene.symbols, self.flat, strict=True):
            inside = abs(place[2]) < 0.3
            axes.plot(*place[:2], "o", ms=4, mec="black", mfc="black" if inside else "white", mew=0.6, zorder=4)
            axes.annotate(symbol, place[:2], (4, 4), textcoords="offset points", fontsize="x-small", zorder=5)
        if self.scene.displacements is not None:
            moved = self.scene.displacements[-1] @ self.axes.T
            style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.008, "zorder": 3}
            axes.quiver(self.flat[:, 0], self.flat[:, 1], moved[:, 0], moved[:, 1], color=MOVING, **style)
        axes.set(xlabel="Å", ylabel="Å", aspect="equal")


def _turn(scene: Scene) -> Array:
    """The first view, as on a page: rows are the picture's axes in the molecule's."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(orientation(scene.positions)).as_matrix()


def _canvas(scene: Scene, margin: float) -> Canvas:
    seen = scene.positions @ _turn(scene).T
    low, high = seen.min(axis=0)[:2] - margin, seen.max(axis=0)[:2] + margin
    return Canvas(low, high, float((high - low).max()) / _PIXELS)


def _draw_atoms(canvas: Canvas, scene: Scene, layer: int, factor: int | None) -> None:
    """Draws balls, sticks in the colours of both atoms, and arrows."""
    places = scene.positions @ _turn(scene).T
    colours = [_rgb(element_colour(int(number))) for number in scene.atomic_numbers]
    radii = [ball_radius(int(number)) for number in scene.atomic_numbers]
    for place, radius, colour in zip(places, radii, colours, strict=True):
        canvas.ball(place, radius, colour)
    for i, j in scene.bonds():
        middle = (places[i] + places[j]) / 2
        canvas.cone(places[i], middle, 0.07, 0.07, colours[i])
        canvas.cone(places[j], middle, 0.07, 0.07, colours[j])
    if scene.displacements is None:
        return
    factor = arrow_factor(scene, layer) if factor is None else factor
    moved = scene.displacements[layer] @ _turn(scene).T
    for place, radius, displacement in zip(places, radii, moved, strict=True):
        length = float(np.linalg.norm(displacement))
        if factor * length < 0.02:
            continue
        start = place + displacement / length * radius * 0.95
        canvas.arrow(start, start + factor * displacement, min(0.1, 0.03 + 0.15 * factor * length), _rgb(MOVING))


def _draw_surface(canvas: Canvas, scene: Scene, level: float) -> Callable[[Array], Array]:
    density = _needed(scene, "density")
    plain = _rgb(DENSITY)
    colours: Callable[[Array], Array] = (
        PotentialColours(scene, level)
        if scene.potential is not None
        else lambda places: np.broadcast_to(plain, places.shape)
    )
    canvas.surface(Field(density, 1e-4), _turn(scene), level, colours)
    return colours


def _arrow_words(scene: Scene, layer: int, factor: int | None) -> str:
    words: list[str] = []
    if scene.displacements is not None:
        factor = arrow_factor(scene, layer) if factor is None else factor
        longest = float(np.linalg.norm(scene.displacements[layer], axis=-1).max())
        drawn = "" if factor == 1 else f", drawn {factor} times as long"
        words.append(f"moving points: up to {longest:.2f} Å{drawn}")
    if scene.dipole is not None:
        words.append(f"dipole moment {np.linalg.norm(scene.dipole) / DEBYE:.2f} D")
    return "\n".join(words)


def _show(axes: "Axes", canvas: Canvas, picture: Array | None = None) -> None:
    extent = (float(canvas.low[0]), float(canvas.high[0]), float(canvas.low[1]), float(canvas.high[1]))
    axes.imshow(canvas.picture() if picture is None else picture, extent=extent, interpolation="antialiased")
    axes.set_axis_off()


def _needed(scene: Scene, name: str) -> Grid:
    grid = {"density": scene.density, "deformation": scene.deformation, "potential": scene.potential}[name]
    if grid is None:
        raise ValueError(f"scene {scene.title!r} has no {name}; give it a grid of the {name} to draw this")
    return grid


def _rgb(colour: str) -> Array:
    return np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
