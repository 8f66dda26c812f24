"""Adapter of NequIP, with its energies (needs nequip)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from ase.data import atomic_numbers as atomic_number_of
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.adapters.host import (
    Columns,
    EnergyReadout,
    Parts,
    PointTable,
    host_module,
    numbers_of,
    unsupported,
)
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges, safe_norm
from neural_polarization.molecules import Molecules

_BEFORE = ("type_embed", "spharm", "edge_norm", "bessel_encode", "factor")
_AFTER = ("per_atom_energy_readout", "per_type_energy_scale_shift", "pair_potential", "total_energy_sum")


def _nequip(module: str) -> Any:
    return host_module(f"nequip.{module}", extra="nequip")


def _keys() -> Any:
    return _nequip("data.AtomicDataDict")


@dataclass(frozen=True)
class NequIPFeatures:
    """Features of points.

    Attributes:
        scalars: Scalar channels "0e".
        vectors: Vector channels "1o". A layer without vectors keeps those of the layer before; None if the network
            has none.
        node: All irreps after the layer before. The coupling may have changed `scalars` and `vectors` since then.
        attributes: Embedding of each point's species, which every layer reads.
        types: Index of each point's element in the network.
    """

    scalars: Float[Tensor, "points channels"]
    vectors: Float[Tensor, "points 3 vector_channels"] | None
    node: Float[Tensor, "points irreps"]
    attributes: Float[Tensor, "points attributes"]
    types: Int[Tensor, " points"]


class NequIPLayer(nn.Module):
    """One convolution with its nonlinearity."""

    def __init__(self, modules: dict[str, Any], number: int, before: Columns, after: Columns) -> None:
        super().__init__()
        self.harmonics: nn.Module = modules["spharm"].sh
        self.edge_norm: nn.Module = modules["edge_norm"]
        self.bessel_encode: Any = modules["bessel_encode"]
        self.factor: nn.Module = modules["factor"]
        self.convnet: nn.Module = modules[f"layer{number}_convnet"]
        self.before, self.after = before, after

    def forward(self, features: NequIPFeatures, edges: Edges) -> NequIPFeatures:
        """Features after the messages."""
        keys = _keys()
        data: dict[str, Tensor] = {
            keys.ATOM_TYPE_KEY: features.types,
            keys.NODE_ATTRS_KEY: features.attributes,
            keys.NODE_FEATURES_KEY: self.before.put(features.node, PointFeatures(features.scalars, features.vectors)),
            keys.EDGE_INDEX_KEY: torch.stack([edges.receivers, edges.senders]),  # the order of the package
            keys.EDGE_VECTORS_KEY: edges.vectors,
            # A network that was built in one floating-point type and cast to another still computes harmonics in the
            # first.
            keys.EDGE_ATTRS_KEY: self.harmonics(edges.vectors).to(features.node.dtype),
        }
        # This does the same as the network's own encoding, but the cutoff is a function of the nuclear distance.
        weights = self.bessel_encode.bessel_weights
        bessel = torch.sinc(self._relative(data, edges.lengths) * weights) * weights
        cutoff = self.bessel_encode.cutoff(self._relative(data, edges.nuclear_lengths))
        data[keys.EDGE_EMBEDDING_KEY] = (bessel * cutoff).to(features.node.dtype)
        data = self.convnet(self.factor(data))
        node = data[keys.NODE_FEATURES_KEY]
        split = self.after.take(node)
        vectors = features.vectors if split.vectors is None else split.vectors
        return replace(features, scalars=split.scalars, vectors=vectors, node=node)

    def _relative(self, data: dict[str, Tensor], lengths: Tensor) -> Tensor:
        """Lengths (edges, 1) in units of the cutoff, which may differ from pair to pair of elements."""
        keys = _keys()
        return self.edge_norm(data | {keys.EDGE_LENGTH_KEY: lengths.unsqueeze(-1)})[keys.NORM_LENGTH_KEY]


class NequIPBackbone(nn.Module):
    """NequIP's `GraphModel` as a backbone.

    The last layer makes only scalars, so the vectors of the layer before move the points.

    Args:
        network: A model of `nequip.model.NequIPGNNModel` or its relatives, not compiled, trained or not; its
            parameters are shared, not copied.
        elements: Chemical symbols, which are the model's `type_names`; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if NequIP is not installed.
        TypeError: for another network, or one with other parts than NequIP's own.
        ValueError: for an element that the network does not know, a model with further inputs such as charges, or
            features in a layout that is not NequIP's.
    """

    layers: nn.ModuleList
    _types: Tensor

    def __init__(self, network: nn.Module, elements: Sequence[str], two_points: bool = False) -> None:
        super().__init__()
        modules = _modules(network)
        embedding = modules["type_embed"]
        if embedding.do_categorical_graph_field_embed:
            raise ValueError(
                "network: it embeds further inputs, such as charges, which molecules do not have here; give a NequIP "
                "without categorical_graph_field_embed"
            )
        self.cutoff = float(modules["edge_norm"].r_max)
        self.embedding: nn.Embedding = embedding.embed_module
        numbers = _numbers_of_types(network)
        rows = [numbers.index(int(number)) for number in numbers_of(elements, sorted(set(numbers) - {0}), "NequIP")]
        self.register_buffer("_types", torch.tensor(rows, device=self.embedding.weight.device), persistent=False)
        self.table = PointTable(self.embedding.weight[self._types], two_points)
        self.num_species = self.table.num_species

        layers = [module for name, module in modules.items() if name.endswith("_convnet")]
        irreps = [embedding.irreps_out["node_features"], *[layer.irreps_out["node_features"] for layer in layers]]
        columns = [Columns.of(each) for each in irreps]
        self.scalar_channels, self.vector_channels = columns[1].widths
        if any(
            one.widths[0] != self.scalar_channels or one.widths[1] not in (0, self.vector_channels)
            for one in columns[1:]
        ):
            raise ValueError("network: the number of its channels differs from layer to layer")
        self.layers = nn.ModuleList(NequIPLayer(modules, k, columns[k], columns[k + 1]) for k in range(len(layers)))

    def embed(self, species: Int[Tensor, " points"]) -> NequIPFeatures:
        """Scalars from the embedding of elements, vectors zero."""
        scalars = self.table(self.embedding.weight[self._types], species)
        channels = self.vector_channels
        return NequIPFeatures(
            scalars=scalars,
            vectors=scalars.new_zeros(species.shape[0], 3, channels) if channels else None,
            node=scalars,
            attributes=scalars,
            types=self._types[species % len(self._types)],
        )

    def split(self, features: NequIPFeatures) -> PointFeatures:
        """The scalars and the vectors; before the first layer there may be fewer or more scalars than after it."""
        return PointFeatures(features.scalars, features.vectors)

    def join(self, features: NequIPFeatures, split: PointFeatures) -> NequIPFeatures:
        """The features with these scalars and vectors."""
        return replace(features, scalars=split.scalars, vectors=split.vectors)


class NequIPReadout(EnergyReadout):
    """The steps after the layers: energies of atoms, their scales and shifts, and a pair potential of the nuclei."""

    _type_of: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        modules = _modules(model)
        self.edge_norm: nn.Module = modules["edge_norm"]
        self.steps = nn.ModuleList(modules[name] for name in _AFTER if name in modules)
        numbers = _numbers_of_types(model)
        type_of = torch.zeros(max(atomic_number_of.values()) + 1, dtype=torch.long)
        type_of[torch.tensor(numbers)] = torch.arange(len(numbers))
        self.register_buffer("_type_of", type_of.to(modules["type_embed"].embed_module.weight.device), persistent=False)

    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule, float64, in the unit that the model was trained on."""
        keys = _keys()
        senders, receivers = molecules.edge_index
        vectors = molecules.positions[senders] - molecules.positions[receivers]
        vectors = vectors if molecules.shifts is None else vectors + molecules.shifts
        data: dict[str, Tensor] = {
            keys.POSITIONS_KEY: molecules.positions,
            keys.ATOM_TYPE_KEY: self._type_of[molecules.atomic_numbers],
            keys.BATCH_KEY: molecules.molecule_index,
            keys.NUM_NODES_KEY: molecules.molecule_index.bincount(minlength=molecules.num_molecules),
            keys.EDGE_INDEX_KEY: torch.stack([receivers, senders]),
            keys.EDGE_VECTORS_KEY: vectors,
            keys.EDGE_LENGTH_KEY: safe_norm(vectors),
            keys.NODE_FEATURES_KEY: points.scalars,
        }
        data = self.edge_norm(data)
        for step in self.steps:
            data = step(data)
        return data[keys.TOTAL_ENERGY_KEY].reshape(-1)


