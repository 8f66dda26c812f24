"""The density as a value: values, moments, potential, field and overlap against PySCF, quadrature and differences."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf_functions import NUMBERS, POSITIONS, in_pyscf, water_like

from neural_polarization.density import Density, FlatShells, Gaussians, Nuclei, evaluation
from neural_polarization.density.density import COULOMB, _check_points
from neural_polarization.density.evaluation import evaluate
from neural_polarization.density.potential import NUCLEUS
from neural_polarization.molecules import Molecules
from neural_polarization.units import BOHR, HARTREE


def some_points(number: int, spread: float = 1.5) -> torch.Tensor:
    return spread * torch.randn(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def test_values_are_those_of_pyscf() -> None:
    points = some_points(5000)
    molecule, coefficients = in_pyscf()
    expected = molecule.eval_gto("GTOval_sph", points.numpy() / BOHR) @ coefficients / BOHR**3
    torch.testing.assert_close(water_like().evaluate(points), torch.from_numpy(expected), rtol=1e-9, atol=2e-7)


def test_single_precision_is_enough() -> None:
    points = some_points(3000)
    exact = water_like().evaluate(points)
    single = water_like().evaluate(points.float())
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 1e-5 * exact.abs().max()


def test_what_is_left_out_is_below_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(evaluation._POINTS_OF_BLOCK, "cpu", 16)  # small boxes, so that some are out of reach
    density, points = water_like(), some_points(4000, 4.0)
    whole = density.evaluate(points, threshold=0.0)
    for threshold in (1e-1, 1e-3):
        error = (density.evaluate(points, threshold=threshold) - whole).abs().max()
        assert 0.0 < error < 3 * threshold, "three centres may leave out the threshold each"


def test_reach_is_where_the_functions_fade() -> None:
    """On a sphere of that radius the function of one centre is below the threshold, a tenth inside it is not."""
    exponents = (torch.zeros(1, 0), torch.zeros(1, 0), torch.tensor([[3.0]]))
    coefficients = torch.zeros(1, 1, 5)
    coefficients[0, 0, 1] = 0.7
    none = (torch.zeros(1, 0, 1), torch.zeros(1, 0, 3))
    part = Gaussians(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), exponents, (*none, coefficients)).to(
        dtype=torch.float64
    )
    reach = part.reach(1e-6)[2].item()
    directions = torch.nn.functional.normalize(some_points(4000), dim=-1)
    assert evaluate([part], reach * directions, threshold=0.0).abs().max() < 1e-6
    assert evaluate([part], 0.9 * reach * directions, threshold=0.0).abs().max() > 1e-6
    assert part.times(1e-9).reach(1e-6)[2].item() == 0.0, "a function that is nowhere above the threshold is not needed"


def test_progress_ends_with_all_points() -> None:
    seen: list[tuple[int, int]] = []
    water_like().evaluate(some_points(5000), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5000, 5000)
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_no_points() -> None:
    assert water_like().evaluate(torch.zeros(0, 3, dtype=torch.float64)).shape == (0,)


def test_points_that_are_no_places() -> None:
    """NaN has no density, although its distance to every centre is beyond no reach."""
    density, points = water_like(), some_points(3)
    points[1, 2] = torch.nan
    for compute in (density.evaluate, density.potential, density.field):
        with pytest.raises(ValueError, match=r"point 1 is \[.*nan\]; expected three finite numbers in Angstrom"):
            compute(points)
    for wrong in (points[0], points[:, :2], torch.zeros(2, 3, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"expected floating-point numbers of shape \(points, 3\), Angstrom, got"):
            _check_points(wrong)


def test_gradients_are_those_of_differences() -> None:
    """By points, centres, exponents and coefficients; the functions of one atom, so that all are small tensors."""
    [part] = [part for part in water_like().parts if len(part.centres) == 2]
    points = some_points(7)

    def value(points: torch.Tensor, centres: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        moved = Gaussians(centres, part.molecule_index, rest[:3], rest[3:])
        return evaluate([moved], points, threshold=0.0)

    inputs = [points, part.centres, *part.exponents[:3], *part.coefficients[:3]]
    assert torch.autograd.gradcheck(value, [x.clone().requires_grad_() for x in inputs])


def test_molecules_of_a_batch_do_not_see_each_other() -> None:
    one, other = water_like(0), water_like(1)
    shifted = [
        Gaussians(part.centres, part.molecule_index + 1, part.exponents, part.coefficients) for part in other.parts
    ]
    nuclei = Nuclei(NUMBERS.repeat(2), POSITIONS.repeat(2, 1), torch.tensor([0, 0, 0, 1, 1, 1]), 2)
    both = Density((*one.parts, *shifted), nuclei)
    points = some_points(500)
    index = torch.arange(500) % 2
    expected = torch.where(index == 0, one.evaluate(points), other.evaluate(points))
    torch.testing.assert_close(both.evaluate(points, index), expected)
    torch.testing.assert_close(both.evaluate(points, 1), other.evaluate(points))
    torch.testing.assert_close(both.of_molecule(1).evaluate(points), other.evaluate(points))
    torch.testing.assert_close(both.dipole, torch.cat([one.dipole, other.dipole]))
    torch.testing.assert_close(both.overlap(both), torch.cat([one.overlap(one), other.overlap(other)]))
    torch.testing.assert_close(both.potential(points[:20], 1), other.potential(points[:20]))
    with pytest.raises(ValueError, match=r"molecule 2: there are 2"):
        both.evaluate(points, 2)


def test_moments_are_those_of_quadrature() -> None:
    """Integrals over PySCF's atom-centred grid; the functions are smooth and short enough for six digits."""
    density = water_like(degrees=3)
    molecule, _ = in_pyscf(degrees=3)
    grid = dft.gen_grid.Grids(molecule)
    grid.atom_grid, grid.prune = (90, 590), None
    grid.build(with_non0tab=False)
    points, weights = torch.from_numpy(grid.coords) * BOHR, torch.from_numpy(grid.weights) * BOHR**3
    charges = weights * density.evaluate(points, threshold=0.0)
    centre = (NUMBERS.double() @ POSITIONS) / NUMBERS.sum()
    arms, of_nuclei = points - centre, POSITIONS - centre
    torch.testing.assert_close(density.electrons, charges.sum()[None], rtol=0, atol=1e-5)
    torch.testing.assert_close(density.charge, 10.0 - charges.sum()[None], rtol=0, atol=1e-5)
    torch.testing.assert_close(density.dipole[0], -charges @ arms, rtol=0, atol=1e-5)
    squares = arms.square().sum(-1)
    torch.testing.assert_close(density.spatial_extent[0], charges @ squares, rtol=0, atol=1e-4)

    def quadrupole(charges: torch.Tensor, arms: torch.Tensor) -> torch.Tensor:
        squared = arms.square().sum(-1)
        unit = torch.eye(3, dtype=torch.float64)
        return torch.einsum(
            "p,pab->ab", charges, 1.5 * arms[:, :, None] * arms[:, None] - 0.5 * squared[:, None, None] * unit
        )

    expected = quadrupole(NUMBERS.double(), of_nuclei) - quadrupole(charges, arms)
    torch.testing.assert_close(density.quadrupole[0], expected, rtol=0, atol=1e-4)


