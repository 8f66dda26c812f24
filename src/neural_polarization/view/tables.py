"""The numbers of a scene as tables of a page: readable without pictures, without scripts and by screen readers."""

from collections.abc import Sequence
from html import escape

import numpy as np

from ..units import DEBYE
from .scene import MINUS, Scene


def tables(scene: Scene, hidden: bool) -> str:
    """A section with the properties and the atoms of a scene.

    Args:
        hidden: whether another scene is shown first.
    """
    return (
        f"<section{' hidden' if hidden else ''}>\n<h2>{escape(scene.title or scene.formula)}</h2>\n"
        f"{_properties(scene)}{_atoms(scene)}</section>\n"
    )


def _properties(scene: Scene) -> str:
    rows = list(scene.properties.items())
    if scene.dipole is not None and not any(name.startswith("dipole") for name in scene.properties):
        rows.append(("dipole", f"{number(float(np.linalg.norm(scene.dipole)) / DEBYE, 3)} D"))
    if not rows:
        return ""
    lines = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div class="table"><table class="words"><caption>Properties</caption>\n{lines}\n</table></div>\n'


def _atoms(scene: Scene) -> str:
    columns: list[tuple[str, Sequence[float], int]] = [
        (f"{axis} (Å)", scene.positions[:, k].tolist(), 3) for k, axis in enumerate("xyz")
    ]
    if scene.charges is not None:
        columns.append(("charge (e)", scene.charges.tolist(), 3))
    caption = "Atoms"
    displacements = scene.displacements
    if displacements is not None:
        caption = "Atoms, and the displacement of each moving point from its nucleus"
        lengths = np.linalg.norm(displacements, axis=-1)
        layers = len(displacements)
        columns += [
            (f"length, layer {k + 1} (Å)" if layers > 1 else "length (Å)", lengths[k].tolist(), 3)
            for k in range(layers)
        ]
        columns += [(f"Δ{axis} (Å)", displacements[-1, :, k].tolist(), 3) for k, axis in enumerate("xyz")]
        if layers > 1:
            caption += "; Δx, Δy, Δz after the last layer"
    head = "".join(f'<th scope="col">{name}</th>' for name in ["atom", *(name for name, _, _ in columns)])
    rows = "\n".join(
        f'<tr><th scope="row">{symbol}{k + 1}</th>'
        + "".join(f"<td>{number(values[k], digits)}</td>" for _, values, digits in columns)
        + "</tr>"
        for k, symbol in enumerate(scene.symbols)
    )
    return (
        '<div class="table" tabindex="0" role="region" aria-label="Table of atoms">'
        f"<table><caption>{caption}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def number(value: float, digits: int) -> str:
    """A number with a real minus sign, and none before zero.

    Example:
        >>> number(-0.0004, 3), number(-1.5, 2)
        ('0.000', '−1.50')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)
