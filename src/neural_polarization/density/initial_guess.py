"""From a density to the density matrix that a PySCF calculation starts from."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from neural_polarization.density.density import Density
from neural_polarization.density.potential import integral_over_distance
from neural_polarization.units import BOHR

_BLOCK = 10000
"""Points of the grid at a time."""


def initial_guess(density: Density, molecule: Any, level: int = 1) -> Float[np.ndarray, "..."]:
    """Density matrix of the orbitals in the Kohn-Sham potential of a density, for `kernel(dm0=...)`.

    The potential is that of the nuclei, of the electrons, and of exchange and correlation in the local density
    approximation, integrated on one of PySCF's grids. A density has no exact exchange; a hybrid functional therefore
    starts from these orbitals as well.

    Args:
        density: Of one molecule.
        molecule: PySCF's molecule (`gto.Mole`) of the same atoms in the same order.
        level: PySCF's level of the grid.

    Returns:
        Of both spins together for a closed shell, else one matrix per spin, (2, functions, functions). The orbitals
        are the same for both spins.

    Raises:
        ValueError: If the atoms differ, the density is of several molecules, or the numbers of electrons differ.

    Example:
        mol = gto.M(atom="O 0 0 0; H 0.96 0 0; H -0.24 0.93 0", basis="def2-svp")
        atoms = ase.Atoms(mol.elements, mol.atom_coords(unit="Angstrom"))
        dft.RKS(mol, xc="pbe").kernel(dm0=initial_guess(predict_density(model, atoms), mol))
    """
    from pyscf.dft import gen_grid

    _check(density, molecule)
    grid: Any = gen_grid.Grids(molecule)
    grid.level = level
    grid.build()
    fock = np.asarray(molecule.intor_symmetric("int1e_kin") + molecule.intor_symmetric("int1e_nuc"))
    for start in range(0, len(grid.weights), _BLOCK):
        points = grid.coords[start : start + _BLOCK]
        orbitals = molecule.eval_gto("GTOval", points)
        weights = grid.weights[start : start + _BLOCK] * _potential(density, points)
        fock += orbitals.T @ (weights[:, None] * orbitals)
    return _occupied(fock, molecule)


def _potential(density: Density, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
    """Potential of the electrons with exchange and correlation, hartree, at points in bohr."""
    from pyscf.dft import libxc

    places = torch.from_numpy(points * BOHR)
    with torch.no_grad():
        electrons = density.evaluate(places).numpy() * BOHR**3
        coulomb = integral_over_distance(density.parts, places).numpy() * BOHR
    _, exchange_correlation, _, _ = libxc.eval_xc("lda,vwn", np.maximum(electrons, 0.0))
    return coulomb + exchange_correlation[0]


def _occupied(fock: Float[np.ndarray, "n n"], molecule: Any) -> Float[np.ndarray, "..."]:
    """Density matrix of the lowest orbitals of a Fock matrix."""
    from scipy.linalg import eigh

    _, orbitals = eigh(fock, molecule.intor_symmetric("int1e_ovlp"))
    of_spins = [orbitals[:, :number] @ orbitals[:, :number].T for number in molecule.nelec]
    return of_spins[0] + of_spins[1] if molecule.spin == 0 else np.stack(of_spins)


def _check(density: Density, molecule: Any) -> None:
    """Raises where density and calculation are not of the same molecule."""
    positions = torch.from_numpy(molecule.atom_coords() * BOHR)
    density.nuclei.check_same(torch.from_numpy(molecule.atom_charges()), positions, "PySCF's molecule")
    if abs(density.electrons.item() - molecule.nelectron) > 0.01:
        raise ValueError(
            f"density: it has {density.electrons.item():.3f} electrons, but PySCF's molecule has {molecule.nelectron}"
        )
