"""Orbital energies and the centroids of localized orbitals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...units import BOHR, HARTREE


@dataclass(frozen=True)
class Frontier:
    """Highest occupied and lowest empty orbital of either spin, and their distance, eV."""

    homo: float
    lumo: float
    gap: float


def frontier(scf: Any) -> Frontier:
    """Frontier orbital energies; NaN where there is no such orbital."""
    energies, occupation = np.ravel(scf.mo_energy), np.ravel(scf.mo_occ)
    homo = float(max(energies[occupation > 0], default=np.nan)) * HARTREE
    lumo = float(min(energies[occupation == 0], default=np.nan)) * HARTREE
    return Frontier(homo, lumo, lumo - homo)


@dataclass(frozen=True)
class Centroids:
    """Where localized orbitals sit.

    Attributes:
        positions: Mean position of each occupied localized orbital, Angstrom.
        occupations: Electrons in it, 2 or 1.
        spreads: Root of <r^2> - <r>^2, Angstrom.
        owners: The one atom (twice) or the two atoms that it belongs to.
    """

    positions: Float[np.ndarray, "orbitals 3"]
    occupations: Float[np.ndarray, " orbitals"]
    spreads: Float[np.ndarray, " orbitals"]
    owners: Int[np.ndarray, "orbitals 2"]


def centroids(scf: Any) -> Centroids:
    """Centroids of the Foster-Boys localized occupied orbitals, core orbitals included.

    Boys' orbitals minimize the sum of spreads; in a molecule their centroids are what maximally localized
    Wannier centres are in a crystal. The sum of occupation times centroid gives the electronic dipole.
    An orbital belongs to the atoms that carry its Mulliken population: to one, a core or lone pair, where
    that atom has three quarters of it; otherwise to the two largest, a bond. Equivalent bonds of a
    double or triple bond (banana bonds) have different centroids and the same owners.

    References:
        J. M. Foster, S. F. Boys, Rev. Mod. Phys. 32, 300 (1960).
    """
    spins = (
        [(scf.mo_coeff, scf.mo_occ)] if np.ndim(scf.mo_occ) == 1 else list(zip(scf.mo_coeff, scf.mo_occ, strict=True))
    )
    parts = [
        _localized(scf.mol, orbitals[:, occupation > 0], float(occupation.max()))
        for orbitals, occupation in spins
        if np.any(occupation > 0)
    ]
    return Centroids(
        positions=np.concatenate([part.positions for part in parts]),
        occupations=np.concatenate([part.occupations for part in parts]),
        spreads=np.concatenate([part.spreads for part in parts]),
        owners=np.concatenate([part.owners for part in parts]),
    )


def _localized(molecule: Any, occupied: Any, occupation: float) -> Centroids:
    from pyscf import lo

    if occupied.shape[1] > 1:
        # The starting orbitals come from atomic projections: a canonical start may rest on a saddle point.
        boys = lo.Boys(molecule, occupied)
        boys.verbose = 0
        boys.conv_tol = 1e-8
        boys.init_guess = "atomic"
        occupied = boys.kernel()
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
