"""The error of a density that the literature reports, per molecule; it is a loss as well."""

from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.layers import sum_by_index


def normalized_absolute_error(
    predicted: Float[Tensor, " points"],
    reference: Float[Tensor, " points"],
    weights: Float[Tensor, " points"],
    molecule: Int[Tensor, " points"],
    num_molecules: int,
) -> Float[Tensor, " molecules"]:
    """Integral of |rho - rho_ref| over the integral of rho_ref, by quadrature; 0.01 is "one percent".

    Args:
        predicted: density at the points, e/Angstrom^3.
        reference: of the same unit.
        weights: of the points, Angstrom^3, so that sums of weight times value are integrals.
        molecule: of each point.
        num_molecules: number of molecules.

    Example:
        >>> import torch
        >>> one = torch.ones(2)
        >>> normalized_absolute_error(0.99 * one, one, one, torch.tensor([0, 0]), 1)
        tensor([0.0100])
    """
    difference = sum_by_index(weights * (predicted - reference).abs(), molecule, num_molecules)
    return difference / sum_by_index(weights * reference, molecule, num_molecules)
