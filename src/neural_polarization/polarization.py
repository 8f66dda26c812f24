"""Neural Polarization: every atom is a fixed point and a moving one, and every layer displaces the moving one.

    edges         = connect(displacement)                # geometry as of now
    features      = backbone.layers[l](features, edges)  # the backbone, untouched
    displacement  = bound(displacement + move_l(features of the moving points, edges))
    fixed, moving = couple_l(fixed, moving, displacement)  # the two points of each atom

References:
    B. Kwak, J. Jo, "Neural Polarization: toward electron density for molecules by extending equivariant networks",
    arXiv:2406.00441; as "Introducing virtual points in equivariant networks by extending atom representation for
    effective prediction", J. Chem. Theory Comput. 2025, 21, 8468.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic

import torch
from ase.data import atomic_numbers as atomic_number_of
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from neural_polarization.backbones.protocol import Backbone, Features, Split
from neural_polarization.geometry import Edges, bound, cosine_envelope, safe_norm
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Couple, Move, PairCouple, SelfCouple, default_move

FIXED, MOVING = 0, 1


class _Choice(Enum):
    """A named choice; an unknown one is an error that lists those there are."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        known = ", ".join(choice.value for choice in cls)
        raise ValueError(f"{cls.__name__.lower()}: {value!r} is not known; choose one of {known}")


