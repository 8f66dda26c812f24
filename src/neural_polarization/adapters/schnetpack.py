"""Adapters of SchNetPack's PaiNN, SchNet and SO3net, with their energies (needs schnetpack)."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.adapters.host import EnergyReadout, Parts, PointTable, host_module, numbers_of, unsupported
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.backbones.scalars_vectors import WithPointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules


def _schnetpack(module: str) -> Any:
    return host_module(f"schnetpack.{module}", extra="schnetpack")


class SchNetPackEmbedding(nn.Module):
    """SchNetPack's embedding of atomic numbers, used as an embedding of species."""

    def __init__(self, embedding: nn.Embedding, elements: Sequence[str], two_points: bool) -> None:
        super().__init__()
        self.embedding = embedding
        rows = numbers_of(elements, range(1, embedding.num_embeddings), "SchNetPack network")
        self.register_buffer("rows", rows.to(embedding.weight.device), persistent=False)
        self.table = PointTable(embedding.weight[self.rows], two_points)

    rows: Tensor

    def forward(self, species: Int[Tensor, " points"]) -> Float[Tensor, "points channels"]:
        """Scalars of each point."""
        return self.table(self.embedding.weight[self.rows], species)


class SchNetPackBackbone(nn.Module):
    """Abstract: a network of SchNetPack as a backbone.

    Args:
        representation: The network, trained or not; its parameters are shared, not copied.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if SchNetPack is not installed.
        TypeError: for another network.
        ValueError: for an element that the network cannot embed.
    """

    layers: nn.ModuleList
    """The layers, which map (features, edges) to features. The subclass sets them."""
    of_class: ClassVar[str]
    """Name of the network's class in `schnetpack.representation`."""
    has_vectors: ClassVar[bool] = True

    def __init__(self, representation: nn.Module, elements: Sequence[str], two_points: bool = False) -> None:
        super().__init__()
        if not isinstance(representation, getattr(_schnetpack("representation"), self.of_class)):
            raise unsupported(representation, f"schnetpack.representation.{self.of_class}")
        network = cast(Any, representation)
        self.cutoff = float(network.cutoff)
        self.scalar_channels = int(network.n_atom_basis)
        self.vector_channels = self.scalar_channels if self.has_vectors else 0
        self.embedding = SchNetPackEmbedding(network.embedding, elements, two_points)
        self.num_species = self.embedding.table.num_species
        self.layers = nn.ModuleList(self.layers_of(network))

    @abstractmethod
    def layers_of(self, network: Any) -> Iterable[nn.Module]:
        """The layers, from a network of the right class."""


class SchNetPackPaiNNLayer(nn.Module):
    """One interaction and its mixing. The filters of all layers are one linear map; each layer takes its columns."""

    def __init__(self, network: Any, number: int) -> None:
        super().__init__()
        self.radial_basis: nn.Module = network.radial_basis
        self.cutoff_fn: nn.Module = network.cutoff_fn
        self.filter_net: Any = network.filter_net
        self.interaction: nn.Module = network.interactions[number]
        self.mixing: nn.Module = network.mixing[number]
        first = 0 if network.share_filters else 3 * network.n_atom_basis * number
        self.columns = slice(first, first + 3 * network.n_atom_basis)

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        columns, linear = self.columns, self.filter_net
        filters = F.linear(self.radial_basis(edges.lengths), linear.weight[columns], linear.bias[columns])
        filters = filters * self.cutoff_fn(edges.nuclear_lengths).unsqueeze(-1)
        directions = edges.vectors / edges.lengths.unsqueeze(-1)
        scalars = features.scalars.unsqueeze(1)
        scalars, vectors = self.interaction(
            scalars,
            features.vectors,
            filters.unsqueeze(1),
            directions,
            edges.receivers,
            edges.senders,
            scalars.shape[0],
        )
        scalars, vectors = self.mixing(scalars, vectors)
        return PointFeatures(scalars.squeeze(1), vectors)


class SchNetPackPaiNN(WithPointFeatures, SchNetPackBackbone):
    """`schnetpack.representation.PaiNN` as a backbone."""

    of_class = "PaiNN"

    def layers_of(self, network: Any) -> Iterable[nn.Module]:
        """One layer for each interaction."""
        return (SchNetPackPaiNNLayer(network, k) for k in range(network.n_interactions))

    def embed(self, species: Int[Tensor, " points"]) -> PointFeatures:
        """Scalars from the embedding, and vectors of zero."""
        scalars = self.embedding(species)
        return PointFeatures(scalars, scalars.new_zeros(species.shape[0], 3, self.vector_channels))


class SchNetPackSchNetLayer(nn.Module):
    """One interaction, with its residual connection."""

    def __init__(self, network: Any, number: int) -> None:
        super().__init__()
        self.radial_basis: nn.Module = network.radial_basis
        self.cutoff_fn: nn.Module = network.cutoff_fn
        self.interaction: nn.Module = network.interactions[number]

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        """Features after the messages."""
        basis, envelope = self.radial_basis(edges.lengths), self.cutoff_fn(edges.nuclear_lengths)
        update = self.interaction(features.scalars, basis, edges.receivers, edges.senders, envelope)
        return PointFeatures(features.scalars + update, None)


