"""Points around the atoms of a molecule with weights that make sums integrals over all space.

References:
    A. D. Becke, J. Chem. Phys. 88, 2547 (1988).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from ase.data import atomic_numbers, covalent_radii
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.density import Nuclei

_STEPS = 3  # of Becke's polynomial: the cells' borders are as sharp as he advises
_SLANT = 0.45  # at most, of a border between atoms of different size
_NEAR, _NEAR_DEGREE = 0.35, 7  # of the atom's radius: closer to a nucleus the density is nearly spherical


@dataclass(frozen=True)
class Quadrature:
    """Points and their weights: a sum of weights times values is an integral.

    Attributes:
        points: Angstrom, float64.
        weights: Angstrom^3, float64.
    """

    points: Float[Tensor, "points 3"]
    weights: Float[Tensor, " points"]


def quadrature_around(nuclei: Nuclei, radial: int = 60, degree: int = 25) -> Quadrature:
    """Spheres around every atom, which share space smoothly by Becke's cells.

    Args:
        nuclei: of one molecule.
        radial: number of spheres around an atom.
        degree: of the harmonics that the points of a sphere integrate exactly.

    Raises:
        ValueError: for several molecules, or a number below 1.
    """
    nuclei.require_one()
    if radial < 1 or degree < 1:
        raise ValueError(f"quadrature: radial={radial} and degree={degree} must be 1 or more")
    positions = nuclei.positions.detach().double().cpu()
    sizes = torch.tensor([_radius(number) for number in nuclei.atomic_numbers.tolist()], dtype=torch.float64)
    points, weights = [], []
    for atom, (position, size) in enumerate(zip(positions, sizes.tolist(), strict=True)):
        local, of_local = _around_atom(size, radial, degree)
        here = local + position
        points.append(here)
        weights.append(of_local * _cells(here, positions, sizes)[atom])
    return Quadrature(torch.cat(points), torch.cat(weights))


def _radius(number: int) -> float:
    """Size of an atom, Angstrom; hydrogen's is taken larger than its covalent radius, as Becke does."""
    return 0.35 if number == atomic_numbers["H"] else float(covalent_radii[number])


def _around_atom(size: float, radial: int, degree: int) -> tuple[Tensor, Tensor]:
    """Points about the origin and weights: Gauss-Chebyshev quadrature of the second kind along the radius."""
    angles = math.pi * np.arange(1, radial + 1) / (radial + 1)
    x = np.cos(angles)
    radii = size * (1.0 + x) / (1.0 - x)
    steps = math.pi / (radial + 1) * np.sin(angles) * 2.0 * size / (1.0 - x) ** 2
    points, weights = [], []
    for radius, step in zip(radii.tolist(), (steps * radii**2).tolist(), strict=True):
        directions, shares = _sphere(min(degree, _NEAR_DEGREE) if radius < _NEAR * size else degree)
        points.append(radius * directions)
        weights.append(step * shares)
    return torch.cat(points), torch.cat(weights)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # the tensors outlive the call
def _sphere(degree: int) -> tuple[Tensor, Tensor]:
    """Directions and weights (4 pi together): Gauss-Legendre points of the polar angle, equal steps about the axis."""
    heights, of_heights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    turns = 2.0 * math.pi * (np.arange(degree + 1) + 0.5) / (degree + 1)
    across = np.sqrt(1.0 - heights**2)[:, None]
    x, y, z = np.broadcast_arrays(across * np.cos(turns), across * np.sin(turns), heights[:, None])
    weights = np.repeat(of_heights, len(turns)) * 2.0 * math.pi / len(turns)
    return torch.from_numpy(np.stack([x, y, z], -1).reshape(-1, 3)), torch.from_numpy(weights)


def _cells(
    points: Float[Tensor, "points 3"], positions: Float[Tensor, "atoms 3"], sizes: Float[Tensor, " atoms"]
) -> Float[Tensor, "atoms points"]:
    """Share of each atom at each point: one in sum, and smooth (Becke's eq. 13 to 22 and appendix)."""
    distances = torch.cdist(positions, points)
    products = torch.ones_like(distances)
    for one in range(len(positions)):
        for other in range(one):
            border = (distances[one] - distances[other]) / (positions[one] - positions[other]).norm()
            ratio = float(sizes[one] / sizes[other])
            u = (ratio - 1.0) / (ratio + 1.0)
            slant = max(-_SLANT, min(_SLANT, u / (u * u - 1.0)))
            border = border + slant * (1.0 - border * border)
            for _ in range(_STEPS):
                border = 0.5 * border * (3.0 - border * border)
            products[one] *= 0.5 * (1.0 - border)
            products[other] *= 0.5 * (1.0 + border)
    return products / products.sum(0)
