"""Charges of atoms: sums, symmetry, ions, atoms far apart, and labels of PySCF's density."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.density import Density, FlatShells, Nuclei
from neural_polarization.density.free_atoms import free_atom_density, free_atoms
from neural_polarization.density.gaussians import charge_of_s
from neural_polarization.density.partition import PARTITIONS, ConvergenceError, hirshfeld, mbis
from neural_polarization.density.quadrature import Quadrature, quadrature_around

DATA = Path(__file__).parent.parent.parent / "data"

FLUOROMETHANE = 100
"""Its place among the densities of data/small_molecules_densities.npz."""


@pytest.fixture(scope="module")
def fitted() -> tuple[Density, np.ndarray]:
    """A density that was fitted to PySCF's, and Hirshfeld charges of PySCF's density."""
    dataset = read_packed(DATA / "small_molecules.npz")
    densities = Densities(DATA / "small_molecules_densities.npz", dataset.molecules)
    rows = dataset.molecules.atoms_of(densities.structures[[FLUOROMETHANE]])
    assert dataset.molecules.atomic_numbers[rows].tolist() == [6, 9, 1, 1, 1]
    return densities[FLUOROMETHANE], dataset.labels["hirshfeld_charges"][rows]


def nuclei_of(name: str) -> Nuclei:
    atoms = molecule(name)
    return Nuclei(torch.tensor(atoms.numbers), torch.tensor(atoms.positions), torch.zeros(len(atoms)).long(), 1)


def with_electrons(nuclei: Nuclei, electrons: list[float], exponent: float = 1.0) -> Density:
    """Free atoms and so many electrons more in a function on each nucleus."""
    zeros = torch.zeros(len(electrons), dtype=torch.long)
    exponents = torch.full((len(electrons),), exponent, dtype=torch.float64)
    coefficients = torch.tensor(electrons, dtype=torch.float64) / charge_of_s(exponents)
    more = Density.from_shells(nuclei, FlatShells(torch.arange(len(electrons)), zeros, exponents, coefficients))
    return Density((*free_atoms(nuclei), *more.parts), nuclei)


def test_hirshfeld_charges_of_a_fitted_density_are_those_of_the_labels(fitted: tuple[Density, np.ndarray]) -> None:
    """Both the density and the free atoms are fitted here, which changes a charge by less than 2e-4 e."""
    density, labels = fitted
    np.testing.assert_allclose(hirshfeld(density).charges.numpy(), labels, atol=2e-4)


def test_mbis_charges_are_those_of_another_program(fitted: tuple[Density, np.ndarray]) -> None:
    """Of horton-part 1.2.0, from the same density on a grid of its own, 90 spheres of 434 points around every atom."""
    density, _ = fitted
    expected = [0.00557, -0.22767, 0.05632, 0.0684, 0.09734]
    np.testing.assert_allclose(mbis(density).charges.numpy(), expected, atol=1.5e-4)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_charges_and_dipoles_are_those_of_the_molecule(partition: str, fitted: tuple[Density, np.ndarray]) -> None:
    density, _ = fitted
    found = PARTITIONS[partition](density)
    assert found.charges.sum().item() == pytest.approx(density.charge.item(), abs=1e-9)
    arms = density.nuclei.positions - density.nuclei.centre
    dipole = (found.charges.unsqueeze(-1) * arms + found.dipoles).sum(0)
    torch.testing.assert_close(dipole, density.dipole[0], rtol=0, atol=5e-4)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("charge", [1.0, 0.0, -1.0])
def test_ions_have_their_charge_and_equal_atoms_are_equal(partition: str, charge: float) -> None:
    density = with_electrons(nuclei_of("H2O"), [-0.5 * charge, -0.25 * charge, -0.25 * charge])
    found = PARTITIONS[partition](density)
    assert found.charges.sum().item() == pytest.approx(charge, abs=1e-9)
    assert found.charges[1].item() == pytest.approx(found.charges[2].item(), abs=1e-5)
    assert found.dipoles[1, 1].item() == pytest.approx(-found.dipoles[2, 1].item(), abs=1e-5)
    assert found.dipoles[:, 0].abs().max() < 1e-5, "nothing points out of the plane"


@pytest.mark.parametrize("partition", PARTITIONS)
def test_atoms_far_apart_keep_their_electrons(partition: str) -> None:
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 12.0]], dtype=torch.float64)
    nuclei = Nuclei(torch.tensor([7, 9]), positions, torch.zeros(2).long(), 1)
    found = PARTITIONS[partition](with_electrons(nuclei, [-0.3, 0.3], exponent=4.0))
    torch.testing.assert_close(found.charges, torch.tensor([0.3, -0.3], dtype=torch.float64), rtol=0, atol=1e-3)
    assert found.dipoles.abs().max() < 5e-3


def test_free_atoms_have_no_hirshfeld_charges() -> None:
    found = hirshfeld(free_atom_density(nuclei_of("CH3OH")))
    assert found.charges.abs().max() < 1e-9
    assert found.dipoles.abs().max() < 1e-9


def test_what_cannot_be(fitted: tuple[Density, np.ndarray]) -> None:
    density, _ = fitted
    two = free_atom_density(Nuclei(torch.tensor([1, 1]), torch.zeros(2, 3), torch.tensor([0, 1]), 2))
    for partition in PARTITIONS.values():
        with pytest.raises(ValueError, match="nuclei: they are of 2 molecules; take those of one"):
            partition(two)
    with pytest.raises(ValueError, match=r"its points find .* of 18.000 electrons; give more points"):
        hirshfeld(density, quadrature_around(density.nuclei, 4, 3))
    nothing = Quadrature(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"its points find 0.000 of 18.000 electrons"):
        mbis(density, nothing)
    with pytest.raises(ConvergenceError, match="after 2 steps the electrons of a shell still change"):
        mbis(density, most_steps=2)
    with pytest.raises(ConvergenceError, match="a shell of an atom has no electrons left"):
        mbis(with_electrons(nuclei_of("H2O"), [3.0, -3.0, 0.0], exponent=2.0))
    with pytest.raises(ValueError, match=r"0.000 electrons, which no atoms can share"):
        mbis(Density((), nuclei_of("H")))
