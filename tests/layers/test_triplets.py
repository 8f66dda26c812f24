"""Triplets of points against a loop, for edges in any order, for none, and for points without any."""

import torch

from neural_polarization.layers.triplets import triplets


def test_equal_to_a_loop() -> None:
    pairs = torch.tensor([[j, i] for j in range(7) for i in range(7) if i != j and (i * j) % 5 != 2])
    pairs = pairs[torch.randperm(len(pairs))]
    senders, receivers = pairs.unbind(1)
    expected = {
        (kj, ji)
        for ji in range(len(pairs))
        for kj in range(len(pairs))
        if receivers[kj] == senders[ji] and senders[kj] != receivers[ji]
    }
    into, onward = triplets(senders, receivers, 9)
    assert len(into) == len(expected) > 50
    assert set(zip(into.tolist(), onward.tolist(), strict=True)) == expected
    assert (onward.diff() >= 0).all()


def test_nothing_meets() -> None:
    none = torch.zeros(0, dtype=torch.long)
    for senders, receivers in ((none, none), (torch.tensor([0, 1]), torch.tensor([1, 0]))):
        into, onward = triplets(senders, receivers, 3)
        assert len(into) == len(onward) == 0
