"""Errors of a model's electron density on a part of the data: of the density itself, of its count and its moments."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.density_points import DensityPoints
from neural_polarization.density import Density
from neural_polarization.metrics import Error, ErrorSums, in_units
from neural_polarization.models import Model
from neural_polarization.properties import DENSITY, Property
from neural_polarization.training.densities import PERCENT, density_errors

ELECTRONS = "density_electrons"
"""Name of the error of the integral of the density, e."""

_MOMENTS: Mapping[str, Callable[[Density], Tensor]] = {
    "dipole": lambda density: density.dipole,
    "quadrupole": lambda density: density.quadrupole,
}


def density_units(properties: Mapping[str, Property]) -> dict[str, str]:
    """Customary unit of every error of `density_evaluation`, by name, with those labels that there are."""
    moments = {f"density_{name}": properties[name].unit for name in _MOMENTS if name in properties}
    return {DENSITY: "%", **moments, ELECTRONS: "e"}


def density_evaluation(
    model: Model, prepared: PreparedDataset, points: DensityPoints, properties: Mapping[str, Property]
) -> dict[str, dict[str, float | None]]:
    """Errors of the density in customary units, as `metrics.in_units` gives those of other properties.

    "density" is the normalized absolute error, of every structure that has a reference density. "density_dipole" and
    "density_quadrupole" are the differences between the moments of the predicted density and the labels, and
    "density_electrons" is that of its integral from the nuclear charges less the total charge, of all structures.

    Args:
        model: With a density.
        prepared: The part.
        points: Reference densities of the part; their structures are rows of it.
        properties: Of the data set.

    Raises:
        ValueError: for a model without a density.
    """
    result: dict[str, dict[str, float | None]] = {}
    if len(points):
        errors = density_errors(model, prepared, points) / PERCENT
        result[DENSITY] = asdict(Error(float(errors.mean()), float((errors**2).mean() ** 0.5), len(errors)))
    sums = ErrorSums()
    for start in range(0, len(prepared), _BATCH):
        batch = prepared.batch(torch.arange(start, min(start + _BATCH, len(prepared))).numpy())
        molecules = batch.molecules.to(next(model.parameters()).device)
        with torch.no_grad():
            density = model.density(molecules)
        expected = density.nuclei.charges - (0.0 if molecules.charge is None else molecules.charge.double())
        predicted = {ELECTRONS: density.electrons.cpu()}
        known = [name for name in _MOMENTS if name in batch.labels]
        predicted |= {f"density_{name}": _MOMENTS[name](density).cpu() for name in known}
        labels = {ELECTRONS: expected.cpu()}
        labels |= {f"density_{name}": batch.labels[name] for name in known}
        sums.add(predicted, labels)
    units = {name: Property(name, unit) for name, unit in density_units(properties).items() if name != DENSITY}
    return result | in_units(sums.errors(), units)


_BATCH = 16
