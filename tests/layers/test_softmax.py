"""The softmax over edges: the formula in plain loops, its limits, and its smoothness."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from neural_polarization.layers.softmax import AttentionHeads, edge_softmax

RECEIVERS = torch.tensor([0, 2, 0, 3, 0, 2])


def test_the_formula() -> None:
    logits, envelope = torch.randn(6, 2, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    got = edge_softmax(logits, envelope, RECEIVERS, 5)
    for head in range(2):
        for edge, receiver in enumerate(RECEIVERS.tolist()):
            rivals = [k for k, other in enumerate(RECEIVERS.tolist()) if other == receiver]
            total = 1.0 + sum(float(envelope[k]) * math.exp(float(logits[k, head])) for k in rivals)
            expected = float(envelope[edge]) * math.exp(float(logits[edge, head])) / total
            assert abs(float(got[edge, head]) - expected) < 1e-14


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_large_logits(size: float) -> None:
    """Neither overflow nor a division by zero, in single precision too; large ones leave the plain softmax."""
    logits = (size + torch.tensor([[0.0], [1.0], [2.0], [0.0], [3.0], [0.0]])).requires_grad_()
    weights = edge_softmax(logits, torch.ones(6), RECEIVERS, 5)
    (gradient,) = torch.autograd.grad(weights[0, 0], logits)
    assert weights.isfinite().all() and gradient.isfinite().all()
    if size > 0.0:
        assert torch.allclose(weights[[0, 2, 4], 0], torch.softmax(logits[[0, 2, 4], 0], 0))
    else:
        assert (weights < 1e-20).all()


def test_neighbours_leave_smoothly() -> None:
    """At envelope zero an edge is as good as none, for the other edges and for its own weight, the last one too."""
    logits = torch.randn(6, 2, dtype=torch.float64)
    envelope = torch.tensor([0.5, 0.5, 0.5, 1e-9, 0.5, 1e-9], dtype=torch.float64)
    weights = edge_softmax(logits, envelope, RECEIVERS, 5)
    gone = envelope > 1e-6
    without = edge_softmax(logits[gone], envelope[gone], RECEIVERS[gone], 5)
    assert (weights[~gone] < 1e-7).all()
    assert (weights[gone] - without).abs().max() < 1e-7


def test_derivatives() -> None:
    def weights(logits: Tensor, envelope: Tensor) -> Tensor:
        return edge_softmax(logits, envelope, RECEIVERS, 5)

    logits = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    envelope = torch.rand(6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(weights, (logits, envelope))
    assert gradgradcheck(weights, (logits, envelope))


def test_no_edges() -> None:
    assert edge_softmax(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, dtype=torch.long), 3).shape == (0, 2)


def test_heads_share_channels() -> None:
    """Each head has some of the channels of every block, with all components, and joining undoes splitting."""
    heads = AttentionHeads([(4, 1), (2, 3)], 2)
    features = torch.arange(20.0).unflatten(0, (2, 10))
    split = heads.split(features)
    assert split[0].tolist() == [[0, 1, 4, 5, 6], [2, 3, 7, 8, 9]]
    assert torch.equal(heads.join(split), features)
    with pytest.raises(ValueError, match="choose a divisor"):
        AttentionHeads([(4, 1), (3, 3)], 2)
