"""The density head: symmetry, electrons, fragments, gradients, and a water molecule that it learns."""

import dataclasses
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from pyscf import dft

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.density import Density
from neural_polarization.density.centres import CENTRES, find_bonds
from neural_polarization.density.error import normalized_absolute_error
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.heads import Widths
from neural_polarization.heads.density import FULL, SMALL, BasisSize, DensityHead
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy, build_molecule
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.units import BOHR

ELEMENTS = ("H", "C", "O")
CUTOFF = 4.0
DATA = Path(__file__).parent.parent.parent / "data"


class Model(torch.nn.Module):
    """A polarized network with a density head and nothing else, in double precision.

    Args:
        backbone: name of an architecture.
        centres: where the functions sit.
        size: number of functions.
    """

    def __init__(self, centres: str = "moving", backbone: str = "painn", size: BasisSize = SMALL) -> None:
        super().__init__()
        torch.manual_seed(1)
        network = BackboneConfig(backbone, 8, 2, CUTOFF, 6).resolved().build(2 * len(ELEMENTS))
        self.network = NeuralPolarization(network, ELEMENTS)
        self.head = DensityHead(Widths(2 * network.scalar_channels, 0), ELEMENTS, 8, CUTOFF, centres, size)
        self.double()
        for move in self.network.moves:
            move.enlarge(20.0)
        for name, parameter in self.head.named_parameters():
            if name.endswith("shifts"):
                torch.nn.init.normal_(parameter, 0.3, 0.1)

    def forward(self, molecules: Molecules) -> Density:
        """The density of a batch."""
        return self.head(self.network(molecules), molecules)


def shaken(name: str, seed: int = 0) -> ase.Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return ase.Atoms(atoms.numbers, atoms.positions)


def batch(*structures: ase.Atoms) -> Molecules:
    return Molecules.from_ase(structures, CUTOFF, torch.float64)


