"""A number for every pair of neighbours: from the features of both, or a part of a number of one of them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.layers import GaussianBasis, mlp, sum_by_index
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


class SharedOut(nn.Module):
    """A number of each atom, of which its neighbours get parts, q_j e_ij / (1 + sum_k e_kj) with envelopes e.

    What an atom keeps is the rest; within the reach of an atom it is shared out nearly evenly.

    Args:
        scalars: Width of the atoms' scalars.
        channels: Width of the hidden layer.
    """

    def __init__(self, scalars: int, channels: int) -> None:
        super().__init__()
        self.readout = mlp([scalars, channels, 1])

    def forward(self, atoms: Polarized) -> Float[Tensor, "edges 1"]:
        """What the receiver of each edge gets from its sender."""
        edges, envelope = atoms.edges, atoms.edges.envelope.unsqueeze(-1)
        numbers = self.readout(atoms.scalars)
        reached = 1.0 + sum_by_index(envelope, edges.senders, numbers.shape[0])
        return (numbers / reached)[edges.senders] * envelope
