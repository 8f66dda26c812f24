"""The same functions in PySCF: an independent truth for values, overlaps and potentials."""

from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from pyscf import gto

from neural_polarization.density import Density, FlatShells, Nuclei
from neural_polarization.units import BOHR

SHELLS = {
    8: [(0, 30.0), (0, 4.0), (0, 0.3), (1, 2.5), (1, 0.5), (2, 1.1), (2, 0.6), (3, 0.9), (4, 1.3)],
    1: [(0, 5.0), (0, 0.4), (1, 0.8), (2, 0.9)],
}
"""Degree and exponent (1/bohr^2) of the shells of an element, degrees ascending as PySCF sorts them."""

NUMBERS = torch.tensor([8, 1, 1])
POSITIONS = torch.tensor([[0.1, -0.2, 0.12], [0.0, 0.76, -0.48], [0.3, -0.76, -0.48]], dtype=torch.float64)


def water_like(seed: int = 0, degrees: int = 4) -> Density:
    """Random coefficients of the functions above on three nuclei, of l up to `degrees`."""
    owners, kinds, exponents = [], [], []
    for atom, number in enumerate(NUMBERS.tolist()):
        for degree, exponent in SHELLS[number]:
            if degree <= degrees:
                owners.append(atom)
                kinds.append(degree)
                exponents.append(exponent / BOHR**2)
    generator = torch.Generator().manual_seed(seed)
    size = sum(2 * degree + 1 for degree in kinds)
    coefficients = torch.randn(size, dtype=torch.float64, generator=generator)
    flat = FlatShells(
        torch.tensor(owners), torch.tensor(kinds), torch.tensor(exponents, dtype=torch.float64), coefficients
    )
    nuclei = Nuclei(NUMBERS, POSITIONS, torch.zeros(3, dtype=torch.long), 1)
    return Density.from_shells(nuclei, flat)


def in_pyscf(seed: int = 0, degrees: int = 4) -> tuple[Any, np.ndarray]:
    """PySCF's molecule of the same functions, and their coefficients in its order and in atomic units."""
    basis = {
        chemical_symbols[number]: [[degree, [exponent, 1.0]] for degree, exponent in shells if degree <= degrees]
        for number, shells in SHELLS.items()
    }
    atoms = [(chemical_symbols[n], p) for n, p in zip(NUMBERS.tolist(), POSITIONS.tolist(), strict=True)]
    molecule = gto.M(atom=atoms, basis=basis, unit="Angstrom", verbose=0)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(molecule.nao, dtype=torch.float64, generator=generator).numpy() * BOHR**1.5
    start = 0
    for number in NUMBERS.tolist():
        for degree, _ in SHELLS[number]:
            if degree > degrees:
                continue
            if degree == 1:  # PySCF has x, y, z where the density has y, z, x
                values[start : start + 3] = values[[start + 2, start, start + 1]]
            start += 2 * degree + 1
    return molecule, values