def take_apart(model: nn.Module, elements: Sequence[str], two_points: bool = False) -> Parts:
    """Backbone and readout of a NequIP `GraphModel`, which share the model's parameters.

    Args:
        model: A model of `nequip.model.NequIPGNNModel` or its relatives, not compiled, trained or not.
        elements: Chemical symbols, which are the model's `type_names`; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if NequIP is not installed.
        TypeError: for another model, or one with other parts than NequIP's own.
        ValueError: for an element that it does not know, or as `NequIPBackbone` does.
    """
    return Parts(NequIPBackbone(model, elements, two_points), NequIPReadout(model))


def _modules(network: nn.Module) -> dict[str, Any]:
    """The steps of a model by name, in their order."""
    kinds = _nequip("nn")
    if type(network) is not kinds.GraphModel:
        raise unsupported(network, "nequip.nn.GraphModel, as NequIPGNNModel makes it")
    inner = cast(Any, network).model
    sequence = inner.func if isinstance(inner, kinds.ForceStressOutput) else inner
    modules: dict[str, Any] = dict(sequence.named_children())
    for name, module in modules.items():
        if name not in (*_BEFORE, *_AFTER) and not isinstance(module, kinds.ConvNetLayer):
            raise unsupported(module, f"the parts {', '.join(_BEFORE + _AFTER)} and layers of NequIPGNNModel")
    absent = [name for name in (*_BEFORE, "layer0_convnet", "total_energy_sum") if name not in modules]
    if absent:
        raise TypeError(f"network: it has no {', '.join(absent)}; give a model that NequIPGNNModel made")
    encoding = modules["bessel_encode"]
    if type(encoding) is not _nequip("nn.embedding").BesselEdgeLengthEncoding:
        raise unsupported(encoding, "BesselEdgeLengthEncoding")
    return modules


def _numbers_of_types(network: nn.Module) -> list[int]:
    """Atomic number of each type of the model; 0 for a type whose name is no element."""
    names = cast("list[str]", cast(Any, network).type_names)
    return [atomic_number_of.get(name, 0) for name in names]
