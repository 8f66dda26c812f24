"""A model's errors as a readable table."""

from collections.abc import Mapping
from typing import Any

from neural_polarization.text import table

PARTS = ("train", "validation", "test", "all")
"""Parts of the data in the order in which they are shown."""


def errors_table(result: Mapping[str, Any]) -> str:
    """Errors per property and part as text.

    Args:
        result: Mapping with "units", "validation" and "test", as `fit` returns it.
    """
    parts = [part for part in PARTS if result.get(part)]
    names = [name for name in result["units"] if any(name in result[part] for part in parts)]
    lines = [["property", "unit", *(f"{part} {kind}" for part in parts for kind in ("MAE", "RMSE"))]]
    for name in names:
        cells = [name, str(result["units"][name])]
        for part in parts:
            error = result[part].get(name)
            cells += ["-", "-"] if error is None else [f"{error['mae']:.4g}", f"{error['rmse']:.4g}"]
        lines.append(cells)
    return table(lines)
