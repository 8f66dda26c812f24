"""The electron density of a density matrix, at any points."""

from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from ...units import BOHR
from ..level import Level
from ..mean_field import Accuracy, build_molecule


def density_on_points(
    molecule: Any,
    density_matrix: Float[np.ndarray, "functions functions"],
    points: Float[np.ndarray, "points 3"],
    block: int = 20000,
) -> Float[np.ndarray, " points"]:
    """Density in e/bohr^3 at points in bohr."""
    from pyscf.dft import numint

    values = [
        numint.eval_rho(molecule, numint.eval_ao(molecule, points[start : start + block]), density_matrix)
        for start in range(0, len(points), block)
    ]
    return np.concatenate(values)


def evaluate_density(
    atoms: ase.Atoms,
    level: Level,
    packed: Float[np.ndarray, " triangle"],
    points: Float[np.ndarray, "points 3"],
) -> Float[np.ndarray, " points"]:
    """The density anywhere, from a stored density matrix.

    Args:
        atoms: the structure that the matrix was computed for, unmoved.
        level: as stored with it; the basis functions follow from it.
        packed: lower triangle of the density matrix (`pack_matrix`).
        points: Angstrom.

    Returns:
        e/Angstrom^3.

    Raises:
        ValueError: where the length of `packed` does not fit the basis.
    """
    molecule = build_molecule(atoms, level, Accuracy())
    expected = molecule.nao * (molecule.nao + 1) // 2
    if len(packed) != expected:
        raise ValueError(
            f"packed: {len(packed)} numbers, but {level} has {molecule.nao} functions for "
            f"{atoms.get_chemical_formula()}, that is {expected}: structure or level differ from the stored ones"
        )
    return density_on_points(molecule, unpack_matrix(packed), np.asarray(points) / BOHR) / BOHR**3


def density_guess(
    molecule: Any, density_matrix: Float[np.ndarray, "functions functions"]
) -> Float[np.ndarray, "*spins functions functions"]:
    """What a calculation starts from, given the density matrix that it had before, summed over both spins.

    Of an open shell, the electrons of each spin are put into the natural orbitals that hold the most electrons.
    Paired orbitals hold nearly two, those with an unpaired electron nearly one.

    Args:
        molecule: PySCF's molecule.
        density_matrix: In its functions.

    Returns:
        The same matrix of a closed shell, or one matrix for each spin, (2, functions, functions).

    References:
        P.-O. Löwdin, Phys. Rev. 97, 1474 (1955), for natural orbitals.
    """
    if molecule.spin == 0:
        return density_matrix
    values, vectors = np.linalg.eigh(molecule.intor_symmetric("int1e_ovlp"))
    root = np.sqrt(np.maximum(values, 1e-10))
    to_orthogonal, back = vectors * root @ vectors.T, vectors / root @ vectors.T
    _, natural = np.linalg.eigh(to_orthogonal @ density_matrix @ to_orthogonal)
    orbitals = (back @ natural)[:, ::-1]  # the fullest first
    return np.stack([orbitals[:, :count] @ orbitals[:, :count].T for count in molecule.nelec])


def pack_matrix(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " triangle"]:
    """Lower triangle of a symmetric matrix, row by row."""
    return matrix[np.tril_indices(len(matrix))]


def unpack_matrix(packed: Float[np.ndarray, " triangle"]) -> Float[np.ndarray, "n n"]:
    """The symmetric matrix of a lower triangle, float64."""
    size = int((np.sqrt(8 * len(packed) + 1) - 1) / 2)
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = packed
    return matrix + np.tril(matrix, -1).T
