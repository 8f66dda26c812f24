"""Neural Polarization: every atom is a fixed point and a moving one, and every layer displaces the moving one.

    edges         = connect(displacement)                  # the geometry as it is now
    fixed, moving = layer(fixed, moving, edges)            # the backbone's own layer, untouched
    displacement  = bound(displacement + move(moving, edges))
    fixed, moving = couple(fixed, moving, displacement)    # the two points of each atom

References:
    B. Kwak, J. Jo, "Neural Polarization: toward electron density for molecules by extending equivariant networks",
    arXiv:2406.00441; as "Introducing virtual points in equivariant networks by extending atom representation for
    effective prediction", J. Chem. Theory Comput. 2025, 21, 8468.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic

import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.checkpoint import checkpoint

from neural_polarization.backbones.protocol import Backbone, Features, Layer, PointFeatures
from neural_polarization.electronic import ElectronicInput, make_state
from neural_polarization.geometry import Edges, bound
from neural_polarization.messages import CONNECTIONS, VIEWS, Connection, Lengths, Messages
from neural_polarization.molecules import Molecules, element_table
from neural_polarization.moves import EdgeMove, Move, default_move

Step = Callable[[PointFeatures, Edges], Tensor]
"""How far each point goes in one layer, Angstrom: a `Move`, or a move and what else pushes."""


@dataclass(frozen=True)
class Polarized:
    """The result of a polarized network: the features of both points of every atom, and the path of the moving points.

    Attributes:
        fixed: Features of the fixed points.
        moving: Features of the moving points; the same object as `fixed` if an atom has one set of features.
        trajectory: Displacement of the moving points before the first and after every layer, Angstrom.
        edges: Neighbours among the nuclei, with their smooth cutoff.
    """

    fixed: PointFeatures
    moving: PointFeatures
    trajectory: Float[Tensor, "steps atoms 3"]
    edges: Edges

    @property
    def displacement(self) -> Float[Tensor, "atoms 3"]:
        """Displacement of the moving points after the last layer, Angstrom."""
        return self.trajectory[-1]

    @property
    def scalars(self) -> Float[Tensor, "atoms channels"]:
        """Invariant features of each atom; with two sets of features, those of both points side by side."""
        if self.moving is self.fixed:
            return self.fixed.scalars
        return torch.cat([self.fixed.scalars, self.moving.scalars], -1)

    @property
    def vectors(self) -> Float[Tensor, "atoms 3 channels"] | None:
        """Vector features of each atom, as `scalars`; None for a backbone without vectors."""
        if self.fixed.vectors is None or self.moving.vectors is None or self.moving is self.fixed:
            return self.fixed.vectors
        return torch.cat([self.fixed.vectors, self.moving.vectors], -1)


class NeuralPolarization(nn.Module, Generic[Features]):
    """A backbone whose atoms are pairs of a fixed and a moving point.

    Args:
        backbone: Any network that offers the `Backbone` protocol.
        elements: Chemical symbols of the elements that the network is for; their order gives the species.
        messages: Which points exchange messages, a `Messages` or its value.
        limit: Upper bound of the length of a displacement, Angstrom.
        move: Class of the moves, one of which each layer gets; by default the one that fits the backbone
            (`default_move`). `Still` holds the moving points on their nuclei.
        lengths: What of the edges follows the moving points, a `Lengths` or its value. A backbone that sees only
            lengths (SchNet, CGCNN) needs "moving". With "nuclear" its edges do not change, and displacements act only
            through the coupling of the two points of an atom.
        electronic: The embedding of total charge and spin, an `ElectronicInput` or its value.

    Attributes:
        saves_memory: Whether arrays over edges are computed again for gradients, layer by layer, instead of kept: for
            systems that do not fit into memory otherwise. No value changes (see `save_memory`).

    Raises:
        ValueError: if the backbone's embedding has too few species, torch does not know the weights of its layers, an
            element is unknown, `limit` is not positive, or a choice is not known.
        TypeError: for a move by its name.

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
        electronic: ElectronicInput | str = ElectronicInput.NONE,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.messages = Messages(messages)
        self.lengths = Lengths(lengths)
        self.limit = limit
        self.saves_memory = False
        self.elements = tuple(elements)
        self.register_buffer("_species_of", element_table(self.elements), persistent=False)
        needed = len(self.elements) * self.messages.points
        if backbone.num_species < needed:
            raise ValueError(
                f"backbone: its embedding has {backbone.num_species} species, but {len(self.elements)} elements "
                f"with messages {self.messages.value!r} need {needed}; build it with num_species={needed}"
            )
        check_limit(limit)
        _check_weights(backbone)
        self.moves = nn.ModuleList()
        self.couples = nn.ModuleList()
        if self.messages is not Messages.PLAIN:
            if isinstance(move, str):
                raise TypeError(f"move: {move!r} is text; give a class such as neural_polarization.moves.RadialMove")
            move = move or default_move(backbone.vector_channels)
            sizes = backbone.scalar_channels, backbone.vector_channels
            self.view = VIEWS[self.messages]()
            self.moves.extend(move(*sizes) for _ in backbone.layers)
            self.couples.extend(self.view.couple(*sizes, limit) for _ in backbone.layers)
        self.register_load_state_dict_pre_hook(_take_former_moves)
        self.state = make_state(ElectronicInput(electronic), backbone.scalar_channels)
        weight = next(self.parameters(), None)
        if weight is not None:  # the backbone comes first: what is new takes over its type and device
            for part in (self.moves, self.couples, self.state):
                if part is not None:
                    part.to(weight)

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

    def forward(
        self,
        molecules: Molecules,
        start: Float[Tensor, "atoms 3"] | None = None,
        moves: Sequence[Step] | None = None,
    ) -> Polarized:
        """Features and displacements of a batch of molecules.

        Args:
            molecules: the batch. Of a field it sees only what `start` and `moves` make of it.
            start: displacement before the first layer, Angstrom; by default zero.
            moves: what displaces the points, layer by layer; by default the network's own.

        Raises:
            ValueError: for an element that the network does not know, or molecules of another floating-point type.
        """
        self._check_type(molecules)
        species = self.species(molecules.atomic_numbers)
        connect = self.connection(molecules)
        displacement = torch.zeros_like(molecules.positions) if start is None else start
        if self.messages is Messages.PLAIN:
            return self._plain(self._embed(species, molecules), connect.nuclear, displacement)
        fixed = moving = self._embed(species, molecules)
        if self.messages.two_points:
            moving = self._embed(species + len(self.elements), molecules)
        trajectory = [displacement]
        for layer, move, couple in zip(self._layers(), moves or self.moves, self.couples, strict=True):
            edges = connect(displacement)
            fixed, moving = self.view.pass_messages(layer, fixed, moving, connect.nuclear, edges)
            displacement = bound(displacement + move(self.backbone.split(moving), edges), self.limit)
            fixed, moving = self._coupled(couple, fixed, moving, displacement)
            trajectory.append(displacement)
        return self._polarized(fixed, moving, trajectory, connect.nuclear)

    def _check_type(self, molecules: Molecules) -> None:
        weight = next(self.parameters(), None)
        found = molecules.positions.dtype
        if weight is not None and weight.dtype != found:
            raise ValueError(
                f"molecules: their positions are {_type_name(found)}, but the network is {_type_name(weight.dtype)}; "
                f"give Molecules.from_ase dtype=torch.{_type_name(weight.dtype)}, convert the batch with "
                f"molecules.to(dtype=...), or the network with network.to(torch.{_type_name(found)})"
            )

    def connection(self, molecules: Molecules) -> Connection:
        """The edges of a batch as a function of displacements; a subclass may choose others than `lengths` does."""
        return CONNECTIONS[self.lengths](molecules, self.backbone.cutoff)

    def _embed(self, species: Int[Tensor, " points"], molecules: Molecules) -> Features:
        """Features before the first layer, with charge and spin in them where the network has them as inputs."""
        features = self.backbone.embed(species)
        if self.state is None:
            return features
        points = self.backbone.split(features)
        return self.backbone.join(features, replace(points, scalars=self.state(points.scalars, molecules)))

    def _layers(self) -> Iterable[Layer[Features]]:
        """The backbone's layers, or the same layers without arrays that wait for the gradient."""
        if not self.saves_memory:
            return self.backbone.layers
        return [
            partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False) for layer in self.backbone.layers
        ]

    def _plain(self, features: Features, edges: Edges, displacement: Float[Tensor, "atoms 3"]) -> Polarized:
        """The backbone as it is, with displacements of zero."""
        trajectory = [displacement]
        for layer in self._layers():
            features = layer(features, edges)
            trajectory.append(displacement)
        return self._polarized(features, features, trajectory, edges)

    def _coupled(
        self, couple: nn.Module, fixed: Features, moving: Features, displacement: Float[Tensor, "atoms 3"]
    ) -> tuple[Features, Features]:
        """Features after the coupling of the two points of each atom; one object for one set of features."""
        backbone = self.backbone
        of_fixed, of_moving = couple(backbone.split(fixed), backbone.split(moving), displacement)
        coupled = backbone.join(moving, of_moving)
        return (coupled if fixed is moving else backbone.join(fixed, of_fixed)), coupled

    def _polarized(self, fixed: Features, moving: Features, trajectory: list[Tensor], nuclear: Edges) -> Polarized:
        of_moving = self.backbone.split(moving)
        of_fixed = of_moving if fixed is moving else self.backbone.split(fixed)
        return Polarized(of_fixed, of_moving, torch.stack(trajectory), nuclear)

    def hold_still(self) -> None:
        """Sets every move to zero, so that training starts from the backbone and lets the moves grow."""
        for move in self.moves:
            assert isinstance(move, Move)
            move.hold_still()


