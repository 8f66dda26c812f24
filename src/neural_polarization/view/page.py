"""One HTML file that shows molecules with their electrons, without any network access."""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from ..files import refuse_existing, write_text
from ..units import DEBYE
from .encoding import encoded
from .scene import Array, Scene
from .tables import tables

MOST_POINTS = 400_000
"""A grid of more points is made coarser: its surfaces would have more triangles than a telephone turns smoothly."""

MOST_POINTS_OF_PAGE = 12_000_000
"""All grids of a page together; with many structures each of them gets fewer points."""

FEWEST_POINTS = 20_000

SCALES = {"density": 1e-4, "reference": 1e-4, "deformation": 1e-4, "difference": 1e-5, "potential": 0.3}
"""Below these values (e/Angstrom^3, V) the numbers of a grid are resolved evenly."""

LAMP = "vec3( max( dotProduct, 0.0 ) )"
"""How bright a place is in the shaders of 3Dmol.js, whose single lamp leaves the rim of every surface black."""

LAMP_AND_EVEN_LIGHT = "vec3( 0.4 + 0.6 * max( dotProduct, 0.0 ) )"
"""What is put in its place, so that the colours of a surface are read at its rim too."""

SCRIPTS = ("grids.js", "drawing.js", "page.js")


def write_page(scenes: Sequence[Scene], path: str | Path, title: str = "", overwrite: bool = False) -> None:
    """Writes a page that shows structures with their moving points and densities in a browser.

    The file holds everything that it needs, 3Dmol.js included, and forbids the browser any network access.

    Args:
        scenes: the structures, or the frames of a trajectory, in order; a slider chooses among them.
        path: ends with .html or .htm; its folder is made where it is missing.
        title: of the page, by default that of the first scene, and how many there are of other titles.
        overwrite: whether a file that is there may be replaced.

    Raises:
        ValueError: without a scene, or for another ending.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where the file cannot be written.
    """
    path = Path(path)
    check_page(path, overwrite)
    write_text(path, page(scenes, title))


def check_page(path: str | Path, overwrite: bool = False) -> None:
    """Makes sure that a page can have this name, before its scenes are made.

    Raises:
        ValueError: for another ending than .html or .htm.
        FileExistsError: if the file is there and `overwrite` is not set.
        OSError: where its folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: a page ends with .html or .htm, a figure with .png, .svg or .pdf; give one of these")
    refuse_existing(path, overwrite)


def page(scenes: Sequence[Scene], title: str = "") -> str:
    """The text of a page; see `write_page`.

    Raises:
        ValueError: without a scene.
    """
    if not scenes:
        raise ValueError("no structure to show: a page needs at least one scene")
    grids = sum(len(_grids(scene)) for scene in scenes)
    most = min(MOST_POINTS, max(FEWEST_POINTS, MOST_POINTS_OF_PAGE // max(grids, 1)))
    values = {"debye": DEBYE, "scenes": [_plain(scene, most) for scene in scenes]}
    style = _asset("page.css")
    library = _asset("3dmol/3Dmol-min.js").replace(LAMP, LAMP_AND_EVEN_LIGHT)
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(name) for name in SCRIPTS) + "})();\n"
    parts = {
        "POLICY": _policy(style, library, script),
        "TITLE": escape(title or _title(scenes)),
        "SUBTITLE": escape(_subtitle(scenes[0])),
        "STYLE": style,
        "TABLES": "".join(tables(scene, hidden=k > 0) for k, scene in enumerate(scenes)),
        "LICENCE": escape(_asset("3dmol/LICENSE")),
        # No text of a structure can end the script element that carries it.
        "SCENES": json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        "LIBRARY": library,
        "SCRIPT": script,
    }
    pieces = _asset("page.html").split("@")  # names stand between two of them, and no @ anywhere else
    return "".join(piece if k % 2 == 0 else parts[piece] for k, piece in enumerate(pieces))


def _plain(scene: Scene, most_points: int) -> dict[str, Any]:
    """A scene as plain values for the page's script."""
    displacements = scene.displacements
    numbers = scene.atomic_numbers
    return {
        "title": scene.title,
        "formula": scene.formula,
        "subtitle": _subtitle(scene),
        "charge": scene.charge,
        "symbols": scene.symbols,
        "positions": _rounded(scene.positions),
        "colours": [element_colour(int(number)) for number in numbers],
        "radii": [ball_radius(int(number)) for number in numbers],
        "bonds": scene.bonds(),
        "axes": _rounded(principal_axes(scene.positions)),
        "orientation": _rounded(orientation(scene.positions)),
        "displacements": None if displacements is None else _rounded(displacements),
        "dipole": None if scene.dipole is None else _rounded(scene.dipole),
        "charges": None if scene.charges is None else _rounded(scene.charges),
        "referenceName": scene.reference_name,
        "grids": {name: encoded(grid, SCALES[name], most_points) for name, grid in _grids(scene).items()},
    }


def _grids(scene: Scene) -> dict[str, Any]:
    found = {
        "density": scene.density,
        "deformation": scene.deformation,
        "reference": scene.reference,
        "difference": scene.difference,
        "potential": scene.potential,
    }
    return {name: grid for name, grid in found.items() if grid is not None}


def _title(scenes: Sequence[Scene]) -> str:
    first, *others = [scene.title or scene.formula for scene in scenes]
    return first if set(others) <= {first} else f"{first} and {len(others)} more"


def _subtitle(scene: Scene) -> str:
    atoms = len(scene.atomic_numbers)
    return f"{scene.formula}, {atoms} {'atom' if atoms == 1 else 'atoms'}"


def element_colour(number: int) -> str:
    """Colour of an element, such as "#ff0d0d" for oxygen: Jmol's, with a hydrogen that is seen on white paper."""
    red, green, blue = (0.86, 0.88, 0.91) if number == 1 else jmol_colors[number]
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in (red, green, blue))


def ball_radius(number: int) -> float:
    """Radius of an atom's ball, Angstrom."""
    return round(0.16 + 0.22 * float(covalent_radii[number]), 3)


def principal_axes(positions: Array) -> Array:
    """Directions in which a molecule is widest, second widest and thinnest: the rows of a rotation."""
    axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=True)[2]
    return axes * np.array([[1.0], [1.0], [np.linalg.det(axes)]])


def orientation(positions: Array) -> Array:
    """The turn that shows the widest side of a molecule, a little from above, as a quaternion (x, y, z, w)."""
    from scipy.spatial.transform import Rotation

    tilt = Rotation.from_euler("yx", [18.0, 24.0], degrees=True)
    return (tilt * Rotation.from_matrix(principal_axes(positions))).as_quat()


def _rounded(values: Array) -> Any:
    return np.round(values.astype(np.float64), 5).tolist()


def _policy(style: str, *scripts: str) -> str:
    """What a browser may do with the page: its own scripts and style, and nothing from any network."""

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(hashed, scripts))}; style-src {hashed(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return files("neural_polarization.view").joinpath("assets", name).read_text(encoding="utf-8")
