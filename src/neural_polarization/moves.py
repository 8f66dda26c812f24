"""The moves that displace moving points, and the coupling between the two points of an atom."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import sum_by_index

_FIRST_GATE = 0.02
"""Standard deviation of a new move's gates. The first displacements are then far below a hundredth of an Angstrom."""

_MIXES = 8
"""Number of mixes of vector channels that are gated. One mix per channel is more expensive, and no better for PaiNN."""

_RADIAL, _WIDTH = 8, 0.5
"""Number of Gaussians of pushes along edges, and their width and distance from each other, Angstrom."""

STEP = 0.1
"""Displacement (Angstrom) that a vector of length one with a gate of one makes.

An optimizer changes gates by a fixed amount per step. With gates in units of one Angstrom, every step would change the
distances that later layers read by too much, and energies of relaxed molecules would be clearly worse
(docs/method.md).
"""

PUSH = 0.3
"""Displacement (Angstrom) that one edge with a gate of one makes at most.

It is larger than `STEP`, because neighbours push in all directions and most of the pushes cancel.
"""


class Move(nn.Module, ABC):
    """The displacement of the moving points by one layer, computed from the features after that layer.

    Args:
        scalar_channels: Number of the backbone's scalar channels.
        vector_channels: Number of the backbone's vector channels; 0 for a backbone without vectors.
    """

    def __init__(self, scalar_channels: int, vector_channels: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, points: PointFeatures, edges: Edges) -> Float[Tensor, "atoms 3"]:
        """Step of each point, Angstrom."""

    def hold_still(self) -> None:
        """Makes every displacement zero but keeps the gradients, so that training lets the displacements grow."""
        self.enlarge(0.0)

    @abstractmethod
    def enlarge(self, factor: float) -> None:
        """Multiplies every displacement before the bound, for studies of untrained networks."""


class Still(Move):
    """A move of zero: the moving points stay on their nuclei."""

    def forward(self, points: PointFeatures, edges: Edges) -> Float[Tensor, "atoms 3"]:
        """Zero for every point, Angstrom."""
        return points.scalars.new_zeros(points.scalars.shape[0], 3)

    def enlarge(self, factor: float) -> None:
        """Does nothing: zero times a factor is zero."""


class VectorMove(Move):
    """A move by a few linear mixes of the point's own vector channels, gated by its scalars.

    d_i = step sum_k g_k(s_i) sum_v W_kv V_iv, with g linear.

    Raises:
        ValueError: for a network without vectors.
    """

    def __init__(self, scalar_channels: int, vector_channels: int) -> None:
        super().__init__(scalar_channels, vector_channels)
        if vector_channels < 1:
            raise ValueError(
                "move: points cannot move along vectors in a network that has none; take the radial move "
                '(`RadialMove`, "radial"), or leave it out'
            )
        self.mix = nn.Linear(vector_channels, _MIXES, bias=False)
        self.gate = nn.Linear(scalar_channels, _MIXES)
        _start_small(self.gate, _MIXES)

    def forward(self, points: PointFeatures, edges: Edges) -> Float[Tensor, "atoms 3"]:
        """Step of each point, Angstrom."""
        assert points.vectors is not None
        # The scalars come first: one weight per channel is a smaller array than eight mixes of vectors.
        weights = self.gate(points.scalars) @ (STEP * self.mix.weight)
        return (points.vectors * weights.unsqueeze(1)).sum(-1)

    def enlarge(self, factor: float) -> None:
        """Multiplies the gates."""
        _multiply(self.gate, factor)


