"""Small molecules for the tests of the contract."""

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
    """A molecule without any symmetry: `structure` with every coordinate shifted by a random number.

    Args:
        name: Name of the molecule, as in `structure`.
        amount: Standard deviation of the shifts, Angstrom.
        seed: Seed of the random numbers.
    """
    atoms = structure(name)
    atoms.positions += np.random.default_rng(seed).normal(0.0, amount, atoms.positions.shape)
    return atoms


def crystal(size: float) -> ase.Atoms:
    """A crystal of one atom of each element in a skewed cell.

    Args:
        size: Length of the shortest lattice vector, Angstrom. If it is below a network's cutoff, atoms are neighbours
            of their own images.
    """
    places = [[0.0, 0.0, 0.0], [0.45, 0.1, 0.4], [0.1, 0.55, 0.6]]
    cell = size * np.array([[1.0, 0.0, 0.0], [0.2, 1.1, 0.0], [-0.1, 0.3, 1.2]])
    return ase.Atoms(list(ELEMENTS), scaled_positions=places, cell=cell, pbc=True)


SHELL = 40
"""Number of neighbours of the atom in the middle of a `shell`."""


def shell(radius: float, tilt: float) -> ase.Atoms:
    """An atom at the centre of a sphere of `SHELL` other atoms, each a little further away than the one before.

    When `tilt` changes its sign, the order is reversed: the nearest atom becomes the furthest.

    Args:
        radius: Radius of the sphere, Angstrom.
        tilt: Length that is added to the distance of the last atom and taken from that of the first, Angstrom.
    """
    along = 1.0 - (2.0 * np.arange(SHELL) + 1.0) / SHELL  # a spiral of points that are evenly spread
    angle = np.arange(SHELL) * np.pi * (3.0 - np.sqrt(5.0))
    across = np.sqrt(1.0 - along**2)
    directions = np.stack([across * np.cos(angle), across * np.sin(angle), along], 1)
    distances = radius + tilt * np.linspace(-1.0, 1.0, SHELL)
    # Atoms of one element follow each other, so that for every k the first k atoms differ from the last k.
    symbols = [ELEMENTS[k * len(ELEMENTS) // SHELL] for k in range(SHELL)]
    return ase.Atoms(["O", *symbols], np.concatenate([np.zeros((1, 3)), directions * distances[:, None]]))
