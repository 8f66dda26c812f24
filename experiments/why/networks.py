"""The networks of `ideas.py`: each is polarization with one thing changed, as one small class."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from ase.data import covalent_radii
from e3nn import o3
from torch import Tensor, nn

from neural_polarization.backbones.attributed import SpeciesFeatures
from neural_polarization.backbones.painn import PaiNNMessage
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges, bound
from neural_polarization.messages import Connection, MovingLengths
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Move, VectorMove
from neural_polarization.polarization import NeuralPolarization, Polarized, Step


class Momentum(NeuralPolarization[PointFeatures]):
    """Displacements with a memory: each layer goes on in the direction of the step before, by a learned share."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.share = nn.Parameter(torch.zeros(len(self.moves)))

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements, as without the memory while `share` is zero."""
        last = [torch.zeros_like(molecules.positions)]

        def remember(move: Step, share: Tensor, points: PointFeatures, edges: Edges) -> Tensor:
            last[0] = move(points, edges) + share * last[0]
            return last[0]

        steps = [partial(remember, move, share) for move, share in zip(moves or self.moves, self.share, strict=True)]
        return super().forward(molecules, start, cast("Sequence[Step]", steps))


class SecondSweep(NeuralPolarization[PointFeatures]):
    """Two sweeps with one set of weights: the second one starts where the points of the first one are."""

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements of the second sweep."""
        first = super().forward(molecules, start, moves)
        return super().forward(molecules, first.displacement, moves)


class TrustedLengths(MovingLengths):
    """Lengths between those of the nuclei (trust 0) and those of the moving points (trust 1)."""

    def __init__(self, molecules: Molecules, cutoff: float, trust: Tensor) -> None:
        super().__init__(molecules, cutoff)
        self.trust = trust[self.nuclear.senders] + trust[self.nuclear.receivers]

    def __call__(self, displacement: Tensor) -> Edges:
        """Edges with the direction between the moving points and a length that the two elements trust."""
        moved = super().__call__(displacement)
        lengths = self.nuclear.lengths + self.trust * (moved.lengths - self.nuclear.lengths)
        return replace(moved, vectors=moved.vectors * (lengths / moved.lengths).unsqueeze(-1), lengths=lengths)


