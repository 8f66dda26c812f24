"""Pairs of edges that meet: k -> j -> i."""

import torch
from jaxtyping import Int
from torch import Tensor


def triplets(
    senders: Int[Tensor, " edges"], receivers: Int[Tensor, " edges"], num_points: int
) -> tuple[Int[Tensor, " triplets"], Int[Tensor, " triplets"]]:
    """For every edge j -> i all edges k -> j with k other than i.

    Args:
        senders: of each edge, in any order.
        receivers: of each edge.
        num_points: number of points.

    Returns:
        Indices of the edges k -> j, and of the edges j -> i that they meet; the latter ascend.

    Example:
        >>> into, onward = triplets(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1]), 3)  # 0 - 1 - 2
        >>> into.tolist(), onward.tolist()
        ([3, 0], [1, 2])
    """
    by_receiver = torch.argsort(receivers, stable=True)
    arriving = torch.bincount(receivers, minlength=num_points)
    first_arriving = torch.cumsum(arriving, 0) - arriving
    partners = arriving[senders]  # each edge is paired with all that arrive where it starts
    onward = torch.repeat_interleave(partners)
    first_pair = torch.cumsum(partners, 0) - partners
    rank = torch.arange(len(onward), device=senders.device) - first_pair[onward]
    into = by_receiver[first_arriving[senders[onward]] + rank]
    keep = senders[into] != receivers[onward]
    return into[keep], onward[keep]
