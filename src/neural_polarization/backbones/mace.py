"""MACE: many-body messages as symmetric products of the two-body messages that a point receives (needs e3nn)."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.attributed import SpeciesBackbone, SpeciesFeatures
from neural_polarization.geometry import Edges, polynomial_envelope
from neural_polarization.layers import BesselBasis, sum_by_index
from neural_polarization.layers.irreps import (
    NEIGHBOURS,
    SCALAR,
    ChannelwiseProduct,
    Exact,
    Harmonics,
    irreps_of_layers,
    make_irreps,
)

_RADIAL_WIDTHS = (64, 64, 64)
_ENVELOPE_POWER = 5
_INDEPENDENT = 1e-6  # a coupling that depends on others leaves a rounding error of 1e-15


def _couplings(lmax: int, order: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yields the degree, parity and tensor of every way to couple `order` arguments one after the other.

    With C the coefficients of two degrees, the tensor (2 l + 1, components, ..., components) is

        T^{l_1 .. l_n, l} = sqrt(2 l + 1) sum C^l_{L l_n} T^{l_1 .. l_{n-1}, L}

    whose squares sum to 2 l + 1. Its parity is (-1)^(l_1 + ... + l_n).
    """
    components = (lmax + 1) ** 2
    blocks = [slice(degree**2, (degree + 1) ** 2) for degree in range(lmax + 1)]
    if order == 1:
        for degree, block in enumerate(blocks):
            yield degree, (-1) ** degree, torch.eye(components, dtype=torch.float64)[block]
        return
    for left, parity, tensor in _couplings(lmax, order - 1):
        for right, block in enumerate(blocks):
            for degree in range(abs(left - right), left + right + 1):
                coefficients = o3.wigner_3j(degree, left, right, dtype=torch.float64) * math.sqrt(2 * degree + 1)
                coupled = tensor.new_zeros(2 * degree + 1, *tensor.shape[1:], components)
                coupled[..., block] = torch.einsum("mab,a...->m...b", coefficients, tensor)
                yield degree, parity * (-1) ** right, coupled


def _monomials(lmax: int, order: int) -> list[tuple[int, ...]]:
    """Products of `order` components, x_a x_b x_c with a <= b <= c, in lexical order."""
    return list(itertools.combinations_with_replacement(range((lmax + 1) ** 2), order))


@cache
@torch.inference_mode(False)  # the tensor outlives the call
def symmetric_couplings(lmax: int, order: int, degree: int) -> Float[Tensor, "paths out monomials"]:
    """Generalized Clebsch-Gordan coefficients of equal arguments: each equivariant polynomial of one order once.

    A product of equal arguments does not depend on their order, so most couplings are zero or follow from others. Each
    coupling is written in the monomials x_a x_b x_c with a <= b <= c and made orthogonal to those before it. The inner
    product is that of symmetric tensors, which is invariant under rotations.

    Args:
        lmax: Highest degree of the arguments.
        order: Number of arguments that are multiplied, the paper's nu.
        degree: Degree of the result, the paper's L; its parity is (-1)^L.

    Returns:
        The paper's U in float64. Its axes are the polynomials, their components, and the coefficients of the monomials.
        The squares of the entries of each symmetric tensor sum to 2 L + 1.
    """
    monomials = _monomials(lmax, order)
    place = {monomial: k for k, monomial in enumerate(monomials)}
    entries = itertools.product(range((lmax + 1) ** 2), repeat=order)
    places = torch.tensor([place[tuple(sorted(entry))] for entry in entries])
    # A monomial stands for all entries of the symmetric tensor with these indices, which are equal.
    roots = torch.bincount(places).double().sqrt()
    found: list[Tensor] = []
    for reached, parity, tensor in _couplings(lmax, order):
        if (reached, parity) != (degree, (-1) ** degree):
            continue
        flat = tensor.flatten(1)
        rest = flat.new_zeros(flat.shape[0], len(monomials)).index_add(1, places, flat) / roots
        for _ in range(2):  # the second time removes the rounding errors of the first
            for other in found:
                rest = rest - (rest * other).sum() * other
        if (size := float(rest.norm())) > _INDEPENDENT:
            # Releases of e3nn differ in the sign of some coefficients. A fixed sign keeps stored weights valid.
            leading = rest[rest.abs() > _INDEPENDENT * size][0]
            found.append(rest * (leading.sign() / size))
    if not found:
        return roots.new_zeros(0, 2 * degree + 1, len(monomials))
    return torch.stack(found) * roots * math.sqrt(2 * degree + 1)