class SchNetPackSchNet(WithPointFeatures, SchNetPackBackbone):
    """`schnetpack.representation.SchNet` as a backbone."""

    of_class = "SchNet"
    has_vectors = False

    def layers_of(self, network: Any) -> Iterable[nn.Module]:
        """One layer for each interaction."""
        return (SchNetPackSchNetLayer(network, k) for k in range(len(network.interactions)))

    def embed(self, species: Int[Tensor, " points"]) -> PointFeatures:
        """Scalars from the embedding."""
        return PointFeatures(self.embedding(species), None)


class SchNetPackSO3netLayer(nn.Module):
    """One convolution, with its products, mixings and gates."""

    def __init__(self, network: Any, number: int) -> None:
        super().__init__()
        self.radial_basis: nn.Module = network.radial_basis
        self.cutoff_fn: nn.Module = network.cutoff_fn
        self.sphharm: nn.Module = network.sphharm
        self.so3product: nn.Module = network.so3product
        self.so3conv: nn.Module = network.so3convs[number]
        self.mixing1: nn.Module = network.mixings1[number]
        self.mixing2: nn.Module = network.mixings2[number]
        self.mixing3: nn.Module = network.mixings3[number]
        self.gating: nn.Module = network.gatings[number]

    def forward(self, features: Float[Tensor, "points orders channels"], edges: Edges) -> Tensor:
        """Features (points, orders, channels) after the messages."""
        harmonics = self.sphharm(edges.vectors / edges.lengths.unsqueeze(-1))
        basis, envelope = self.radial_basis(edges.lengths), self.cutoff_fn(edges.nuclear_lengths).unsqueeze(-1)
        arrived = self.so3conv(features, basis, harmonics, envelope, edges.receivers, edges.senders)
        mixed = self.mixing2(arrived + self.so3product(arrived, self.mixing1(arrived)))
        return features + self.mixing3(self.gating(mixed))


class SchNetPackSO3net(SchNetPackBackbone):
    """`schnetpack.representation.SO3net` as a backbone, with lmax of 1 or more.

    The network is equivariant under rotations but not under reflections, because its products include those of two
    vectors that give a vector. Its coupling coefficients are stored in single precision, which limits the accuracy of
    the equivariance.

    Raises:
        ValueError: for a network of lmax=0, which has no vectors.
    """

    of_class = "SO3net"

    def __init__(self, representation: nn.Module, elements: Sequence[str], two_points: bool = False) -> None:
        super().__init__(representation, elements, two_points)
        lmax = int(cast(Any, representation).lmax)
        if lmax < 1:
            raise ValueError("representation: an SO3net of lmax=0 has no vectors; take lmax=1 or more")
        self._orders = (lmax + 1) ** 2

    def layers_of(self, network: Any) -> Iterable[nn.Module]:
        """One layer for each interaction."""
        return (SchNetPackSO3netLayer(network, k) for k in range(network.n_interactions))

    def embed(self, species: Int[Tensor, " points"]) -> Float[Tensor, "points orders channels"]:
        """Scalars from the embedding; all other features are zero."""
        scalars = self.embedding(species).unsqueeze(1)
        return torch.cat([scalars, scalars.new_zeros(species.shape[0], self._orders - 1, self.scalar_channels)], 1)

    def split(self, features: Float[Tensor, "points orders channels"]) -> PointFeatures:
        """The degrees 0 and 1; the package stores vectors as (y, z, x)."""
        return PointFeatures(features[:, 0], features[:, 1:4].roll(1, 1))

    def join(self, features: Float[Tensor, "points orders channels"], split: PointFeatures) -> Tensor:
        """The features with these scalars and vectors; higher degrees are unchanged."""
        assert split.vectors is not None
        return torch.cat([split.scalars.unsqueeze(1), split.vectors.roll(-1, 1), features[:, 4:]], 1)


