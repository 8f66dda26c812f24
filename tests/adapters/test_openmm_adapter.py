"""OpenMM's energies and forces of a model are those of the ASE calculator, alone and among a force field."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openmmml")

import ase
from ase import units
from ase.build import bulk
from engine_models import calculator, checkpoint, ran
from openmm import Platform, VerletIntegrator, unit
from openmm.app import Element, ForceField, Simulation, Topology
from openmmml import MLPotential

KJ = units.kJ / units.mol
PER_NM = KJ / units.nm


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("openmm")
    with pytest.MonkeyPatch.context() as patch:
        return {**ran("run_openmm.py", ["--steps", "3"], folder, patch), "folder": folder}


def energy_and_forces(simulation: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """eV, eV/Angstrom, and the positions in Angstrom."""
    state = simulation.context.getState(energy=True, forces=True, positions=True)
    return (
        state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ,
        state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * PER_NM,
        state.getPositions(asNumpy=True).value_in_unit(unit.angstrom),
    )


def test_a_molecule(example: dict[str, Any]) -> None:
    energy, forces, positions = energy_and_forces(example["simulation"])
    ethanol = example["ethanol"].copy()
    assert np.abs(positions - ethanol.positions).max() > 1e-3
    ethanol.positions = positions
    ethanol.calc = calculator(example["folder"])
    assert energy == pytest.approx(ethanol.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(forces, ethanol.get_forces(), atol=1e-6)


def test_a_crystal_on_a_platform_of_single_precision(tmp_path: Path) -> None:
    """OpenMM's fast platforms keep forces in single precision; the cell is passed on."""
    checkpoint(tmp_path)
    crystal = bulk("CO", "rocksalt", a=4.3, cubic=True)
    crystal.rattle(0.1, seed=0)
    topology = Topology()
    residue = topology.addResidue("CO", topology.addChain())
    for symbol in crystal.symbols:
        topology.addAtom(symbol, Element.getBySymbol(symbol), residue)
    topology.setPeriodicBoxVectors(crystal.cell.array * unit.angstrom)
    system = MLPotential("ase").createSystem(topology, calculator=calculator(tmp_path))
    simulation = Simulation(topology, system, VerletIntegrator(0.001), Platform.getPlatformByName("CPU"))
    simulation.context.setPositions(crystal.positions * unit.angstrom)
    energy, forces, positions = energy_and_forces(simulation)
    assert not np.array_equal(positions, crystal.positions)  # rounded
    crystal.calc = calculator(tmp_path)
    assert energy == pytest.approx(crystal.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(forces, crystal.get_forces(), atol=1e-4)


def test_one_water_of_the_model_among_waters_of_a_force_field(example: dict[str, Any]) -> None:
    """The mixture has the force field's energy, with the model's in place of the one water's own."""
    mixture = example["mixture"]
    energy, forces, positions = energy_and_forces(mixture)
    whole = Simulation(
        example["waters"], example["of_force_field"], VerletIntegrator(0.001), Platform.getPlatformByName("Reference")
    )
    whole.context.setPositions(positions * unit.angstrom)
    everything, its_forces, _ = energy_and_forces(whole)
    one = Topology()
    residue = one.addResidue("HOH", one.addChain())
    oxygen, *hydrogens = (one.addAtom(name, Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2"))
    for hydrogen in hydrogens:
        one.addBond(oxygen, hydrogen)
    alone = ForceField("tip3p.xml").createSystem(one, rigidWater=False)
    single = Simulation(one, alone, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
    single.context.setPositions(positions[:3] * unit.angstrom)
    own, own_forces, _ = energy_and_forces(single)
    water = ase.Atoms("OHH", positions[:3], calculator=calculator(example["folder"]))
    assert energy - everything == pytest.approx(water.get_potential_energy() - own, abs=1e-5)
    np.testing.assert_allclose(forces[:3] - its_forces[:3], water.get_forces() - own_forces, atol=1e-5)
    np.testing.assert_allclose(forces[3:], its_forces[3:], atol=1e-5)
