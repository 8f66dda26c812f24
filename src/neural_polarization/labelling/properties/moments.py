"""Moments of the charge: dipole, quadrupole and electronic spatial extent."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ...units import BOHR


@dataclass(frozen=True)
class Moments:
    """Moments about the centre of nuclear charge (Gaussian's standard origin).

    Attributes:
        dipole: Dipole, from negative to positive charge, e*Angstrom; that of an ion depends on the origin.
        quadrupole: Traceless quadrupole, the sum of q (3 r r - r^2) / 2, e*Angstrom^2.
        spatial_extent: Integral of the density times r^2, Angstrom^2; QM9's <R^2>.
    """

    dipole: Float[np.ndarray, "3"]
    quadrupole: Float[np.ndarray, "3 3"]
    spatial_extent: float


def moments(molecule: Any, density_matrix: Float[np.ndarray, "functions functions"]) -> Moments:
    """Moments of nuclei and electrons.

    Args:
        molecule: PySCF's molecule.
        density_matrix: Density matrix, summed over both spins.
    """
    charges = molecule.atom_charges()
    origin = charges @ molecule.atom_coords() / charges.sum()
    nuclei = molecule.atom_coords() - origin
    with molecule.with_common_orig(origin):
        first = molecule.intor_symmetric("int1e_r", comp=3)
        second = molecule.intor_symmetric("int1e_rr", comp=9).reshape(3, 3, *density_matrix.shape)
    electrons = np.einsum("xyij,ji->xy", second, density_matrix)
    charge_second = np.einsum("a,ax,ay->xy", charges, nuclei, nuclei) - electrons
    dipole = charges @ nuclei - np.einsum("xij,ji->x", first, density_matrix)
    return Moments(
        dipole=dipole * BOHR,
        quadrupole=(3 * charge_second - np.trace(charge_second) * np.eye(3)) / 2 * BOHR**2,
        spatial_extent=float(np.trace(electrons)) * BOHR**2,
    )
