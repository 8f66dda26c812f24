"""Molecular dynamics of ethanol with a trained model: energies, temperatures, dipoles, and where the electrons are.

python examples/dynamics.py runs/demo/moving_view/seed_0/model.safetensors --steps 1000
"""

import argparse

# --8<-- [start:imports]
import ase.build
import numpy as np
from ase import units
from ase.io import Trajectory
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL.safetensors")
parser.add_argument("--steps", type=int, default=1000, help="number of steps of half a femtosecond")
parser.add_argument("--temperature", type=float, default=300.0, help="temperature of the bath, K")
parser.add_argument("--device", default="cpu", help="cpu or cuda")
parser.add_argument("--output", default="dynamics.traj", metavar="FILE.traj")
arguments = parser.parse_args()

# --8<-- [start:relax]
ethanol = ase.build.molecule("CH3CH2OH")
ethanol.calc = NeuralPolarizationCalculator(arguments.checkpoint, device=arguments.device)
BFGS(ethanol, logfile=None).run(fmax=0.05, steps=50)
# --8<-- [end:relax]

# --8<-- [start:run]
generator = np.random.default_rng(0)
bath = {"temperature_K": arguments.temperature, "friction": 0.01 / units.fs, "fixcm": False, "rng": generator}
dynamics = Langevin(ethanol, timestep=0.5 * units.fs, **bath)  # starts at rest; the bath heats it in 0.1 ps


def report() -> None:
    """One line of what a frame is like."""
    furthest = np.linalg.norm(ethanol.calc.results["displacement"], axis=1).max()
    print(
        f"{dynamics.get_time() / units.fs:8.1f} fs   {ethanol.get_potential_energy():.4f} eV   "
        f"{ethanol.get_temperature():4.0f} K   largest displacement {furthest:.3f} Angstrom",
        flush=True,
    )


every = max(1, arguments.steps // 10)
dynamics.attach(report, interval=every)
with Trajectory(arguments.output, "w", ethanol) as trajectory:
    dynamics.attach(trajectory.write, interval=every)
    dynamics.run(arguments.steps)
# --8<-- [end:run]
print(f"written: {arguments.output}; `ase gui {arguments.output}` shows it")