class EquivariantPolynomials(nn.Module):
    """Values of all equivariant polynomials of one set of harmonics; build it inside `Exact`.

    Args:
        lmax: Highest degree of the arguments.
        correlation: Largest number of arguments that are multiplied.
        degrees: Degrees of the results.
    """

    prefixes: Tensor
    factors: Tensor
    coefficients: Tensor

    def __init__(self, lmax: int, correlation: int, degrees: Sequence[int]) -> None:
        super().__init__()
        orders = range(1, correlation + 1)
        prefixes: list[int] = []
        factors: list[int] = []
        for order in orders[1:]:
            place = {monomial: k for k, monomial in enumerate(_monomials(lmax, order - 1))}
            prefixes += [place[monomial[:-1]] for monomial in _monomials(lmax, order)]
            factors += [monomial[-1] for monomial in _monomials(lmax, order)]
        self.sizes = [len(_monomials(lmax, order)) for order in orders[1:]]
        self.register_buffer("prefixes", torch.tensor(prefixes, dtype=torch.long), persistent=False)
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.long), persistent=False)
        rows: list[Tensor] = []
        for degree in degrees:
            couplings = [symmetric_couplings(lmax, order, degree) for order in orders]
            rows += [torch.block_diag(*(one[:, m] for one in couplings)) for m in range(2 * degree + 1)]
        coefficients = torch.cat(rows).t().to(torch.get_default_dtype())
        self.register_buffer("coefficients", coefficients, persistent=False)

    def forward(self, values: Float[Tensor, "points channels components"]) -> Float[Tensor, "points channels columns"]:
        """The polynomials of all orders, for every degree and each of its components."""
        monomials = [values]
        for prefix, factor in zip(self.prefixes.split(self.sizes), self.factors.split(self.sizes), strict=True):
            monomials.append(monomials[-1][..., prefix] * values[..., factor])
        return torch.cat(monomials, -1) @ self.coefficients


class SymmetricContraction(nn.Module):
    """Product basis and message: B = U (A ⊗ ... ⊗ A), m = sum W_z B (Batatia et al. 2022, eqs. 10 and 11).

    Args:
        num_species: Number of species. Each has its own weights.
        channels: Number of channels. Each has its own weights.
        lmax: Highest degree of A.
        correlation: The highest order, the paper's nu.
        irreps_out: Irreps of the messages.
    """

    def __init__(self, num_species: int, channels: int, lmax: int, correlation: int, irreps_out: o3.Irreps) -> None:
        super().__init__()
        degrees = [irrep.l for _, irrep in irreps_out]
        self.polynomials = Exact(EquivariantPolynomials, lmax, correlation, degrees)
        orders = range(1, correlation + 1)
        paths = [[len(symmetric_couplings(lmax, order, degree)) for order in orders] for degree in degrees]
        self.blocks = [(2 * degree + 1, sum(counts)) for degree, counts in zip(degrees, paths, strict=True)]
        # At the start this is the mean over the paths of each order.
        means = torch.cat([torch.full((count,), 1.0 / count) for counts in paths for count in counts if count])
        self.weights = nn.Parameter(torch.randn(num_species, channels, len(means)) * means)

    def forward(
        self, values: Float[Tensor, "points channels components"], species: Int[Tensor, " points"]
    ) -> Float[Tensor, "points irreps_out"]:
        """Messages, in e3nn's layout."""
        polynomials = self.polynomials(values).split([size * count for size, count in self.blocks], -1)
        weights = self.weights[species].split([count for _, count in self.blocks], -1)
        messages = [
            (some.unflatten(-1, block) @ weight.unsqueeze(-1)).flatten(1)
            for some, weight, block in zip(polynomials, weights, self.blocks, strict=True)
        ]
        return torch.cat(messages, -1)


class RadialFunctions(nn.Module):
    """Bessel functions of the distance, times the polynomial envelope (p = 5) of the nuclear distance.

    Args:
        num_basis: Number of functions.
        cutoff: Cutoff distance, Angstrom.
    """

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        self.num_basis = num_basis
        self.cutoff = cutoff
        self.basis = BesselBasis(num_basis, cutoff)

    def forward(self, edges: Edges) -> Float[Tensor, "edges basis"]:
        """Values for every edge."""
        envelope = polynomial_envelope(edges.nuclear_lengths, self.cutoff, _ENVELOPE_POWER)
        return math.sqrt(2.0 / self.cutoff) * self.basis(edges.lengths) * envelope.unsqueeze(-1)