class Trust(NeuralPolarization[PointFeatures]):
    """Lengths that move by as much as a learned number for each element says."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.trust = nn.Parameter(torch.full((len(self.elements),), 0.5))

    def connection(self, molecules: Molecules) -> Connection:
        """Edges whose lengths move by the sum of the trust of both elements, which is 1 at first."""
        return TrustedLengths(molecules, self.backbone.cutoff, self.trust[self.species(molecules.atomic_numbers)])


class TwoPointMessage(PaiNNMessage):
    """Messages of PaiNN in which half of the channels see one geometry, and half another."""

    def forward(self, features: PointFeatures, edges: Any) -> PointFeatures:
        """Features after the messages along a pair of `Edges`."""
        scalars, vectors = features.scalars, features.vectors
        assert vectors is not None
        parts = [self._filters(one, number) for number, one in enumerate(cast("tuple[Edges, Edges]", edges))]
        of_scalars, along, of_vectors = torch.cat([filters for filters, _ in parts], -1)
        direction = torch.cat([directions for _, directions in parts], -1)
        nuclear: Edges = edges[0]
        to_scalars, to_edge, to_vectors = self.context(scalars).split(self.channels, -1)
        for_scalars = to_scalars.index_select(0, nuclear.senders) * of_scalars
        along = (to_edge.index_select(0, nuclear.senders) * along).unsqueeze(1)
        sent = (to_vectors.unsqueeze(1) * vectors).index_select(0, nuclear.senders)
        for_vectors = of_vectors.unsqueeze(1) * sent + along * direction
        return PointFeatures(
            scalars.index_add(0, nuclear.receivers, for_scalars), vectors.index_add(0, nuclear.receivers, for_vectors)
        )

    def _filters(self, edges: Edges, number: int) -> tuple[Tensor, Tensor]:
        """Filters (3, edges, half) and directions (edges, 3, half) of the channels that see these edges."""
        half = self.channels // 2
        rows = torch.arange(3).unsqueeze(1) * self.channels + number * half + torch.arange(half)
        radial = torch.cat([self.basis.rows(edges.lengths, edges.envelope), edges.envelope.unsqueeze(0)])
        weight = torch.cat([self.filter.weight, self.filter.bias.unsqueeze(1)], 1)[rows.flatten()]
        filters = (radial.t() @ weight.t()).unflatten(-1, (3, half)).movedim(1, 0)
        directions = edges.vectors / edges.lengths.unsqueeze(-1)
        return filters, directions.unsqueeze(-1).expand(-1, -1, half)


class TwoPoints(NeuralPolarization[PointFeatures]):
    """Riding with two moving points for each atom, each of which half of the channels see."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        kind = cast("type[Move]", type(self.moves[0]))
        sizes = self.backbone.scalar_channels, self.backbone.vector_channels
        self.others = nn.ModuleList(kind(*sizes) for _ in self.moves)
        for layer in cast("Iterable[Any]", self.backbone.layers):
            layer.message.__class__ = TwoPointMessage  # the same weights, another sum

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features, and the mean displacement of the two points."""
        connect = self.connection(molecules)
        features = self._embed(self.species(molecules.atomic_numbers), molecules)
        places = [torch.zeros_like(molecules.positions)] * 2
        trajectory = [places[0]]
        layers = cast("Iterable[Any]", self.backbone.layers)
        for layer, couple, *pair in zip(layers, self.couples, self.moves, self.others, strict=True):
            edges = connect(places[0]), connect(places[1])
            features = layer(features, edges)
            places = [
                bound(place + move(features, one), self.limit)
                for place, move, one in zip(places, pair, edges, strict=True)
            ]
            for place in places:
                features, _ = self._coupled(couple, features, features, place)
            trajectory.append(0.5 * (places[0] + places[1]))
        return self._polarized(features, features, trajectory, connect.nuclear)


class BondPoints(NeuralPolarization[PointFeatures]):
    """Points in the middle of bonds that exchange messages and move as atoms do, and have no energy of their own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.of_pair = nn.Linear(self.backbone.scalar_channels, self.backbone.scalar_channels)

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements of the atoms."""
        atoms, place = molecules.num_atoms, molecules.positions
        radii = torch.tensor(covalent_radii, dtype=place.dtype)[molecules.atomic_numbers]
        first, second = molecules.edge_index
        bonded = (place[first] - place[second]).norm(dim=-1) < 1.3 * (radii[first] + radii[second])
        self.bonds = molecules.edge_index[:, bonded & (first < second)]
        first, second = self.bonds
        places = torch.cat([place, 0.5 * (place[first] + place[second])])
        owner = torch.cat([molecules.molecule_index, molecules.molecule_index[first]])
        near = (owner.unsqueeze(1) == owner) & (torch.cdist(places, places) < self.backbone.cutoff)
        near.fill_diagonal_(False)
        whole = replace(
            molecules,
            positions=places,
            edge_index=near.nonzero().t(),
            atomic_numbers=torch.cat([molecules.atomic_numbers, molecules.atomic_numbers[first]]),
            molecule_index=owner,
        )
        found = super().forward(whole, start, moves)
        fixed = moving = self._of_atoms(found.fixed, atoms)
        if found.moving is not found.fixed:
            moving = self._of_atoms(found.moving, atoms)
        return Polarized(fixed, moving, found.trajectory[:, :atoms], found.edges)

    @staticmethod
    def _of_atoms(points: PointFeatures, atoms: int) -> PointFeatures:
        vectors = points.vectors
        return PointFeatures(points.scalars[:atoms], None if vectors is None else vectors[:atoms])

    def _embed(self, species: Tensor, molecules: Molecules) -> PointFeatures:
        points = self.backbone.split(super()._embed(species, molecules))
        atoms = len(species) - self.bonds.shape[1]
        of_ends = points.scalars[self.bonds].sum(0)
        return replace(points, scalars=torch.cat([points.scalars[:atoms], self.of_pair(of_ends)]))


class TensorMoves(NeuralPolarization[SpeciesFeatures]):
    """Riding whose moves read tensors of degree 2, too: T v, their products with the vectors of the same point.

    Without a vector a tensor has no direction of its own: its axes have no sign, and swap where two eigenvalues meet.
    """

    turn: Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("turn", 3**0.5 * o3.wigner_3j(2, 1, 1), persistent=False)
        sizes = self.backbone.scalar_channels, 2 * self.backbone.vector_channels
        self.moves = nn.ModuleList(VectorMove(*sizes) for _ in self.moves)

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements."""
        connect = self.connection(molecules)
        features = self._embed(self.species(molecules.atomic_numbers), molecules)
        trajectory = [torch.zeros_like(molecules.positions)]
        for layer, move, couple in zip(
            cast("Iterable[Any]", self.backbone.layers), self.moves, self.couples, strict=True
        ):
            edges = connect(trajectory[-1])
            features = layer(features, edges)
            step = move(self._with_products(features, layer.gated.irreps), edges)
            displacement = bound(trajectory[-1] + step, self.limit)
            features, _ = self._coupled(couple, features, features, displacement)
            trajectory.append(displacement)
        return self._polarized(features, features, trajectory, connect.nuclear)

    def _with_products(self, features: SpeciesFeatures, irreps: o3.Irreps) -> PointFeatures:
        """The point's features with T v beside its vectors; zero after the last layer, which makes no tensors."""
        points = self.backbone.split(features)
        assert points.vectors is not None
        products = torch.zeros_like(points.vectors)
        for (channels, irrep), columns in zip(irreps, irreps.slices(), strict=True):
            if str(irrep) == "2e":
                tensors = features.values[:, columns].unflatten(-1, (channels, 5))
                products = torch.einsum("ncm,nic,mik->nkc", tensors, points.vectors, self.turn)
        return replace(points, vectors=torch.cat([points.vectors, products], -1))
