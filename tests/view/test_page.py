"""The text of a page: what is in it, what is escaped, what is refused; the numbers of its grids."""

import base64
import dataclasses
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import water

from neural_polarization.view import Grid, Scene, write_page
from neural_polarization.view.encoding import encoded
from neural_polarization.view.page import LAMP, _asset, check_page, orientation, page, principal_axes
from neural_polarization.view.scene import MINUS


def decoded(stored: dict[str, Any]) -> np.ndarray:
    """Values of a grid of a page, read as the page's script reads them."""
    planes = np.frombuffer(gzip.decompress(base64.b64decode(stored["data"])), dtype=np.uint8).reshape(2, -1)
    differences = planes[0].astype(np.int64) + 256 * planes[1].astype(np.int64)
    numbers = (np.cumsum(differences) + 32768) % 65536 - 32768
    return stored["scale"] * np.sinh(numbers * stored["step"]).reshape(stored["shape"])


def scenes_of(text: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="scenes">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found.group(1))["scenes"]


class Elements(HTMLParser):
    """Names of all elements, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_grids_come_back() -> None:
    random = np.random.default_rng(1)
    values = random.choice([-1.0, 1.0], (7, 5, 6)) * 10.0 ** random.uniform(-8, 2, (7, 5, 6))
    values[0, 0, 0] = 0.0
    back = decoded(encoded(Grid(np.zeros(3), np.eye(3), values), scale=1e-4, most_points=1000))
    assert back[0, 0, 0] == 0.0
    # Fifteen steps of e over 32767 numbers, half of one at most: a relative 2.3e-4, or that times the scale.
    np.testing.assert_allclose(back, values, rtol=3e-4, atol=3e-8)


def test_grid_of_zeros() -> None:
    assert not decoded(encoded(Grid(np.zeros(3), np.eye(3), np.zeros((2, 3, 4))), 1e-4, 1000)).any()


def test_coarser_grid_keeps_its_box_and_its_values() -> None:
    density = water(points=60).density
    assert density is not None
    stored = encoded(density, 1e-4, 30_000)
    assert stored["finer"] and np.prod(stored["shape"]) <= 30_000
    coarse = Grid(np.array(stored["origin"]), np.array(stored["spacing"]), decoded(stored))
    np.testing.assert_allclose(coarse.points[-1, -1, -1], density.points[-1, -1, -1], atol=1e-6)
    squares = np.sum((coarse.points[..., None, :] - water().positions) ** 2, axis=-1)
    exact = np.exp(-2.0 * squares) @ np.array([6.0, 1.0, 1.0])
    near = exact > 1e-3  # where surfaces are drawn
    np.testing.assert_allclose(coarse.values[near], exact[near], rtol=0.03)


def test_the_page_holds_the_scene() -> None:
    scene = water()
    stored = scenes_of(page([scene]))[0]
    np.testing.assert_allclose(stored["positions"], scene.positions, atol=1e-5)
    assert scene.displacements is not None and scene.density is not None
    np.testing.assert_allclose(stored["displacements"], scene.displacements, atol=1e-5)
    np.testing.assert_allclose(decoded(stored["grids"]["density"]), scene.density.values, rtol=1e-3, atol=1e-7)
    assert stored["bonds"] == [[0, 1], [0, 2]]
    assert set(stored["grids"]) == {"density", "deformation", "potential"}


@pytest.mark.parametrize(
    "evil", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b <i>", "@TABLES@"]
)
def test_no_text_becomes_markup(evil: str) -> None:
    scene = dataclasses.replace(water(), title=evil, properties={evil: evil}, reference_name=evil)
    text, plain = page([scene]), page([water()])
    assert [name for name, _ in Elements(text).found] == [name for name, _ in Elements(plain).found]
    assert scenes_of(text)[0]["title"] == evil


def test_nothing_comes_from_the_network() -> None:
    elements = Elements(page([water()]))
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    policy = next(meta["content"] for meta in elements.of("meta") if meta.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy


def test_the_library_and_its_licence_are_inside() -> None:
    text = page([water()])
    assert "Redistribution and use in source and binary forms" in text and "3Dmol.js 2.5.5" in text
    assert "3dmol v2.5.5" in _asset("3dmol/3Dmol-min.js.LICENSE.txt")
    assert _asset("3dmol/3Dmol-min.js").count(LAMP) == 6  # the light of every shader is made even
    assert LAMP not in text


def test_tables_hold_every_number() -> None:
    text = page([water()])
    assert '<th scope="row">O1</th>' in text and "<td>2078.6 eV &lt;</td>" in text
    row = next(line for line in text.splitlines() if '<th scope="row">H2</th>' in line)
    cells = re.findall(r"<td>(.*?)</td>", row)
    lengths = [f"{share * np.hypot(0.25, 0.2):.3f}" for share in (0.3, 0.6, 1.0)]
    assert cells == ["0.000", "0.760", f"{MINUS}0.470", "0.300", *lengths, "0.000", f"{MINUS}0.250", "0.200"]


def test_the_dipole_stands_there_once() -> None:
    scene = water()
    assert "<td>1.873 D</td>" in page([scene])
    named = page([dataclasses.replace(scene, properties={"dipole of the density, length": "1.87 D"})])
    assert "<td>1.87 D</td>" in named and "1.873" not in named


def test_a_title_names_the_first_of_several() -> None:
    frame = water()
    other = dataclasses.replace(frame, title="")
    assert "<title>Water</title>" in page([frame, frame])
    assert "<h1>Water and 2 more</h1>" in page([frame, frame, other])
    assert "<title>H2O</title>" in page([other])
    assert "<h1>Film</h1>" in page([frame, other], "Film")


def test_every_control_has_a_label() -> None:
    elements = Elements(page([water()]))
    labelled = {label["for"] for label in elements.of("label")}
    controls = [attributes["id"] for tag in ("input", "select") for attributes in elements.of(tag)]
    assert len(controls) > 10 and set(controls) <= labelled


def test_a_page_without_a_structure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one scene"):
        write_page([], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"page\.html exists"):
        write_page([water()], path)
    assert path.read_text() == "mine"
    write_page([water()], path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_other_endings_and_unwritable_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.txt: .*\.html or \.htm"):
        write_page([water()], tmp_path / "page.txt")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"page\.html: its folder cannot be written .*choose another one"):
        check_page(tmp_path / "file" / "page.html")  # before the scenes are made


def test_sizes() -> None:
    # Twenty atoms on 250,000 points: three grids that no page may make larger than 5 MB.
    random = np.random.default_rng(0)
    positions = 3.0 * random.standard_normal((20, 3))
    origin, spacing = positions.min(axis=0) - 3, (positions.max(axis=0) - positions.min(axis=0) + 6) / 62 * np.eye(3)
    points = Grid(origin, spacing, np.zeros((63, 63, 63))).points
    values = np.zeros(points.shape[:-1])
    for position in positions:
        values += 50 * np.exp(-4 * np.linalg.norm(points - position, axis=-1))
    grid = Grid(origin, spacing, values)
    scene = Scene("", np.full(20, 6), positions, density=grid, deformation=grid, potential=grid)
    assert len(page([scene]).encode()) < 3e6


def test_a_film_gets_coarser_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_polarization.view.page.MOST_POINTS_OF_PAGE", 90_000)
    monkeypatch.setattr("neural_polarization.view.page.FEWEST_POINTS", 1_000)
    shapes = [frame["grids"]["density"]["shape"] for frame in scenes_of(page([water(shift=0.1 * k) for k in range(5)]))]
    assert all(3_000 < np.prod(shape) <= 90_000 // 15 for shape in shapes)


def test_first_view_is_of_the_widest_side() -> None:
    random = np.random.default_rng(2)
    flat = random.standard_normal((9, 3)) * np.array([0.1, 2.0, 1.0])
    axes = principal_axes(flat)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    spread = np.std(flat @ axes.T, axis=0)
    assert spread[0] > spread[1] > spread[2]
    assert np.linalg.norm(orientation(flat)) == pytest.approx(1.0)
    for few in (flat[:1], flat[:2]):  # an atom and a pair have no plane
        assert np.isfinite(orientation(few)).all()
