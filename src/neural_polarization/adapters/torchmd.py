"""Adapter of TorchMD-NET's equivariant transformer, with its energies (needs torchmd-net)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.adapters.host import EnergyReadout, Parts, PointTable, host_module, numbers_of, unsupported
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules


def _torchmdnet(module: str) -> Any:
    return host_module(f"torchmdnet.models.{module}", extra="torchmd")


@dataclass(frozen=True)
class TorchMDNetFeatures:
    """Features of points.

    Attributes:
        scalars: Invariant channels.
        vectors: Vector channels.
        sent: Embedding of each point's species that its neighbours receive in the first layer; None after that layer,
            and if the network has no neighbour embedding.
    """

    scalars: Float[Tensor, "points channels"]
    vectors: Float[Tensor, "points 3 channels"]
    sent: Float[Tensor, "points channels"] | None


class TorchMDNetETLayer(nn.Module):
    """One attention layer; the first begins with the embedding of neighbours, the last ends with a norm of scalars.

    Every point is its own neighbour, at length zero and without a direction.
    """

    def __init__(self, network: Any, number: int) -> None:
        super().__init__()
        self.distance_expansion: nn.Module = network.distance_expansion
        self.attention: nn.Module = network.attention_layers[number]
        embedding = network.neighbor_embedding if number == 0 else None
        # This is all of the embedding except its table, which the adapter extends by the moving points.
        self.neighbour_filter: nn.Module | None = None if embedding is None else embedding.distance_proj
        self.neighbour_cutoff: nn.Module | None = None if embedding is None else embedding.cutoff
        self.combine: nn.Module | None = None if embedding is None else embedding.combine
        last = number == len(network.attention_layers) - 1
        self.out_norm: nn.Module | None = network.out_norm if last else None

    def forward(self, features: TorchMDNetFeatures, edges: Edges) -> TorchMDNetFeatures:
        """Features after the messages."""
        basis = self.distance_expansion(edges.lengths)
        scalars, vectors = self._with_neighbours(features, edges, basis), features.vectors
        own = torch.arange(scalars.shape[0], device=scalars.device)
        nowhere = edges.vectors.new_zeros(scalars.shape[0], 3)
        to_scalars, to_vectors = self.attention(
            scalars,
            vectors,
            torch.stack([torch.cat([edges.senders, own]), torch.cat([edges.receivers, own])]),
            torch.cat([edges.nuclear_lengths, nowhere[:, 0]]),  # only the cutoff function reads it
            torch.cat([basis, self.distance_expansion(nowhere[:, 0])]),
            torch.cat([edges.vectors / edges.lengths.unsqueeze(-1), nowhere]),
        )
        scalars = scalars + to_scalars
        return TorchMDNetFeatures(
            scalars if self.out_norm is None else self.out_norm(scalars), vectors + to_vectors, None
        )

    def _with_neighbours(self, features: TorchMDNetFeatures, edges: Edges, basis: Tensor) -> Tensor:
        """Scalars that depend on the neighbours of each point."""
        if self.neighbour_filter is None or self.neighbour_cutoff is None or self.combine is None:
            return features.scalars
        assert features.sent is not None
        filters = self.neighbour_filter(basis) * self.neighbour_cutoff(edges.nuclear_lengths).unsqueeze(-1)
        arrived = sum_by_index(filters * features.sent[edges.senders], edges.receivers, features.scalars.shape[0])
        return self.combine(torch.cat([features.scalars, arrived], -1))


class TorchMDNetET(nn.Module):
    """`torchmdnet.models.torchmd_et.TorchMD_ET` as a backbone.

    As in the package, radial functions of type "expnorm" also fade out where the moved length reaches the cutoff. The
    energies of a network trained without `vector_cutoff`, the package's default, jump at the cutoff, with or without
    the adapter.

    Args:
        representation: The network, trained or not; its parameters are shared, not copied.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if TorchMD-NET is not installed.
        TypeError: for another network.
        ValueError: for an element that the network cannot embed, or a network with a lower cutoff.
    """

    layers: nn.ModuleList

    def __init__(self, representation: nn.Module, elements: Sequence[str], two_points: bool = False) -> None:
        super().__init__()
        if not isinstance(representation, _torchmdnet("torchmd_et").TorchMD_ET):
            raise unsupported(representation, "torchmdnet.models.torchmd_et.TorchMD_ET")
        network = cast(Any, representation)
        if network.cutoff_lower != 0.0:
            raise ValueError(
                f"representation: it ignores neighbours closer than cutoff_lower={network.cutoff_lower}; only "
                "networks with cutoff_lower=0 can be polarized"
            )
        self.cutoff = float(network.cutoff_upper)
        self.scalar_channels = self.vector_channels = int(network.hidden_channels)
        self.embedding: nn.Embedding = network.embedding
        rows = numbers_of(elements, range(1, self.embedding.num_embeddings), "TorchMD-NET network")
        self.register_buffer("_rows", rows.to(self.embedding.weight.device), persistent=False)
        self.table = PointTable(self.embedding.weight[self._rows], two_points)
        self.num_species = self.table.num_species
        neighbours = network.neighbor_embedding
        self.neighbour_embedding: nn.Embedding | None = None if neighbours is None else neighbours.embedding
        self.neighbour_table = None
        if self.neighbour_embedding is not None:
            self.neighbour_table = PointTable(self.neighbour_embedding.weight[self._rows], two_points)
        self.layers = nn.ModuleList(TorchMDNetETLayer(network, k) for k in range(len(network.attention_layers)))

    _rows: Tensor

    def embed(self, species: Int[Tensor, " points"]) -> TorchMDNetFeatures:
        """Scalars from the embedding, and vectors of zero."""
        scalars = self.table(self.embedding.weight[self._rows], species)
        sent = None
        if self.neighbour_embedding is not None and self.neighbour_table is not None:
            sent = self.neighbour_table(self.neighbour_embedding.weight[self._rows], species)
        return TorchMDNetFeatures(scalars, scalars.new_zeros(species.shape[0], 3, self.vector_channels), sent)

    def split(self, features: TorchMDNetFeatures) -> PointFeatures:
        """The scalars and the vectors."""
        return PointFeatures(features.scalars, features.vectors)

    def join(self, features: TorchMDNetFeatures, split: PointFeatures) -> TorchMDNetFeatures:
        """Features of these scalars and vectors."""
        assert split.vectors is not None
        return TorchMDNetFeatures(split.scalars, split.vectors, features.sent)


class TorchMDNetReadout(EnergyReadout):
    """The output model of a `TorchMD_Net`, its mean and standard deviation, and its priors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.output_model: Any = model.output_model
        self.prior_model: nn.ModuleList | None = model.prior_model
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    mean: Tensor
    std: Tensor

    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule, in the model's unit."""
        numbers, positions, index = molecules.atomic_numbers, molecules.positions, molecules.molecule_index
        priors = cast(Any, [] if self.prior_model is None else self.prior_model)
        of_atoms = self.output_model.pre_reduce(points.scalars, points.vectors, numbers, positions, index) * self.std
        for prior in priors:
            of_atoms = prior.pre_reduce(of_atoms, numbers, positions, index, None)
        energy = self.output_model.post_reduce(self.output_model.reduce(of_atoms, index) + self.mean)
        for prior in priors:
            energy = prior.post_reduce(energy, numbers, positions, index, None, None)
        return energy.reshape(-1)


def take_apart(model: nn.Module, elements: Sequence[str], two_points: bool = False) -> Parts:
    """Backbone and readout of a `torchmdnet.models.model.TorchMD_Net`, which share the model's parameters.

    Args:
        model: The model, trained or not, with an equivariant transformer and a scalar output. Its priors see the
            distances of the nuclei, without periodicity.
        elements: Chemical symbols; their order gives the species.
        two_points: Whether moving points have their own features (`Messages.two_points`).

    Raises:
        ImportError: if TorchMD-NET is not installed.
        TypeError: for another model, representation or output.
        ValueError: for an element that it cannot embed, or a representation with a lower cutoff.
    """
    if not isinstance(model, _torchmdnet("model").TorchMD_Net):
        raise unsupported(model, "torchmdnet.models.model.TorchMD_Net")
    whole, outputs = cast(Any, model), _torchmdnet("output_modules")
    backbone = TorchMDNetET(whole.representation_model, elements, two_points)
    # The subclasses of this output predict dipoles.
    if type(whole.output_model) not in (outputs.Scalar, outputs.EquivariantScalar):
        raise unsupported(whole.output_model, "the output models Scalar and EquivariantScalar")
    return Parts(backbone, TorchMDNetReadout(whole))
