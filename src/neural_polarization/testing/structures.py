"""Small molecules that the contract is checked on."""

import ase
import numpy as np
from ase.build import molecule

ELEMENTS = ("H", "C", "O")
"""The elements of every structure here."""


def structure(name: str) -> ase.Atoms:
    """A molecule of ASE's G2 set, for instance "CH4", without a cell."""
    atoms = molecule(name)
    return ase.Atoms(atoms.numbers, atoms.positions)


def distorted(name: str, amount: float = 0.1, seed: int = 0) -> ase.Atoms:
    """The same without any symmetry: every coordinate shifted by a random number.

    Args:
        name: as in `structure`.
        amount: standard deviation of the shifts, Angstrom.
        seed: of the random numbers.
    """
    atoms = structure(name)
    atoms.positions += np.random.default_rng(seed).normal(0.0, amount, atoms.positions.shape)
    return atoms
