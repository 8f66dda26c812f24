"""Electrons of the cores, which valence densities leave out: shells of Slater's rules.

References:
    J. C. Slater, Phys. Rev. 36, 57 (1930).
"""

import math
from collections.abc import Iterator

import torch
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.density import Nuclei
from neural_polarization.units import BOHR

_HELIUM, _NEON, _ARGON = 2, 10, 18


def core_electrons(nuclei: Nuclei) -> int:
    """Electrons of all cores: none of H and He, two of Li to Ne, ten of Na to Ar.

    Raises:
        ValueError: for a heavier element.
    """
    return int(sum(electrons for number in nuclei.atomic_numbers.tolist() for electrons, _, _ in _shells(number)))


def core_density(nuclei: Nuclei, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Density of the cores at each point, e/Angstrom^3.

    A shell of quantum number n and exponent zeta is r^(2n - 2) exp(-2 zeta r), normalized to its electrons.

    Args:
        nuclei: of one molecule.
        points: Angstrom; the computation has their type.

    Raises:
        ValueError: for an element beyond argon.
    """
    total = torch.zeros_like(points[:, 0])
    for number, position in zip(nuclei.atomic_numbers.tolist(), nuclei.positions.to(points), strict=True):
        distance = (points - position).norm(dim=-1)
        for electrons, quantum, exponent in _shells(number):
            steepness, power = 2.0 * exponent / BOHR, 2 * quantum - 2
            norm = steepness ** (power + 3) / (4.0 * math.pi * math.factorial(power + 2))
            total = total + electrons * norm * distance**power * torch.exp(-steepness * distance)
    return total


def _shells(number: int) -> Iterator[tuple[int, int, float]]:
    """Electrons, quantum number and exponent (1/bohr) of each core shell of an element."""
    if number > _ARGON:
        raise ValueError(f"{chemical_symbols[number]}: valence densities are defined up to argon; take another kind")
    if number > _HELIUM:
        yield 2, 1, number - 0.30
    if number > _NEON:
        yield 8, 2, 0.5 * (number - 4.15)
