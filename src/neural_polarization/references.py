"""Reference values of elements, which heads add up, and the compositions that they are right for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

GIVEN, ISOLATED, FITTED = "given", "isolated atom", "least squares"
"""Where the reference value of an element comes from."""


@final
@dataclass(frozen=True)
class References:
    """Values of the elements that a property's head adds up, and which compositions they are right for.

    Attributes:
        values: reference value of each element, in the property's internal unit.
        sources: for each element `GIVEN`, `ISOLATED` or `FITTED`.
        compositions: linearly independent compositions (atoms of each element, in the order of `values`) that the
            references were learned from. An element whose value is known by itself counts as a composition of one atom.
    """

    values: Mapping[str, float]
    sources: Mapping[str, str]
    compositions: tuple[tuple[int, ...], ...]

    @property
    def rank(self) -> int:
        """Number of independent compositions; equal to the number of elements if every value is determined."""
        return len(self.compositions)

    def covers(self, counts: Mapping[str, int]) -> bool:
        """Whether the sum of the references of a composition is determined by the training.

        Example:
            >>> ethanol = References({"H": -0.1, "C": -0.2}, {"H": FITTED, "C": FITTED}, ((6, 2),))
            >>> ethanol.covers({"H": 3, "C": 1}), ethanol.covers({"H": 4, "C": 1})
            (True, False)
        """
        if any(count and symbol not in self.values for symbol, count in counts.items()):
            return False
        row = np.array([counts.get(symbol, 0) for symbol in self.values], np.float64)
        basis = np.array(self.compositions, np.float64).reshape(-1, len(self.values))
        return not _is_new(row, basis)


def references_of(
    elements: Sequence[str],
    values: Float[Tensor, " elements"],
    known: Mapping[str, str],
    composition: Float[Tensor, "molecules elements"],
) -> References:
    """Reference values with the compositions that determine them.

    Args:
        elements: symbols, in the order of the columns.
        values: reference values, internal unit.
        known: source of each element whose value was not fitted.
        composition: atoms of each element in each labelled training molecule.
    """
    units = [tuple(int(other == symbol) for other in elements) for symbol in elements if symbol in known]
    rows = torch.unique(composition.round().long(), dim=0).tolist()
    chosen = independent([*units, *(tuple(row) for row in sorted(rows, key=sum))])
    return References(
        values=dict(zip(elements, values.tolist(), strict=True)),
        sources={symbol: known.get(symbol, FITTED) for symbol in elements},
        compositions=chosen,
    )


def independent(compositions: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Those compositions that are no linear combination of the ones before them.

    Example:
        >>> independent([(1, 0), (2, 0), (1, 1), (0, 3)])
        ((1, 0), (1, 1))
    """
    chosen: list[tuple[int, ...]] = []
    for row in compositions:
        if len(chosen) == len(row):
            break
        basis = np.array(chosen, np.float64).reshape(-1, len(row))
        if _is_new(np.array(row, np.float64), basis):
            chosen.append(row)
    return tuple(chosen)


def _is_new(row: Float[np.ndarray, " elements"], basis: Float[np.ndarray, "rows elements"]) -> bool:
    """Whether a composition is no linear combination of others."""
    size = float(np.linalg.norm(row))
    if size == 0.0 or len(basis) == 0:
        return size > 0.0
    rest = row - basis.T @ np.linalg.lstsq(basis.T, row, rcond=None)[0]
    return float(np.linalg.norm(rest)) > 1e-6 * size