class SchNetPackReadout(EnergyReadout):
    """The output modules and postprocessors (offsets, casts) of a model, up to its energy.

    Args:
        model: A `NeuralNetworkPotential`.
        energy_key: Name of the energy among the results of the model.
    """

    def __init__(self, model: Any, energy_key: str) -> None:
        super().__init__()
        atomistic = _schnetpack("atomistic")
        derivatives = (atomistic.Forces, atomistic.Response)
        self.energy_key = energy_key
        kept = [module for module in model.output_modules if not isinstance(module, derivatives)]
        self.output_modules = nn.ModuleList(kept)
        self.postprocessors: nn.ModuleList = model.postprocessors
        self.do_postprocessing = bool(model.do_postprocessing)

    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule, in the model's unit."""
        properties = _schnetpack("properties")
        senders, receivers = molecules.edge_index
        vectors = molecules.positions[senders] - molecules.positions[receivers]
        inputs: dict[str, Tensor] = {
            properties.Z: molecules.atomic_numbers,
            properties.R: molecules.positions,
            properties.Rij: vectors if molecules.shifts is None else vectors + molecules.shifts,
            properties.idx_i: receivers,
            properties.idx_j: senders,
            properties.idx_m: molecules.molecule_index,
            properties.n_atoms: _totals(molecules.positions.new_ones(molecules.num_atoms), molecules).long(),
            "scalar_representation": points.scalars,
        }
        if points.vectors is not None:
            inputs["vector_representation"] = points.vectors
        modules = [*self.output_modules, *(self.postprocessors if self.do_postprocessing else ())]
        atomwise, offsets = _schnetpack("atomistic").Atomwise, _schnetpack("transform").AddOffsets
        for module in modules:
            # Their own sums read the number of molecules from values, which a graph of operations does not have.
            if type(module) is atomwise:
                inputs = _with_atomwise(module, inputs, molecules)
            elif type(module) is offsets:
                inputs = _with_offsets(module, inputs, molecules)
            else:
                inputs = module(inputs)
        return inputs[self.energy_key].reshape(-1)


def _totals(values: Tensor, molecules: Molecules) -> Tensor:
    return sum_by_index(values, molecules.molecule_index, molecules.num_molecules)


def _with_atomwise(module: Any, inputs: dict[str, Tensor], molecules: Molecules) -> dict[str, Tensor]:
    """What an `Atomwise` adds to the inputs."""
    values = of_atoms = module.outnet(inputs["scalar_representation"])
    if module.aggregation_mode is not None:
        values = _totals(of_atoms, molecules).squeeze(-1)
        if module.aggregation_mode == "avg":
            values = values / inputs[_schnetpack("properties").n_atoms]
    own = {} if module.per_atom_output_key is None else {module.per_atom_output_key: of_atoms}
    return {**inputs, **own, module.output_key: values}


def _with_offsets(module: Any, inputs: dict[str, Tensor], molecules: Molecules) -> dict[str, Tensor]:
    """The inputs after an `AddOffsets`."""
    name, counts = module._property, inputs[_schnetpack("properties").n_atoms]
    energy = inputs[name]
    offset = torch.zeros_like(energy)
    if module.add_mean:
        offset = offset + (module.mean * counts if module.is_extensive else module.mean)
    if module.add_atomrefs:
        references = _totals(module.atomref[molecules.atomic_numbers], molecules)
        offset = offset + (references if module.is_extensive else references / counts)
    return {**inputs, name: energy + offset.to(energy.dtype)}


def take_apart(model: nn.Module, elements: Sequence[str], two_points: bool = False) -> Parts:
    """Backbone and readout of a `schnetpack.model.NeuralNetworkPotential`, which share the model's parameters.

    Args:
        model: The model, trained or not, for positions in Angstrom.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if SchNetPack is not installed.
        TypeError: for another model, representation or input module.
        ValueError: for an element that it cannot embed, or a model without an energy.
    """
    representations, atomistic = _schnetpack("representation"), _schnetpack("atomistic")
    if not isinstance(model, _schnetpack("model").NeuralNetworkPotential):
        raise unsupported(model, "schnetpack.model.NeuralNetworkPotential")
    whole = cast(Any, model)
    for module in whole.input_modules:
        if not isinstance(module, (atomistic.PairwiseDistances, atomistic.Strain)):
            raise unsupported(module, "the input modules PairwiseDistances and Strain")
    backbone: SchNetPackPaiNN | SchNetPackSchNet | SchNetPackSO3net
    if isinstance(whole.representation, representations.PaiNN):
        backbone = SchNetPackPaiNN(whole.representation, elements, two_points)
    elif isinstance(whole.representation, representations.SchNet):
        backbone = SchNetPackSchNet(whole.representation, elements, two_points)
    elif isinstance(whole.representation, representations.SO3net):
        backbone = SchNetPackSO3net(whole.representation, elements, two_points)
    else:
        raise unsupported(whole.representation, "the representations PaiNN, SchNet and SO3net")
    return Parts(backbone, SchNetPackReadout(whole, _energy_key(whole, atomistic)))


def _energy_key(model: Any, atomistic: Any) -> str:
    """Name of the energy: the one that the model differentiates, or its only sum over atoms."""
    keys: list[str] = [module.energy_key for module in model.output_modules if isinstance(module, atomistic.Forces)]
    if not keys:
        keys = [module.output_key for module in model.output_modules if isinstance(module, atomistic.Atomwise)]
    if len(set(keys)) != 1:
        raise ValueError(
            f"model: its output modules name {len(set(keys))} energies ({', '.join(keys) or 'none'}); give a model "
            "with one Atomwise, or with Forces that say which energy is theirs"
        )
    return keys[0]
