"""Adapters of PyTorch Geometric's ViSNet and SchNet, with their energies (needs torch-geometric)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.adapters.host import (
    EnergyReadout,
    Parts,
    PointTable,
    check_neighbours,
    host_module,
    numbers_of,
    unsupported,
)
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import WithPointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules


def _models(module: str) -> Any:
    return host_module(f"torch_geometric.nn.models.{module}", extra="pyg")


class PyGEmbedding(nn.Module):
    """PyTorch Geometric's embedding of atomic numbers, used as an embedding of species."""

    rows: Tensor

    def __init__(self, embedding: nn.Embedding, elements: Sequence[str], two_points: bool) -> None:
        super().__init__()
        self.embedding = embedding
        rows = numbers_of(elements, range(1, embedding.num_embeddings), "PyTorch Geometric network")
        self.register_buffer("rows", rows.to(embedding.weight.device), persistent=False)
        self.table = PointTable(embedding.weight[self.rows], two_points)

    def forward(self, species: Int[Tensor, " points"]) -> Float[Tensor, "points channels"]:
        """Row of the embedding for each point."""
        return self.table(self.embedding.weight[self.rows], species)


def _kept_by_schnet(search: Any) -> int | None:
    """Largest number of neighbours that a SchNet's search keeps; a user's own search is assumed to keep all."""
    return search.max_num_neighbors if isinstance(search, _models("schnet").RadiusInteractionGraph) else None


class PyGSchNetLayer(nn.Module):
    """One interaction, with its residual connection."""

    def __init__(self, network: Any, number: int) -> None:
        super().__init__()
        # All layers have the same neighbours, so only the first one counts them.
        self.most_neighbours = _kept_by_schnet(network.interaction_graph) if number == 0 else None
        self.distance_expansion: nn.Module = network.distance_expansion
        self.interaction: nn.Module = network.interactions[number]

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        check_neighbours(edges.receivers, self.most_neighbours, "SchNet")
        edge_index = torch.stack([edges.senders, edges.receivers])
        # The interaction uses the distance only for the cutoff function.
        basis, distance = self.distance_expansion(edges.lengths), edges.nuclear_lengths
        return PointFeatures(features.scalars + self.interaction(features.scalars, edge_index, distance, basis), None)


class PyGSchNet(WithPointFeatures, nn.Module):
    """`torch_geometric.nn.models.SchNet` as a backbone.

    Args:
        network: The whole model, trained or not; its parameters are shared, not copied.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if PyTorch Geometric is not installed.
        TypeError: for another network.
        ValueError: for an element that the network cannot embed.
    """

    layers: nn.ModuleList

    def __init__(self, network: nn.Module, elements: Sequence[str], two_points: bool = False) -> None:
        super().__init__()
        if not isinstance(network, _models("schnet").SchNet):
            raise unsupported(network, "torch_geometric.nn.models.SchNet")
        model = cast(Any, network)
        self.cutoff = float(model.cutoff)
        self.scalar_channels, self.vector_channels = int(model.hidden_channels), 0
        self.embedding = PyGEmbedding(model.embedding, elements, two_points)
        self.num_species = self.embedding.table.num_species
        self.layers = nn.ModuleList(PyGSchNetLayer(model, k) for k in range(len(model.interactions)))

    def embed(self, species: Int[Tensor, " points"]) -> PointFeatures:
        """Scalars from the embedding."""
        return PointFeatures(self.embedding(species), None)


class PyGSchNetReadout(EnergyReadout):
    """The perceptron of atoms, the scale, mean and references of elements, and the sum or mean over atoms."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.of_atoms = nn.Sequential(model.lin1, model.act, model.lin2)
        self.atomref: nn.Embedding | None = model.atomref
        self.aggregate: nn.Module = model.readout
        self.mean, self.std, self.scale = model.mean, model.std, model.scale

    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule, in the model's unit."""
        energy = self.of_atoms(points.scalars)
        if self.mean is not None and self.std is not None:
            energy = energy * self.std + self.mean
        if self.atomref is not None:
            energy = energy + self.atomref(molecules.atomic_numbers)
        energy = self.aggregate(energy, molecules.molecule_index, dim=0).reshape(-1)
        return energy if self.scale is None else self.scale * energy


