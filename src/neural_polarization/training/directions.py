"""The polarizability along one random direction per structure: the same loss on the average, in less time.

For a difference D of two polarizabilities and a random unit vector v, the mean of |D v|^2 / 3 is the mean
square of the nine components of D. Along v one more gradient is needed, d(mu.v)/dF, and not three.
"""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.data.batching import Batch
from neural_polarization.models import Model
from neural_polarization.response import slope
from neural_polarization.units import COULOMB


def in_one_direction(
    model: Model, batch: Batch, names: Collection[str], forces: bool, stress: bool, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Predictions and labels of a batch, both with the polarizability along one direction per structure.

    Args:
        model: One with a response, in training mode.
        batch: Structures, in fields or not.
        names: Properties that are predicted; without the polarizability this is what the model gives.
        forces: Whether forces are predicted.
        stress: Whether stresses are.
        seed: Of the directions.
    """
    names_in_field = model.config.field_names
    name, dipole = names_in_field.polarizability, names_in_field.dipole
    if name not in names:
        return model(batch.molecules, forces, names, stress), dict(batch.labels)
    others = [other for other in dict.fromkeys((*names, dipole)) if other != name]
    with batch.molecules.in_differentiable_field() as molecules:
        predicted = model(molecules, forces, others, stress)
        assert molecules.external_field is not None
        directions = random_directions(len(batch.labels[name]), seed).to(predicted[dipole])
        along = slope((predicted[dipole] * directions).sum(), molecules.external_field, True)
    labels = dict(batch.labels)
    labels[name] = torch.einsum("mxy,my->mx", labels[name], directions.to(labels[name]))
    return {**predicted, name: COULOMB * along.to(torch.float64)}, labels


def random_directions(count: int, seed: int) -> Float[Tensor, "count 3"]:
    """Unit vectors, evenly spread over the sphere, float64."""
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True)
