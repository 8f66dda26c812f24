"""Perceptrons of scalars."""

import itertools
from collections.abc import Sequence

from torch import nn


def mlp(widths: Sequence[int], activation: type[nn.Module] = nn.SiLU, activate_last: bool = False) -> nn.Sequential:
    """Linear layers with an activation between them.

    Args:
        widths: Numbers of channels before, between and after the linear layers.
        activation: Class of the activation, which is built without arguments.
        activate_last: Whether an activation also follows the last linear layer.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))