class RadialMove(Move):
    """Steps along the edges, for networks without vector channels, by a few radial functions.

    d_i = push sum_j sum_k (A_k s_i + B_k s_j + b_k) R_k(r_ij) (x_j - x_i) / (r_ij + 1) envelope_ij, with Gaussians R_k.
    The linear maps act on points, so that edges carry one number per Gaussian. The division keeps the many distant
    neighbours from outweighing the bonded ones.
    """

    centres: Tensor

    def __init__(self, scalar_channels: int, vector_channels: int) -> None:
        super().__init__(scalar_channels, vector_channels)
        self.register_buffer("centres", torch.arange(1, _RADIAL + 1) * _WIDTH, persistent=False)
        self.of_receiver = nn.Linear(scalar_channels, _RADIAL)
        self.of_sender = nn.Linear(scalar_channels, _RADIAL, bias=False)
        for gate in (self.of_receiver, self.of_sender):
            _start_small(gate, scalar_channels)

    def forward(self, points: PointFeatures, edges: Edges) -> Float[Tensor, "atoms 3"]:
        """Step of each point, Angstrom."""
        radial = torch.exp((-0.5 / _WIDTH**2) * (edges.lengths.unsqueeze(-1) - self.centres).square())
        of_receiver = self.of_receiver(points.scalars).index_select(0, edges.receivers)
        of_sender = self.of_sender(points.scalars).index_select(0, edges.senders)
        gates = ((of_receiver + of_sender) * radial).sum(-1) * (PUSH * edges.envelope / (edges.lengths + 1.0))
        steps = gates.unsqueeze(-1) * edges.vectors
        return sum_by_index(steps, edges.receivers, points.scalars.shape[0])

    def enlarge(self, factor: float) -> None:
        """Multiplies the gates."""
        for gate in (self.of_receiver, self.of_sender):
            _multiply(gate, factor)


class EdgeMove(Move):
    """Steps along the edges by a perceptron on each: what networks without vector channels had before `RadialMove`.

    d_i = push sum_j g(s_i, s_j, r_ij) (x_j - x_i) / (r_ij + 1) envelope_ij. EGNN moves its coordinates in this way.

    References:
        V. G. Satorras, E. Hoogeboom, M. Welling, "E(n) equivariant graph neural networks", ICML 2021, eq. 4.
    """

    def __init__(self, scalar_channels: int, vector_channels: int) -> None:
        super().__init__(scalar_channels, vector_channels)
        # The first layer of a perceptron of (s_i, s_j, r), split so that it runs on points and not on edges.
        self.of_receiver = nn.Linear(scalar_channels, scalar_channels)
        self.of_sender = nn.Linear(scalar_channels, scalar_channels, bias=False)
        self.of_length = nn.Linear(1, scalar_channels, bias=False)
        self.gate = nn.Linear(scalar_channels, 1)
        _start_small(self.gate, scalar_channels)

    def forward(self, points: PointFeatures, edges: Edges) -> Float[Tensor, "atoms 3"]:
        """Step of each point, Angstrom."""
        hidden = (
            self.of_receiver(points.scalars)[edges.receivers]
            + self.of_sender(points.scalars)[edges.senders]
            + self.of_length(edges.lengths.unsqueeze(-1))
        )
        gates = self.gate(nn.functional.silu(hidden)) * (PUSH * edges.envelope / (edges.lengths + 1.0)).unsqueeze(-1)
        steps = gates * edges.vectors
        return sum_by_index(steps, edges.receivers, points.scalars.shape[0])

    def enlarge(self, factor: float) -> None:
        """Multiplies the gates."""
        _multiply(self.gate, factor)


def default_move(vector_channels: int) -> type[Move]:
    """`VectorMove` for a backbone with vectors, else `RadialMove`."""
    return VectorMove if vector_channels else RadialMove


