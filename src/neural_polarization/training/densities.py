"""Training on electron densities: batches of points, the loss, and the error on all points."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural_polarization.data.batching import Batch, PreparedDataset
from neural_polarization.data.density_points import DensityPoints
from neural_polarization.density.batched import values_in_batch
from neural_polarization.density.density import Nuclei
from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.moments import moments
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.properties import DENSITY

PERCENT = 0.01
"""Of the integral of the density: the unit in which its error is shown, and that of its loss."""


@dataclass(frozen=True)
class DensityBatch:
    """Some molecules and their densities at as many points each.

    Attributes:
        molecules: the input of a network.
        points: Angstrom.
        weights: Angstrom^3.
        deformation: density less that of free atoms, e/Angstrom^3.
        electrons: of each molecule, e.
    """

    molecules: Molecules
    points: Float[Tensor, "molecules points 3"]
    weights: Float[Tensor, "molecules points"]
    deformation: Float[Tensor, "molecules points"]
    electrons: Float[Tensor, " molecules"]

    @classmethod
    def of(cls, prepared: PreparedDataset, points: DensityPoints, dtype: torch.dtype = torch.float32) -> "DensityBatch":
        """A batch of all of these densities.

        Args:
            prepared: the data set whose rows the structures of `points` are.
            points: of the densities.
            dtype: floating-point type.
        """
        molecules = prepared.batch(points.structures, dtype).molecules
        return cls(
            molecules,
            torch.from_numpy(points.in_frame_of(molecules)).to(dtype),
            torch.from_numpy(points.weights).to(dtype),
            torch.from_numpy(points.deformation).to(dtype),
            torch.from_numpy(points.electrons).to(dtype),
        )

    def to(self, device: torch.device) -> "DensityBatch":
        """The same batch on another device."""
        moved = (self.points, self.weights, self.deformation, self.electrons)
        return DensityBatch(self.molecules.to(device), *(values.to(device) for values in moved))

    def errors(self, learned: tuple[Gaussians, ...]) -> Float[Tensor, " molecules"]:
        """Normalized absolute error of each molecule, integral of |rho - rho_ref| over that of rho_ref.

        Args:
            learned: functions of `DensityHead.deformation`; free atoms stand on both sides and drop out.
        """
        difference = values_in_batch(learned, self.points) - self.deformation
        return (self.weights * difference.abs()).sum(-1) / self.electrons


def dipole_differences(
    learned: Sequence[Gaussians], molecules: Molecules, labels: Float[Tensor, "molecules 3"]
) -> Float[Tensor, "molecules 3"]:
    """Dipole of each density less its label, e*Angstrom, float64: what a loss takes that minds far-away potentials.

    Args:
        learned: functions of `DensityHead.deformation`; free atoms have no dipole.
        molecules: of the same batch.
        labels: dipoles about the centre of nuclear charge.

    Raises:
        ValueError: for periodic systems.
    """
    return -moments(learned, Nuclei.of(molecules).centre).first - labels.to(molecules.positions.device, torch.float64)


def density_errors(
    model: Model, prepared: PreparedDataset, points: DensityPoints, batch_size: int = 8
) -> Float[np.ndarray, " densities"]:
    """Normalized absolute error of a model on every density, over all of its points.

    Args:
        model: with a density, on any device.
        prepared: the data set whose rows the structures of `points` are.
        points: of the densities.
        batch_size: densities at a time.

    Raises:
        ValueError: for a model without a density.
    """
    if model.density_head is None:
        raise ValueError("model: it has no density whose error could be measured; give one with `model.density`")
    errors: list[Tensor] = []
    weight = next(model.parameters())
    with torch.no_grad():
        for start in range(0, len(points), batch_size):
            chosen = points.subset(np.arange(start, min(start + batch_size, len(points))))
            batch = DensityBatch.of(prepared, chosen, weight.dtype).to(weight.device)
            errors.append(
                batch.errors(model.density_head.deformation(model.represent(batch.molecules), batch.molecules))
            )
    return torch.cat(errors).double().cpu().numpy()


def by_molecule(errors: Float[np.ndarray, " densities"], molecule: Int[np.ndarray, " densities"]) -> dict[int, float]:
    """Mean error of the structures of each molecule."""
    return {int(number): float(errors[molecule == number].mean()) for number in np.unique(molecule)}


class DensityErrors:
    """The error of a model's density as one more prediction of the batches of a part of the data.

    Args:
        points: densities of the part; their `structures` are rows of it.
        length: number of structures of the part.
        number: points of each density that are looked at in a step, drawn anew in each; None takes all.
        seed: of the points.
    """

    def __init__(self, points: DensityPoints, length: int, number: int | None = None, seed: int = 0) -> None:
        self._points, self._number, self._seed = points, number, seed
        self._row = np.full(length, -1)
        self._row[points.structures] = np.arange(len(points))

    def __call__(
        self, model: Model, batch: Batch, forces: bool = True, step: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Predictions of a batch, and its labels; both with the density's error.

        Args:
            model: with a density.
            batch: of the part; structures without a density have no label, NaN.
            forces: as in `Model.forward`.
            step: number of the step, which decides the points with the seed.
        """
        predicted, learned = model.with_deformation(batch.molecules, forces)
        rows = self._row[batch.indices.cpu().numpy()]
        known = torch.from_numpy(rows >= 0).to(batch.molecules.positions.device)
        errors = batch.molecules.positions.new_zeros(len(rows))
        if len(rows[rows >= 0]):
            points = self._points.subset(rows[rows >= 0])
            if self._number is not None:
                points = points.drawn(self._number, np.random.default_rng([self._seed, step]))
            errors = errors.index_put((known,), self._errors(learned, points, known, batch.molecules))
        label = torch.where(known, 0.0, float("nan"))
        return {**predicted, DENSITY: errors}, {**batch.labels, DENSITY: label}

    @staticmethod
    def _errors(
        learned: Sequence[Gaussians], points: DensityPoints, known: Bool[Tensor, " molecules"], molecules: Molecules
    ) -> Tensor:
        """Errors of the molecules with a density."""
        first = torch.searchsorted(molecules.molecule_index, torch.arange(len(known), device=known.device))[known]
        anchors = molecules.positions.detach()[first].cpu().double().numpy()
        number = known.cumsum(0) - 1
        parts = [part.select(known[part.molecule_index].nonzero()[:, 0]) for part in learned]
        parts = [dataclasses.replace(part, molecule_index=number[part.molecule_index]) for part in parts]

        def tensor(values: Float[np.ndarray, "..."]) -> Tensor:
            return torch.from_numpy(values).to(parts[0].centres)

        difference = values_in_batch(parts, tensor(points.moved_to(anchors))) - tensor(points.deformation)
        return (tensor(points.weights) * difference.abs()).sum(-1) / tensor(points.electrons)