def check_limit(limit: float) -> None:
    """Makes sure that displacements can be bounded by this length.

    Raises:
        ValueError: if it is not positive, or not below 1000 Angstrom.
    """
    if not 0 < limit < 1000:
        raise ValueError(f"limit must be a positive length in Angstrom, below 1000, not {limit}")


def _check_weights(backbone: Backbone[Any]) -> None:
    """Makes sure that torch knows the weights of all layers, without which they are neither trained nor saved."""
    if not isinstance(backbone, nn.Module):
        return
    known = {id(weight) for weight in backbone.parameters()}
    for number, layer in enumerate(backbone.layers):
        if isinstance(layer, nn.Module) and any(id(weight) not in known for weight in layer.parameters()):
            raise ValueError(
                f"backbone: the weights of layer {number} are not among those of {type(backbone).__name__}, so that "
                "they would be neither trained nor saved; keep the layers in a torch.nn.ModuleList instead of a list"
            )


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _take_former_moves(
    network: NeuralPolarization[Any], weights: Mapping[str, Tensor], prefix: str, *_: object
) -> None:
    """Makes the moves that weights of version 0.1 belong to: the default was a perceptron on each edge then."""
    for number, move in enumerate(network.moves):
        former = not isinstance(move, EdgeMove) and f"{prefix}moves.{number}.of_length.weight" in weights
        if former:
            channels = network.backbone.scalar_channels, network.backbone.vector_channels
            network.moves[number] = EdgeMove(*channels).to(next(network.parameters()))


def save_memory(model: nn.Module) -> None:
    """Makes the polarized networks in a model compute arrays over edges again for gradients, instead of keeping them.

    Energies, forces and gradients of weights stay the same; forces and trainings take longer.

    Raises:
        ValueError: if there is no such network, as in an exported model.
    """
    networks = [part for part in model.modules() if isinstance(part, NeuralPolarization)]
    if not networks:
        raise ValueError(
            "save_memory: there is no polarized network in this model (an exported one has none); leave it out"
        )
    for network in networks:
        network.saves_memory = True
