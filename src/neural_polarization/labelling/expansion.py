"""Densities as sums of Gaussian functions on the nuclei, fitted to a density matrix.

    rho(r) = sum over atoms A, shells k of A and m of c_Akm N_l(a_k) S_lm(r - A) exp(-a_k |r - A|^2)

S are real solid harmonics, m = -l..l, so that l = 1 is (y, z, x), the order of e3nn. N makes the integral of every
squared function one. Coefficients are in e/Angstrom^(3/2); they stand atom by atom, in each atom shell by shell of its
element, in each shell from m = -l to l.

The fit minimizes the Coulomb energy of the difference of the two densities. The number of electrons and the dipole
moment are conditions, and exact.

References:
    B. I. Dunlap, J. W. D. Connolly, J. R. Sabin, J. Chem. Phys. 71, 3396 (1979).
"""

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import scipy.linalg
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float

from neural_polarization.labelling.mean_field import Grid, build_grid
from neural_polarization.labelling.properties.density import density_on_points
from neural_polarization.units import BOHR

Shell: TypeAlias = tuple[int, float]
"""Degree l, and exponent in 1/bohr^2."""

_HYDROGEN = ((30.0, 0.25, 9), (6.0, 0.25, 7), (3.0, 0.25, 6), (1.6, 0.3, 4))
_CARBON = ((4100.0, 0.25, 24), (80.0, 0.28, 13), (16.0, 0.25, 11), (6.0, 0.28, 8), (3.5, 0.35, 6), (2.5, 0.6, 3))
_SULPHUR = ((40000.0, 0.2, 30), (800.0, 0.2, 20), (16.0, 0.2, 13), (5.0, 0.22, 9), (3.0, 0.28, 6), (2.0, 0.45, 3))
"""Steepest and most diffuse exponent (1/bohr^2) and number of shells, for l = 0, 1, ...

Of the other elements of a row the steepest grows as the square of the nuclear charge, the most diffuse as the charge.
"""

_LAST_ELEMENT = 18
_RIDGE = 1e-12
"""Added to the Coulomb matrix, its diagonal scaled to one: functions of neighbouring exponents are nearly alike."""

_BLOCK = 2.0e7
"""Numbers of three-centre integrals that are held at once."""

_ERROR_GRID = Grid((15, 50), (25, 110))


@lru_cache(maxsize=32)
def fitting_shells(element: str) -> tuple[Shell, ...]:
    """The even-tempered functions that densities of an element are fitted in.

    Args:
        element: symbol, hydrogen to argon.

    Raises:
        ValueError: for a heavier element.
    """
    number = atomic_numbers[element]
    if number > _LAST_ELEMENT:
        raise ValueError(f"{element}: densities are fitted for elements up to {chemical_symbols[_LAST_ELEMENT]} only")
    reference, charge = (_HYDROGEN, 1) if number <= 2 else (_CARBON, 6) if number <= 10 else (_SULPHUR, 16)
    ratio = number / charge
    return tuple(
        (degree, float(exponent))
        for degree, (steepest, diffuse, shells) in enumerate(reference)
        for exponent in np.geomspace(steepest * ratio**2, diffuse * ratio, shells)
    )


def fit_density(
    molecule: Any, density_matrix: Float[np.ndarray, "functions functions"]
) -> Float[np.ndarray, " coefficients"]:
    """Coefficients of the expansion that is nearest to the density of a density matrix, float64.

    Args:
        molecule: PySCF's molecule.
        density_matrix: of both spins together.
    """
    auxiliary = _auxiliary(molecule)
    pure = _pure(auxiliary)
    coulomb = pure.T @ auxiliary.intor("int2c2e") @ pure
    scale = 1.0 / np.sqrt(np.diag(coulomb))
    coulomb = coulomb * scale * scale[:, None]
    coulomb[np.diag_indices_from(coulomb)] += _RIDGE
    factor = scipy.linalg.cho_factor(coulomb, overwrite_a=True, check_finite=False)

    conditions, wanted = _moments(molecule, auxiliary, density_matrix)
    integrals = pure.T @ _coulomb_integrals(molecule, auxiliary, density_matrix)
    sides = np.column_stack([integrals, conditions.T]) * scale[:, None]
    solved = scipy.linalg.cho_solve(factor, sides, overwrite_b=True, check_finite=False) * scale[:, None]
    free, response = solved[:, 0], solved[:, 1:]
    missing = np.linalg.solve(conditions @ response, wanted - conditions @ free)
    return (free + response @ missing)[_order(auxiliary)] * BOHR**-1.5


def rounded(molecule: Any, coefficients: Float[np.ndarray, " coefficients"]) -> Float[np.ndarray, " coefficients"]:
    """The coefficients in float32, still with the exact number of electrons.

    What rounding adds or takes goes to the functions of l = 0 with the smallest coefficients, the most finely stored.
    """
    result = coefficients.astype(np.float32)
    charges = electrons_of_functions(molecule)
    spherical = np.flatnonzero(charges)
    order = spherical[np.argsort(np.abs(coefficients[spherical]))]
    for function in order[:3]:
        excess = float(charges @ result.astype(np.float64)) - molecule.nelectron
        result[function] -= np.float32(excess / charges[function])
    return result


