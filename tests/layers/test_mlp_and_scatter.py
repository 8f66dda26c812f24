"""Perceptrons and sums by index."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neural_polarization.layers import ShiftedSoftplus, mlp, sum_by_index


def test_activations_stand_between_linear_layers() -> None:
    kinds = [type(layer) for layer in mlp([3, 4, 5, 1])]
    assert kinds == [nn.Linear, nn.SiLU, nn.Linear, nn.SiLU, nn.Linear]
    kinds = [type(layer) for layer in mlp([3, 4], ShiftedSoftplus, activate_last=True)]
    assert kinds == [nn.Linear, ShiftedSoftplus]
    assert mlp([3, 4, 2])(torch.zeros(7, 3)).shape == (7, 2)


@given(st.lists(st.integers(0, 4), max_size=20), st.integers(0, 100))
def test_sums_are_those_of_a_loop(index: list[int], seed: int) -> None:
    values = torch.randn(len(index), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.zeros(5, 3, dtype=torch.float64)
    for row, k in enumerate(index):
        expected[k] += values[row]
    got = sum_by_index(values, torch.tensor(index, dtype=torch.long), 5)
    assert torch.allclose(got, expected, atol=1e-12)


def test_sums_are_differentiable_twice() -> None:
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 2, 2, 1, 0, 0])
    assert torch.autograd.gradgradcheck(lambda v: sum_by_index(v.square(), index, 4), values)
