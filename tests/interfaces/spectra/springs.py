"""A diatomic molecule whose frequency and intensities are known in closed form."""

from collections.abc import Sequence

import ase
import numpy as np

from neural_polarization.interfaces.spectra.surface import Values

STIFFNESS, LENGTH, SLOPE = 50.0, 1.2, 0.8
"""Force constant eV/Angstrom^2, bond length Angstrom, slope of the dipole e."""

ALONG, ACROSS = 1.5, 0.4
"""Slopes of the polarizability along and across the bond, Angstrom^2."""

PERMANENT = 0.3
"""Dipole at the bond length, e*Angstrom."""


def diatomic(shift: float = 0.0) -> ase.Atoms:
    """Carbon monoxide, along no axis, its bond longer by `shift`."""
    direction = np.array([0.36, -0.48, 0.8])
    return ase.Atoms("CO", [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3] + (LENGTH + shift) * direction])


def springs(structures: Sequence[ase.Atoms]) -> list[Values]:
    """Energy of a spring; dipole and polarizability are linear in the length of the bond."""
    found: list[Values] = []
    for atoms in structures:
        bond = atoms.positions[1] - atoms.positions[0]
        length = float(np.linalg.norm(bond))
        direction, stretch = bond / length, length - LENGTH
        pull = STIFFNESS * stretch * direction
        outer = np.outer(direction, direction)
        found.append(
            Values(
                0.5 * STIFFNESS * stretch**2,
                np.array([pull, -pull]),
                (PERMANENT + SLOPE * stretch) * direction,
                (2.0 + ALONG * stretch) * outer + (1.0 + ACROSS * stretch) * (np.eye(3) - outer),
            )
        )
    return found