def places(number: int = 60) -> torch.Tensor:
    return 1.5 * torch.randn(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def turn(improper: bool = False) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    q = q * torch.linalg.det(q)
    return -q if improper else q


def test_sizes_of_the_basis() -> None:
    assert (FULL.num_functions, SMALL.num_functions) == (96, 50)
    water = batch(molecule("H2O"))
    [*_, learned] = Model(size=FULL)(water).parts
    assert learned.num_functions == 3 * 96
    with pytest.raises(ValueError, match="one s shell or more"):
        BasisSize((0, 3))


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("centres", CENTRES)
def test_turns_with_the_molecule(centres: str, improper: bool) -> None:
    model, points, rotation = Model(centres), places(), turn(improper)
    structure, away = shaken("CH3CH2OH"), torch.tensor([3.0, -2.0, 7.0], dtype=torch.float64)
    molecules = batch(structure)
    turned = molecules.with_positions(molecules.positions @ rotation.T + away)
    before, after = model(molecules), model(turned)
    learned = dataclasses.replace(before, parts=before.parts[3:])
    assert learned.evaluate(points).abs().max() > 1e-2, "there is something to turn"
    torch.testing.assert_close(after.evaluate(points @ rotation.T + away), before.evaluate(points))
    torch.testing.assert_close(after.dipole, before.dipole @ rotation.T, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(after.quadrupole, rotation @ before.quadrupole @ rotation.T, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("backbone", ["schnet", "egnn", "dimenet"])
def test_any_backbone_will_do(backbone: str) -> None:
    model, points, rotation = Model(backbone=backbone), places(), turn()
    molecules = batch(shaken("CH3OH"))
    before = model(molecules).evaluate(points)
    after = model(molecules.with_positions(molecules.positions @ rotation.T)).evaluate(points @ rotation.T)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("centres", CENTRES)
def test_order_of_the_atoms_does_not_matter(centres: str) -> None:
    model, structure, points = Model(centres), shaken("CH3OH"), places()
    order = [3, 0, 5, 1, 4, 2]
    one, other = model(batch(structure)), model(batch(structure[order]))
    torch.testing.assert_close(one.evaluate(points), other.evaluate(points))


def test_a_batch_is_its_molecules() -> None:
    model, structures, points = Model("moving_bonds"), [shaken("CH3OH"), shaken("H2O")], places()
    together = model(batch(*structures))
    for k, structure in enumerate(structures):
        alone = model(batch(structure))
        torch.testing.assert_close(together.evaluate(points, k), alone.evaluate(points))
        torch.testing.assert_close(together.dipole[k], alone.dipole[0])


@pytest.mark.parametrize("centres", CENTRES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_electrons_are_exact(centres: str, dtype: torch.dtype) -> None:
    model = Model(centres).to(dtype)
    molecules = Molecules.from_ase([shaken("CH3CH2OH"), shaken("H2O"), shaken("OH")], CUTOFF, dtype)
    expected = torch.tensor([26.0, 10.0, 9.0], dtype=torch.float64)
    torch.testing.assert_close(model(molecules).electrons, expected, rtol=0.0, atol=1e-6)
    charge = torch.tensor([1.0, -2.0, 0.0], dtype=dtype)
    charged = model(dataclasses.replace(molecules, charge=charge))
    torch.testing.assert_close(charged.electrons, expected - charge.double(), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(charged.charge, charge.double(), rtol=0.0, atol=1e-6)


def test_no_charge_is_a_charge_of_zero() -> None:
    model, molecules, points = Model(), batch(shaken("H2O")), places()
    neutral = dataclasses.replace(molecules, charge=torch.zeros(1, dtype=torch.float64))
    assert torch.equal(model(molecules).evaluate(points), model(neutral).evaluate(points))


@pytest.mark.parametrize("centres", CENTRES)
def test_fragments_far_apart_do_not_see_each_other(centres: str) -> None:
    """Density and dipole are sums, though the fragments differ: no electrons pass between them."""
    model, one, other, points = Model(centres), shaken("CH3OH"), shaken("H2O"), places()
    away = torch.tensor([50.0, 0.0, 0.0], dtype=torch.float64)
    moved = other.copy()
    moved.positions += away.numpy()
    both, first, second = model(batch(one + moved)), model(batch(one)), model(batch(moved))
    torch.testing.assert_close(both.evaluate(points), first.evaluate(points))
    torch.testing.assert_close(both.evaluate(points + away), second.evaluate(points + away))
    torch.testing.assert_close(both.dipole, first.dipole + second.dipole, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("centres", CENTRES)
def test_gradients_at_zero_displacement_are_those_of_differences(centres: str) -> None:
    model, molecules, points = Model(centres), batch(shaken("H2O")), places(5)
    model.network.hold_still()

    def values(positions: torch.Tensor) -> torch.Tensor:
        return model(molecules.with_positions(positions)).evaluate(points, threshold=0.0)

    assert torch.autograd.gradcheck(values, [molecules.positions.clone().requires_grad_()], rtol=1e-4, atol=1e-6)


def test_hydrogen_of_shifted_nuclei_goes_along_its_bond() -> None:
    model, structure = Model("shifted"), shaken("H2O")
    shift = model.head.centres.get_parameter("shifts")
    molecules = batch(structure)
    centres = model(molecules).parts[-1].centres
    moved = (centres - molecules.positions)[1]
    bond = molecules.positions[0] - molecules.positions[1]
    cosine = torch.nn.functional.cosine_similarity(moved, bond, dim=0)
    assert cosine.item() > 0.99
    assert moved.norm().item() == pytest.approx(shift[0].item(), rel=0.03)


def test_both_share_the_functions_of_one() -> None:
    """Every second shell stays on the nucleus; where nothing moves, the density is that of functions on nuclei."""
    both, moving = Model("both", size=BasisSize((6, 3))), Model("moving", size=BasisSize((6, 3)))
    molecules, points = batch(shaken("H2O")), places()
    [*_, stay, move] = both(molecules).parts
    torch.testing.assert_close(stay.centres, molecules.positions)
    torch.testing.assert_close(move.centres, moving(molecules).parts[-1].centres)
    assert [shells.shape[1] for shells in (*stay.exponents, *move.exponents)] == [3, 1, 3, 2]
    assert not torch.allclose(both(molecules).evaluate(points), moving(molecules).evaluate(points))
    for model in (both, moving):
        model.network.hold_still()
    torch.testing.assert_close(both(molecules).evaluate(points), moving(molecules).evaluate(points))


def test_bonds_are_those_of_chemistry() -> None:
    bonds = find_bonds(batch(molecule("CH3OH"), molecule("C2H4")))
    pairs = {(int(i), int(j)) for i, j in zip(bonds.first, bonds.second, strict=True)}
    assert len(pairs) == 5 + 5
    torch.testing.assert_close(bonds.weights, torch.ones(10, dtype=torch.float64))


def test_a_breaking_bond_fades() -> None:
    """From 1.2 to 1.5 of the sum of the radii; functions on it fade with it, and what is left has its electrons."""
    weights = []
    for length in (0.62 * 1.1, 0.62 * 1.35, 0.62 * 1.499):
        bonds = find_bonds(batch(ase.Atoms("H2", [[0, 0, 0], [0, 0, length]])))
        weights.append(bonds.weights.item())
    assert weights[0] == 1.0
    assert weights[1] == pytest.approx(0.5)
    assert 0.0 < weights[2] < 1e-3


def test_unknown_centres() -> None:
    with pytest.raises(ValueError, match="centres: 'clouds' is not known; choose one of moving, nuclei"):
        DensityHead(Widths(4, 0), ELEMENTS, 4, CUTOFF, "clouds")


@pytest.mark.slow
def test_it_learns_the_density_of_water() -> None:
    """From points of the repository's own data; the error falls below a sixth of the free atoms' in seconds."""
    data = read_packed(DATA / "small_molecules.npz")
    densities = Densities(DATA / "small_molecules_densities.npz", data.molecules)
    with np.load(DATA / "small_molecules.npz") as structures:
        number = structures["smiles"][densities.structures].tolist().index("O")
    exact = densities[number]
    water = ase.Atoms(exact.nuclei.atomic_numbers.numpy(), exact.nuclei.positions.numpy())
    assert water.get_chemical_formula() == "H2O"
    grid = dft.gen_grid.Grids(build_molecule(water, Level.parse("HF/STO-3G"), Accuracy()))
    grid.atom_grid, grid.prune = (30, 110), None
    grid.build(with_non0tab=False)
    points, weights = torch.from_numpy(grid.coords * BOHR), torch.from_numpy(grid.weights * BOHR**3)
    reference = exact.evaluate(points)
    of_one = torch.zeros(len(points), dtype=torch.long)
    molecules = Molecules.from_ase(water, CUTOFF, torch.float32)

    def error(density: Density) -> float:
        values = density.evaluate(points)
        return normalized_absolute_error(values, reference, weights, of_one, 1).item()

    model = Model().float()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    chance = weights * reference.clamp_min(0.0)  # a fitted density is slightly negative far away
    for _ in range(100):
        drawn = torch.multinomial(chance, 500, replacement=True)
        values = model(molecules).evaluate(points[drawn].float())
        density, of_draw = reference[drawn].float(), (weights / chance)[drawn].float()
        loss = normalized_absolute_error(values, density, of_draw, of_one[drawn], 1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        learned = model(molecules)
    promolecule = error(free_atom_density(learned.nuclei))
    assert promolecule == pytest.approx(0.116, abs=0.003)
    assert error(learned) < promolecule / 6
    assert learned.electrons.item() == pytest.approx(10.0, abs=1e-6)
