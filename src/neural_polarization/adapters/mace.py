"""Adapter of MACE, with its energies (needs mace-torch)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
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
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules

_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def _mace_models() -> Any:
    """`mace.modules.models`, without the side effect of its import, which lets torch.load run code from files."""
    before = os.environ.get(_UNSAFE)
    try:
        return host_module("mace.modules.models", extra="mace")
    finally:
        if before is None:
            os.environ.pop(_UNSAFE, None)
        else:
            os.environ[_UNSAFE] = before


@dataclass(frozen=True)
class MACEFeatures:
    """Features of points.

    Attributes:
        scalars: Scalar channels "0e".
        vectors: Vector channels "1o". A layer without vectors keeps those of the layer before; None if the network
            has none.
        node: All irreps after the layer before. The coupling may have changed `scalars` and `vectors` since then.
        energy: Sum of the readouts of the layers so far.
        elements: One-hot element of each point, among the elements of the network.
    """

    scalars: Float[Tensor, "points channels"]
    vectors: Float[Tensor, "points 3 vector_channels"] | None
    node: Float[Tensor, "points irreps"]
    energy: Float[Tensor, "points 1"]
    elements: Float[Tensor, "points elements"]


class MACELayer(nn.Module):
    """One interaction, its product, and its readout of energies if it has one."""

    atomic_numbers: Tensor

    def __init__(self, network: Any, number: int, before: Columns, after: Columns, head: int) -> None:
        super().__init__()
        self.spherical_harmonics: nn.Module = network.spherical_harmonics
        radial = network.radial_embedding
        self.radial_basis: nn.Module = radial.bessel_fn
        self.cutoff_fn: nn.Module = radial.cutoff_fn
        self.distance_transform: nn.Module | None = dict(radial.named_children()).get("distance_transform")
        self.apply_cutoff = bool(vars(radial).get("apply_cutoff", True))  # older checkpoints do not say
        self.register_buffer("atomic_numbers", network.atomic_numbers, persistent=False)
        self.interaction: nn.Module = network.interactions[number]
        self.product: nn.Module = network.products[number]
        self.readout: nn.Module | None = _readout_of_layer(network, number)
        self.before, self.after, self.head = before, after, head

    def forward(self, features: MACEFeatures, edges: Edges) -> MACEFeatures:
        """Features after the messages."""
        edge_index = torch.stack([edges.senders, edges.receivers])
        basis, cutoff = self._radial(features, edges, edge_index)
        node, own = self.interaction(
            node_attrs=features.elements,
            node_feats=self.before.put(features.node, PointFeatures(features.scalars, features.vectors)),
            edge_attrs=self.spherical_harmonics(-edges.vectors),  # MACE's vectors point to the receiver
            edge_feats=basis,
            edge_index=edge_index,
            cutoff=cutoff,
        )
        node = self.product(node_feats=node, sc=own, node_attrs=features.elements)
        energy = features.energy
        if self.readout is not None:
            heads = torch.full((node.shape[0],), self.head, device=node.device)
            energy = energy + self.readout(node, heads)[:, self.head : self.head + 1]
        split = self.after.take(node)
        vectors = features.vectors if split.vectors is None else split.vectors
        return replace(features, scalars=split.scalars, vectors=vectors, node=node, energy=energy)

    def _radial(self, features: MACEFeatures, edges: Edges, edge_index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Radial functions, and the cutoff function if the radial functions do not contain it."""
        # This does the same as the network's own embedding, but the cutoff is a function of the nuclear distance.
        lengths = edges.lengths.unsqueeze(-1)
        cutoff = self.cutoff_fn(edges.nuclear_lengths.unsqueeze(-1))
        if self.distance_transform is not None:
            lengths = self.distance_transform(lengths, features.elements, edge_index, self.atomic_numbers)
        basis = self.radial_basis(lengths)
        return (basis * cutoff, None) if self.apply_cutoff else (basis, cutoff)