class Messages(_Choice):
    """Which points exchange messages: the one choice of the method.

    Nuclei below the cutoff are connected; `pairs` lists the kinds (sender, receiver) of the edges of each such
    pair. In `PLAIN` and `RIDING` an atom has one set of features; in the others each of its points has one.
    """

    PLAIN = "plain"
    """Fixed points only, nothing moves: the backbone as it is."""
    RIDING = "riding"
    """One set of features per atom, geometry of the moving points: 1.1 to 1.2 times plain's cost for PaiNN."""
    MOVING_VIEW = "moving_view"
    """Moving points among themselves; fixed points hear of the molecule through their own pair alone. The default."""
    BOTH_VIEWS = "both_views"
    """Fixed points among themselves and moving points among themselves: twice the edges."""
    CROSSED = "crossed"
    """Fixed points to moving ones and moving points to fixed ones."""
    ALL = "all"
    """All four kinds of edges."""

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Kinds (sender, receiver) of the edges that each pair of neighbouring nuclei gives."""
        return _PAIRS[self]

    @property
    def two_points(self) -> bool:
        """Whether fixed and moving points have features of their own."""
        return self not in (Messages.PLAIN, Messages.RIDING)

    @property
    def mixes_views(self) -> bool:
        """Whether messages go from fixed to moving points or back, so that a layer has to see both at once."""
        return any(sender != receiver for sender, receiver in self.pairs)


class Lengths(_Choice):
    """What of an edge follows the moving points: the other choice of the method, for networks that see directions.

    What moving points give to forces comes from lengths that move, and so does what they cost on molecules at
    equilibrium, where bond lengths tell bonds apart; directions alone do no harm there (docs/method.md).
    """

    MOVING = "moving"
    """Directions and lengths: vectors between the points as they are. For energies and forces of varied geometries."""
    NUCLEAR = "nuclear"
    """Directions alone: vectors point from point to point and are as long as the nuclei are apart."""


_PAIRS: dict[Messages, tuple[tuple[int, int], ...]] = {
    Messages.PLAIN: ((FIXED, FIXED),),
    Messages.RIDING: ((MOVING, MOVING),),
    Messages.MOVING_VIEW: ((MOVING, MOVING),),
    Messages.BOTH_VIEWS: ((FIXED, FIXED), (MOVING, MOVING)),
    Messages.CROSSED: ((FIXED, MOVING), (MOVING, FIXED)),
    Messages.ALL: ((FIXED, FIXED), (FIXED, MOVING), (MOVING, FIXED), (MOVING, MOVING)),
}


@dataclass(frozen=True)
class Polarized:
    """What the network knows of a molecule: the features of both points of every atom, and where the points went.

    Attributes:
        fixed: features of the fixed points.
        moving: features of the moving points; the same object as `fixed` where an atom has one set of features.
        trajectory: displacement of the moving points before the first and after every layer, Angstrom.
    """

    fixed: Split
    moving: Split
    trajectory: Float[Tensor, "steps atoms 3"]

    @property
    def displacement(self) -> Float[Tensor, "atoms 3"]:
        """Where the moving points ended, relative to their nuclei, Angstrom."""
        return self.trajectory[-1]

    @property
    def scalars(self) -> Float[Tensor, "atoms channels"]:
        """Invariant features of each atom, those of both points side by side."""
        if self.moving is self.fixed:
            return self.fixed.scalars
        return torch.cat([self.fixed.scalars, self.moving.scalars], -1)

    @property
    def vectors(self) -> Float[Tensor, "atoms 3 channels"] | None:
        """Vector features of each atom, those of both points side by side; None where the backbone has none."""
        if self.fixed.vectors is None or self.moving.vectors is None or self.moving is self.fixed:
            return self.fixed.vectors
        return torch.cat([self.fixed.vectors, self.moving.vectors], -1)


class Connection:
    """The edges between the points of a batch, given where the moving points are.

    Args:
        molecules: the batch, with its nuclear neighbours.
        messages: which points exchange messages.
        cutoff: Angstrom.
        lengths: whether the lengths of the edges are those between the points or between their nuclei.

    The distances of the nuclei do not change from layer to layer, so they are computed once per call.
    """

    def __init__(
        self, molecules: Molecules, messages: Messages, cutoff: float, lengths: Lengths = Lengths.MOVING
    ) -> None:
        senders, receivers = molecules.edge_index.unbind(0)
        self._atom_senders, self._atom_receivers = senders, receivers
        nuclear = molecules.positions[senders] - molecules.positions[receivers]
        if molecules.shifts is not None:
            nuclear = nuclear + molecules.shifts
        self._nuclear_vectors = nuclear
        distances = safe_norm(nuclear)
        self._pairs = messages.pairs
        self._lengths = lengths
        stride = molecules.num_atoms if messages.two_points else 0
        copies = len(self._pairs)
        self._on_nuclei = Edges(
            senders=torch.cat([senders + kind * stride for kind, _ in self._pairs]),
            receivers=torch.cat([receivers + kind * stride for _, kind in self._pairs]),
            vectors=nuclear.repeat(copies, 1),
            lengths=distances.repeat(copies),
            nuclear_lengths=distances.repeat(copies),
            envelope=cosine_envelope(distances, cutoff).repeat(copies),
        )

    def __call__(self, displacement: Float[Tensor, "atoms 3"] | None) -> Edges:
        """Edges with the moving points at `displacement` (Angstrom) from their nuclei; None: on the nuclei."""
        if displacement is None or all(pair == (FIXED, FIXED) for pair in self._pairs):
            return self._on_nuclei
        of_sender = displacement.index_select(0, self._atom_senders)
        of_receiver = displacement.index_select(0, self._atom_receivers)
        parts = [self._vectors(pair, of_sender, of_receiver) for pair in self._pairs]
        vectors = parts[0] if len(parts) == 1 else torch.cat(parts)
        lengths = safe_norm(vectors)
        if self._lengths is Lengths.NUCLEAR:
            stretch = self._on_nuclei.lengths / lengths  # exactly one where nothing has moved
            return replace(self._on_nuclei, vectors=vectors * stretch.unsqueeze(-1))
        return replace(self._on_nuclei, vectors=vectors, lengths=lengths)

    def _vectors(self, pair: tuple[int, int], of_sender: Tensor, of_receiver: Tensor) -> Tensor:
        vectors = self._nuclear_vectors
        if pair[0] == MOVING:
            vectors = vectors + of_sender
        if pair[1] == MOVING:
            vectors = vectors - of_receiver
        return vectors


class NeuralPolarization(nn.Module, Generic[Features]):
    """A backbone whose atoms are pairs of a fixed and a moving point.

    Args:
        backbone: any network that offers the `Backbone` protocol.
        elements: chemical symbols that the network is for; their order gives the species.
        messages: which points exchange messages, a `Messages` or its value.
        limit: bound of the length of a displacement, Angstrom.
        move: builds the move of one layer; by default the one that fits the backbone (`default_move`).
            `Still` holds the moving points on their nuclei.
        lengths: what of the edges follows the moving points, a `Lengths` or its value. A backbone that sees lengths
            alone (SchNet, CGCNN) needs "moving": with "nuclear" its edges stay as they are, and all that is left of
            the displacements is what the two points of an atom tell each other, |d|^2 among it.

    Raises:
        ValueError: if the backbone's embedding has too few species, an element is unknown, `limit` is not positive,
            or a choice is not known.

    Example:
        >>> from neural_polarization.backbones import PaiNN
        >>> network = NeuralPolarization(PaiNN(num_species=6, channels=8), elements=["H", "C", "O"])
        >>> water = Molecules.from_arrays(
        ...     torch.tensor([8, 1, 1]),
        ...     torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
        ...     cutoff=5.0,
        ... )
        >>> network(water).trajectory.shape  # before the first and after each of three layers
        torch.Size([4, 3, 3])
    """

    def __init__(
        self,
        backbone: Backbone[Features],
        elements: Sequence[str],
        messages: Messages | str = Messages.MOVING_VIEW,
        limit: float = 0.5,
        move: type[Move] | None = None,
        lengths: Lengths | str = Lengths.MOVING,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.messages = Messages(messages)
        self.lengths = Lengths(lengths)
        self.limit = limit
        self.elements = tuple(elements)
        self.register_buffer("_species_of", _species_table(self.elements), persistent=False)
        needed = len(self.elements) * (2 if self.messages.two_points else 1)
        if backbone.num_species < needed:
            raise ValueError(
                f"backbone: its embedding has {backbone.num_species} species, but {len(self.elements)} elements "
                f"with messages {self.messages.value!r} need {needed}; build it with num_species={needed}"
            )
        if not 0 < limit < math.inf:
            raise ValueError(f"limit must be a positive length in Angstrom, not {limit}")
        layers = list(backbone.layers)
        move = move or default_move(backbone.vector_channels)
        moving = self.messages is not Messages.PLAIN
        self.moves = nn.ModuleList(move(backbone.scalar_channels, backbone.vector_channels) for _ in layers if moving)
        couple: type[Couple] = PairCouple if self.messages.two_points else SelfCouple
        self.couples = nn.ModuleList(
            couple(backbone.scalar_channels, backbone.vector_channels, limit) for _ in layers if moving
        )

    _species_of: Tensor

    def species(self, atomic_numbers: Int[Tensor, " atoms"]) -> Int[Tensor, " atoms"]:
        """Species of each atom.

        Raises:
            ValueError: for an element that the network does not know.
        """
        species = self._species_of[atomic_numbers]
        traced = torch.compiler.is_compiling() or get_proxy_mode() is not None  # then there is no value to look at
        if not traced and bool((species < 0).any()):
            atom = int((species < 0).nonzero()[0, 0])
            raise ValueError(
                f"atom {atom} is {chemical_symbols[int(atomic_numbers[atom])]}, an element that this network was "
                f"not made for (it knows {', '.join(self.elements)}); train one with that element in `elements`"
            )
        return species

    def forward(self, molecules: Molecules) -> Polarized:
        """Features and displacements of a batch of molecules.

        Raises:
            ValueError: for an element that the network does not know, or an external field, which it would not see.
        """
        if molecules.external_field is not None:
            raise ValueError(
                "external_field: networks do not see fields yet, and would answer as if there were none; leave it out"
            )
        species = self.species(molecules.atomic_numbers)
        features, connections = self._views(molecules, species)
        displacement = torch.zeros_like(molecules.positions)
        trajectory = [displacement]
        if self.messages is Messages.PLAIN:
            edges = connections[0](None)
            for layer in self.backbone.layers:
                features = [layer(features[0], edges)]
                trajectory.append(displacement)
        else:
            # The moving points are the last view, or the second half of the only one.
            moving = slice(molecules.num_atoms if self.messages.mixes_views else 0, None)
            first = len(features) - len(connections)  # of the views that pass through the layers
            for step, (layer, move, couple) in enumerate(
                zip(self.backbone.layers, self.moves, self.couples, strict=True)
            ):
                edges_of_views = [connect(displacement if step else None) for connect in connections]
                features[first:] = [
                    layer(view, edges) for view, edges in zip(features[first:], edges_of_views, strict=True)
                ]
                splits = [self.backbone.split(view) for view in features]
                displacement = bound(displacement + move(splits[-1], edges_of_views[-1], moving), self.limit)
                coupled = couple(*self._points(splits), displacement)
                features = self._joined(features, *coupled)
                trajectory.append(displacement)
        fixed, moved = self._points([self.backbone.split(view) for view in features])
        return Polarized(fixed, moved, torch.stack(trajectory))

    def _views(self, molecules: Molecules, species: Int[Tensor, " atoms"]) -> tuple[list[Features], list[Connection]]:
        """Features of the views, and the connections of those that have any: the last ones.

        Two views that exchange no messages do not meet within a layer: called one after the other they need less
        memory at a time, which makes them faster, and the edges among the fixed points are the same for all layers.
        The fixed points of the moving view have no edges and no layers; the coupling is what they see.
        """
        cutoff, of_moving = self.backbone.cutoff, species + len(self.elements)
        if self.messages.mixes_views or not self.messages.two_points:
            points = torch.cat([species, of_moving]) if self.messages.two_points else species
            return [self.backbone.embed(points)], [Connection(molecules, self.messages, cutoff, self.lengths)]
        features = [self.backbone.embed(species), self.backbone.embed(of_moving)]
        of_moving_points = Connection(molecules, Messages.RIDING, cutoff, self.lengths)
        if self.messages is Messages.MOVING_VIEW:
            return features, [of_moving_points]
        return features, [Connection(molecules, Messages.PLAIN, cutoff, self.lengths), of_moving_points]

    def _points(self, splits: list[Split]) -> tuple[Split, Split]:
        """Features of the fixed and of the moving points, which are the same where an atom has one set."""
        if not self.messages.two_points:
            return splits[0], splits[0]
        return (splits[0], splits[1]) if len(splits) == 2 else splits[0].halves()

    def _joined(self, features: list[Features], fixed: Split, moving: Split) -> list[Features]:
        """The inverse of `_points`."""
        if not self.messages.two_points:
            parts = [moving]
        else:
            parts = [fixed, moving] if len(features) == 2 else [fixed.beside(moving)]
        return [self.backbone.join(view, part) for view, part in zip(features, parts, strict=True)]

    def hold_still(self) -> None:
        """Sets every move to zero, to start from a trained backbone: the moves then grow as they are trained."""
        for move in self.moves:
            assert isinstance(move, Move)
            move.hold_still()


def _species_table(elements: Sequence[str]) -> Int[Tensor, " numbers"]:
    table = torch.full((len(chemical_symbols),), -1, dtype=torch.long)
    for species, symbol in enumerate(elements):
        if symbol not in atomic_number_of or symbol == "X":
            raise ValueError(f"elements: {symbol!r} is not a chemical symbol such as 'C' or 'Cl'")
        if table[atomic_number_of[symbol]] >= 0:
            raise ValueError(f"elements: {symbol!r} is listed twice; leave one out")
        table[atomic_number_of[symbol]] = species
    return table
