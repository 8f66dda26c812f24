"""The page in a headless Chromium: what it draws, what the controls change, and that it asks nobody for anything."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import EXECUTABLE, Chromium
from scenes import water

from neural_polarization.view import Grid, Scene, write_page
from neural_polarization.view.encoding import encoded
from neural_polarization.view.page import _asset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        EXECUTABLE is None and not os.environ.get("NPOL_TEST_PAGE"), reason="needs Chromium (Debian: chromium)"
    ),
]

WIDTH = 700  # the narrowest with two pictures side by side: software draws them, and small ones take less time


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium(width=WIDTH, height=700) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def opened(browser: Chromium, folder: Path) -> Chromium:
    """The page of water, freshly loaded."""
    path = folder / "water.html"
    if not path.exists():
        write_page([water()], path)
    return opening(browser, path)


def opening(browser: Chromium, path: Path) -> Chromium:
    browser.problems.clear()
    browser.media()
    browser.resize(WIDTH, 700)
    browser.open(path)
    return browser


def choose(browser: Chromium, control: str, value: str) -> None:
    """Sets a control as a hand would, with its events."""
    browser.evaluate(
        f"(() => {{ const e = document.getElementById({control!r}); e.value = {value!r};"
        "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); })()"
    )
    browser.settle()


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels that differ visibly."""
    return float(np.mean(np.abs(before - after).max(axis=-1) > 24))


def drawn(picture: np.ndarray) -> float:
    """Share of the pixels that are not the background."""
    return changed(picture, np.broadcast_to(picture[5, 5], picture.shape))


