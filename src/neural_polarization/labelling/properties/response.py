"""Static polarizability from the coupled-perturbed Kohn-Sham equations."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ...units import BOHR
from ..mean_field import Grid, build_grid


def polarizability(scf: Any, grid: Grid, tolerance: float = 1e-5) -> Float[np.ndarray, "3 3"]:
    """Polarizability tensor, Angstrom^3 (volume).

    Args:
        scf: Converged Kohn-Sham object.
        grid: Grid for the second derivative of the exchange-correlation energy. It may be coarser than that of the
            energy.
        tolerance: Largest residual of the first-order orbitals.

    References:
        J. Gerratt, I. M. Mills, J. Chem. Phys. 49, 1719 (1968).
    """
    from pyscf.scf import cphf, ucphf

    molecule = scf.mol
    response = scf.copy()
    response.grids = build_grid(molecule, grid)
    response.grids.build()
    kernel = response.gen_response(hermi=1)
    charges = molecule.atom_charges()
    with molecule.with_common_orig(charges @ molecule.atom_coords() / charges.sum()):
        position = molecule.intor_symmetric("int1e_r", comp=3)

    if np.ndim(scf.mo_occ) == 1:
        occupied, virtual = scf.mo_coeff[:, scf.mo_occ > 0], scf.mo_coeff[:, scf.mo_occ == 0]
        perturbation = np.einsum("xij,ia,jo->xao", position, virtual, occupied, optimize=True)

        def induced(first_order: Any) -> Any:
            orbitals = np.reshape(first_order, (-1, *perturbation.shape[1:]))
            densities = 2 * np.einsum("xao,ia,jo->xij", orbitals, virtual, occupied, optimize=True)
            potential = kernel(densities + densities.transpose(0, 2, 1))
            return np.einsum("xij,ia,jo->xao", potential, virtual, occupied, optimize=True)

        solution, _ = cphf.solve(
            induced, scf.mo_energy, scf.mo_occ, perturbation, max_cycle=50, tol=tolerance, verbose=0
        )
        tensor = -4 * np.einsum("xao,yao->xy", perturbation, solution)
    else:
        tensor = _unrestricted(scf, kernel, position, ucphf.solve, tolerance)
    return (tensor + tensor.T) / 2 * BOHR**3


def _unrestricted(scf: Any, kernel: Any, position: Any, solve: Any, tolerance: float) -> Any:
    spaces = [
        (orbitals[:, occupation > 0], orbitals[:, occupation == 0])
        for orbitals, occupation in zip(scf.mo_coeff, scf.mo_occ, strict=True)
    ]
    perturbation = [
        np.einsum("xij,ia,jo->xao", position, virtual, occupied, optimize=True) for occupied, virtual in spaces
    ]
    sizes = [block[0].size for block in perturbation]

    def induced(first_order: Any) -> Any:
        flat = np.reshape(first_order, (-1, sum(sizes)))
        densities: list[Any] = []
        for (occupied, virtual), part in zip(spaces, np.split(flat, [sizes[0]], axis=1), strict=True):
            orbitals = part.reshape(-1, virtual.shape[1], occupied.shape[1])
            density = np.einsum("xao,ia,jo->xij", orbitals, virtual, occupied, optimize=True)
            densities.append(density + density.transpose(0, 2, 1))
        potentials = kernel(np.asarray(densities))
        blocks = [
            np.einsum("xij,ia,jo->xao", potential, virtual, occupied, optimize=True).reshape(len(flat), -1)
            for (occupied, virtual), potential in zip(spaces, potentials, strict=True)
        ]
        return np.hstack(blocks)

    solution, _ = solve(induced, scf.mo_energy, scf.mo_occ, tuple(perturbation), max_cycle=50, tol=tolerance, verbose=0)
    return -2 * sum(
        np.einsum("xao,yao->xy", field, orbitals) for field, orbitals in zip(perturbation, solution, strict=True)
    )
