"""What ASE does with a trained model: vibrations, a barrier, dynamics of three kinds, cells, phonons.

python examples/simulate.py runs/demo/moving_view/seed_0/model.safetensors --steps 1000
"""

import argparse

# --8<-- [start:imports]
import tempfile
from pathlib import Path

import ase
import ase.build
import numpy as np
from ase import units
from ase.filters import FrechetCellFilter
from ase.io import Trajectory
from ase.md.bussi import Bussi
from ase.md.nptberendsen import NPTBerendsen
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Vibrations

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL.safetensors")
parser.add_argument("--steps", type=int, default=1000, help="number of steps of half a femtosecond")
parser.add_argument("--output", default="pressure.traj", metavar="FILE.traj")
arguments = parser.parse_args()

# --8<-- [start:vibrations]
calculator = NeuralPolarizationCalculator(arguments.checkpoint, double=True)
ethanol = ase.build.molecule("CH3CH2OH", calculator=calculator)
BFGS(ethanol, logfile=None).run(fmax=0.001, steps=50)
with tempfile.TemporaryDirectory() as folder:
    vibrations = Vibrations(ethanol, name=str(Path(folder) / "vibrations"))
    vibrations.run()
    print("wavenumbers, 1/cm:", vibrations.get_frequencies().real[-5:].round())
# --8<-- [end:vibrations]

# --8<-- [start:barrier]
images = [ethanol.copy() for _ in range(5)]
for number, image in enumerate(images):  # the hydrogen of OH turns from trans to gauche
    image.set_dihedral(0, 1, 2, 3, 180 - 30 * number, indices=[3])
    image.calc = calculator
BFGS(images[-1], logfile=None).run(fmax=0.05, steps=min(arguments.steps, 50))
band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
BFGS(band, logfile=None).run(fmax=0.05, steps=min(arguments.steps, 50))
heights = [image.get_potential_energy() - images[0].get_potential_energy() for image in images]
print(f"barrier: {1000 * max(heights):.1f} meV, gauche: {1000 * heights[-1]:+.1f} meV")
# --8<-- [end:barrier]


# --8<-- [start:energy]
def warm(atoms: ase.Atoms, kelvin: float) -> None:
    """Gives velocities of a temperature, without a drift of the whole."""
    momenta = (
        np.random.default_rng(0).normal(size=(len(atoms), 3)) * np.sqrt(kelvin * units.kB * atoms.get_masses())[:, None]
    )
    atoms.set_momenta(momenta - atoms.get_masses()[:, None] * momenta.sum(0) / atoms.get_masses().sum())


warm(ethanol, 600.0)  # half of it goes into the bonds
start = ethanol.get_total_energy()
VelocityVerlet(ethanol, timestep=0.5 * units.fs).run(arguments.steps)
print(f"constant energy: changed by {1000 * (ethanol.get_total_energy() - start):.3f} meV")
# --8<-- [end:energy]

# --8<-- [start:temperature]
warm(ethanol, 300.0)
Bussi(ethanol, 0.5 * units.fs, temperature_K=300.0, taut=50.0 * units.fs, rng=np.random.default_rng(0)).run(
    arguments.steps
)
print(f"constant temperature: {ethanol.get_temperature():.0f} K")
# --8<-- [end:temperature]

# --8<-- [start:cell]
box = ase.build.molecule("CH3CH2OH", cell=[4.8, 4.9, 5.0], pbc=True).repeat((2, 1, 1))
box.calc = calculator
BFGS(FrechetCellFilter(box), logfile=None, maxstep=0.02).run(fmax=0.05, steps=min(arguments.steps, 20))
print(f"cell: {box.cell.lengths().round(2)} Angstrom, largest stress {abs(box.get_stress()).max() / units.GPa:.2f} GPa")
# --8<-- [end:cell]

# --8<-- [start:phonons]
crystal = ase.build.molecule("CH3CH2OH", cell=[4.8, 4.9, 5.0], pbc=True)
with tempfile.TemporaryDirectory() as folder:
    phonons = Phonons(crystal, calculator, supercell=(2, 1, 1), name=str(Path(folder) / "phonons"))
    phonons.run()
    phonons.read(acoustic=True)
    energies = phonons.band_structure([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
print("phonons at the edge of the zone, 1/cm:", (energies[1, -5:] / units.invcm).round())
# --8<-- [end:phonons]

# --8<-- [start:pressure]
warm(box, 300.0)
bath = {"temperature_K": 300.0, "taut": 50.0 * units.fs, "taup": 500.0 * units.fs}
pressure = {"pressure_au": 1.0 * units.bar, "compressibility_au": 1e-4 / units.bar}
dynamics = NPTBerendsen(box, timestep=0.5 * units.fs, **bath, **pressure)
with Trajectory(arguments.output, "w", box) as trajectory:
    dynamics.attach(trajectory.write, interval=max(1, arguments.steps // 10))
    dynamics.run(arguments.steps)
print(f"constant pressure: {box.get_volume():.1f} Angstrom^3, {box.get_temperature():.0f} K")
# --8<-- [end:pressure]
