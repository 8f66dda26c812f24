"""Structures in random electric fields, from whose energies and forces a model learns how electrons respond."""

import hashlib
import math
from collections.abc import Sequence

import ase
import numpy as np

from neural_polarization.properties import FIELD

from ..charges import STRONGEST_FIELD


def in_random_fields(
    structures: Sequence[ase.Atoms], low: float, high: float, per_structure: int = 1, seed: int = 0
) -> list[ase.Atoms]:
    """Copies of structures with `info["external_field"]` (V/Angstrom) in directions that are evenly spread.

    The field of a copy is drawn from its geometry, so that a restart draws the same.

    Args:
        structures: Molecules.
        low: Smallest strength, V/Angstrom.
        high: Largest strength; strengths are uniform between the two.
        per_structure: Number of copies of each structure.
        seed: Of the random numbers.

    Raises:
        ValueError: for strengths that are no interval below `STRONGEST_FIELD`, fewer than one copy, or a structure that
            has a field already.

    Example:
        >>> water = ase.Atoms("OHH", [[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]])
        >>> [copy] = in_random_fields([water], 0.2, 1.0)
        >>> bool(0.2 <= np.linalg.norm(copy.info["external_field"]) <= 1.0)
        True
    """
    if not 0.0 < low <= high < math.inf or high > STRONGEST_FIELD:
        raise ValueError(
            f"random fields: expected 0 < LOW <= HIGH <= {STRONGEST_FIELD:g} V/Angstrom, got {low:g} and {high:g}; "
            "stronger fields pull electrons out of a molecule"
        )
    if per_structure < 1:
        raise ValueError(f"per structure: expected at least one field, got {per_structure}")
    copies: list[ase.Atoms] = []
    for index, atoms in enumerate(structures):
        if FIELD in atoms.info:
            raise ValueError(f"structure {index} has an external_field already; leave it out, or label it as it is")
        content = atoms.numbers.tobytes() + np.ascontiguousarray(atoms.positions).tobytes()
        rng = np.random.default_rng([seed, *hashlib.sha256(content).digest()[:8]])
        for _ in range(per_structure):
            direction = rng.normal(size=3)
            field = rng.uniform(low, high) * direction / np.linalg.norm(direction)
            copy = atoms.copy()
            copy.info[FIELD] = field
            copies.append(copy)
    return copies
