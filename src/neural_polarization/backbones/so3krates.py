"""SO3krates: attention whose messages are scalars and spherical harmonics, without tensor products (needs e3nn)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.layers.expnormal import ExpNormalBasis
from neural_polarization.layers.irreps import NEIGHBOURS, Harmonics


@dataclass(frozen=True)
class EuclideanFeatures:
    """Features of points in SO3krates.

    Attributes:
        scalars: Scalars, the paper's x.
        euclidean: Euclidean variables, the paper's χ: one channel of the degrees 1 to lmax, or of degree 1 only.
    """

    scalars: Float[Tensor, "points channels"]
    euclidean: Float[Tensor, "points orders"]


def invariants(euclidean: Float[Tensor, "items orders"], lmax: int) -> Float[Tensor, "items degrees"]:
    """Invariant of every degree from 1 to `lmax`: its product with itself of degree zero, |χ^l|^2 / sqrt(2 l + 1)."""
    degrees = euclidean.split([2 * degree + 1 for degree in range(1, lmax + 1)], -1)
    return torch.stack([part.square().sum(-1) / math.sqrt(part.shape[-1]) for part in degrees], -1)


class AttentionCoefficients(nn.Module):
    """Attention coefficients of several heads, each of which has a share of the scalars (Frank et al. 2024).

        α_ij = f_ij silu(Q x_i) . (w_ij * silu(K x_j)) / sqrt(size of a share)

    The coefficients are not divided by a sum over neighbours, so that they are smooth with the envelope f when
    neighbours come and go.

    Args:
        num_heads: Number of heads.
        size: Number of scalars of each head.
    """

    def __init__(self, num_heads: int, size: int) -> None:
        super().__init__()
        self.shape = (num_heads, size)
        self.query = nn.Parameter(torch.randn(num_heads, size, size) / math.sqrt(size))
        self.key = nn.Parameter(torch.randn(num_heads, size, size) / math.sqrt(size))

    def forward(
        self, scalars: Float[Tensor, "points channels"], filters: Float[Tensor, "edges filters"], edges: Edges
    ) -> Float[Tensor, "edges heads"]:
        """One coefficient per edge and head."""
        heads, size = self.shape
        shares = scalars[:, : heads * size].unflatten(-1, self.shape)
        queries = F.silu(torch.einsum("hij,nhj->nhi", self.query, shares))
        keys = F.silu(torch.einsum("hij,nhj->nhi", self.key, shares))
        products = queries[edges.receivers] * filters.unflatten(-1, self.shape) * keys[edges.senders]
        return products.sum(-1) * edges.envelope.unsqueeze(-1) / math.sqrt(size)


class SO3kratesLayer(nn.Module):
    """Euclidean attention and the exchange between scalars and Euclidean variables (Frank et al. 2024).

        z_i   = layer norm of x_i, which the coefficients α are made of
        w_ij  = perceptron(radial functions) + perceptron(log(1 + invariants of χ_j - χ_i))
        x_i  <- x_i + sum_j α_ij V z_j           a head has a share of z
        χ_i  <- χ_i + sum_j α_ij Y(r_ij)         a head has a degree
        a, b  = W [x_i, log(1 + invariants of χ_i)]
        x_i  <- x_i + a,   χ_i <- χ_i + b χ_i    b has one value for each degree

    The norm is an option of the authors' code. The logarithms are ours: without them x and χ can grow as their own
    third power from layer to layer, and they do when the two points of an atom are coupled.

    The attentions of x and of χ have their own filters, queries and keys.

    Args:
        channels: Number of scalars.
        num_heads: Number of heads of the attention of x.
        lmax: Highest degree of χ.
        harmonics: Spherical harmonics of the directions of edges, degree zero included.
        basis: Radial functions.
        num_basis: Number of radial functions.
        first: Whether χ is zero before the layer; it then starts as the mean of the neighbours' harmonics.
        last: Whether the result leaves out degrees above 1.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        lmax: int,
        harmonics: Harmonics,
        basis: ExpNormalBasis,
        num_basis: int,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.lmax = lmax
        self.first, self.last = first, last
        self.harmonics, self.basis = harmonics, basis
        self.norm = nn.LayerNorm(channels)
        self.of_scalars = AttentionCoefficients(num_heads, channels // num_heads)
        self.of_degrees = AttentionCoefficients(lmax, channels // lmax)
        self.widths = [channels, lmax * (channels // lmax)]
        self.radial = nn.ModuleList(mlp([num_basis, channels, width]) for width in self.widths)
        quarter = max(1, channels // 4)
        self.spherical = nn.ModuleList(mlp([lmax, quarter, width]) for width in self.widths)
        self.value = nn.Parameter(
            torch.randn(num_heads, *[channels // num_heads] * 2) / math.sqrt(channels // num_heads)
        )
        self.exchange = nn.Linear(channels + lmax, channels + (1 if last else lmax))
        sizes = torch.tensor([2 * degree + 1 for degree in range(1, lmax + 1)])  # number of orders of each degree
        self.register_buffer("degree_of", torch.repeat_interleave(sizes), persistent=False)

    degree_of: Tensor

    def forward(self, features: EuclideanFeatures, edges: Edges) -> EuclideanFeatures:
        """Features after attention and exchange."""
        x, chi = features.scalars, features.euclidean
        harmonics = self.harmonics(edges)[:, 1:] / math.sqrt(4.0 * math.pi)
        if self.first:
            around = harmonics * edges.envelope.unsqueeze(-1)
            chi = chi + sum_by_index(around, edges.receivers, x.shape[0]) / NEIGHBOURS
        radial = self.basis(edges.lengths)
        relative = invariants(chi[edges.senders] - chi[edges.receivers], self.lmax).log1p()
        to_scalars, to_degrees = (
            of_lengths(radial) + of_invariants(relative)
            for of_lengths, of_invariants in zip(self.radial, self.spherical, strict=True)
        )
        z = self.norm(x)
        weights = self.of_scalars(z, to_scalars, edges)
        values = torch.einsum("hij,nhj->nhi", self.value, z.unflatten(-1, self.of_scalars.shape))
        sent = (weights.unsqueeze(-1) * values[edges.senders]).flatten(1)
        of_orders = self.of_degrees(z, to_degrees, edges)[:, self.degree_of]
        x = x + sum_by_index(sent, edges.receivers, x.shape[0])
        chi = chi + sum_by_index(of_orders * harmonics, edges.receivers, x.shape[0])

        change = self.exchange(torch.cat([x, invariants(chi, self.lmax).log1p()], -1))
        to_x, factors = change[:, : x.shape[1]], change[:, x.shape[1] :]
        if self.last:
            chi = chi[:, :3]
        return EuclideanFeatures(x + to_x, chi + factors[:, self.degree_of[: chi.shape[1]]] * chi)


class SO3krates(nn.Module):
    """SO3krates, a Euclidean transformer.

    Its vectors are the Euclidean variables of degree 1, a single channel.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of scalars, the paper's F. The heads of the `lmax` degrees divide them; a remainder is unused.
        num_layers: Number of layers.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        lmax: Highest degree of the Euclidean variables, at least 1. The last layer keeps degree 1 only.
        num_heads: Number of heads of the attention of scalars; divides `channels`.

    Raises:
        ValueError: if the heads cannot share the channels.

    References:
        J. T. Frank, O. T. Unke, K.-R. Müller, "So3krates: equivariant attention for interactions on arbitrary
        length-scales in molecular systems", NeurIPS 2022, arXiv:2205.14276; J. T. Frank, O. T. Unke, K.-R. Müller,
        S. Chmiela, "A Euclidean transformer for fast and stable machine learned force fields", Nat. Commun. 15, 6539
        (2024), arXiv:2309.15126. Sizes and radial functions are those of the authors' code. Deviations: invariants
        enter by their logarithms; the optional residual perceptrons are left out; the first Euclidean variables are
        divided by a constant number of neighbours.
    """

    layers: nn.ModuleList

    def __init__(
        self,
        num_species: int,
        channels: int = 132,
        num_layers: int = 3,
        cutoff: float = 5.0,
        num_basis: int = 32,
        lmax: int = 3,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        if channels % num_heads or channels < lmax:
            raise ValueError(
                f"channels: {channels} cannot be shared by num_heads={num_heads} heads and lmax={lmax} degrees; "
                "choose a multiple of the heads, and at least one for each degree"
            )
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = 1
        self.orders = (lmax + 1) ** 2 - 1
        self.embedding = nn.Embedding(num_species, channels)
        harmonics, basis = Harmonics(lmax), ExpNormalBasis(num_basis, cutoff)
        self.layers = nn.ModuleList(
            SO3kratesLayer(
                channels, num_heads, lmax, harmonics, basis, num_basis, first=k == 0, last=k == num_layers - 1
            )
            for k in range(num_layers)
        )

    def embed(self, species: Int[Tensor, " points"]) -> EuclideanFeatures:
        """Scalars from the embedding, and Euclidean variables of zero."""
        scalars: Float[Tensor, "points channels"] = self.embedding(species)
        return EuclideanFeatures(scalars, scalars.new_zeros(species.shape[0], self.orders))

    def split(self, features: EuclideanFeatures) -> PointFeatures:
        """The scalars, and the Euclidean variables of degree 1 as vectors."""
        return PointFeatures(features.scalars, features.euclidean[:, :3].unsqueeze(-1))

    def join(self, features: EuclideanFeatures, split: PointFeatures) -> EuclideanFeatures:
        """The features with these scalars and vectors; higher degrees are unchanged."""
        assert split.vectors is not None
        euclidean = torch.cat([split.vectors.squeeze(-1), features.euclidean[:, 3:]], -1)
        return EuclideanFeatures(split.scalars, euclidean)
