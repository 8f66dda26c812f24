"""Born effective charges from forces in weak fields."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ...units import BOHR, HARTREE
from ..mean_field import gradient

STEP = 0.1
"""V/Angstrom to either side. The cubic response changes charges by some 1e-4 e; loose convergence by more."""

GRADIENT_CONVERGENCE = 1e-6
"""Norm of the orbital gradient, hartree: an error of the forces by the field is divided by twice the step."""


def born_charges(
    in_field: Callable[[Float[np.ndarray, "3"]], Any], external: Float[np.ndarray, "3"], guess: Any
) -> Float[np.ndarray, "atoms 3 3"]:
    """Derivatives of the forces by the field, e, by central differences: six calculations.

    Args:
        in_field: Function that gives an unconverged Kohn-Sham object in a field, V/Angstrom.
        external: Field in which the structure is, V/Angstrom.
        guess: Density matrix from which all calculations start.

    Returns:
        Indices (atom, direction in which it moves, component of the dipole).

    Raises:
        RuntimeError: where a self-consistent field is not reached.
    """
    columns: list[np.ndarray] = []
    for axis in range(3):
        forces: list[np.ndarray] = []
        for sign in (1.0, -1.0):
            field = external + sign * STEP * np.eye(3)[axis]
            scf = in_field(field)
            scf.conv_tol_grad = min(scf.conv_tol_grad, GRADIENT_CONVERGENCE)
            scf.conv_tol = min(scf.conv_tol, 1e-9)
            scf.kernel(dm0=guess)
            if not scf.converged:
                raise RuntimeError(f"Born charges: no self-consistent field at {field.tolist()} V/Angstrom")
            forces.append(-gradient(scf, field) * HARTREE / BOHR)
        columns.append((forces[0] - forces[1]) / (2.0 * STEP))
    return np.stack(columns, axis=-1)
