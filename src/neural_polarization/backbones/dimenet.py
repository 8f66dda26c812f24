"""DimeNet++: messages belong to edges, and edges that meet exchange them with their angle."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges, polynomial_envelope
from neural_polarization.layers import BesselBasis, sum_by_index
from neural_polarization.layers.spherical_bessel import SphericalBesselBasis, legendre
from neural_polarization.layers.triplets import triplets

_BASIS_CHANNELS = 8  # width between the two linear maps of a basis
_PAPER_CHANNELS = 128


@dataclass(frozen=True)
class DimeNetFeatures:
    """Features of points, and messages on edges.

    Attributes:
        scalars: Embedding of the species before the first layer, then the sum of the output blocks so far.
        messages: Message of each edge; None before the first layer.
        joined: Change of the scalars from outside since the last layer, which each point adds to its next messages.
            None if nothing changed them.
    """

    scalars: Float[Tensor, "points channels"]
    messages: Float[Tensor, "edges channels"] | None
    joined: Float[Tensor, "points channels"] | None


@dataclass(frozen=True)
class DimeNetGeometry:
    """The geometry that the blocks of one layer see.

    Attributes:
        edges: Senders and receivers.
        radial: Functions of the length of each edge.
        angular: Functions of the length of the edge k -> j and of the angle, for each triplet k -> j -> i.
        into: Index of the edge k -> j of each triplet.
        onward: Index of the edge j -> i of each triplet.
    """

    edges: Edges
    radial: Float[Tensor, "edges basis"]
    angular: Float[Tensor, "triplets functions"]
    into: Int[Tensor, " triplets"]
    onward: Int[Tensor, " triplets"]


class DimeNetBasis(nn.Module):
    """Functions of lengths and angles (Gasteiger et al. 2020a, eqs. 6 to 8), all faded by the polynomial envelope.

        radial  = u(R_ji) sin(n pi r_ji / cutoff) cutoff / r_ji
        angular = u(R_kj) j_l(z_ln r_kj / cutoff) Y_l0(angle) sqrt(2) / |j_{l+1}(z_ln)|

    with the distance R of the nuclei, and the angle between the directions of both edges.
    """

    def __init__(self, num_basis: int, num_degrees: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.num_degrees = num_degrees
        self.of_lengths = BesselBasis(num_basis, cutoff)
        self.of_triplets = SphericalBesselBasis(num_degrees, num_basis, cutoff)

    def forward(self, edges: Edges, num_points: int) -> DimeNetGeometry:
        """Values for every edge and every triplet of edges."""
        envelope = polynomial_envelope(edges.nuclear_lengths, self.cutoff).unsqueeze(-1)
        radial = self.of_lengths(edges.lengths) * (self.cutoff * envelope)
        into, onward = triplets(edges.senders, edges.receivers, edges.vectors.detach(), num_points)
        directions = edges.vectors / edges.lengths.unsqueeze(-1)
        cosines = (directions[into] * directions[onward]).sum(-1)
        bessel = self.of_triplets(edges.lengths) * envelope.unsqueeze(-1)
        angular = bessel[into] * legendre(cosines, self.num_degrees).unsqueeze(-1)
        return DimeNetGeometry(edges, radial, angular.flatten(1), into, onward)


class Residual(nn.Module):
    """x + SiLU(W SiLU(W x + b) + b)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _linear(channels, channels)
        self.second = _linear(channels, channels)

    def forward(self, x: Float[Tensor, "edges channels"]) -> Float[Tensor, "edges channels"]:
        """Applies the block to every edge."""
        return x + F.silu(self.second(F.silu(self.first(x))))


class EmbeddingBlock(nn.Module):
    """First messages, m_ji = SiLU(W [h_i, h_j, SiLU(W radial + b)] + b) (Gasteiger et al. 2020a, embedding block)."""

    def __init__(self, channels: int, num_basis: int) -> None:
        super().__init__()
        self.of_radial = _linear(num_basis, channels, like=_PAPER_CHANNELS)
        self.combine = _linear(3 * channels, channels)

    def forward(
        self, embedded: Float[Tensor, "points channels"], geometry: DimeNetGeometry
    ) -> Float[Tensor, "edges channels"]:
        """Messages of every edge."""
        edges = geometry.edges
        radial = F.silu(self.of_radial(geometry.radial))
        return F.silu(self.combine(torch.cat([embedded[edges.receivers], embedded[edges.senders], radial], -1)))


