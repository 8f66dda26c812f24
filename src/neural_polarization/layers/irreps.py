"""Components of networks whose features are irreducible representations of O(3) (needs e3nn).

Features are tensors (points, irreps.dim) in e3nn's layout. Every block has the same number of channels. Scalars "0e"
come first and vectors "1o" second, so that their columns are known; e3nn's "1o" is (x, y, z).
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.geometry import FEATURE_EPSILON, Edges, safe_norm
from neural_polarization.layers.mlp import mlp
from neural_polarization.layers.scatter import sum_by_index

try:
    from e3nn import o3
    from e3nn.nn import Gate
except ImportError as error:
    raise ImportError(
        "networks of irreducible representations need e3nn: pip install neural-polarization[e3nn]"
    ) from error

NEIGHBOURS = 10.0
"""Typical number of neighbours in a molecule. Sums over neighbours are divided by its root, to start near one."""


def make_irreps(blocks: Iterable[Any]) -> o3.Irreps:
    """Irreps of these blocks (channels, irrep). The annotations of e3nn's constructor do not accept its own values."""
    return cast(o3.Irreps, o3.Irreps([(channels, irrep) for channels, irrep in blocks]))


SCALAR, VECTOR = o3.Irrep(0, 1), o3.Irrep(1, -1)


def irreps_of_layers(channels: int, lmax: int, num_layers: int, both_parities: bool = False) -> list[o3.Irreps]:
    """Irreps of the features before the first and after every layer, without those that are zero or never read.

    Before the first layer there are only scalars. Every layer adds the degrees and parities that are in the products of
    its input with spherical harmonics up to `lmax`. The last layer makes only scalars and vectors, because nothing else
    is read.

    Args:
        channels: Number of channels of every irrep.
        lmax: Highest degree of features and spherical harmonics.
        num_layers: Number of layers.
        both_parities: Whether features of the parity (-1)^(l+1) are kept, such as pseudoscalars.

    Example:
        >>> [str(irreps) for irreps in irreps_of_layers(4, 2, 2)]
        ['4x0e', '4x0e+4x1o+4x2e', '4x0e+4x1o']
    """
    natural = [o3.Irrep(degree, (-1) ** degree) for degree in range(lmax + 1)]
    unnatural = [o3.Irrep(degree, -((-1) ** degree)) for degree in range(lmax + 1) if both_parities]
    known: list[Any] = [*natural, *unnatural]  # e3nn annotates an irrep as a tuple of integers
    found: list[Any] = [SCALAR]
    irreps = [make_irreps([(channels, SCALAR)])]
    for layer in range(num_layers):
        reached = {product for one in found for harmonic in natural for product in one * harmonic}
        wanted: list[Any] = known if layer < num_layers - 1 else [SCALAR, VECTOR]
        found = [irrep for irrep in wanted if irrep in reached]
        irreps.append(make_irreps((channels, irrep) for irrep in found))
    return irreps


