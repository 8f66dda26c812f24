"""Training labels that stand far from all others: broken structures, wrong units, calculations that failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from neural_polarization.data.dataset import Dataset
from neural_polarization.properties import FORCES

FAR = 20.0
"""Labels are named from this many robust standard deviations (1.4826 times the median absolute deviation) on."""

FRAMES = 8
"""A composition with at least this many structures is compared with itself, the others with each other."""

_SAME = 1e-5  # of a value: what differs by less is equal
_SMALL_FORCE = 1e-3  # eV/Angstrom: below it, structures are relaxed


@dataclass(frozen=True)
class Outlier:
    """A label that stands apart.

    Attributes:
        structure: its index in the data set.
        property: whose label it is.
        value: the label; of forces, the length of the largest.
        usual: median of the labels that it was compared with.
        deviations: its distance from them in robust standard deviations.
    """

    structure: int
    property: str
    value: float
    usual: float
    deviations: float


def outliers(dataset: Dataset, chosen: Int[np.ndarray, " chosen"], energies: Sequence[str]) -> list[Outlier]:
    """Labels of some structures that are far outside of the others, the farthest first.

    Energies are compared with those of the same composition, by median and median absolute deviation; where there are
    few of one composition, what a robust fit of element values leaves over is compared with that of the others.
    Of forces, the largest of each structure counts.

    Args:
        dataset: with labels.
        chosen: indices of the structures.
        energies: properties that are sums over atoms.
    """
    composition = dataset.composition(dataset.elements, chosen)
    found: list[Outlier] = []
    for name in energies:
        if name in dataset.labels:
            found += _energies(name, dataset.labels[name][chosen], composition, chosen)
    if FORCES in dataset.labels:
        largest = largest_forces(dataset)[chosen]
        found += _forces(largest, composition, chosen)
    return sorted(found, key=lambda outlier: -outlier.deviations)


def largest_forces(dataset: Dataset) -> Float[np.ndarray, " molecules"]:
    """Length of the largest force of every structure, eV/Angstrom; NaN where there is none."""
    lengths = np.sqrt((dataset.labels[FORCES] ** 2).sum(1))
    filled = np.where(np.isnan(lengths), -1.0, lengths)
    largest = np.maximum.reduceat(filled, dataset.molecules.starts)
    return np.where(largest < 0, np.nan, largest)


def _energies(
    name: str,
    values: Float[np.ndarray, " chosen"],
    composition: Float[np.ndarray, "chosen elements"],
    chosen: Int[np.ndarray, " chosen"],
) -> Iterator[Outlier]:
    for rows, alone in _groups(composition, np.isfinite(values)):
        of_rows = values[rows]
        if alone:
            usual = np.full(len(rows), np.median(of_rows))
        else:
            usual = composition[rows] @ _robust_fit(composition[rows], of_rows)
            usual += np.median(of_rows - usual)
        rest = of_rows - usual
        size = max(1.4826 * float(np.median(np.abs(rest))), _SAME * float(np.median(np.abs(of_rows))))
        for k in np.flatnonzero(np.abs(rest) > FAR * size) if size else ():
            yield Outlier(int(chosen[rows[k]]), name, float(of_rows[k]), float(usual[k]), float(np.abs(rest[k]) / size))


def _forces(
    largest: Float[np.ndarray, " chosen"],
    composition: Float[np.ndarray, "chosen elements"],
    chosen: Int[np.ndarray, " chosen"],
) -> Iterator[Outlier]:
    for rows, _ in _groups(composition, np.isfinite(largest)):
        usual = float(np.median(largest[rows]))
        spread = 1.4826 * float(np.median(np.abs(largest[rows] - usual)))
        size = max(spread, 0.1 * usual, _SMALL_FORCE)
        for k in np.flatnonzero(largest[rows] > usual + FAR * size):
            value = float(largest[rows[k]])
            yield Outlier(int(chosen[rows[k]]), FORCES, value, usual, (value - usual) / size)


def _groups(
    composition: Float[np.ndarray, "chosen elements"], labelled: Bool[np.ndarray, " chosen"]
) -> Iterator[tuple[Int[np.ndarray, " rows"], bool]]:
    """Rows that are compared with each other, and whether they are of one composition."""
    known = np.flatnonzero(labelled)
    if not len(known):
        return
    which = np.unique(composition[known], axis=0, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(which)
    for k in np.flatnonzero(counts >= FRAMES):
        yield known[which == k], True
    rest = known[counts[which] < FRAMES]
    if len(rest) >= FRAMES:
        yield rest, False


def _robust_fit(
    composition: Float[np.ndarray, "rows elements"], values: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " elements"]:
    """Element values with the smallest sum of absolute errors, by reweighted least squares."""
    weights = np.ones(len(values))
    result = np.zeros(composition.shape[1])
    floor = 1e-6 * max(float(np.median(np.abs(values))), 1e-12)
    for _ in range(30):
        root = np.sqrt(weights)
        result = np.linalg.lstsq(root[:, None] * composition, root * values, rcond=None)[0]
        weights = 1.0 / np.maximum(np.abs(values - composition @ result), floor)
    return result
