"""Sums over the edges of a point, or over the atoms of a molecule."""

from jaxtyping import Float, Int
from torch import Tensor


def sum_by_index(
    values: Float[Tensor, "items ..."], index: Int[Tensor, " items"], size: int
) -> Float[Tensor, "size ..."]:
    """Sum of the values that share an index.

    Example:
        >>> import torch
        >>> sum_by_index(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 0]), 3).tolist()
        [5.0, 0.0, 2.0]
    """
    return values.new_zeros((size, *values.shape[1:])).index_add(0, index, values)
