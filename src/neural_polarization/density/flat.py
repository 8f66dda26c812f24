"""Functions as flat lists, shell by shell, as auxiliary basis sets and files have them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.density.expansion import Gaussians


@dataclass(frozen=True)
class FlatShells:
    """Shells in any order; a shell is the 2 l + 1 functions of one exponent on one centre.

    Attributes:
        owners: centre of each shell.
        degrees: l of each shell.
        exponents: 1/Angstrom^2.
        coefficients: those of all shells one after the other, m = -l..l, e/Angstrom^(3/2).

    Raises:
        ValueError: where the number of coefficients is not that of the functions.
    """

    owners: Int[Tensor, " shells"]
    degrees: Int[Tensor, " shells"]
    exponents: Float[Tensor, " shells"]
    coefficients: Float[Tensor, " functions"]

    def __post_init__(self) -> None:
        expected = int((2 * self.degrees + 1).sum())
        if len(self.coefficients) != expected:
            raise ValueError(
                f"coefficients: {len(self.coefficients)} numbers, but the shells have {expected} functions; give "
                "2 l + 1 for every shell"
            )


def grouped(
    shells: FlatShells, centres: Float[Tensor, "centres 3"], molecule_index: Int[Tensor, " centres"]
) -> tuple[Gaussians, ...]:
    """The same functions, centres with equal numbers of shells of every degree together.

    Args:
        shells: their owners count the centres.
        centres: Angstrom.
        molecule_index: molecule of each centre.

    Raises:
        ValueError: for an owner that is none of the centres.

    Example:
        >>> s = torch.zeros(2, dtype=torch.long)
        >>> shells = FlatShells(torch.tensor([1, 0]), s, torch.tensor([2.0, 3.0]), torch.tensor([0.5, 0.7]))
        >>> [part] = grouped(shells, torch.eye(3)[:2], s)
        >>> part.exponents[0].tolist()
        [[3.0], [2.0]]
    """
    if not len(shells.owners):
        return ()
    if int(shells.owners.min()) < 0 or int(shells.owners.max()) >= len(centres):
        raise ValueError(f"owners: they count from 0 to {len(centres) - 1}, the centres; one of the shells does not")
    lmax = int(shells.degrees.max())
    counts = shells.owners.new_zeros(len(centres), lmax + 1)
    counts.index_put_((shells.owners, shells.degrees), torch.ones_like(shells.owners), accumulate=True)
    signatures, kind = torch.unique(counts, dim=0, return_inverse=True)
    sizes = 2 * shells.degrees + 1
    starts = sizes.cumsum(0) - sizes
    by_owner = shells.owners.argsort(stable=True)
    parts: list[Gaussians] = []
    for group, signature in enumerate(signatures.tolist()):
        if not any(signature):
            continue
        members = (kind == group).nonzero()[:, 0]
        exponents: list[Tensor] = []
        coefficients: list[Tensor] = []
        for degree, number in enumerate(signature):
            mine = by_owner[(kind[shells.owners[by_owner]] == group) & (shells.degrees[by_owner] == degree)]
            columns = starts[mine].unsqueeze(-1) + torch.arange(2 * degree + 1, device=starts.device)
            exponents.append(shells.exponents[mine].reshape(len(members), number))
            coefficients.append(shells.coefficients[columns].reshape(len(members), number, 2 * degree + 1))
        parts.append(Gaussians(centres[members], molecule_index[members], tuple(exponents), tuple(coefficients)))
    return tuple(parts)
