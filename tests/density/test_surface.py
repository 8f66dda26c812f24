"""Points around molecules: distances, evenness, and what is refused."""

import math

import pytest
import torch
from ase.build import molecule
from ase.data.vdw import vdw_radii

from neural_polarization.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.surface import MERZ_KOLLMAN, surface_points


def nuclei_of(name: str) -> Nuclei:
    atoms = molecule(name)
    return Nuclei(torch.tensor(atoms.numbers), torch.tensor(atoms.positions), torch.zeros(len(atoms)).long(), 1)


def test_points_are_on_a_sphere_and_outside_of_the_others() -> None:
    nuclei = nuclei_of("CH3OH")
    radii = torch.from_numpy(vdw_radii[nuclei.atomic_numbers.numpy()])
    for scale in MERZ_KOLLMAN:
        points = surface_points(nuclei, (scale,), 4.0)
        nearest = (torch.cdist(points, nuclei.positions) / (scale * radii)).amin(1)
        torch.testing.assert_close(nearest, torch.ones_like(nearest), rtol=0, atol=1e-9)


def test_an_atom_has_the_points_of_its_area_evenly() -> None:
    helium = Nuclei(torch.tensor([2]), torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0]), 1)
    points = surface_points(helium, (1.5,), 10.0) - helium.positions
    assert len(points) == math.ceil(4 * math.pi * (1.5 * 1.4) ** 2 * 10.0)
    torch.testing.assert_close(points.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.01)
    second = points.T @ points / len(points)
    torch.testing.assert_close(second, (1.5 * 1.4) ** 2 / 3 * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.01)


def test_all_surfaces_one_after_the_other() -> None:
    nuclei = nuclei_of("H2O")
    together = surface_points(nuclei)
    torch.testing.assert_close(together, torch.cat([surface_points(nuclei, (scale,)) for scale in MERZ_KOLLMAN]))


def test_the_potential_of_neutral_atoms_has_faded_there() -> None:
    density = free_atom_density(nuclei_of("H2O"))
    potential = density.potential(surface_points(density.nuclei))
    assert 0.0 < potential.abs().max() < 0.5  # V; nuclei alone would make more than 50 V


@pytest.mark.parametrize(
    ("scales", "per_area", "message"),
    [
        ((), 1.0, "scales: .* must be one positive number or more"),
        ((1.4, -1.0), 1.0, "scales: .* must be one positive number or more"),
        ((1.4,), 0.0, "points_per_area: 0.0 must be a positive number"),
        ((1.4,), 1e8, r"points; 4.2e\+06 are the limit"),
    ],
)
def test_numbers_that_cannot_be(scales: tuple[float, ...], per_area: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surface_points(nuclei_of("H2O"), scales, per_area)


def test_molecules_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="of 2 molecules; take those of one"):
        surface_points(Nuclei(torch.tensor([1, 1]), torch.zeros(2, 3), torch.tensor([0, 1]), 2))
    with pytest.raises(ValueError, match="Fe: there is no van der Waals radius"):
        surface_points(Nuclei(torch.tensor([26]), torch.zeros(1, 3), torch.tensor([0]), 1))
