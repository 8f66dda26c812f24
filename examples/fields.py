"""A molecule at rest in an electric field across its dipole: the field turns it.

python examples/fields.py runs/fields/model.safetensors --steps 800
python examples/fields.py runs/dimer/model.safetensors --structure dimer.xyz --strength 0.1 --steps 700
"""

import argparse

# --8<-- [start:imports]
import numpy as np
from ase import units
from ase.build import molecule
from ase.io import Trajectory, iread
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description="A molecule at rest in an electric field across its dipole.")
parser.add_argument("checkpoint", metavar="MODEL.safetensors")
parser.add_argument("--structure", metavar="FILE", help="what ASE reads; default: formaldehyde")
parser.add_argument("--strength", type=float, default=0.2, help="of the field, V/Angstrom")
parser.add_argument("--steps", type=int, default=800, help="number of steps of half a femtosecond")
parser.add_argument("--output", default="fields.traj", metavar="FILE.traj")
arguments = parser.parse_args()

# --8<-- [start:relax]
atoms = next(iread(arguments.structure)) if arguments.structure else molecule("H2CO")
atoms.calc = NeuralPolarizationCalculator(arguments.checkpoint, double=True)
BFGS(atoms, logfile=None).run(fmax=0.01, steps=100)
# --8<-- [end:relax]

# --8<-- [start:run]
across = np.cross([0.0, 1.0, 0.0], atoms.get_dipole_moment())  # perpendicular to y and to the dipole
field = arguments.strength * across / np.linalg.norm(across)  # V/Angstrom
atoms.info["external_field"] = field
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)


def report() -> None:
    """One line of what a frame is like."""
    dipole = atoms.get_dipole_moment()
    length, along = np.linalg.norm(dipole), dipole @ field / np.linalg.norm(field)
    angle = np.degrees(np.arccos(np.clip(along / length, -1.0, 1.0)))
    print(
        f"{dynamics.get_time() / units.fs:6.0f} fs   dipole {length / units.Debye:5.2f} D, "
        f"{along / units.Debye:5.2f} D along the field ({angle:3.0f} degrees)   "
        f"energy {atoms.get_total_energy():.5f} eV",
        flush=True,
    )


dynamics.attach(report, interval=max(1, arguments.steps // 16))
with Trajectory(arguments.output, "w", atoms) as trajectory:
    dynamics.attach(trajectory.write, interval=10)
    dynamics.run(arguments.steps)
# --8<-- [end:run]
print(f"written: {arguments.output}; `ase gui {arguments.output}` shows it")
