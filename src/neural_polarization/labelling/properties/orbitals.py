"""Orbital energies and the centroids of localized orbitals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...units import BOHR, HARTREE
from .localization import localized


@dataclass(frozen=True)
class Frontier:
    """Energies of the highest occupied and the lowest empty orbital of either spin, and their gap, eV.

    A small basis may leave no orbital empty, as that of one function does for helium: then there is neither `lumo` nor
    `gap`.
    """

    homo: float
    lumo: float | None
    gap: float | None


def frontier(scf: Any) -> Frontier:
    """Energies of the frontier orbitals."""
    energies, occupation = np.ravel(scf.mo_energy) * HARTREE, np.ravel(scf.mo_occ)
    homo = float(energies[occupation > 0].max())
    empty = energies[occupation == 0]
    if not len(empty):
        return Frontier(homo, None, None)
    return Frontier(homo, float(empty.min()), float(empty.min()) - homo)


@dataclass(frozen=True)
class Centroids:
    """Positions and spreads of localized orbitals.

    Attributes:
        positions: Mean position of each occupied localized orbital, Angstrom.
        occupations: Number of electrons in each orbital, 2 or 1.
        spreads: Spread of each orbital, the root of <r^2> - <r>^2, Angstrom.
        owners: Indices of the two atoms that each orbital belongs to; one atom stands twice.
    """

    positions: Float[np.ndarray, "orbitals 3"]
    occupations: Float[np.ndarray, " orbitals"]
    spreads: Float[np.ndarray, " orbitals"]
    owners: Int[np.ndarray, "orbitals 2"]


def centroids(scf: Any) -> Centroids:
    """Centroids of the occupied orbitals after Foster-Boys localization, core orbitals included.

    Boys' orbitals minimize the sum of spreads. Their centroids in a molecule correspond to the maximally localized
    Wannier centres of a crystal. The sum of occupation times centroid gives the electronic dipole.
    An orbital belongs to the atoms that carry its Mulliken population. It is a core or a lone pair of one atom if that
    atom has three quarters of the population, and otherwise a bond of the two atoms with the largest shares. Equivalent
    bonds of a double or triple bond (banana bonds) have different centroids and the same owners.

    References:
        J. M. Foster, S. F. Boys, Rev. Mod. Phys. 32, 300 (1960).
    """
    spins = (
        [(scf.mo_coeff, scf.mo_occ)] if np.ndim(scf.mo_occ) == 1 else list(zip(scf.mo_coeff, scf.mo_occ, strict=True))
    )
    parts = [
        centroids_of(scf.mol, orbitals[:, occupation > 0], float(occupation.max()))
        for orbitals, occupation in spins
        if np.any(occupation > 0)
    ]
    return Centroids(
        positions=np.concatenate([part.positions for part in parts]),
        occupations=np.concatenate([part.occupations for part in parts]),
        spreads=np.concatenate([part.spreads for part in parts]),
        owners=np.concatenate([part.owners for part in parts]),
    )


def centroids_of(molecule: Any, occupied: Float[np.ndarray, "functions orbitals"], occupation: float) -> Centroids:
    """Centroids of orthonormal orbitals, all with the same occupation, after localization (`centroids`)."""
    occupied = localized(molecule, occupied)
    first = np.einsum("xij,ik,jk->kx", molecule.intor_symmetric("int1e_r", comp=3), occupied, occupied, optimize=True)
    second = np.einsum("ij,ik,jk->k", molecule.intor_symmetric("int1e_r2"), occupied, occupied, optimize=True)
    variance = np.maximum(second - np.sum(first**2, axis=1), 0.0)
    populations = occupied * (molecule.intor_symmetric("int1e_ovlp") @ occupied)
    by_atom = np.array([populations[start:stop].sum(axis=0) for start, stop in molecule.aoslice_by_atom()[:, 2:]])
    order = np.argsort(-by_atom, axis=0)
    second_owner = order[min(1, len(order) - 1)]
    alone = np.take_along_axis(by_atom, order[:1], axis=0)[0] > 0.75
    owners = np.stack([order[0], np.where(alone, order[0], second_owner)], axis=1)
    return Centroids(
        positions=first * BOHR,
        occupations=np.full(len(first), occupation),
        spreads=np.sqrt(variance) * BOHR,
        owners=owners,
    )
