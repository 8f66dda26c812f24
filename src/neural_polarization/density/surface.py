"""Points on surfaces around a molecule, where force fields fit their charges to the electrostatic potential.

References:
    U. C. Singh, P. A. Kollman, J. Comput. Chem. 5, 129 (1984).
    A. Bondi, J. Phys. Chem. 68, 441 (1964) (the radii).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.data.vdw import vdw_radii
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.density import Nuclei

MERZ_KOLLMAN = (1.4, 1.6, 1.8, 2.0)
"""Radii of the spheres in units of van der Waals radii."""

MOST_POINTS = 2**22
"""Points of a surface: more than these are a mistake in their density."""


def surface_points(
    nuclei: Nuclei, scales: Sequence[float] = MERZ_KOLLMAN, points_per_area: float = 1.0
) -> Float[Tensor, "points 3"]:
    """Points on spheres around the atoms of a molecule, as far as they are outside of the spheres of the other atoms.

    The points of a sphere lie on a spiral from pole to pole, evenly, with z as its axis: they turn with the molecule
    only roughly.

    Args:
        nuclei: of one molecule.
        scales: radii of the spheres in units of the van der Waals radii, one surface each.
        points_per_area: 1/Angstrom^2.

    Returns:
        Angstrom, float64, surface by surface.

    Raises:
        ValueError: for several molecules, an element without a radius, numbers that are not positive, or more than
            `MOST_POINTS` points.

    Example:
        >>> helium = Nuclei(torch.tensor([2]), torch.zeros(1, 3), torch.tensor([0]), 1)
        >>> round(surface_points(helium, (2.0,)).norm(dim=-1).max().item(), 9)
        2.8
    """
    nuclei.require_one()
    if not scales or not all(0.0 < scale < math.inf for scale in scales):
        raise ValueError(f"scales: {tuple(scales)} must be one positive number or more, such as {MERZ_KOLLMAN}")
    if not 0.0 < points_per_area < math.inf:
        raise ValueError(f"points_per_area: {points_per_area} must be a positive number, 1/Angstrom^2")
    radii = torch.from_numpy(vdw_radii[nuclei.atomic_numbers.cpu().numpy()])
    if bool(radii.isnan().any()):
        symbol = chemical_symbols[int(nuclei.atomic_numbers[radii.isnan().cpu()][0])]
        raise ValueError(f"{symbol}: there is no van der Waals radius of it, and so no surface")
    wanted = 4.0 * math.pi * points_per_area * sum(float((scale * radii).square().sum()) for scale in scales)
    if wanted > MOST_POINTS:
        raise ValueError(
            f"points_per_area: {points_per_area} makes {wanted:.2g} points; {MOST_POINTS:.1e} are the limit"
        )
    positions = nuclei.positions.detach().double().cpu()
    found: list[Tensor] = []
    for scale in scales:
        for atom, radius in enumerate((scale * radii).tolist()):
            points = positions[atom] + radius * _spiral(math.ceil(4.0 * math.pi * radius**2 * points_per_area))
            distances = torch.cdist(points, positions)
            distances[:, atom] = math.inf
            found.append(points[(distances >= scale * radii).all(1)])
    return torch.cat(found)


def _spiral(number: int) -> Float[Tensor, "points 3"]:
    """Points on the unit sphere, each for as much of it, which turn by the golden angle from one to the next."""
    steps = np.arange(number) + 0.5
    heights = 1.0 - 2.0 * steps / number
    across, turns = np.sqrt(1.0 - heights**2), math.pi * (3.0 - math.sqrt(5.0)) * steps
    return torch.from_numpy(np.stack([across * np.cos(turns), across * np.sin(turns), heights], -1))
