"""TorchMD-NET's equivariant transformer: attention over neighbours, with filters of the distance."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import sum_by_index
from neural_polarization.layers.expnormal import ExpNormalBasis


@dataclass(frozen=True)
class TorchMDETFeatures:
    """Features of points.

    Attributes:
        scalars: Invariant channels.
        vectors: Vector channels.
        sent: Embedding of each point's species that its neighbours receive in the first layer; None after that layer.
    """

    scalars: Float[Tensor, "points channels"]
    vectors: Float[Tensor, "points 3 channels"]
    sent: Float[Tensor, "points channels"] | None


class NeighbourEmbedding(nn.Module):
    """Embedding of a point's species and of its surroundings (Thölke & De Fabritiis 2022, "Embedding layer").

    x_i = W [x_i, sum_j embed_neighbour(z_j) * (W_F e(r_ij) + b_F) envelope_ij] + b
    """

    def __init__(self, channels: int, num_basis: int) -> None:
        super().__init__()
        self.filter = _linear(num_basis, channels)
        self.combine = _linear(2 * channels, channels)

    def forward(self, features: TorchMDETFeatures, edges: Edges, basis: Float[Tensor, "edges basis"]) -> Tensor:
        """Scalars (points, channels) that depend on the species and the distances of neighbours."""
        assert features.sent is not None
        messages = features.sent[edges.senders] * self.filter(basis) * edges.envelope.unsqueeze(-1)
        arrived = sum_by_index(messages, edges.receivers, features.scalars.shape[0])
        return self.combine(torch.cat([features.scalars, arrived], -1))


class TorchMDETLayer(nn.Module):
    """Attention and update (Thölke & De Fabritiis 2022, "Modified attention mechanism" and "Update layer").

        q, k, v      = linear maps of LayerNorm(x)
        D_ij         = SiLU(W e(r_ij) + b), one for keys and one for values
        A_ij         = SiLU(sum over a head of q_i * k_j * D^K_ij)
        (s, t, u)_ij = v_j * D^V_ij envelope_ij
        (o, p, g)_i  = W (sum_j A_ij s_ij) + b
        x_i <- x_i + o_i + p_i * (U_1 V_i . U_2 V_i)
        V_i <- V_i + sum_j (t_ij * x_ij / |x_ij| + u_ij * V_j) + g_i * U_3 V_i

    Every point is its own neighbour, at length zero and without a direction. The first layer begins with the embedding
    of neighbours and has no vectors yet, so that it lacks u, p, g and U. The last layer ends with a layer norm of x.
    """

    def __init__(
        self, channels: int, num_heads: int, basis: ExpNormalBasis, num_basis: int, first: bool, last: bool
    ) -> None:
        super().__init__()
        self.channels = channels
        self.num_heads = num_heads
        self.basis = basis
        values = 2 * channels if first else 3 * channels
        self.neighbours = NeighbourEmbedding(channels, num_basis) if first else None
        self.norm = nn.LayerNorm(channels)
        self.query = _linear(channels, channels)
        self.key = _linear(channels, channels)
        self.value = _linear(channels, values)
        self.key_filter = _linear(num_basis, channels)
        self.value_filter = _linear(num_basis, values)
        self.out = _linear(channels, channels if first else 3 * channels)
        self.mix = None if first else _linear(channels, 3 * channels, bias=False)
        self.last_norm = nn.LayerNorm(channels) if last else None

    def forward(self, features: TorchMDETFeatures, edges: Edges) -> TorchMDETFeatures:
        """Features after the messages."""
        scalars, vectors = features.scalars, features.vectors
        envelope = edges.envelope.unsqueeze(-1)
        basis = self.basis(edges.lengths) * envelope
        if self.neighbours is not None:
            scalars = self.neighbours(features, edges, basis)

        normal = self.norm(scalars)
        query, key, value = self.query(normal), self.key(normal), self.value(normal)
        own, own_values = self._attend(query, key, value, self.basis(basis.new_zeros(1)))
        sent, sent_values = self._attend(
            query[edges.receivers], key[edges.senders], value[edges.senders] * envelope, basis
        )
        out = self.out(own + sum_by_index(sent, edges.receivers, scalars.shape[0]))

        directions = (edges.vectors / edges.lengths.unsqueeze(-1)).unsqueeze(-1)
        to_vectors = sent_values[:, : self.channels].unsqueeze(1) * directions
        if self.mix is None:
            scalars = scalars + out
        else:
            to_vectors = to_vectors + sent_values[:, self.channels :].unsqueeze(1) * vectors[edges.senders]
            to_scalars, of_product, gate = out.chunk(3, -1)
            first, second, third = self.mix(vectors).chunk(3, -1)
            scalars = scalars + to_scalars + of_product * (first * second).sum(1)
            kept = own_values[:, self.channels :].unsqueeze(1) * vectors + gate.unsqueeze(1) * third
            vectors = vectors + kept
        vectors = vectors + sum_by_index(to_vectors, edges.receivers, scalars.shape[0])
        return TorchMDETFeatures(scalars if self.last_norm is None else self.last_norm(scalars), vectors, None)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
        """Message to the scalars for each pair, and the filtered values for the vectors."""
        heads = (self.num_heads, -1)
        attention = F.silu((query * key * F.silu(self.key_filter(basis))).unflatten(-1, heads).sum(-1))
        filtered = value * F.silu(self.value_filter(basis))
        to_scalars = filtered[:, : self.channels].unflatten(-1, heads) * attention.unsqueeze(-1)
        return to_scalars.flatten(1), filtered[:, self.channels :]


class TorchMDET(nn.Module):
    """Equivariant transformer of TorchMD-NET.

    The defaults are the sizes that the authors use for molecular dynamics (MD17). For QM9 they use 256 channels,
    8 layers and 64 radial functions.

    Deviations: Messages to the vectors fade with the envelope, as those to the scalars do. This is the option
    `vector_cutoff` of the original; without it energies jump at the cutoff. Parts that act on the vectors of the first
    layer, which are zero, are left out.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalar and of vector channels.
        num_layers: Number of layers of attention.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        num_heads: Number of heads of the attention; divides `channels`.

    Raises:
        ValueError: if `num_heads` does not divide `channels`.

    References:
        P. Thölke, G. De Fabritiis, "TorchMD-NET: equivariant transformers for neural network based molecular
        potentials", ICLR 2022, arXiv:2202.02541.
    """

    layers: nn.ModuleList

    def __init__(
        self,
        num_species: int,
        channels: int = 128,
        num_layers: int = 6,
        cutoff: float = 5.0,
        num_basis: int = 32,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels={channels} cannot be shared out among num_heads={num_heads}; take a multiple")
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = channels
        self.embedding = nn.Embedding(num_species, channels)
        self.neighbour_embedding = nn.Embedding(num_species, channels)
        basis = ExpNormalBasis(num_basis, cutoff)
        self.layers = nn.ModuleList(
            TorchMDETLayer(channels, num_heads, basis, num_basis, first=k == 0, last=k == num_layers - 1)
            for k in range(num_layers)
        )

    def embed(self, species: Int[Tensor, " points"]) -> TorchMDETFeatures:
        """Scalars from the embedding, and vectors of zero."""
        scalars: Float[Tensor, "points channels"] = self.embedding(species)
        vectors = scalars.new_zeros(species.shape[0], 3, self.vector_channels)
        return TorchMDETFeatures(scalars, vectors, self.neighbour_embedding(species))

    def split(self, features: TorchMDETFeatures) -> PointFeatures:
        """The scalars and the vectors."""
        return PointFeatures(features.scalars, features.vectors)

    def join(self, features: TorchMDETFeatures, split: PointFeatures) -> TorchMDETFeatures:
        """Features of these scalars and vectors."""
        assert split.vectors is not None
        return TorchMDETFeatures(split.scalars, split.vectors, features.sent)


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear map that starts as in the original: uniform weights by Glorot, and a bias of zero."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
