"""Formaldehyde at rest in an electric field across its bond: the field turns it.

python examples/fields.py runs/fields/model.safetensors --steps 800
"""

import argparse

# --8<-- [start:imports]
import numpy as np
from ase import units
from ase.build import molecule
from ase.io import Trajectory
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL.safetensors")
parser.add_argument("--steps", type=int, default=800, help="number of steps of half a femtosecond")
parser.add_argument("--output", default="fields.traj", metavar="FILE.traj")
arguments = parser.parse_args()

# --8<-- [start:relax]
atoms = molecule("H2CO")  # its dipole lies along z
atoms.calc = NeuralPolarizationCalculator(arguments.checkpoint, double=True)
BFGS(atoms, logfile=None).run(fmax=0.005, steps=100)
# --8<-- [end:relax]

# --8<-- [start:run]
field = np.array([0.2, 0.0, 0.0])  # V/Angstrom
atoms.info["external_field"] = field
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)


def report() -> None:
    """One line of what a frame is like."""
    dipole = atoms.get_dipole_moment()
    along = dipole @ field / np.linalg.norm(field)
    print(
        f"{dynamics.get_time() / units.fs:6.0f} fs   dipole {np.linalg.norm(dipole) / units.Debye:5.2f} D, "
        f"{along / units.Debye:5.2f} D along the field   energy {atoms.get_total_energy():.5f} eV",
        flush=True,
    )


dynamics.attach(report, interval=max(1, arguments.steps // 16))
with Trajectory(arguments.output, "w", atoms) as trajectory:
    dynamics.attach(trajectory.write, interval=10)
    dynamics.run(arguments.steps)
# --8<-- [end:run]
print(f"written: {arguments.output}; `ase gui {arguments.output}` shows it")
