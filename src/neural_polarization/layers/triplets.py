"""Pairs of edges that meet: k -> j -> i."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SAME = 1e-2
"""Two ends nearer than this (Angstrom) are one: images of an atom are as far apart as a cell is long."""


def triplets(
    senders: Int[Tensor, " edges"],
    receivers: Int[Tensor, " edges"],
    vectors: Float[Tensor, "edges 3"],
    num_points: int,
) -> tuple[Int[Tensor, " triplets"], Int[Tensor, " triplets"]]:
    """For every edge j -> i all edges k -> j with k other than i; an image of i in another cell is another point.

    Args:
        senders: Of each edge, in any order.
        receivers: Of each edge.
        vectors: Of each edge, Angstrom; they tell the way back from an edge that comes from another image.
        num_points: Number of points.

    Returns:
        Indices of the edges k -> j, and of the edges j -> i that they meet; the latter ascend.

    Example:
        >>> senders, receivers = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1])  # 0 - 1 - 2
        >>> places = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
        >>> into, onward = triplets(senders, receivers, places[senders] - places[receivers], 3)
        >>> into.tolist(), onward.tolist()
        ([3, 0], [1, 2])
    """
    by_receiver = torch.argsort(receivers, stable=True)
    arriving = torch.bincount(receivers, minlength=num_points)
    first_arriving = torch.cumsum(arriving, 0) - arriving
    partners = arriving[senders]  # each edge is paired with all that arrive where it starts
    onward = torch.repeat_interleave(partners)
    first_pair = torch.cumsum(partners, 0) - partners
    rank = torch.arange(onward.shape[0], device=senders.device) - first_pair[onward]
    into = by_receiver[first_arriving[senders[onward]] + rank]
    back = senders[into] == receivers[onward]
    ends = back.nonzero().squeeze(-1)
    way = vectors[into[ends]] + vectors[onward[ends]]  # from i to k
    back[ends] = way.square().sum(-1) < _SAME**2
    return into[~back], onward[~back]