@dataclass(frozen=True)
class ViSNetFeatures:
    """Features of points and of pairs.

    Attributes:
        scalars: Invariant channels.
        orders: Channels of the degrees 1 to lmax, their orders side by side; the vectors are the first three.
        start: Before the first layer the embedding of each point's species that its neighbours receive, after it the
            scalars from which pairs are embedded.
        pairs: Sum of the changes that the layers made to the embedding of every pair, and of every point with itself;
            None before any change.
    """

    scalars: Float[Tensor, "points channels"]
    orders: Float[Tensor, "points orders channels"]
    start: Float[Tensor, "points channels"]
    pairs: Float[Tensor, "pairs channels"] | None


def _kept_by_visnet(search: Any) -> int | None:
    """Largest number of neighbours that a ViSNet's search keeps, without the atom itself, which the search counts."""
    if not isinstance(search, _models("visnet").Distance) or search.max_num_neighbors is None:
        return None
    return search.max_num_neighbors - (1 if search.add_self_loops else 0)


class PyGViSNetLayer(nn.Module):
    """One layer of messages; the first begins with the embedding of neighbours, the last ends with a norm of features.

    The network embeds the length of a pair once, and its layers add to that. Here every layer embeds the present
    length, which gives the same result if nothing has moved. Every point is its own neighbour, at length zero.
    """

    def __init__(self, network: Any, number: int) -> None:
        super().__init__()
        self.most_neighbours = _kept_by_visnet(network.distance) if number == 0 else None
        self.sphere: nn.Module = network.sphere
        self.distance_expansion: nn.Module = network.distance_expansion
        self.edge_embedding: nn.Module = network.edge_embedding
        self.messages: nn.Module = network.vis_mp_layers[number]
        # This is all of the neighbour embedding except its table, which the adapter extends by the moving points.
        neighbours = network.neighbor_embedding if number == 0 else None
        self.neighbour_filter: nn.Module | None = None if neighbours is None else neighbours.distance_proj
        self.neighbour_cutoff: nn.Module | None = None if neighbours is None else neighbours.cutoff
        self.combine: nn.Module | None = None if neighbours is None else neighbours.combine
        last = number == len(network.vis_mp_layers) - 1
        self.out_norm: nn.Module | None = network.out_norm if last else None
        self.vec_out_norm: nn.Module | None = network.vec_out_norm if last else None

    def forward(self, features: ViSNetFeatures, edges: Edges) -> ViSNetFeatures:
        """Features after the messages."""
        check_neighbours(edges.receivers, self.most_neighbours, "ViSNet")
        basis = self.distance_expansion(edges.lengths)
        scalars, orders, start = features.scalars, features.orders, features.start
        if self.neighbour_filter is not None and self.neighbour_cutoff is not None and self.combine is not None:
            filters = self.neighbour_filter(basis) * self.neighbour_cutoff(edges.nuclear_lengths).unsqueeze(-1)
            arrived = sum_by_index(filters * start[edges.senders], edges.receivers, scalars.shape[0])
            scalars = start = self.combine(torch.cat([scalars, arrived], -1))
        own = torch.arange(scalars.shape[0], device=scalars.device)
        nowhere = edges.vectors.new_zeros(scalars.shape[0], 3)
        edge_index = torch.stack([torch.cat([edges.senders, own]), torch.cat([edges.receivers, own])])
        pairs = self.edge_embedding(edge_index, torch.cat([basis, self.distance_expansion(nowhere[:, 0])]), start)
        to_scalars, to_orders, to_pairs = self.messages(
            scalars,
            orders,
            edge_index,
            torch.cat([edges.nuclear_lengths, nowhere[:, 0]]),  # only the cutoff function reads it
            pairs if features.pairs is None else pairs + features.pairs,
            self.sphere(torch.cat([edges.vectors / edges.lengths.unsqueeze(-1), nowhere])),
        )
        scalars, orders = scalars + to_scalars, orders + to_orders
        if self.out_norm is not None and self.vec_out_norm is not None:
            return ViSNetFeatures(self.out_norm(scalars), self.vec_out_norm(orders), start, None)
        return ViSNetFeatures(scalars, orders, start, to_pairs if features.pairs is None else features.pairs + to_pairs)


