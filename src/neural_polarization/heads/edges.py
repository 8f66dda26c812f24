"""A number for every pair of neighbours, from the features of both."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.layers import GaussianBasis
from neural_polarization.polarization import Polarized

_BASIS = 16
_REACH = 6.0  # Angstrom: range of the Gaussians; what lies beyond ends with the envelope, or shares the last of them


class EdgeReadout(nn.Module):
    """A perceptron of (s_i, s_j, r_ij) times the envelope, so that it is smooth where a neighbour leaves.

    Args:
        scalars: Width of the atoms' scalars.
        channels: Width of the hidden layer.
    """

    def __init__(self, scalars: int, channels: int) -> None:
        super().__init__()
        # The first layer is split, so that most of it runs on atoms and not on edges.
        self.of_receiver = nn.Linear(scalars, channels)
        self.of_sender = nn.Linear(scalars, channels, bias=False)
        self.basis = GaussianBasis(_BASIS, _REACH)
        self.of_length = nn.Linear(_BASIS, channels, bias=False)
        self.last = nn.Linear(channels, 1, bias=False)

    def forward(self, atoms: Polarized) -> Float[Tensor, "edges 1"]:
        """The number of each edge, from its sender to its receiver."""
        edges = atoms.edges
        hidden = (
            self.of_receiver(atoms.scalars)[edges.receivers]
            + self.of_sender(atoms.scalars)[edges.senders]
            + self.of_length(self.basis(edges.nuclear_lengths))
        )
        return self.last(torch.nn.functional.silu(hidden)) * edges.envelope.unsqueeze(-1)