def red_and_blue(picture: np.ndarray) -> tuple[float, float]:
    """Shares of clearly red and of clearly blue pixels."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return float(np.mean((red > green + 50) & (red > blue + 50))), float(
        np.mean((blue > red + 50) & (blue > green + 25))
    )


def text(browser: Chromium, element: str) -> str:
    return browser.evaluate(f"document.getElementById({element!r}).textContent")


def test_draws_without_a_complaint(opened: Chromium) -> None:
    left, right = opened.screenshot(element="canvas-left"), opened.screenshot(element="canvas-right")
    assert 0.02 < drawn(left) < 0.4 and 0.15 < drawn(right) < 0.8
    red, blue = red_and_blue(right)
    assert red > 0.02 and blue > 0.004  # oxygen attracts a positive charge, hydrogen repels it
    assert opened.problems == []
    assert opened.evaluate("document.getElementById('trouble').hidden")


def test_the_surface_is_where_the_density_has_its_value(opened: Chromium) -> None:
    # 21 Angstrom^3 or so: the volume where the sum of three Gaussian functions is above 0.002 e/bohr^3.
    squares = water(points=60)
    assert squares.density is not None
    level = 0.002 / 0.529177210903**3
    exact = np.count_nonzero(squares.density.values > level) * squares.density.cell_volume
    words = text(opened, "caption-right")
    assert "0.002 e/bohr³ = 0.0135 e/Å³" in words
    assert float(words.split("around ")[1].split()[0]) == pytest.approx(exact, rel=0.02)


def test_sliders_and_choices_change_the_picture(opened: Chromium) -> None:
    before = opened.screenshot(element="canvas-right")
    choose(opened, "total", "60")
    smaller = opened.screenshot(element="canvas-right")
    assert drawn(smaller) < 0.8 * drawn(before)
    assert "0.1 e/bohr³" in text(opened, "total-value") + text(opened, "caption-right")
    choose(opened, "content-right", "deformation")
    assert changed(smaller, opened.screenshot(element="canvas-right")) > 0.02
    red, blue = red_and_blue(opened.screenshot(element="canvas-right"))
    assert red > 0.005 and blue > 0.005  # orange and blue lobes
    assert "fewer electrons" in text(opened, "caption-right")
    assert opened.problems == []


def test_layers_and_scale_move_the_arrows(opened: Chromium) -> None:
    choose(opened, "labels", "none")
    before = opened.screenshot(element="canvas-left")
    assert "after layer 3 of 3" in text(opened, "caption-left") and "0.320 Å (H2)" in text(opened, "caption-left")
    choose(opened, "layer", "1")
    assert "after layer 1 of 3" in text(opened, "caption-left") and "0.096 Å (H2)" in text(opened, "caption-left")
    first = opened.screenshot(element="canvas-left")
    assert changed(before, first) > 0.001
    choose(opened, "scale", "5")
    assert "10 times the true length" in text(opened, "scale-value")
    assert changed(first, opened.screenshot(element="canvas-left")) > 0.002
    opened.evaluate("document.getElementById('arrows').click()")
    opened.settle()
    assert "arrows" not in text(opened, "caption-left")


def test_keys_turn_both_pictures(opened: Chromium) -> None:
    before = [opened.screenshot(element=f"canvas-{side}") for side in ("left", "right")]
    opened.evaluate("document.getElementById('canvas-left').focus()")
    for _ in range(2):
        opened.press("ArrowRight")
    after = [opened.screenshot(element=f"canvas-{side}") for side in ("left", "right")]
    assert all(changed(old, new) > 0.01 for old, new in zip(before, after, strict=True))
    opened.press("0", text="0")
    back = [opened.screenshot(element=f"canvas-{side}") for side in ("left", "right")]
    assert all(changed(old, new) < 0.002 for old, new in zip(before, back, strict=True))


def test_every_control_is_reached_by_tab(opened: Chromium) -> None:
    wanted = set(
        opened.evaluate(
            "[...document.querySelectorAll('input, select, button, .canvas, summary')].filter(e => e.offsetParent)"
            ".map((e, n) => e.id || (e.id = `unnamed-${n}`))"
        )
    )
    reached: list[str] = []
    for _ in range(len(wanted) + 8):
        opened.press("Tab")
        reached.append(opened.evaluate("document.activeElement.id"))
    assert wanted <= set(reached), wanted - set(reached)


def test_what_a_screen_reader_gets(opened: Chromium) -> None:
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node.get("role")
    ]
    roles = ("slider", "checkbox", "combobox", "button", "application", "table")
    nameless = [role for role, name in seen if role in roles and not name]
    assert nameless == []
    assert any(role == "application" and name.startswith("Water, H2O.") for role, name in seen)
    assert {"main", "heading", "table", "rowheader", "columnheader"} <= {role for role, _ in seen}
    assert opened.evaluate("document.documentElement.lang") == "en"


def test_dark_light_phone_and_paper(opened: Chromium) -> None:
    light = opened.screenshot(element="canvas-right")
    opened.media(prefers_color_scheme="dark")
    opened.settle()
    dark = opened.screenshot(element="canvas-right")
    assert light[5, 5].mean() > 230 and dark[5, 5].mean() < 60
    opened.media()
    opened.resize(360, 700)
    opened.settle()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    opened.media("print")
    assert opened.evaluate("document.getElementById('controls').offsetHeight") == 0
    assert opened.evaluate("document.querySelector('#numbers table').offsetHeight") > 0


def test_a_structure_without_density(browser: Chromium, folder: Path) -> None:
    path = folder / "points.html"
    write_page([dataclasses.replace(water(), density=None, deformation=None, potential=None)], path)
    opening(browser, path)
    assert browser.evaluate("document.getElementById('pane-right').hidden")
    assert "displacements alone are no density" in text(browser, "no-density")
    assert browser.evaluate("document.getElementById('no-density').offsetHeight") > 0
    assert drawn(browser.screenshot(element="canvas-left")) > 0.02
    assert browser.problems == []


def test_densities_come_and_go(browser: Chromium, folder: Path) -> None:
    path = folder / "mixed.html"
    bare = dataclasses.replace(water(), density=None, deformation=None, potential=None)
    write_page([bare, water()], path)
    opening(browser, path)
    choose(browser, "structure", "1")
    browser.wait_for("!document.getElementById('pane-right').hidden")
    browser.settle()
    assert drawn(browser.screenshot(element="canvas-right")) > 0.15
    assert browser.problems == []


def test_a_film(browser: Chromium, folder: Path) -> None:
    path = folder / "film.html"
    frames = [dataclasses.replace(water(shift=0.3 * k), title=f"frame {k}") for k in range(3)]
    frames.append(Scene("atom", np.array([18]), np.zeros((1, 3))))
    write_page(frames, path, title="Film")
    opening(browser, path)
    before = browser.screenshot(element="canvas-right")
    choose(browser, "structure", "2")
    browser.wait_for("document.getElementById('structure-value').textContent.includes('frame 2')")
    browser.settle()
    assert changed(before, browser.screenshot(element="canvas-right")) > 0.02
    hidden = browser.evaluate("[...document.querySelectorAll('#numbers > section')].map(s => s.hidden)")
    assert hidden == [True, True, False, True]
    choose(browser, "structure", "3")
    browser.wait_for("document.getElementById('structure-value').textContent.includes('atom')")
    browser.settle()
    assert "no moving points" in text(browser, "caption-left")
    assert browser.problems == []


def test_a_potential_of_one_sign(browser: Chromium, folder: Path) -> None:
    scene = water()
    assert scene.density is not None
    even = dataclasses.replace(scene.density, values=np.full(scene.density.values.shape, 7.2))
    path = folder / "one_sign.html"
    write_page([dataclasses.replace(scene, potential=even)], path)
    opening(browser, path)
    assert "positive everywhere on this surface: nuclei repel a positive charge. " in text(browser, "caption-right")
    red, blue = red_and_blue(browser.screenshot(element="canvas-right"))
    assert red == 0.0 and blue > 0.1
    choose(browser, "colour", "range")
    caption = text(browser, "caption-right")
    assert "least where red" in caption and "7.1 V7.3 V" in caption  # the noise of an even potential is not coloured
    red, blue = red_and_blue(browser.screenshot(element="canvas-right"))
    assert red == 0.0 and blue < 0.01


def test_the_dipole_stays_in_the_picture(browser: Chromium, folder: Path) -> None:
    path = folder / "dipoles.html"
    turns = [[0.0, 0.0, -0.3], [0.0, 0.5, 0.3], [0.6, 0.0, 0.6], [0.0, -0.8, 0.4], [0.9, 0.0, 0.0]]
    write_page([dataclasses.replace(water(shift=0.1), dipole=np.array(turn)) for turn in turns], path)
    opening(browser, path)
    choose(browser, "labels", "none")
    for frame in range(len(turns)):
        choose(browser, "structure", str(frame))
        browser.wait_for(f"document.getElementById('structure-value').textContent.startsWith('{frame + 1} of')")
        browser.settle()
        for side in ("left", "right"):
            ink = browser.screenshot(element=f"canvas-{side}").max(axis=-1)[4:-4, 4:-4] < 50
            assert np.count_nonzero(ink) > 20, (frame, side)  # in sight
            assert not ink[[0, -1]].any() and not ink[:, [0, -1]].any(), (frame, side)


def test_reference_and_difference(browser: Chromium, folder: Path) -> None:
    scene = water()
    assert scene.density is not None
    other = dataclasses.replace(scene.density, values=1.1 * scene.density.values)
    path = folder / "reference.html"
    write_page([dataclasses.replace(scene, reference=other, reference_name="DFT density")], path)
    opening(browser, path)
    names = browser.evaluate("[...document.getElementById('content-right').options].map(o => o.text)")
    assert names == [
        "Balls and sticks",
        "Electron density",
        "Deformation density",
        "DFT density",
        "Difference to the DFT density",
    ]
    choose(browser, "content-left", "reference")
    assert "The colours are the potential of “Electron density”" in text(browser, "caption-left")
    assert "The colours are" not in text(browser, "caption-right")
    choose(browser, "content-right", "difference")
    _, blue = red_and_blue(browser.screenshot(element="canvas-right"))
    assert blue == 0.0  # nowhere more electrons than in the reference
    assert browser.problems == []


def test_a_browser_without_webgl_shows_the_numbers(folder: Path) -> None:
    path = folder / "numbers.html"
    write_page([water()], path)
    with Chromium(width=WIDTH) as browser:
        none = "HTMLCanvasElement.prototype.getContext = () => null"
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=none)
        browser.open(path)
        assert "no WebGL" in text(browser, "trouble")
        assert browser.evaluate("document.querySelector('#numbers table').offsetHeight") > 0
        assert not browser.evaluate("document.getElementById('pictures').offsetHeight")


def test_values_in_the_browser_are_the_grids(opened: Chromium, folder: Path) -> None:
    # The same bytes, read by the page's own function.
    opened.evaluate(
        f"{_asset('grids.js')}; Object.assign(globalThis, {{ readGrid, valueOfLevel: valueOf, surfaceOf }}); 0"
    )
    scene = water()
    assert scene.density is not None
    found = opened.evaluate(
        "readGrid(JSON.parse(document.getElementById('scenes').textContent).scenes[0].grids.density).then(grid => {"
        "globalThis.grid = grid; return [...grid.levels].map(level => valueOfLevel(grid, level)); })"
    )
    np.testing.assert_allclose(
        np.reshape(found, scene.density.values.shape), scene.density.values, rtol=1e-3, atol=1e-7
    )
    value = 0.1
    mesh = json.loads(opened.evaluate(f"JSON.stringify(surfaceOf(grid, {value}))"))
    places = np.array([[v["x"], v["y"], v["z"]] for v in mesh["vertices"]])
    squares = np.sum((places[:, None] - scene.positions) ** 2, axis=-1)
    exact = np.exp(-2.0 * squares) @ np.array([6.0, 1.0, 1.0])
    np.testing.assert_allclose(exact, value, rtol=0.08)  # 0.2 Angstrom between the points of the grid
    slope = -4.0 * np.einsum("pa,a,pax->px", np.exp(-2.0 * squares), [6.0, 1.0, 1.0], places[:, None] - scene.positions)
    normals = np.array([[n["x"], n["y"], n["z"]] for n in mesh["normals"]])
    outwards = -np.sum(normals * slope, axis=-1) / np.linalg.norm(slope, axis=-1)
    assert outwards.min() > 0.95
    corners = places[np.reshape(mesh["faces"], (-1, 3))]
    areas = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # A closed surface: its directed areas cancel; its volume is that of the points inside.
    assert np.abs(areas.sum(axis=0)).max() < 1e-3 * np.linalg.norm(areas, axis=-1).sum()
    volume = np.sum(corners.mean(axis=1) * areas) / 3
    fine = water(points=90).density
    assert fine is not None
    assert volume == pytest.approx(np.count_nonzero(fine.values > value) * fine.cell_volume, rel=0.03)


def test_a_surface_near_the_side_of_the_box_is_closed(opened: Chromium) -> None:
    """It passes between the first and the second points of the grid, and between the last two."""
    scene = water()
    assert scene.density is not None
    value = 0.5 * 0.0135
    above = np.argwhere(scene.density.values > value)
    low, high = above.min(axis=0) - 1, above.max(axis=0) + 2
    cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    places = scene.density.points[cut]
    tight = encoded(Grid(places[0, 0, 0], scene.density.spacing, scene.density.values[cut]), 1e-4, 10**6)
    mesh = f"readGrid({json.dumps(tight)}).then(grid => surfaceOf(grid, {value}).faces)"
    faces = opened.evaluate(f"(() => {{ {_asset('grids.js')}; return {mesh}; }})()")
    triangles = np.reshape(faces, (-1, 3))
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=-1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert len(triangles) > 1000 and set(counts % 2) == {0}  # every edge has a triangle on either side