class MACEBackbone(nn.Module):
    """`mace.modules.MACE` or `ScaleShiftMACE` as a backbone.

    MACE reads energies after every layer. Here they are the last scalar channel, so that the displacement of an atom
    influences them after the last layer too. One of the model's heads is kept. If the last layer makes only scalars, as
    is MACE's default, the vectors of the layer before move the points.

    Args:
        network: The model, trained or not; its parameters are shared, not copied.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).
        head: Index of the model's head that reads energies.

    Raises:
        ImportError: if mace-torch is not installed.
        TypeError: for another network.
        ValueError: for an element that the network does not know, a model with further inputs such as charges, or
            features in a layout that is not e3nn's.
    """

    layers: nn.ModuleList
    _one_hot: Tensor

    def __init__(self, network: nn.Module, elements: Sequence[str], two_points: bool = False, head: int = 0) -> None:
        super().__init__()
        models = _mace_models()
        if type(network) not in (models.MACE, models.ScaleShiftMACE):
            raise unsupported(network, "mace.modules.MACE and ScaleShiftMACE")
        model = cast(Any, network)
        if "joint_embedding" in dict(model.named_children()):
            raise ValueError(
                "network: it embeds further inputs, such as charges or spins, which molecules do not have here; give a "
                "MACE without embedding_specs"
            )
        if any(vars(product).get("cueq_config") is not None for product in model.products):
            raise ValueError("network: it is compiled for cuEquivariance; convert it with mace_cueq_to_e3nn")
        self.cutoff = float(model.r_max)
        known = [int(number) for number in model.atomic_numbers]
        rows = [known.index(int(number)) for number in numbers_of(elements, sorted(known), "MACE")]
        like = model.node_embedding.linear.weight
        self.node_embedding: nn.Module = model.node_embedding
        self.register_buffer("_one_hot", torch.eye(len(known)).to(like)[rows], persistent=False)
        self.table = PointTable(self.node_embedding(self._one_hot), two_points)
        self.num_species = self.table.num_species

        columns = [Columns.of(model.node_embedding.linear.irreps_out)]
        columns += [Columns.of(product.linear.irreps_out) for product in model.products]
        channels, self.vector_channels = columns[1].widths
        if any(one.widths[0] != channels or one.widths[1] not in (0, self.vector_channels) for one in columns):
            raise ValueError("network: the number of its channels differs from layer to layer")
        self.scalar_channels = channels + 1
        self.layers = nn.ModuleList(
            MACELayer(model, k, columns[k], columns[k + 1], head) for k in range(len(model.interactions))
        )

    def embed(self, species: Int[Tensor, " points"]) -> MACEFeatures:
        """Scalars from the embedding of elements, vectors and energies zero."""
        scalars = self.table(self.node_embedding(self._one_hot), species)
        channels = self.vector_channels
        return MACEFeatures(
            scalars=scalars,
            vectors=scalars.new_zeros(species.shape[0], 3, channels) if channels else None,
            node=scalars,
            energy=scalars.new_zeros(species.shape[0], 1),
            elements=self._one_hot[species % len(self._one_hot)],
        )

    def split(self, features: MACEFeatures) -> PointFeatures:
        """The scalars followed by the energies, and the vectors."""
        return PointFeatures(torch.cat([features.scalars, features.energy], -1), features.vectors)

    def join(self, features: MACEFeatures, split: PointFeatures) -> MACEFeatures:
        """The features with these scalars, energies and vectors."""
        return replace(features, scalars=split.scalars[:, :-1], energy=split.scalars[:, -1:], vectors=split.vectors)


class MACEReadout(EnergyReadout):
    """Scale and shift, energies of isolated atoms, and the repulsion of close nuclei if the model has it."""

    atomic_numbers: Tensor

    def __init__(self, model: Any, head: int) -> None:
        super().__init__()
        children = dict(model.named_children())
        self.atomic_energies: nn.Module = model.atomic_energies_fn
        self.scale_shift: nn.Module | None = children.get("scale_shift")
        self.pair_repulsion: nn.Module | None = children.get("pair_repulsion_fn")
        self.register_buffer("atomic_numbers", model.atomic_numbers, persistent=False)
        self.head = head

    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule, in the unit that the model was trained on (usually eV)."""
        energy = points.scalars[:, -1]
        elements = (molecules.atomic_numbers.unsqueeze(-1) == self.atomic_numbers).to(energy)
        if self.pair_repulsion is not None:
            senders, receivers = molecules.edge_index
            vectors = molecules.positions[senders] - molecules.positions[receivers]
            lengths = safe_norm(vectors if molecules.shifts is None else vectors + molecules.shifts)
            energy = energy + self.pair_repulsion(
                lengths.unsqueeze(-1), elements, molecules.edge_index, self.atomic_numbers
            )
        if self.scale_shift is not None:
            energy = self.scale_shift(energy, torch.full_like(molecules.molecule_index, self.head))
        energy = energy + self.atomic_energies(elements)[:, self.head]
        return sum_by_index(energy, molecules.molecule_index, molecules.num_molecules)


def take_apart(model: nn.Module, elements: Sequence[str], two_points: bool = False, head: str | None = None) -> Parts:
    """Backbone and readout of a MACE, which share the model's parameters.

    Args:
        model: A `MACE` or `ScaleShiftMACE`, trained or not.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).
        head: Name of the model's head that is kept; a model with one head does not need it.

    Raises:
        ImportError: if mace-torch is not installed.
        TypeError: for another model.
        ValueError: for an element that it does not know, no such head, or as `MACEBackbone` does.
    """
    models = _mace_models()
    if type(model) not in (models.MACE, models.ScaleShiftMACE):
        raise unsupported(model, "mace.modules.MACE and ScaleShiftMACE")
    heads = cast("list[str]", list(vars(model).get("heads", ["Default"])))  # older checkpoints have one, unnamed
    if head is None and len(heads) == 1:
        head = heads[0]
    if head not in heads:
        raise ValueError(
            f"head: {head!r} is none of the model's heads {', '.join(heads)}; give one of them to "
            "neural_polarization.adapters.mace.take_apart, and its parts to FineTuned"
        )
    number = heads.index(head)
    return Parts(MACEBackbone(model, elements, two_points, number), MACEReadout(model, number))


def _readout_of_layer(network: Any, number: int) -> nn.Module | None:
    """The readout after a layer, or None; a model with one readout has it after the last layer."""
    if len(network.readouts) == len(network.interactions):
        return network.readouts[number]
    return network.readouts[0] if number == len(network.interactions) - 1 else None
