"""What an evaluation found: errors, predictions beside labels, and lengths of displacements, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Parity:
    """Predictions beside labels, flat, without missing ones, in the property's customary unit.

    Attributes:
        predicted: Predictions.
        label: Labels.
        baseline: Predictions of the element references alone; zero for properties without references.
    """

    predicted: NDArray[np.float64]
    label: NDArray[np.float64]
    baseline: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model.

    Attributes:
        units: Customary unit of each property.
        errors: Errors of each part and property, as in `result.json`.
        parities: Predictions and labels of each part and property.
        displacements: Lengths of the displacements by element, over all parts, Angstrom.
        outside: Number of structures of each part that lie outside of the training data.
        history: File of the training's epochs, if it is beside the checkpoint.
    """

    units: Mapping[str, str]
    errors: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    parities: Mapping[str, Mapping[str, Parity]]
    displacements: Mapping[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    outside: Mapping[str, int] = field(default_factory=dict[str, int])
    history: Path | None = None

    def plain(self) -> dict[str, Any]:
        """Units, errors and numbers of structures outside of the training as plain values."""
        outside = {"outside_training": dict(self.outside)} if any(self.outside.values()) else {}
        return {"units": dict(self.units), **{part: dict(errors) for part, errors in self.errors.items()}, **outside}
