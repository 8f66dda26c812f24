"""A trained model in OpenMM: a molecule alone, and one water of the model among waters of a force field.

python examples/engines/run_openmm.py runs/demo/moving_view/seed_0/model.safetensors --steps 1000
"""

import argparse

# --8<-- [start:imports]
import ase
import ase.build
import numpy as np
from openmm import LangevinMiddleIntegrator, Platform, unit
from openmm.app import Element, ForceField, Simulation, Topology
from openmmml import MLPotential

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL", help="a checkpoint (.safetensors) or an exported model (.pt2)")
parser.add_argument("--steps", type=int, default=1000, help="number of steps of half a femtosecond")
arguments = parser.parse_args()


# --8<-- [start:topology]
def topology_of(atoms: ase.Atoms) -> Topology:
    """The elements of a structure, and its cell if it repeats; a model needs no bonds."""
    topology = Topology()
    residue = topology.addResidue("MODEL", topology.addChain())
    for number, symbol in enumerate(atoms.symbols):
        topology.addAtom(f"{symbol}{number}", Element.getBySymbol(symbol), residue)
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors(atoms.cell.array * unit.angstrom)
    return topology


# --8<-- [end:topology]

# --8<-- [start:molecule]
calculator = NeuralPolarizationCalculator(arguments.checkpoint)
ethanol = ase.build.molecule("CH3CH2OH")
topology = topology_of(ethanol)
system = MLPotential("ase").createSystem(topology, calculator=calculator)
integrator = LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtosecond)
simulation = Simulation(topology, system, integrator, Platform.getPlatformByName("Reference"))
simulation.context.setPositions(ethanol.positions * unit.angstrom)
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 0)
simulation.step(arguments.steps)
state = simulation.context.getState(energy=True, positions=True, forces=True)
print(f"ethanol: {state.getPotentialEnergy()} after {state.getTime()}")
# --8<-- [end:molecule]

# --8<-- [start:mixed]
water = ase.build.molecule("H2O")
positions = np.concatenate([water.positions + 3.1 * np.array(place) for place in np.ndindex(2, 2, 2)])
waters = Topology()
chain = waters.addChain()
for _ in range(8):
    residue = waters.addResidue("HOH", chain)
    oxygen, *hydrogens = (waters.addAtom(name, Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2"))
    for hydrogen in hydrogens:
        waters.addBond(oxygen, hydrogen)
of_force_field = ForceField("tip3p.xml").createSystem(waters, rigidWater=False)
mixed = MLPotential("ase").createMixedSystem(waters, of_force_field, [0, 1, 2], calculator=calculator)
integrator = LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtosecond)
mixture = Simulation(waters, mixed, integrator, Platform.getPlatformByName("Reference"))
mixture.context.setPositions(positions * unit.angstrom)
mixture.step(arguments.steps)
print(f"eight waters, one of them by the model: {mixture.context.getState(energy=True).getPotentialEnergy()}")
# --8<-- [end:mixed]