class Couple(nn.Module, ABC):
    """The coupling of an atom's features to its own displacement, and of its two points to each other.

    Args:
        scalar_channels: Number of the backbone's scalar channels.
        vector_channels: Number of the backbone's vector channels; 0 for a backbone without vectors.
        limit: Upper bound of the displacements, Angstrom. Couplings measure displacements in this unit.
    """

    def __init__(self, scalar_channels: int, vector_channels: int, limit: float) -> None:
        super().__init__()
        self.limit = limit

    @abstractmethod
    def forward(
        self, fixed: PointFeatures, moving: PointFeatures, displacement: Float[Tensor, "atoms 3"]
    ) -> tuple[PointFeatures, PointFeatures]:
        """Features of the fixed and of the moving points after the coupling; one object for one set of features."""

    def stretch(self, displacement: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 1"]:
        """|d|^2 in units of the limit squared: smooth at zero, below 1."""
        return displacement.square().sum(-1, keepdim=True) / self.limit**2


class SelfCouple(Couple):
    """One set of features per atom: s_i <- s_i + |d_i / limit|^2 (W s_i + b).

    The energy of the spring of a Drude oscillator has this form. It vanishes with the displacement, so the features of
    an atom whose point does not move are exactly those of the backbone. One constant per channel instead of W would be
    cheaper, but networks of distances need the whole matrix (docs/method.md).
    """

    def __init__(self, scalar_channels: int, vector_channels: int, limit: float) -> None:
        super().__init__(scalar_channels, vector_channels, limit)
        self.spring = nn.Linear(scalar_channels, scalar_channels)

    def forward(
        self, fixed: PointFeatures, moving: PointFeatures, displacement: Float[Tensor, "atoms 3"]
    ) -> tuple[PointFeatures, PointFeatures]:
        """Features after the coupling."""
        scalars = torch.addcmul(moving.scalars, self.stretch(displacement), self.spring(moving.scalars))
        points = PointFeatures(scalars, moving.vectors)
        return points, points


class PairCouple(Couple):
    """Two sets of features per atom: each point receives a linear map of the other's scalars and of |d_i|^2, and the
    other's vectors times one weight per channel.

    Linear maps are enough, because the layers and heads that follow are not linear. Perceptrons and full maps of
    vectors would add many parameters for little (docs/method.md).
    """

    def __init__(self, scalar_channels: int, vector_channels: int, limit: float) -> None:
        super().__init__(scalar_channels, vector_channels, limit)
        self.to_fixed = nn.Linear(scalar_channels + 1, scalar_channels)
        self.to_moving = nn.Linear(scalar_channels + 1, scalar_channels)
        self.vectors_to_fixed = nn.Parameter(_weights(vector_channels)) if vector_channels else None
        self.vectors_to_moving = nn.Parameter(_weights(vector_channels)) if vector_channels else None

    def forward(
        self, fixed: PointFeatures, moving: PointFeatures, displacement: Float[Tensor, "atoms 3"]
    ) -> tuple[PointFeatures, PointFeatures]:
        """Features after the coupling."""
        stretch = self.stretch(displacement)
        to_fixed = self.to_fixed(torch.cat([moving.scalars, stretch], -1))
        to_moving = self.to_moving(torch.cat([fixed.scalars, stretch], -1))
        fixed_vectors, moving_vectors = fixed.vectors, moving.vectors
        if fixed_vectors is not None and moving_vectors is not None:
            assert self.vectors_to_fixed is not None and self.vectors_to_moving is not None
            fixed_vectors, moving_vectors = (
                fixed_vectors + self.vectors_to_fixed * moving_vectors,
                moving_vectors + self.vectors_to_moving * fixed_vectors,
            )
        return PointFeatures(fixed.scalars + to_fixed, fixed_vectors), PointFeatures(
            moving.scalars + to_moving, moving_vectors
        )

    def silence(self) -> None:
        """Sets the coupling to zero but keeps its gradients, so that training lets it grow."""
        with torch.no_grad():
            for weights in self.parameters():
                weights.zero_()


def _weights(channels: int) -> Float[Tensor, " channels"]:
    """Random weights as large as those of a linear map of so many channels."""
    return torch.randn(channels) / channels**0.5


def _start_small(gate: nn.Linear, inputs: int) -> None:
    with torch.no_grad():
        gate.weight.normal_(0.0, _FIRST_GATE / inputs**0.5)
        if gate.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
            gate.bias.zero_()


def _multiply(gate: nn.Linear, factor: float) -> None:
    with torch.no_grad():
        gate.weight.mul_(factor)
        if gate.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
            gate.bias.mul_(factor)
