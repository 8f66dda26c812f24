"""A trained model in LAMMPS, in one process: a crystal at constant energy, then at constant pressure.

python examples/engines/run_lammps.py runs/demo/moving_view/seed_0/model.safetensors --steps 1000
"""

import argparse

# --8<-- [start:imports]
import ase.build
from ase.data import atomic_masses, atomic_numbers
from lammps import lammps

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.lammps import attach

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL", help="a checkpoint (.safetensors) or an exported model (.pt2)")
parser.add_argument("--steps", type=int, default=1000, help="number of steps of half a femtosecond")
arguments = parser.parse_args()

# --8<-- [start:system]
atoms = ase.build.molecule("CH3CH2OH", cell=[5.2, 5.2, 5.2], pbc=True).repeat((2, 1, 1))
elements = sorted(set(atoms.symbols))
engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
engine.commands_string(f"""
units metal
atom_style atomic
region box block 0 {atoms.cell[0, 0]} 0 {atoms.cell[1, 1]} 0 {atoms.cell[2, 2]}
create_box {len(elements)} box
comm_modify cutoff 2.0
timestep 0.0005
""")
for number, symbol in enumerate(elements, 1):
    engine.command(f"mass {number} {atomic_masses[atomic_numbers[symbol]]}")
kinds = [elements.index(symbol) + 1 for symbol in atoms.symbols]
engine.create_atoms(len(atoms), None, kinds, atoms.get_positions(wrap=True).ravel())
attach(engine, NeuralPolarizationCalculator(arguments.checkpoint), elements)
# --8<-- [end:system]

# --8<-- [start:energy]
engine.commands_string("""
velocity all create 300 1 mom yes
fix motion all nve
thermo_style custom step pe etotal temp press vol
run 0
""")
start = engine.get_thermo("etotal")
engine.command(f"run {arguments.steps}")
print(f"constant energy: changed by {1000 * (engine.get_thermo('etotal') - start):.3f} meV")
# --8<-- [end:energy]

# --8<-- [start:pressure]
engine.commands_string("""
unfix motion
fix motion all npt temp 300 300 0.05 iso 1 1 0.5
""")
engine.command(f"run {arguments.steps}")
print(f"constant pressure: {engine.get_thermo('vol'):.1f} Angstrom^3, {engine.get_thermo('temp'):.0f} K")
# --8<-- [end:pressure]