def electrons_of_functions(molecule: Any) -> Float[np.ndarray, " coefficients"]:
    """Integral of every function over space, Angstrom^(3/2)."""
    return np.concatenate(
        [
            [(2.0 * math.pi * BOHR**2 / exponent) ** 0.75] if degree == 0 else np.zeros(2 * degree + 1)
            for element in molecule.elements
            for degree, exponent in fitting_shells(element)
        ]
    )


def expansion_on_points(
    molecule: Any,
    coefficients: Float[np.ndarray, " coefficients"],
    points: Float[np.ndarray, "points 3"],
    block: int = 5000,
) -> Float[np.ndarray, " points"]:
    """The density of an expansion, e/bohr^3, at points in bohr."""
    auxiliary = _auxiliary(molecule)
    auxiliary.cart = False
    atomic = np.asarray(coefficients, dtype=np.float64) * BOHR**1.5
    ordered = np.empty_like(atomic)
    ordered[_order(auxiliary)] = atomic
    values = [
        auxiliary.eval_gto("GTOval_sph", points[start : start + block]) @ ordered
        for start in range(0, len(points), block)
    ]
    return np.concatenate(values)


def fit_error(
    molecule: Any,
    density_matrix: Float[np.ndarray, "functions functions"],
    coefficients: Float[np.ndarray, " coefficients"],
    grid: Grid = _ERROR_GRID,
) -> float:
    """Normalized absolute error of an expansion: integral of |difference| over the number of electrons."""
    quadrature = build_grid(molecule, grid)
    quadrature.build(with_non0tab=False)
    exact = density_on_points(molecule, density_matrix, quadrature.coords)
    fitted = expansion_on_points(molecule, coefficients, quadrature.coords)
    return float(quadrature.weights @ np.abs(exact - fitted)) / molecule.nelectron


def _auxiliary(molecule: Any) -> Any:
    """PySCF's molecule with the fitting functions, Cartesian where the orbitals are."""
    from pyscf.df.addons import make_auxmol

    basis = {
        element: [[degree, [exponent, 1.0]] for degree, exponent in fitting_shells(element)]
        for element in set(molecule.elements)
    }
    return make_auxmol(molecule, basis)


def _pure(auxiliary: Any) -> Any:
    """Columns are the pure functions, written in those that PySCF integrates."""
    return auxiliary.cart2sph_coeff(normalized="sp") if auxiliary.cart else np.eye(auxiliary.nao)


def _coulomb_integrals(molecule: Any, auxiliary: Any, density_matrix: Any) -> Any:
    """Coulomb energy of the density with every fitting function."""
    from pyscf.df.incore import aux_e2

    twice = 2.0 * density_matrix - np.diag(np.diag(density_matrix))
    triangle = twice[np.tril_indices(len(twice))]
    edges = auxiliary.ao_loc_nr()
    parts: list[Any] = []
    start, orbitals = 0, molecule.nbas
    while start < auxiliary.nbas:
        stop = start + 1
        while stop < auxiliary.nbas and (edges[stop + 1] - edges[start]) * len(triangle) <= _BLOCK:
            stop += 1
        shells = (0, orbitals, 0, orbitals, start, stop)
        parts.append(triangle @ aux_e2(molecule, auxiliary, "int3c2e", aosym="s2ij", shls_slice=shells))
        start = stop
    return np.concatenate(parts)


def _moments(molecule: Any, auxiliary: Any, density_matrix: Any) -> tuple[Any, Any]:
    """Electrons and dipole of the functions (4, functions) and of the density (4), in atomic units."""
    charges = molecule.atom_charges()
    centre = charges @ molecule.atom_coords() / charges.sum()
    rows: list[Any] = []
    for atom, element in enumerate(molecule.elements):
        position = molecule.atom_coord(atom) - centre
        for degree, exponent in fitting_shells(element):
            moment = np.zeros((4, 2 * degree + 1))
            if degree == 0:
                moment[:, 0] = (2.0 * math.pi / exponent) ** 0.75 * np.array([1.0, *position])
            elif degree == 1:
                normalization = math.sqrt(3.0 / (2.0 * math.pi) * (2.0 * exponent) ** 2.5 / math.gamma(2.5))
                moment[1:] = np.eye(3) * normalization * (math.pi / exponent) ** 1.5 / (2.0 * exponent)
            rows.append(moment)
    with molecule.with_common_orig(centre):
        dipole = np.einsum("xij,ij->x", molecule.intor_symmetric("int1e_r", comp=3), density_matrix)
    return np.concatenate(rows, axis=1), np.array([molecule.nelectron, *dipole])


def _order(auxiliary: Any) -> Any:
    """Where the functions of this module stand among PySCF's: for l = 1 it has x, y, z in place of y, z, x."""
    order: list[int] = []
    for shell in range(auxiliary.nbas):
        degree, start = int(auxiliary.bas_angular(shell)), len(order)
        here = (1, 2, 0) if degree == 1 else range(2 * degree + 1)
        order += [start + place for place in here]
    return np.array(order)