class PyGViSNet(nn.Module):
    """`torch_geometric.nn.models.visnet.ViSNetBlock`, the representation of a `ViSNet`, as a backbone.

    As in the package, radial functions also fade out where the moved length reaches the cutoff. Messages to the vectors
    have a bias that does not fade out. So the energies of a trained network jump at the cutoff, with or without the
    adapter.

    Args:
        representation: The network, trained or not; its parameters are shared, not copied.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if PyTorch Geometric is not installed.
        TypeError: for another network.
        ValueError: for an element that the network cannot embed, or normalized vectors.
    """

    layers: nn.ModuleList

    def __init__(self, representation: nn.Module, elements: Sequence[str], two_points: bool = False) -> None:
        super().__init__()
        if not isinstance(representation, _models("visnet").ViSNetBlock):
            raise unsupported(representation, "torch_geometric.nn.models.visnet.ViSNetBlock")
        network = cast(Any, representation)
        if network.vecnorm_type is not None:
            raise ValueError(
                f"representation: vecnorm_type={network.vecnorm_type!r} divides by lengths of vectors that may be zero "
                "and has no derivative there; only networks with vecnorm_type=None can be polarized"
            )
        self.cutoff = float(network.cutoff)
        self.scalar_channels = self.vector_channels = int(network.hidden_channels)
        self._orders = (int(network.lmax) + 1) ** 2 - 1
        self.embedding = PyGEmbedding(network.embedding, elements, two_points)
        self.neighbour_embedding = PyGEmbedding(network.neighbor_embedding.embedding, elements, two_points)
        self.num_species = self.embedding.table.num_species
        self.layers = nn.ModuleList(PyGViSNetLayer(network, k) for k in range(len(network.vis_mp_layers)))

    def embed(self, species: Int[Tensor, " points"]) -> ViSNetFeatures:
        """Scalars from the embedding; all other features are zero."""
        scalars = self.embedding(species)
        orders = scalars.new_zeros(species.shape[0], self._orders, self.vector_channels)
        return ViSNetFeatures(scalars, orders, self.neighbour_embedding(species), None)

    def split(self, features: ViSNetFeatures) -> PointFeatures:
        """The scalars, and the features of degree 1 as vectors."""
        return PointFeatures(features.scalars, features.orders[:, :3])

    def join(self, features: ViSNetFeatures, split: PointFeatures) -> ViSNetFeatures:
        """The features with these scalars and vectors; those of degree 2 are unchanged."""
        assert split.vectors is not None
        orders = torch.cat([split.vectors, features.orders[:, 3:]], 1)
        return ViSNetFeatures(split.scalars, orders, features.start, features.pairs)


class PyGViSNetReadout(EnergyReadout):
    """The output model of a `ViSNet`, its mean and standard deviation, and its references of elements.

    With lmax=2 the output model also reads features of degree 2, which `PointFeatures` does not contain. Such models
    are refused; a model for polarization has lmax=1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.output_model: Any = model.output_model
        self.prior_model: nn.Module | None = model.prior_model
        self.by_mean = model.reduce_op == "mean"
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule, in the model's unit."""
        energy = self.output_model.pre_reduce(points.scalars, points.vectors) * self.std
        if self.prior_model is not None:
            energy = self.prior_model(energy, molecules.atomic_numbers)
        total = sum_by_index(energy.squeeze(-1), molecules.molecule_index, molecules.num_molecules)
        if self.by_mean:
            total = total / molecules.molecule_index.bincount(minlength=molecules.num_molecules)
        return total + self.mean


def take_apart(model: nn.Module, elements: Sequence[str], two_points: bool = False) -> Parts:
    """Backbone and readout of a `SchNet` or `ViSNet`, which share the model's parameters.

    Args:
        model: The model, trained or not.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if PyTorch Geometric is not installed.
        TypeError: for another model.
        ValueError: for an element that it cannot embed, a SchNet of dipoles, or a ViSNet that reads the degree 2.
    """
    whole = cast(Any, model)
    if isinstance(model, _models("schnet").SchNet):
        if whole.dipole:
            raise ValueError("model: it predicts dipoles; only energies can be kept: give a SchNet with dipole=False")
        return Parts(PyGSchNet(model, elements, two_points), PyGSchNetReadout(whole))
    if isinstance(model, _models("visnet").ViSNet):
        if whole.representation_model.lmax != 1:
            raise ValueError(
                "model: its readout takes the degree 2 of features, which heads do not receive; give a ViSNet "
                "with lmax=1, or its representation_model to PyGViSNet with a head of your own"
            )
        return Parts(PyGViSNet(whole.representation_model, elements, two_points), PyGViSNetReadout(whole))
    raise unsupported(model, "torch_geometric.nn.models.SchNet and ViSNet")
