"""Figures: shapes against their geometry, surfaces against known densities, slices, and files."""

import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from scenes import water

from neural_polarization.view import Grid, write_figure
from neural_polarization.view.figures import (
    PotentialColours,
    arrow_factor,
    draw_deformation_slice,
    draw_density,
    over,
)
from neural_polarization.view.raster import Canvas, Field

RED = np.array([1.0, 0.0, 0.0])
LOW, HIGH = np.array([-2.0, -2.0]), np.array([2.0, 2.0])


def canvas() -> Canvas:
    return Canvas(LOW, HIGH, 0.02)


def area(drawn: Canvas) -> float:
    return float(np.count_nonzero(np.isfinite(drawn.depth))) * (drawn.pixel / 2) ** 2


def test_a_ball_is_a_disc_with_its_depth() -> None:
    drawn = canvas()
    drawn.ball(np.array([0.5, -0.3, 1.0]), 0.8, RED)
    assert area(drawn) == pytest.approx(np.pi * 0.8**2, rel=0.01)
    assert drawn.depth.max() == pytest.approx(1.8, abs=1e-3)
    row, column = np.unravel_index(np.argmax(drawn.depth), drawn.depth.shape)
    assert (drawn.xs[column], drawn.ys[row]) == pytest.approx((0.5, -0.3), abs=0.02)


@pytest.mark.parametrize("axis", [[1.0, 0.0, 0.0], [0.6, 0.5, 0.62], [-0.3, 0.9, -0.3]])
def test_points_of_a_cone_have_its_radius(axis: list[float]) -> None:
    start, end = np.array([-0.2, 0.1, 0.3]), np.array([-0.2, 0.1, 0.3]) + 1.2 * np.array(axis)
    drawn = canvas()
    drawn.cone(start, end, 0.4, 0.1, RED)
    rows, columns = np.nonzero(np.isfinite(drawn.depth))
    places = np.stack([drawn.xs[columns], drawn.ys[rows], drawn.depth[rows, columns]], axis=-1)
    unit = (end - start) / np.linalg.norm(end - start)
    along = (places - start) @ unit
    distance = np.linalg.norm(places - start - along[:, None] * unit, axis=-1)
    np.testing.assert_allclose(distance, 0.4 - 0.3 * along / np.linalg.norm(end - start), atol=1e-9)
    assert area(drawn) > 0.3 * 0.5 * np.linalg.norm((end - start)[:2])


def test_what_is_nearer_is_seen() -> None:
    drawn, blue = canvas(), np.array([0.0, 0.0, 1.0])
    drawn.ball(np.array([0.0, 0.0, 0.5]), 0.5, RED)
    drawn.ball(np.array([0.0, 0.0, 0.0]), 0.9, blue)  # behind its middle, in front of nothing
    middle, side = drawn.picture()[100, 100], drawn.picture()[100, 100 + 35]
    assert middle[0] > 0.4 and middle[2] == 0.0
    assert side[2] > 0.3 and side[0] == 0.0
    assert drawn.picture()[0, 0, 3] == 0.0


def test_shapes_outside_of_the_picture_are_left_out() -> None:
    drawn = canvas()
    for place in ([9.0, 0.0, 0.0], [-9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, -9.0, 0.0]):
        drawn.ball(np.array(place), 0.5, RED)
        drawn.cone(np.array(place), 1.1 * np.array(place) + 0.1, 0.2, 0.2, RED)
    assert area(drawn) == 0.0
    drawn.ball(np.array([2.0, 2.0, 0.0]), 0.5, RED)
    assert area(drawn) == pytest.approx(np.pi * 0.25 / 4, rel=0.05)


def test_a_surface_is_where_the_value_is() -> None:
    # exp(-r^2) is 0.2 at r = sqrt(ln 5), from whichever side.
    points = Grid(np.full(3, -2.4), 0.2 * np.eye(3), np.zeros((25, 25, 25))).points
    grid = Grid(np.full(3, -2.4), 0.2 * np.eye(3), np.exp(-np.sum(points**2, axis=-1)))
    radius = np.sqrt(np.log(5.0))
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)
    drawn = canvas()
    drawn.surface(Field(grid, 1e-4), turn, 0.2, lambda places: np.broadcast_to(RED, places.shape))
    rows, columns = np.nonzero(np.isfinite(drawn.depth))
    places = np.stack([drawn.xs[columns], drawn.ys[rows], drawn.depth[rows, columns]], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(places, axis=-1), radius, atol=0.02)
    assert area(drawn) == pytest.approx(np.pi * radius**2, rel=0.03)
    negative = Grid(grid.origin, grid.spacing, -grid.values)
    other = canvas()
    other.surface(Field(negative, 1e-4), turn, -0.2, lambda places: np.broadcast_to(RED, places.shape))
    np.testing.assert_allclose(other.depth, drawn.depth)
    np.testing.assert_allclose(other.colours, drawn.colours, atol=1e-9)


