"""Training on electron densities: batches of points, the loss, and the error on all points."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.density_points import DensityPoints
from neural_polarization.density.batched import values_in_batch
from neural_polarization.density.expansion import Gaussians
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules


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
        return cls(
            prepared.batch(points.structures, dtype).molecules,
            torch.from_numpy(points.points).to(dtype),
            torch.from_numpy(points.weights).to(dtype),
            torch.from_numpy(points.deformation).to(dtype),
            torch.from_numpy(points.electrons).to(dtype),
        )

    def errors(self, learned: tuple[Gaussians, ...]) -> Float[Tensor, " molecules"]:
        """Normalized absolute error of each molecule, integral of |rho - rho_ref| over that of rho_ref.

        Args:
            learned: functions of `DensityHead.deformation`; free atoms stand on both sides and drop out.
        """
        difference = values_in_batch(learned, self.points) - self.deformation
        return (self.weights * difference.abs()).sum(-1) / self.electrons


def density_errors(
    model: Model, prepared: PreparedDataset, points: DensityPoints, batch_size: int = 8
) -> Float[np.ndarray, " densities"]:
    """Normalized absolute error of a model on every density, over all of its points.

    Args:
        model: with a density.
        prepared: the data set whose rows the structures of `points` are.
        points: of the densities.
        batch_size: densities at a time.

    Raises:
        ValueError: for a model without a density.
    """
    if model.density_head is None:
        raise ValueError("model: it has no density whose error could be measured; give one with `model.density`")
    errors: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(points), batch_size):
            chosen = points.subset(np.arange(start, min(start + batch_size, len(points))))
            batch = DensityBatch.of(prepared, chosen, next(model.parameters()).dtype)
            errors.append(
                batch.errors(model.density_head.deformation(model.represent(batch.molecules), batch.molecules))
            )
    return torch.cat(errors).double().numpy()


def by_molecule(errors: Float[np.ndarray, " densities"], molecule: Int[np.ndarray, " densities"]) -> dict[int, float]:
    """Mean error of the structures of each molecule."""
    return {int(number): float(errors[molecule == number].mean()) for number in np.unique(molecule)}
