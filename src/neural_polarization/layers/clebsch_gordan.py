"""Clebsch-Gordan products without weights, which are fast to build (needs e3nn).

The products of e3nn generate and compile code, which takes longer than most tests.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.layers.irreps import Exact, make_irreps

Path = tuple[Any, Any, Any]
"""Irreps of the first factor, the second, and the product (Any: e3nn annotates an irrep as a tuple of integers)."""


def paths_between(first: o3.Irreps, second: o3.Irreps, wanted: o3.Irreps) -> list[Path]:
    """All paths whose product is among the wanted irreps."""
    kinds = _kinds(wanted)
    return [(one, two, out) for one in _kinds(first) for two in _kinds(second) for out in one * two if out in kinds]


def paths_of_square(irreps: o3.Irreps, wanted: o3.Irreps) -> list[Path]:
    """All paths of features with themselves whose product is wanted and is not the product of another path."""
    order = _kinds(irreps)
    return [
        (one, two, out)
        for one, two, out in paths_between(irreps, irreps, wanted)
        if order.index(one) <= order.index(two) and (one != two or out.l % 2 == 0)
    ]


class ClebschGordan(nn.Module):
    """Products of two features, channel by channel.

        (x ⊗ y)^lm_c = sqrt(2 l + 1) sum over m1, m2 of C^lm_(l1 m1, l2 m2) x^(l1 m1)_c y^(l2 m2)_c

    C are real Wigner 3j symbols, as in e3nn.

    Args:
        first: Irreps of x. Blocks of the same irrep need not follow each other; their channels are numbered throughout.
        second: Irreps of y, each with as many channels as in x, or with one that multiplies every channel of x.
        paths: Irreps of the factors and of the product, for each product.

    Attributes:
        irreps_out: Irreps of the products, one block for each irrep, in the order of degrees.
    """

    def __init__(self, first: o3.Irreps, second: o3.Irreps, paths: Sequence[Path]) -> None:
        super().__init__()
        self.first, self.second, self.paths = first, second, paths
        kinds = sorted({out for _, _, out in paths}, key=lambda out: (out.l, -out.p))
        self.irreps_out = make_irreps(
            (sum(first.count(one) for one, _, out in paths if out == kind), kind) for kind in kinds
        )
        self.coefficients = Exact(_Coefficients, paths)

    def forward(
        self, first: Float[Tensor, "items irreps1"], second: Float[Tensor, "items irreps2"]
    ) -> Float[Tensor, "items irreps_out"]:
        """Products of every item."""
        x, y = _by_irrep(first, self.first), _by_irrep(second, self.second)
        sizes = [one.dim * two.dim * out.dim for one, two, out in self.paths]
        found: dict[Any, list[Tensor]] = {irrep: [] for _, irrep in self.irreps_out}
        for (one, two, out), flat in zip(self.paths, self.coefficients().split(sizes), strict=True):
            coupling = torch.einsum("ijk,ncj->ncik", flat.view(one.dim, two.dim, out.dim), y[two])
            found[out].append(torch.einsum("nci,ncik->nck", x[one], coupling))
        return torch.cat([torch.cat(parts, 1).flatten(1) for parts in found.values()], -1)


class _Coefficients(nn.Module):
    """The constants of all paths, one after the other."""

    values: Tensor

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        default = torch.get_default_dtype()
        flat = [
            math.sqrt(out.dim) * o3.wigner_3j(one.l, two.l, out.l, dtype=default).flatten() for one, two, out in paths
        ]
        self.register_buffer("values", torch.cat(flat), persistent=False)

    def forward(self) -> Tensor:
        """The constants of all paths as one tensor."""
        return self.values


def _kinds(irreps: o3.Irreps) -> list[Any]:
    """The different irreps among these blocks, each once."""
    return list(dict.fromkeys(irrep for _, irrep in irreps))


def _by_irrep(features: Tensor, irreps: o3.Irreps) -> dict[Any, Tensor]:
    """Channels (items, channels, components) of every irrep."""
    found: dict[Any, list[Tensor]] = {}
    columns = features.split([channels * irrep.dim for channels, irrep in irreps], -1)
    for (channels, irrep), block in zip(irreps, columns, strict=True):
        found.setdefault(irrep, []).append(block.unflatten(-1, (channels, irrep.dim)))
    return {irrep: torch.cat(blocks, 1) for irrep, blocks in found.items()}