def test_a_field_between_its_points() -> None:
    random = np.random.default_rng(3)
    places = random.uniform(-1.0, 1.0, (50, 3))
    density = water(points=40).density
    assert density is not None
    squares = np.sum((places[:, None] - water().positions) ** 2, axis=-1)
    exact = np.exp(-2.0 * squares) @ np.array([6.0, 1.0, 1.0])
    field = Field(density, 1e-4)
    np.testing.assert_allclose(field.values_at(places, smooth=True), exact, rtol=0.01)
    slope = -4.0 * np.einsum("pa,a,pax->px", np.exp(-2 * squares), [6.0, 1.0, 1.0], places[:, None] - water().positions)
    np.testing.assert_allclose(field.slope(places), slope / exact[:, None], rtol=0.05, atol=0.05)


def test_potentials_have_zero_in_white_and_ions_their_range() -> None:
    scene = water()
    colours = PotentialColours(scene, 0.01)
    assert colours.low == -colours.high < 0
    oxygen, hydrogen = colours(np.array([[0.0, 0.0, 1.6], [0.0, 1.5, -1.0]]))
    assert oxygen[0] > oxygen[2] and hydrogen[2] > hydrogen[0]
    assert scene.potential is not None
    ion = dataclasses.replace(scene, potential=dataclasses.replace(scene.potential, values=scene.potential.values + 9))
    assert 0 < PotentialColours(ion, 0.01).low < PotentialColours(ion, 0.01).high


def test_the_slice_lies_in_the_plane_of_the_molecule() -> None:
    axes = Figure().subplots()
    draw_deformation_slice(axes, water())
    mesh = axes.collections[0]
    values = mesh.get_array()
    assert values is not None
    # Highest at hydrogen, lowest at oxygen: both nuclei lie in the plane (0.3 and -0.6 there, and their neighbours).
    in_bohr = 0.529177210903**3
    scene = water()
    squares = np.sum((scene.positions[:, None] - scene.positions) ** 2, axis=-1)
    at_nuclei = np.exp(-2.0 * squares) @ np.array([-0.6, 0.3, 0.3]) * in_bohr
    assert values.min() == pytest.approx(at_nuclei[0], rel=0.05)
    assert values.max() == pytest.approx(at_nuclei[1], rel=0.35)
    assert {text.get_text() for text in axes.texts} == {"O", "H"}


def test_arrow_factor_and_layers() -> None:
    scene = water()  # 0.32 Angstrom after the last layer, 0.096 after the first
    assert (arrow_factor(scene), arrow_factor(scene, 0)) == (2, 5)
    assert arrow_factor(dataclasses.replace(scene, moving_points=None)) == 1


def test_over_is_the_front_where_it_is_opaque() -> None:
    front, back = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(over(front, back), front)
    np.testing.assert_allclose(over(front * [1, 1, 1, 0.25], back), [0.25, 0.0, 0.75, 1.0])
    np.testing.assert_allclose(over(front * [1, 1, 1, 0.0], back * [1, 1, 1, 0.0])[3], 0.0)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_polarization.view.figures._PIXELS", 120)
    path = tmp_path / "new" / "water.png"
    write_figure(water(), path, dpi=60)
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (480, 504) and picture[..., :3].std() > 0.05
    with pytest.raises(FileExistsError, match=r"water\.png exists"):
        write_figure(water(), path)
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        write_figure(water(), tmp_path / "water.jpg")
    bare = dataclasses.replace(water(), density=None, deformation=None, potential=None)
    write_figure(bare, tmp_path / "bare.svg", title=r"water, $\frac$, no formula of TeX")
    assert "<svg" in (tmp_path / "bare.svg").read_text()
    with pytest.raises(ValueError, match="scene 'Water' has no density"):
        draw_density(Figure().subplots(), bare)