class MACELayer(nn.Module):
    """Interaction, product basis and update (Batatia et al. 2022, section 4).

        A_i  = 1/N W sum_j R(r_ij) (Y(r_ij) ⊗ W h_j)
        m_i  = sum over orders and paths of W_z B(A_i)
        h_i <- W m_i + W_z h_i

    Each W is a weight matrix of its own, and each W_z has one matrix per species. R is a perceptron of the radial
    functions.

    Args:
        num_species: Number of species.
        irreps_in: Irreps of the features before the layer.
        irreps_out: Irreps of the features after it.
        harmonics: Spherical harmonics of the directions of edges; A has their degrees.
        functions: Radial functions.
        correlation: Largest number of A that are multiplied; at least 2.
    """

    def __init__(
        self,
        num_species: int,
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        harmonics: Harmonics,
        functions: RadialFunctions,
        correlation: int,
    ) -> None:
        super().__init__()
        self.num_species = num_species
        self.irreps_in = irreps_in
        self.harmonics = harmonics
        self.functions = functions
        channels = irreps_in.count(SCALAR)
        gathered = make_irreps((channels, irrep) for _, irrep in harmonics.irreps)
        self.shapes = [(channels, irrep.dim) for _, irrep in gathered]
        self.up = o3.Linear(irreps_in, irreps_in)
        self.product = ChannelwiseProduct(irreps_in, harmonics.irreps, gathered)
        # The perceptron has no biases, so that its result is zero where the envelope is zero.
        self.radial = FullyConnectedNet([functions.num_basis, *_RADIAL_WIDTHS, self.product.num_weights], F.silu)
        self.gather = o3.Linear(self.product.irreps_out, gathered)
        self.contraction = SymmetricContraction(num_species, channels, len(gathered) - 1, correlation, irreps_out)
        self.update = o3.Linear(irreps_out, irreps_out)
        one_hot = make_irreps([(num_species, SCALAR)])
        self.own = Exact(o3.FullyConnectedTensorProduct, irreps_in, one_hot, irreps_out)

    def forward(self, features: SpeciesFeatures, edges: Edges) -> SpeciesFeatures:
        """Features after the messages."""
        values, species = features.values[:, : self.irreps_in.dim], features.species
        sent = self.up(values)[edges.senders]
        products = self.product(sent, self.harmonics(edges), self.radial(self.functions(edges)))
        gathered = self.gather(sum_by_index(products, edges.receivers, values.shape[0]) / NEIGHBOURS)
        columns = gathered.split([channels * size for channels, size in self.shapes], -1)
        parts = [part.unflatten(-1, shape) for part, shape in zip(columns, self.shapes, strict=True)]
        return replace(features, values=self._products(torch.cat(parts, -1), values, species))

    def _products(
        self,
        gathered: Float[Tensor, "points channels components"],
        values: Float[Tensor, "points irreps_in"],
        species: Int[Tensor, " points"],
    ) -> Float[Tensor, "points irreps_out"]:
        """W m_i + W_z h_i, computed in the type of the weights even in mixed precision.

        Cubes of numbers in half precision would keep few digits, and e3nn's products need factors of one type.
        """
        dtype = self.contraction.weights.dtype
        one_hot = F.one_hot(species, self.num_species).to(dtype)
        with torch.autocast(values.device.type, enabled=False):
            messages = self.contraction(gathered.to(dtype), species)
            return self.update(messages) + self.own(values.to(dtype), one_hot)


class MACE(SpeciesBackbone):
    """MACE.

    Args:
        num_species: Number of species in the embedding.
        channels: Number of channels of every degree.
        num_layers: Number of layers.
        cutoff: Cutoff distance, Angstrom.
        num_basis: Number of radial functions.
        lmax: Highest degree of the harmonics and of the A that are multiplied.
        lmax_features: Highest degree of the features between layers, the paper's L; from 1 to `lmax`. The last layer
            makes scalars and vectors only.
        correlation: Largest number of A that are multiplied, the paper's nu; messages are of one body order more.

    References:
        I. Batatia, D. P. Kovács, G. N. C. Simm, C. Ortner, G. Csányi, "MACE: higher order equivariant message passing
        neural networks for fast and accurate force fields", NeurIPS 2022, arXiv:2206.07697; sizes as for rMD17.
        Deviations: in the original the energy is a sum of readouts after every layer, while heads here read the last
        layer, which also makes vectors; equal polynomials count once; sums are divided by a constant number of
        neighbours, not by the mean over a data set.
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 256,
        num_layers: int = 2,
        cutoff: float = 5.0,
        num_basis: int = 8,
        lmax: int = 3,
        lmax_features: int = 2,
        correlation: int = 3,
    ) -> None:
        super().__init__(num_species, channels, cutoff)
        functions, harmonics = RadialFunctions(num_basis, cutoff), Harmonics(lmax)
        irreps = irreps_of_layers(channels, lmax_features, num_layers)
        self.layers = nn.ModuleList(
            MACELayer(num_species, before, after, harmonics, functions, correlation)
            for before, after in itertools.pairwise(irreps)
        )
