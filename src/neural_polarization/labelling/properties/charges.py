"""Atomic charges: Mulliken and Hirshfeld."""

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from ..level import Level


def mulliken_charges(
    molecule: Any, density_matrix: Float[np.ndarray, "functions functions"]
) -> Float[np.ndarray, " atoms"]:
    """Nuclear charge minus the Mulliken population, e.

    Example: QM9's Mulliken charges at QM9's level and geometry.
    """
    overlap = molecule.intor_symmetric("int1e_ovlp")
    populations = np.einsum("ij,ji->i", density_matrix, overlap)
    edges = molecule.aoslice_by_atom()[:, 2:]
    return np.array(
        [
            charge - populations[start:stop].sum()
            for charge, (start, stop) in zip(molecule.atom_charges(), edges, strict=True)
        ]
    )


def hirshfeld_charges(
    molecule: Any,
    level: Level,
    points: Float[np.ndarray, "points 3"],
    weights: Float[np.ndarray, " points"],
    density: Float[np.ndarray, " points"],
) -> Float[np.ndarray, " atoms"]:
    """Nuclear charge minus the electrons that an atom gets by its share of the promolecule, e.

    The promolecule is the sum of spherical free atoms, computed at the same level with fractional occupation.

    Args:
        molecule: PySCF's molecule.
        level: Level of the free atoms.
        points: Quadrature points, bohr.
        weights: Quadrature weights, bohr^3.
        density: Density at the points, e/bohr^3.

    References:
        F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977).
    """
    shares = np.array(
        [
            _free_atom_density(molecule.atom_pure_symbol(atom), level, points - molecule.atom_coord(atom))
            for atom in range(molecule.natm)
        ]
    )
    promolecule = shares.sum(axis=0)
    # Far from every atom both densities vanish; a floor keeps 0 / 0 out of the sum.
    electrons = shares @ (weights * density / np.maximum(promolecule, 1e-30))
    return molecule.atom_charges() - electrons


def _free_atom_density(element: str, level: Level, vectors: Any) -> Any:
    radii, density = radial_density(element, level)
    distances = np.linalg.norm(vectors, axis=1)
    return np.exp(np.interp(distances, radii, density))


@lru_cache(maxsize=32)
def radial_density(element: str, level: Level) -> tuple[Any, Any]:
    """Radii (bohr), and the logarithm of the density (e/bohr^3) of the spherical free atom at these radii."""
    from pyscf import gto
    from pyscf.scf import atom_hf, atom_ks

    atom = gto.M(atom=[(element, (0.0, 0.0, 0.0))], basis=level.shells([element]), spin=None, verbose=0, cart=False)
    with warnings.catch_warnings():
        # PySCF's code for atoms calls a function that PySCF has deprecated.
        warnings.filterwarnings("ignore", "remove_linear_dep_", DeprecationWarning)
        if level.functional == "hf":
            result = atom_hf.get_atm_nrhf(atom)
        else:
            result = atom_ks.get_atm_nrks(atom, xc=level.functional, grid=(60, 86))
    _, _, orbitals, occupation = result[element]
    radii = np.concatenate([np.linspace(0, 2, 2001)[:-1], np.geomspace(2, 30, 3000)])
    points = np.zeros((len(radii), 3))
    points[:, 2] = radii
    values = atom.eval_gto("GTOval_sph", points) @ orbitals
    return radii, np.log(np.maximum(values**2 @ occupation, 1e-300))
