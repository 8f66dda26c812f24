"""Free atoms against PySCF's."""

import numpy as np
import pytest
import torch

from neural_polarization.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density, known_elements
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.properties.charges import radial_density
from neural_polarization.units import BOHR

NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9, "S": 16, "Cl": 17}


def at_origin(*numbers: int) -> Nuclei:
    atoms = len(numbers)
    index = torch.zeros(atoms, dtype=torch.long)
    return Nuclei(torch.tensor(numbers), torch.zeros(atoms, 3, dtype=torch.float64), index, 1)


def test_elements_of_the_table() -> None:
    assert known_elements() == tuple(NUMBERS)


@pytest.mark.parametrize("element", NUMBERS)
def test_density_is_that_of_the_atom_to_a_thousandth(element: str) -> None:
    radii, logarithms = radial_density(element, Level.parse("B3LYP/6-31G(2df,p)"))
    expected, shells = np.exp(logarithms), 4 * np.pi * radii**2 * np.gradient(radii)
    points = torch.zeros(len(radii), 3, dtype=torch.float64)
    points[:, 1] = torch.from_numpy(radii) * BOHR
    density = free_atom_density(at_origin(NUMBERS[element]))
    values = density.evaluate(points, threshold=0.0).numpy() * BOHR**3
    assert np.abs(values - expected) @ shells / NUMBERS[element] < 3e-4
    assert values.min() >= 0.0, "no sum of functions of either sign is negative far away"
    assert density.electrons.item() == pytest.approx(NUMBERS[element], abs=1e-9)


def test_atoms_add_up() -> None:
    molecule = free_atom_density(at_origin(1, 8, 1, 17))
    parts = [free_atom_density(at_origin(number)) for number in (1, 8, 1, 17)]
    points = torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(molecule.evaluate(points), sum(part.evaluate(points) for part in parts))
    assert molecule.charge.item() == pytest.approx(0.0, abs=1e-9)


def test_an_element_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="Si: there is no free atom of this element, only of H, C, N, O, F, S, Cl"):
        free_atom_density(at_origin(14))
