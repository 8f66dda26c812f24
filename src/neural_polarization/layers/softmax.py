"""Attention over the edges of a point that is smooth when neighbours come and go."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.layers.scatter import sum_by_index


def edge_softmax(
    logits: Float[Tensor, "edges heads"],
    envelope: Float[Tensor, " edges"],
    receivers: Int[Tensor, " edges"],
    num_points: int,
) -> Float[Tensor, "edges heads"]:
    """Softmax over the edges that arrive at a point, with the envelope inside the sum.

        alpha_ij = f_ij exp(a_ij) / (1 + sum_k f_ik exp(a_ik))

    A plain softmax gives a single neighbour the weight 1 up to the cutoff, where its weight jumps to zero. Here every
    weight goes to zero with its envelope f, because of the 1 under the fraction, which is the weight of the point
    itself.

    Args:
        logits: Logits a, one per edge and head.
        envelope: Envelope f, from 1 at distance zero to 0 at the cutoff.
        receivers: Index of the receiving point of each edge.
        num_points: Number of points; points without edges are allowed.

    Example:
        >>> edge_softmax(torch.zeros(3, 1), torch.tensor([1.0, 1.0, 0.5]), torch.tensor([0, 0, 2]), 3).squeeze()
        tensor([0.3333, 0.3333, 0.3333])
    """
    # After this no exponent is positive. The subtracted number cancels in the ratio, so it needs no gradient.
    index = receivers.unsqueeze(-1).expand_as(logits)
    top = logits.new_zeros(num_points, logits.shape[1]).scatter_reduce(0, index, logits.detach(), "amax")
    weights = envelope.unsqueeze(-1) * torch.exp(logits - top[receivers])
    total = torch.exp(-top) + sum_by_index(weights, receivers, num_points)
    return weights / total[receivers]


class AttentionHeads:
    """Divides features of irreducible representations among heads: each gets an equal part of every block's channels.

    Args:
        blocks: Numbers of channels and of components of every block of the features.
        num_heads: Number of heads; it divides every number of channels.

    Raises:
        ValueError: if `num_heads` does not divide a number of channels.
    """

    def __init__(self, blocks: Sequence[tuple[int, int]], num_heads: int) -> None:
        for channels, _ in blocks:
            if channels % num_heads:
                raise ValueError(f"num_heads: {num_heads} heads cannot share {channels} channels; choose a divisor")
        self.num_heads = num_heads
        self.widths = [channels * components for channels, components in blocks]

    def split(self, features: Float[Tensor, "items irreps"]) -> Float[Tensor, "items heads width"]:
        """The features of every head."""
        parts = features.split(self.widths, -1)
        return torch.cat([part.unflatten(-1, (self.num_heads, -1)) for part in parts], -1)

    def join(self, features: Float[Tensor, "items heads width"]) -> Float[Tensor, "items irreps"]:
        """The inverse of `split`."""
        parts = features.split([width // self.num_heads for width in self.widths], -1)
        return torch.cat([part.flatten(1) for part in parts], -1)
