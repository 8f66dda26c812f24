"""`Gaussians`: functions that are alike, in number and degree, on each of many centres."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.density.gaussians import normalization


@dataclass(frozen=True)
class Gaussians:
    """Sum of Gaussian functions on points of space: the same number of shells of every degree on each centre.

    A shell is the 2 l + 1 functions of one exponent (`gaussians`). Centres with other numbers of shells make another
    `Gaussians`; a density is made of several.

    Attributes:
        centres: where the functions sit, Angstrom.
        molecule_index: molecule of each centre.
        exponents: entry l has those of degree l, 1/Angstrom^2; it may have no shell.
        coefficients: entry l has those of degree l, m = -l..l, e/Angstrom^(3/2).

    Raises:
        ValueError: where exponents and coefficients do not belong together.
    """

    centres: Float[Tensor, "centres 3"]
    molecule_index: Int[Tensor, " centres"]
    exponents: tuple[Float[Tensor, "centres _shells"], ...]
    coefficients: tuple[Float[Tensor, "centres _shells _functions"], ...]

    def __post_init__(self) -> None:
        if len(self.exponents) != len(self.coefficients):
            raise ValueError(
                f"exponents are given for {len(self.exponents)} degrees but coefficients for "
                f"{len(self.coefficients)}; give one entry of both per degree, empty ones too"
            )
        for degree, (exponents, coefficients) in enumerate(zip(self.exponents, self.coefficients, strict=True)):
            expected = (len(self.centres), exponents.shape[1], 2 * degree + 1)
            if exponents.shape[0] != len(self.centres) or tuple(coefficients.shape) != expected:
                raise ValueError(
                    f"degree {degree}: exponents {tuple(exponents.shape)} and coefficients "
                    f"{tuple(coefficients.shape)} do not fit {len(self.centres)} centres; coefficients of shape "
                    "(centres, shells, 2 l + 1) are expected"
                )

    @property
    def num_functions(self) -> int:
        """Number of functions on all centres together."""
        return sum(coefficients.numel() for coefficients in self.coefficients)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the coefficients."""
        return self.coefficients[0].dtype

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is wanted of centres, exponents or coefficients."""
        return any(value.requires_grad for value in (self.centres, *self.exponents, *self.coefficients))

    def shells(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Degree, exponents (centres, shells) and coefficients (centres, shells, 2 l + 1), where there are shells."""
        for degree, (exponents, coefficients) in enumerate(zip(self.exponents, self.coefficients, strict=True)):
            if exponents.shape[1]:
                yield degree, exponents, coefficients

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Gaussians":
        """The same functions on another device or in another floating-point type."""
        return Gaussians(
            self.centres.to(device=device, dtype=dtype),
            self.molecule_index.to(device=device),
            tuple(value.to(device=device, dtype=dtype) for value in self.exponents),
            tuple(value.to(device=device, dtype=dtype) for value in self.coefficients),
        )

    def detach(self) -> "Gaussians":
        """The same functions without the graph that made them."""
        return Gaussians(
            self.centres.detach(),
            self.molecule_index,
            tuple(value.detach() for value in self.exponents),
            tuple(value.detach() for value in self.coefficients),
        )

    def clone(self) -> "Gaussians":
        """The same functions in memory of their own."""
        return Gaussians(
            self.centres.clone(),
            self.molecule_index.clone(),
            tuple(value.clone() for value in self.exponents),
            tuple(value.clone() for value in self.coefficients),
        )

    def select(self, index: Int[Tensor, " kept"]) -> "Gaussians":
        """The functions of some of the centres."""
        return Gaussians(
            self.centres[index],
            self.molecule_index[index],
            tuple(value[index] for value in self.exponents),
            tuple(value[index] for value in self.coefficients),
        )

    def every(self, first: int, step: int) -> "Gaussians":
        """The shells first, first + step, ... of each degree, on all centres."""
        return dataclasses.replace(
            self,
            exponents=tuple(value[:, first::step] for value in self.exponents),
            coefficients=tuple(value[:, first::step] for value in self.coefficients),
        )

    def times(self, factor: float) -> "Gaussians":
        """The same functions with every coefficient multiplied."""
        return dataclasses.replace(self, coefficients=tuple(factor * value for value in self.coefficients))

    def reach(self, threshold: float) -> tuple[Float[Tensor, "centres _shells"], ...]:
        """Distance (Angstrom) from which each shell is negligible, for every degree, float64.

        All shells of a centre together are then below the threshold: each has its share of it, and
        |sum_m c_m S_lm| <= |c| r^l.

        Args:
            threshold: e/Angstrom^3; zero makes every distance infinite.
        """
        share = threshold / max(sum(exponents.shape[1] for exponents in self.exponents), 1)
        exact = self.detach().to(dtype=torch.float64)
        return tuple(
            _reach(degree, exponents, coefficients.norm(dim=-1) * normalization(degree, exponents), share)
            for degree, (exponents, coefficients) in enumerate(zip(exact.exponents, exact.coefficients, strict=True))
        )


def _reach(degree: int, exponents: Tensor, sizes: Tensor, share: float) -> Tensor:
    """Distance from which sizes r^l exp(-a r^2) stays below the share."""
    if share <= 0.0:
        return torch.full_like(exponents, torch.inf)
    ratios = sizes / share
    peak = degree / (2.0 * exponents)  # of r^l exp(-a r^2), as a squared distance
    squared = peak + 1.0 / exponents
    for _ in range(20):  # r^2 = (ln(ratio) + l ln r) / a
        logarithms = ratios.clamp(min=1e-300).log() + 0.5 * degree * squared.log()
        squared = torch.maximum(logarithms / exponents, peak + 1e-12)
    never = ratios * squared.sqrt() ** degree * (-exponents * squared).exp() < 1.0 - 1e-6
    return torch.where(never, torch.zeros_like(squared), squared.sqrt())
