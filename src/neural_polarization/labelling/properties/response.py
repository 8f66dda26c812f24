"""Static polarizability from the coupled-perturbed Kohn-Sham equations."""

from functools import partial
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

    Raises:
        ValueError: if the basis leaves no empty orbital into which the electrons could go.

    References:
        J. Gerratt, I. M. Mills, J. Chem. Phys. 49, 1719 (1968).
    """
    from pyscf.scf import cphf, ucphf

    molecule = scf.mol
    filled = np.atleast_2d(scf.mo_occ) > 0
    if not (filled.any(axis=1) & ~filled.all(axis=1)).any():
        raise ValueError(
            "polarizability: the basis leaves no orbital empty into which an electron could go; take a larger one, or "
            "other --quantities"
        )
    response = scf.copy()
    response.grids = build_grid(molecule, grid)
    response.grids.build()
    factored = np.ndim(scf.mo_occ) == 1 and _has_fitted_exchange(scf)
    if factored:
        response.get_jk = partial(_potentials_of_orbitals, scf)
    kernel = response.gen_response(hermi=1)
    charges = molecule.atom_charges()
    with molecule.with_common_orig(charges @ molecule.atom_coords() / charges.sum()):
        position = molecule.intor_symmetric("int1e_r", comp=3)

    if np.ndim(scf.mo_occ) == 1:
        occupied, virtual = scf.mo_coeff[:, scf.mo_occ > 0], scf.mo_coeff[:, scf.mo_occ == 0]
        perturbation = np.einsum("xij,ia,jo->xao", position, virtual, occupied, optimize=True)

        def induced(first_order: Any) -> Any:
            orbitals = np.reshape(first_order, (-1, *perturbation.shape[1:]))
            changed = 2 * np.einsum("xao,ia->xio", orbitals, virtual, optimize=True)
            densities = changed @ occupied.T
            densities += densities.transpose(0, 2, 1)
            potential = kernel(_with_orbitals(densities, changed, occupied) if factored else densities)
            return np.einsum("xij,ia,jo->xao", potential, virtual, occupied, optimize=True)

        solution, _ = cphf.solve(
            induced, scf.mo_energy, scf.mo_occ, perturbation, max_cycle=50, tol=tolerance, verbose=0
        )
        tensor = -4 * np.einsum("xao,yao->xy", perturbation, solution)
    else:
        tensor = _unrestricted(scf, kernel, position, ucphf.solve, tolerance)
    return (tensor + tensor.T) / 2 * BOHR**3


def _has_fitted_exchange(scf: Any) -> bool:
    """Whether exchange comes from density fitting, and is of one range."""
    omega, _, fraction = scf._numint.rsh_and_hybrid_coeff(scf.xc, scf.mol.spin)
    return bool(getattr(scf, "with_df", None)) and omega == 0 and fraction != 0


def _with_orbitals(densities: Any, changed: Any, occupied: Any) -> Any:
    """First-order densities, which know the orbitals that they consist of.

    C O' + O C' = 1/2 (C + O)(C + O)' - 1/2 (C - O)(C - O)': two sets of as many orbitals as are occupied, with
    occupations 1/2 and -1/2. PySCF computes exchange, and densities on a grid, several times faster from few orbitals
    than from a matrix.
    """
    from pyscf import lib

    scale = np.sqrt(np.linalg.norm(occupied) / np.maximum(np.linalg.norm(changed, axis=(1, 2)), 1e-30))[:, None, None]
    larger, smaller = changed * scale, occupied / scale
    orbitals = np.concatenate([larger + smaller, larger - smaller], axis=2)
    occupations = np.repeat([0.5, -0.5], occupied.shape[1])
    return lib.tag_array(densities, mo_coeff=orbitals, mo_occ=np.tile(occupations, (len(densities), 1)))


def _potentials_of_orbitals(scf: Any, mol: Any, densities: Any, hermi: int = 1) -> tuple[Any, Any]:
    """Coulomb and exchange matrices of `_with_orbitals`; PySCF wants occupations that are positive."""
    from pyscf import lib

    number = len(densities)
    positive, negative = np.split(np.asarray(densities.mo_coeff), 2, axis=2)
    orbitals = np.concatenate([positive, negative])
    squares = lib.tag_array(
        orbitals @ orbitals.transpose(0, 2, 1), mo_coeff=orbitals, mo_occ=np.ones(orbitals.shape[::2])
    )
    matrices = scf.get_jk(mol, squares, hermi)
    coulomb, exchange = (0.5 * (matrix[:number] - matrix[number:]) for matrix in matrices)
    return coulomb, exchange


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
