"""Cores hold their electrons, and what is left near a nucleus is a small part of the density."""

import pytest
import torch

from neural_polarization.density.cores import core_density, core_electrons
from neural_polarization.density.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density


def atom(number: int) -> Nuclei:
    return Nuclei(torch.tensor([number]), torch.zeros(1, 3), torch.tensor([0]), 1)


@pytest.mark.parametrize(("number", "electrons"), [(1, 0), (2, 0), (6, 2), (9, 2), (16, 10), (17, 10)])
def test_electrons_of_a_core(number: int, electrons: int) -> None:
    radii = torch.linspace(0.0, 6.0, 60001, dtype=torch.float64)
    points = torch.stack([radii, torch.zeros_like(radii), torch.zeros_like(radii)], -1)
    integral = torch.trapezoid(4.0 * torch.pi * radii**2 * core_density(atom(number), points), radii).item()
    assert core_electrons(atom(number)) == electrons
    assert integral == pytest.approx(electrons, abs=1e-4)


@pytest.mark.parametrize("number", [6, 8])
def test_the_core_is_most_of_the_density_near_a_nucleus(number: int) -> None:
    points = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.0, 0.06]], dtype=torch.float64)
    total = free_atom_density(atom(number)).evaluate(points)
    rest = (total - core_density(atom(number), points)) / total
    assert rest.abs().max() < 0.15


def test_heavy_elements_are_refused() -> None:
    with pytest.raises(ValueError, match="Br: valence densities are defined up to argon"):
        core_electrons(atom(35))
