"""Pairs of edges that meet: k -> j -> i."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SAME = 1e-2
"""Distance (Angstrom) below which two ends of edges are the same point; images of an atom are a cell length apart."""


def triplets(
    senders: Int[Tensor, " edges"],
    receivers: Int[Tensor, " edges"],
    vectors: Float[Tensor, "edges 3"],
    num_points: int,
) -> tuple[Int[Tensor, " triplets"], Int[Tensor, " triplets"]]:
    """All pairs of an edge k -> j and an edge j -> i with k not i; an image of i in another cell is not i.

    Args:
        senders: Sender of each edge; edges may have any order.
        receivers: Receiver of each edge.
        vectors: Vector of each edge, Angstrom; they distinguish the way back to i from an edge from an image of i.
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
    partners = arriving[senders]  # each edge is paired with all edges that arrive at its sender
    onward = torch.repeat_interleave(partners)
    first_pair = torch.cumsum(partners, 0) - partners
    rank = torch.arange(onward.shape[0], device=senders.device) - first_pair[onward]
    into = by_receiver[first_arriving[senders[onward]] + rank]
    back = senders[into] == receivers[onward]
    ends = back.nonzero().squeeze(-1)
    way = vectors[into[ends]] + vectors[onward[ends]]  # from i to k
    back[ends] = way.square().sum(-1) < _SAME**2
    return into[~back], onward[~back]