def test_potential_is_that_of_pyscf() -> None:
    """Coulomb integrals between point charges and the functions; near, and as far as multipoles go."""
    near, far = some_points(200), 30.0 * some_points(50)
    points = torch.cat([near, far])
    molecule, coefficients = in_pyscf()
    charges = gto.fakemol_for_charges(points.numpy() / BOHR)
    of_electrons = gto.mole.intor_cross("int2c2e_sph", charges, molecule) @ coefficients
    distances = np.linalg.norm(points.numpy()[:, None] - POSITIONS.numpy(), axis=-1) / BOHR
    expected = ((NUMBERS.numpy() / distances).sum(1) - of_electrons) * HARTREE
    torch.testing.assert_close(water_like().potential(points), torch.from_numpy(expected), rtol=1e-9, atol=1e-8)


def test_a_nucleus_is_a_ball_of_charge() -> None:
    """Of one proton: Poisson's equation inside, a point charge outside, value and slope in one piece."""
    proton = Density((), Nuclei(torch.tensor([1]), torch.zeros(1, 3), torch.tensor([0]), 1))

    def along_x(*places: float) -> torch.Tensor:
        return torch.tensor([[x, 0.0, 0.0] for x in places], dtype=torch.float64)

    step = 1e-5
    ring = torch.cat([torch.eye(3), -torch.eye(3), torch.zeros(1, 3)]).double() * step
    values = proton.potential(along_x(0.003) + ring)
    laplacian = (values[:6].sum() - 6 * values[6]) / step**2
    density_of_charge = 3.0 / (4.0 * np.pi * NUCLEUS**3)
    assert laplacian.item() == pytest.approx(-4.0 * np.pi * COULOMB * density_of_charge, rel=1e-3)
    outside = along_x(NUCLEUS * 1.001, 0.5, 30.0)
    torch.testing.assert_close(proton.potential(outside), COULOMB / outside[:, 0])
    before, after = proton.potential(along_x(NUCLEUS - 1e-9, NUCLEUS + 1e-9)).tolist()
    assert before == pytest.approx(after, rel=1e-6)
    fields = proton.field(along_x(0.0, NUCLEUS - 1e-9, NUCLEUS + 1e-9))[:, 0].tolist()
    assert fields == pytest.approx([0.0, COULOMB / NUCLEUS**2, COULOMB / NUCLEUS**2], rel=1e-6)


def test_potential_on_the_nuclei() -> None:
    """It is that of the ball and of all other charges, and the field is that of the others alone."""
    density = water_like()
    for atom, number in enumerate(NUMBERS.tolist()):
        place = POSITIONS[atom : atom + 1]
        others = torch.arange(len(NUMBERS)) != atom
        rest = Nuclei(NUMBERS[others], POSITIONS[others], torch.zeros(len(NUMBERS) - 1, dtype=torch.long), 1)
        others_alone = Density(density.parts, rest)
        own = 1.5 * number * COULOMB / NUCLEUS
        torch.testing.assert_close(density.potential(place), others_alone.potential(place) + own)
        torch.testing.assert_close(density.field(place), others_alone.field(place), rtol=1e-9, atol=1e-9)