class Harmonics(nn.Module):
    """Spherical harmonics of the edges' directions up to `lmax`, normalized to component: |Y_l|^2 = 2 l + 1.

    Args:
        lmax: Highest degree; at least 1.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.irreps = o3.Irreps.spherical_harmonics(lmax)
        # They take vector / length with the safe length, which goes to zero at length zero and is not singular there.
        self.function = o3.SphericalHarmonics(self.irreps, normalize=False, normalization="component")

    def forward(self, edges: Edges) -> Float[Tensor, "edges irreps"]:
        """Values for every edge, in the order of degrees."""
        return self.function(edges.vectors / edges.lengths.unsqueeze(-1))


_ROUNDING = 1e-2
"""Difference below which two coupling coefficients, apart from their signs, are the same one in two types."""


class Exact(nn.Module):
    """A module of e3nn whose constants are exact to the last digit in every floating-point type.

    e3nn stores coupling coefficients as buffers in the type that is torch's default when a product is built. A network
    that is built in float32 and used in float64 would therefore be equivariant to seven digits only. The buffers are
    also in its state dict, and a state dict of float32 has seven digits. So this module replaces loaded constants by
    the exact ones.

    Copies and pickles are built anew. e3nn's own are traced again, which folds constants into new buffers: they are not
    exact, and no other state dict has their names.

    Args:
        build: Class or function that makes the module; one that can be pickled.
        arguments: Its arguments.
        options: Its keyword arguments.
    """

    def __init__(self, build: Callable[..., nn.Module], *arguments: Any, **options: Any) -> None:
        super().__init__()
        self._build = partial(build, *arguments, **options)
        default = torch.get_default_dtype()
        try:
            torch.set_default_dtype(torch.float64)
            module = self._build()
        finally:
            torch.set_default_dtype(default)
        self._constants = {name: constant.clone() for name, constant in module.named_buffers()}
        self.module = module.to(default)
        self.register_load_state_dict_post_hook(Exact._after_loading)

    def __reduce__(self) -> tuple[Any, ...]:
        tensors = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        return Exact, (self._build,), (tensors, self._constants, self.training)

    def __setstate__(self, state: tuple[dict[str, Tensor], dict[str, Tensor], bool]) -> None:
        tensors, self._constants, training = state
        for path, tensor in tensors.items():
            owner, _, name = path.rpartition(".")
            setattr(self.module.get_submodule(owner), name, tensor)
        self.train(training)

    def _after_loading(self, _: object) -> None:
        """Makes constants exact again after loading."""
        self._constants = {
            name: _exact(self._constants[name], buffer.detach().clone()) for name, buffer in self.module.named_buffers()
        }
        self._restore()

    def _restore(self) -> None:
        for name, buffer in self.module.named_buffers():
            buffer.copy_(self._constants[name])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Exact":
        super()._apply(fn, recurse)
        self._restore()
        return self

    def forward(self, *arguments: Tensor) -> Tensor:
        """The result of the module."""
        return self.module(*arguments)


def _exact(constant: Tensor, loaded: Tensor) -> Tensor:
    """The constant in double precision that belongs to a loaded one.

    Releases of e3nn differ in the sign of some coefficients. The sign of the file is kept, because its weights were
    trained with it.
    """
    rounded = loaded.to(constant)
    for one in (constant, -constant):
        if torch.allclose(rounded, one, rtol=0.0, atol=_ROUNDING):
            return one
    return rounded


class ChannelwiseProduct(nn.Module):
    """Product of every channel with the harmonics of its edge; each call gives one weight per channel and path.

    Args:
        irreps: Irreps of the features.
        harmonics: Irreps of the spherical harmonics of edges, with one channel each.
        wanted: Irreps that the product may contain.

    Attributes:
        irreps_out: Irreps that the product does contain, sorted and simplified.
        num_weights: Number of weights of an edge.
    """

    def __init__(self, irreps: o3.Irreps, harmonics: o3.Irreps, wanted: o3.Irreps) -> None:
        super().__init__()
        kinds = {irrep for _, irrep in wanted}
        paths = [
            (channels, product, i, j)
            for i, (channels, irrep) in enumerate(irreps)
            for j, (_, harmonic) in enumerate(harmonics)
            for product in irrep * harmonic
            if product in kinds
        ]
        out, order, _ = make_irreps((channels, product) for channels, product, _, _ in paths).sort()
        instructions = sorted((i, j, order[k], "uvu", True) for k, (_, _, i, j) in enumerate(paths))
        self.product = Exact(
            o3.TensorProduct, irreps, harmonics, out, instructions, shared_weights=False, internal_weights=False
        )
        self.irreps_out = cast(o3.Irreps, out.simplify())
        self.num_weights = sum(channels for channels, _, _, _ in paths)

    def forward(
        self,
        features: Float[Tensor, "edges irreps"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: Float[Tensor, "edges weights"],
    ) -> Float[Tensor, "edges product"]:
        """The products of every edge."""
        return self.product(features, harmonics, weights)


class Convolution(nn.Module):
    """Sum over neighbours of weight(r) * (features of the sender ⊗ harmonics of the direction), then a linear map.

    Args:
        irreps_in: Irreps of the senders' features.
        harmonics: Irreps of the spherical harmonics of edges.
        irreps_out: Irreps of the result.
        widths: Widths of the perceptron that maps radial functions to the weights of the paths: the number of radial
            functions and the widths of the hidden layers, without the number of weights.
    """

    def __init__(
        self, irreps_in: o3.Irreps, harmonics: o3.Irreps, irreps_out: o3.Irreps, widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.product = ChannelwiseProduct(irreps_in, harmonics, irreps_out)
        self.weights = mlp([*widths, self.product.num_weights])
        self.linear = o3.Linear(self.product.irreps_out, irreps_out)

    def forward(
        self,
        features: Float[Tensor, "points irreps_in"],
        edges: Edges,
        harmonics: Float[Tensor, "edges harmonics"],
        radial: Float[Tensor, "edges basis"],
    ) -> Float[Tensor, "points irreps_out"]:
        """Sum of the messages that every point receives."""
        weights = self.weights(radial) * edges.envelope.unsqueeze(-1)
        messages = self.product(features[edges.senders], harmonics, weights)
        return self.linear(sum_by_index(messages, edges.receivers, features.shape[0]) / math.sqrt(NEIGHBOURS))


def gate(irreps: o3.Irreps) -> Gate:
    """Nonlinearity: SiLU of scalars; every other channel is multiplied by the sigmoid of an additional scalar.

    Its `irreps_in` are the irreps of its input, which include the additional scalars. Its result has `irreps`.

    Args:
        irreps: Irreps of the result, scalars "0e" first; pseudoscalars are gated like vectors.
    """
    scalars, gated = make_irreps(irreps[:1]), make_irreps(irreps[1:])
    gates = make_irreps([(gated.num_irreps, SCALAR)] if gated else [])
    return Gate(scalars, [nn.functional.silu], gates, [torch.sigmoid] if gated else [], gated)


class IrrepsNorm(nn.Module):
    """Smooth norm of every channel, sqrt(|x|^2 + epsilon^2).

    Args:
        irreps: Irreps of the features.
        epsilon: Value at zero.
    """

    def __init__(self, irreps: o3.Irreps, epsilon: float = FEATURE_EPSILON) -> None:
        super().__init__()
        self.blocks = [(channels, irrep.dim) for channels, irrep in irreps]
        self.epsilon = epsilon

    def forward(self, features: Float[Tensor, "points irreps"]) -> Float[Tensor, "points channels"]:
        """One value per channel of every irrep, in their order."""
        columns = features.split([channels * size for channels, size in self.blocks], -1)
        parts = [part.unflatten(-1, block) for part, block in zip(columns, self.blocks, strict=True)]
        return torch.cat([safe_norm(part, self.epsilon) for part in parts], -1)