class InteractionBlock(nn.Module):
    """Exchange of messages between edges that meet (Gasteiger et al. 2020b, interaction block).

    x_kj = SiLU(W_down (SiLU(W m_kj + b) * W W radial_kj))
    y_ji = SiLU(W_up sum_k x_kj * W W angular_kji) + SiLU(W m_ji + b)
    m_ji <- two residuals of (m_ji + SiLU(W residual(y_ji) + b))
    """

    def __init__(self, channels: int, num_radial: int, num_angular: int) -> None:
        super().__init__()
        narrow = channels // 2
        self.of_radial = _two_linear(num_radial, channels, _PAPER_CHANNELS)
        self.of_angular = _two_linear(num_angular, narrow, _PAPER_CHANNELS // 2)
        self.of_into = _linear(channels, channels)
        self.of_onward = _linear(channels, channels)
        self.down = _linear(channels, narrow, bias=False)
        self.up = _linear(narrow, channels, bias=False)
        self.before = Residual(channels)
        self.skip = _linear(channels, channels)
        self.after = nn.Sequential(Residual(channels), Residual(channels))

    def forward(
        self, messages: Float[Tensor, "edges channels"], geometry: DimeNetGeometry
    ) -> Float[Tensor, "edges channels"]:
        """Messages of every edge."""
        into = F.silu(self.down(F.silu(self.of_into(messages)) * self.of_radial(geometry.radial)))
        met = into[geometry.into] * self.of_angular(geometry.angular)
        arrived = F.silu(self.up(sum_by_index(met, geometry.onward, messages.shape[0])))
        new = self.before(arrived + F.silu(self.of_onward(messages)))
        return self.after(messages + F.silu(self.skip(new)))


class OutputBlock(nn.Module):
    """Scalars of points, W f(W_up sum_j m_ji * W radial_ji), with three dense layers f (Gasteiger et al. 2020b)."""

    def __init__(self, channels: int, num_basis: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.of_radial = _linear(num_basis, channels, bias=False, like=_PAPER_CHANNELS)
        self.up = _linear(channels, wide, bias=False)
        self.dense = nn.Sequential(*(part for _ in range(3) for part in (_linear(wide, wide), nn.SiLU())))
        self.last = _linear(wide, channels, bias=False)

    def forward(
        self, messages: Float[Tensor, "edges channels"], geometry: DimeNetGeometry, num_points: int
    ) -> Float[Tensor, "points channels"]:
        """Scalars of every point."""
        arrived = sum_by_index(messages * self.of_radial(geometry.radial), geometry.edges.receivers, num_points)
        return self.last(self.dense(self.up(arrived)))


class DimeNetPPLayer(nn.Module):
    """An interaction block and an output block; in the first layer an embedding and an output block come before."""

    def __init__(self, channels: int, basis: DimeNetBasis, num_basis: int, first: bool) -> None:
        super().__init__()
        self.basis = basis
        self.embedding = EmbeddingBlock(channels, num_basis) if first else None
        self.first_output = OutputBlock(channels, num_basis) if first else None
        self.interaction = InteractionBlock(channels, num_basis, basis.num_degrees * num_basis)
        self.output = OutputBlock(channels, num_basis)

    def forward(self, features: DimeNetFeatures, edges: Edges) -> DimeNetFeatures:
        """Features after the messages."""
        scalars, messages = features.scalars, features.messages
        points = scalars.shape[0]
        geometry = self.basis(edges, points)
        if self.embedding is not None and self.first_output is not None:
            messages = self.embedding(scalars, geometry)
            scalars = self.first_output(messages, geometry, points)
        assert messages is not None, "only the first layer makes messages"
        if features.joined is not None:
            messages = messages + features.joined[edges.senders]
        messages = self.interaction(messages, geometry)
        return DimeNetFeatures(scalars + self.output(messages, geometry, points), messages, None)


class DimeNetPP(nn.Module):
    """DimeNet++, the fast directional message passing network.

    Its features are messages of edges, but a polarized network couples points. So the change that a coupling makes to
    the scalars of a point is added to the messages that the point sends next. Without a coupling this is the paper's
    network. With polarization, its points move along edges.

    Deviations: The angular functions are those of the paper. The authors' code divides their envelope by the distance,
    which diverges where points meet. The frequencies of the radial functions are not trained. Angles are those between
    the directions of both edges, as in the code of DimeNet++. Those of the paper are their supplements, which flips the
    sign of functions of odd degree. The last linear map of an output block has as many channels as the others and does
    not start at zero, because readout belongs to heads.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of messages and scalars, at least 2. Triplets use half as many, output blocks twice
            as many.
        num_layers: Number of interaction blocks.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions for each degree.
        num_degrees: Number of degrees of the angular functions; at least 2.

    Raises:
        ValueError: for a single channel.

    References:
        J. Gasteiger, J. Groß, S. Günnemann, "Directional message passing for molecular graphs", ICLR 2020 (2020a),
        arXiv:2003.03123; J. Gasteiger, S. Giri, J. T. Margraf, S. Günnemann, "Fast and uncertainty-aware directional
        message passing for non-equilibrium molecules", NeurIPS-W 2020 (2020b), arXiv:2011.14115.
    """

    layers: nn.ModuleList

    def __init__(
        self,
        num_species: int,
        channels: int = 128,
        num_layers: int = 4,
        cutoff: float = 5.0,
        num_basis: int = 6,
        num_degrees: int = 7,
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels: DimeNet++ needs 2 or more, because triplets use half of them; got {channels}")
        self.num_species = num_species
        self.cutoff = cutoff
        self.scalar_channels = channels
        self.vector_channels = 0
        self.embedding = nn.Embedding(num_species, channels)
        basis = DimeNetBasis(num_basis, num_degrees, cutoff)
        self.layers = nn.ModuleList(DimeNetPPLayer(channels, basis, num_basis, first=k == 0) for k in range(num_layers))

    def embed(self, species: Int[Tensor, " points"]) -> DimeNetFeatures:
        """Scalars from the embedding; there are no messages yet."""
        return DimeNetFeatures(self.embedding(species), None, None)

    def split(self, features: DimeNetFeatures) -> PointFeatures:
        """The scalars of points."""
        return PointFeatures(features.scalars, None)

    def join(self, features: DimeNetFeatures, split: PointFeatures) -> DimeNetFeatures:
        """The features with these scalars; their change also goes into the next messages."""
        if features.messages is None:
            return DimeNetFeatures(split.scalars, None, None)
        added = split.scalars - features.scalars
        joined = added if features.joined is None else features.joined + added
        return DimeNetFeatures(split.scalars, features.messages, joined)


def _linear(inputs: int, outputs: int, bias: bool = True, like: int | None = None) -> nn.Linear:
    """A linear map that starts as in the original: orthogonal weights with the variance of Glorot, and a bias of zero.

    Args:
        inputs: Number of channels before the map.
        outputs: Number of channels after the map.
        bias: Whether the map has a bias.
        like: Number of outputs that sets the variance; `outputs` by default. Functions of a basis are large, and a map
            with few outputs would start large as well, so that narrow networks would diverge at the start.
    """
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(linear.weight)
    with torch.no_grad():
        linear.weight *= (2.0 / ((inputs + (like or outputs)) * linear.weight.var())).sqrt()
        if bias:
            linear.bias.zero_()
    return linear


def _two_linear(inputs: int, outputs: int, like: int) -> nn.Sequential:
    """Two linear maps of a basis, with few channels between them."""
    return nn.Sequential(
        _linear(inputs, _BASIS_CHANNELS, bias=False), _linear(_BASIS_CHANNELS, outputs, bias=False, like=like)
    )