def test_field_is_minus_the_gradient_of_the_potential() -> None:
    density, points = water_like(), some_points(20)
    step = 1e-4
    expected = torch.stack(
        [
            (density.potential(points - step * axis) - density.potential(points + step * axis)) / (2 * step)
            for axis in torch.eye(3, dtype=torch.float64)
        ],
        -1,
    )
    torch.testing.assert_close(density.field(points), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(density.field(points), expected, rtol=1e-5, atol=1e-5)


def test_field_at_a_centre_is_finite() -> None:
    """Of a function of l = 3 on its own centre it is zero, and of l = 1 it is the closed form 4 pi N / (3 a)."""
    parts = [part for part in water_like().parts if len(part.centres) == 1]
    density = Density(tuple(parts), Nuclei(NUMBERS[:0], POSITIONS[:0], NUMBERS[:0], 1))
    assert density.field(POSITIONS[:1]).isfinite().all()


def test_overlap_is_that_of_pyscf() -> None:
    molecule, one = in_pyscf(0)
    _, other = in_pyscf(1)
    expected = one @ molecule.intor("int1e_ovlp") @ other / BOHR**3
    value = water_like(0).overlap(water_like(1))
    torch.testing.assert_close(value, torch.tensor([expected]), rtol=1e-9, atol=1e-9)


def test_overlap_needs_the_same_molecules() -> None:
    nuclei = Nuclei(NUMBERS, POSITIONS, torch.tensor([0, 0, 1]), 2)
    with pytest.raises(ValueError, match="it is of 2 molecules and this one of 1"):
        water_like().overlap(Density((), nuclei))


def test_coefficients_have_to_fit_the_shells() -> None:
    with pytest.raises(ValueError, match="4 numbers, but the shells have 5 functions"):
        FlatShells(torch.tensor([0]), torch.tensor([2]), torch.ones(1), torch.ones(4))
    with pytest.raises(ValueError, match="degree 1"):
        Gaussians(
            torch.zeros(1, 3),
            torch.zeros(1, dtype=torch.long),
            (torch.ones(1, 1), torch.ones(1, 2)),
            (torch.ones(1, 1, 1), torch.ones(1, 1, 3)),
        )


def test_periodic_systems_are_refused() -> None:
    molecules = Molecules(NUMBERS, POSITIONS, torch.zeros(3, dtype=torch.long), torch.zeros(2, 0, dtype=torch.long), 1)
    assert Nuclei.of(molecules).num_molecules == 1
    periodic = Molecules(
        NUMBERS,
        POSITIONS,
        torch.zeros(3, dtype=torch.long),
        torch.zeros(2, 0, dtype=torch.long),
        1,
        shifts=torch.zeros(0, 3, dtype=torch.float64),
    )
    with pytest.raises(ValueError, match="periodic"):
        Nuclei.of(periodic)


CACHES = """
import torch
from ase.build import molecule
from neural_polarization.density import Density, Nuclei
from neural_polarization.density.free_atoms import free_atom_density
water = molecule("H2O")
nuclei = Nuclei(torch.tensor(water.numbers), torch.tensor(water.positions), torch.zeros(3, dtype=torch.long), 1)
points = torch.randn(5, 3, dtype=torch.float64)
with torch.inference_mode():  # the first use of every table
    inside = free_atom_density(nuclei)
    inside.overlap(inside), inside.potential(points)
    found = [inside.field(points)]
density = free_atom_density(nuclei)
found += [inside.field(points), density.field(points), density.field(points.clone().requires_grad_()).detach()]
for other in found[1:]:
    torch.testing.assert_close(other, found[0], rtol=1e-12, atol=1e-12)
part = density.parts[0]
moving = Density((part.to(dtype=torch.float64), *density.parts[1:]), nuclei)
part.centres.requires_grad_()
moving.overlap(density).sum().backward()
print("fine")
"""


def test_inference_mode_leaves_nothing_behind() -> None:
    """A field inside it is that outside it, and tables that it filled can be differentiated through later."""
    command = [sys.executable, "-c", CACHES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_a_molecule_can_be_counted_by_numpy() -> None:
    density, points = water_like(), some_points(3)
    torch.testing.assert_close(density.evaluate(points, np.int64(0)), density.evaluate(points))


def test_a_shifted_density_is_the_same_elsewhere() -> None:
    density, points = water_like(), some_points(20)
    by = torch.tensor([[10.0, -20.0, 30.0]], dtype=torch.float64)
    shifted = density.shifted(by)
    torch.testing.assert_close(shifted.evaluate(points + by), density.evaluate(points), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shifted.nuclei.centre, density.nuclei.centre + by)
    torch.testing.assert_close(shifted.dipole, density.dipole, rtol=1e-9, atol=1e-9)
