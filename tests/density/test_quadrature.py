"""Points around atoms: integrals whose values are known."""

import math

import pytest
import torch
from ase.build import molecule

from neural_polarization.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.quadrature import quadrature_around


def nuclei_of(name: str) -> Nuclei:
    atoms = molecule(name)
    return Nuclei(torch.tensor(atoms.numbers), torch.tensor(atoms.positions), torch.zeros(len(atoms)).long(), 1)


def test_a_gaussian_anywhere() -> None:
    """Also where there is no nucleus, which the cells of the atoms share."""
    points = quadrature_around(nuclei_of("CH3OH"))
    for centre in ([0.0, 0.0, 0.0], [0.3, -0.6, 0.4]):
        squares = (points.points - torch.tensor(centre, dtype=torch.float64)).square().sum(-1)
        integral = float((points.weights * torch.exp(-1.3 * squares)).sum())
        assert integral == pytest.approx((math.pi / 1.3) ** 1.5, rel=1e-4)


@pytest.mark.parametrize("name", ["H2O", "CH3Cl"])
def test_electrons_and_dipole_of_free_atoms(name: str) -> None:
    nuclei = nuclei_of(name)
    density = free_atom_density(nuclei)
    points = quadrature_around(nuclei)
    values = points.weights * density.evaluate(points.points)
    assert float(values.sum()) == pytest.approx(density.electrons.item(), abs=1e-3)
    first = (values[:, None] * (points.points - nuclei.centre)).sum(0)
    torch.testing.assert_close(first, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-3)


def test_more_points_are_more_exact() -> None:
    nuclei = nuclei_of("H2O")
    density = free_atom_density(nuclei)

    def error(radial: int, degree: int) -> float:
        points = quadrature_around(nuclei, radial, degree)
        return abs(float((points.weights * density.evaluate(points.points)).sum()) - 10.0)

    assert error(80, 35) < 1e-4 < error(12, 5)


def test_what_cannot_be() -> None:
    two = Nuclei(torch.tensor([1, 1]), torch.zeros(2, 3), torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="of 2 molecules; take those of one"):
        quadrature_around(two)
    with pytest.raises(ValueError, match="radial=0 and degree=5 must be 1 or more"):
        quadrature_around(nuclei_of("H2O"), 0, 5)
