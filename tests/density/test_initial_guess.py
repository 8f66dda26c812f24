"""A density as the start of a PySCF calculation: the exact density gives back its own orbitals."""

from typing import Any

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from neural_polarization.density import Density, FlatShells, Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.initial_guess import initial_guess
from neural_polarization.labelling.expansion import fit_density, fitting_shells
from neural_polarization.units import BOHR

WATER = "O 0 0 0; H 0.96 0 0; H -0.24 0.93 0"


def _converged(spin: int = 0, charge: int = 0) -> Any:
    molecule = gto.M(atom=WATER, basis="6-31g", spin=spin, charge=charge, verbose=0)
    return dft.KS(molecule, xc="lda,vwn").run()


def _nuclei(molecule: Any) -> Nuclei:
    numbers = torch.from_numpy(molecule.atom_charges()).long()
    return Nuclei(numbers, torch.from_numpy(molecule.atom_coords() * BOHR), torch.zeros_like(numbers), 1)


def _fitted(scf: Any) -> Density:
    shells = [
        (n, degree, exponent / BOHR**2)
        for n, one in enumerate(scf.mol.elements)
        for degree, exponent in fitting_shells(one)
    ]
    owners, degrees, exponents = (torch.tensor(column) for column in zip(*shells, strict=True))
    matrix = scf.make_rdm1()
    coefficients = torch.from_numpy(fit_density(scf.mol, matrix if matrix.ndim == 2 else matrix.sum(0)))
    return Density.from_shells(_nuclei(scf.mol), FlatShells(owners, degrees, exponents.double(), coefficients))


def test_the_converged_density_gives_its_own_density_matrix() -> None:
    scf = _converged()
    guess = initial_guess(_fitted(scf), scf.mol)
    np.testing.assert_allclose(guess, scf.make_rdm1(), atol=2e-3)
    assert abs(scf.energy_tot(guess) - scf.e_tot) < 1e-5
    free = initial_guess(free_atom_density(_nuclei(scf.mol)), scf.mol)
    assert scf.energy_tot(free) > scf.energy_tot(guess) + 1e-3


def test_an_open_shell_has_a_matrix_for_each_spin() -> None:
    scf = _converged(spin=1, charge=1)
    guess = initial_guess(_fitted(scf), scf.mol)
    overlap = scf.mol.intor("int1e_ovlp")
    assert [round(float(np.sum(one * overlap)), 6) for one in guess] == [5.0, 4.0]
    assert scf.energy_tot(guess) - scf.e_tot < 0.05


def test_another_molecule_is_refused() -> None:
    density = _fitted(_converged())
    for atom, charge, message in (
        (WATER.replace("0.96", "1.00"), 0, r"atom 1 is 0.040 Angstrom away"),
        ("H 0.96 0 0; O 0 0 0; H -0.24 0.93 0", 0, "not in the same order"),
        (
            "O 0 0 0.1; H 0.96 0 0.1; H -0.24 0.93 0.1",
            0,
            r"0\.100 Angstrom .* all atoms are moved alike.*predict_density",
        ),
        (WATER, 2, r"it has 10.000 electrons, but PySCF's molecule has 8"),
    ):
        with pytest.raises(ValueError, match=message):
            initial_guess(density, gto.M(atom=atom, basis="sto-3g", charge=charge, verbose=0))
