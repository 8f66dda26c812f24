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
    places = torch.randn(9, 3)
    into, onward = triplets(senders, receivers, places[senders] - places[receivers], 9)
    assert len(into) == len(expected) > 50
    assert set(zip(into.tolist(), onward.tolist(), strict=True)) == expected
    assert (onward.diff() >= 0).all()


def test_nothing_meets() -> None:
    none = torch.zeros(0, dtype=torch.long)
    for senders, receivers in ((none, none), (torch.tensor([0, 1]), torch.tensor([1, 0]))):
        places = torch.randn(3, 3)
        into, onward = triplets(senders, receivers, places[senders] - places[receivers], 3)
        assert len(into) == len(onward) == 0


def test_an_image_of_the_receiver_is_another_point() -> None:
    """Two atoms of a chain that repeats: ... 0 - 1 - 0' ..., where 0' is the next image of 0."""
    senders, receivers = torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0])
    vectors = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.5, 0.0, 0.0], [-1.5, 0.0, 0.0]])
    into, onward = triplets(senders, receivers, vectors, 2)
    # What arrives at 1 from one image of 0 goes on to the other one, and not back; the same with the names exchanged.
    assert sorted(zip(into.tolist(), onward.tolist(), strict=True)) == [(0, 3), (1, 2), (2, 1), (3, 0)]
