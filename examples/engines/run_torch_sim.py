"""A trained model in torch-sim: dynamics and relaxation of a batch of ethanols, and cells at constant pressure.

python examples/engines/run_torch_sim.py runs/demo/moving_view/seed_0/model.safetensors --steps 1000
"""

import argparse

# --8<-- [start:imports]
import ase.build
import torch
import torch_sim as ts

from neural_polarization.interfaces.torch_sim import TorchSimModel

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL", help="a checkpoint (.safetensors) or an exported model (.pt2)")
parser.add_argument("--steps", type=int, default=1000, help="number of steps of half a femtosecond")
parser.add_argument("--systems", type=int, default=20, help="number of molecules in the batch")
parser.add_argument("--device", default="cpu", help="cpu or cuda")
arguments = parser.parse_args()

# --8<-- [start:energy]
model = TorchSimModel(arguments.checkpoint, device=arguments.device)
ethanols = [ase.build.molecule("CH3CH2OH") for _ in range(arguments.systems)]
state = ts.initialize_state(ethanols, model.device, model.dtype)
state.rng = 0  # of the velocities
run = {"n_steps": arguments.steps, "timestep": 0.0005, "temperature": 300.0}  # ps, K
moving = ts.integrate(state, model, integrator=ts.Integrator.nve, **run)
print(f"{arguments.systems} ethanols: energies from {moving.energy.min():.4f} to {moving.energy.max():.4f} eV")
print(f"dipoles up to {moving.dipole.norm(dim=1).max():.2f} e*Angstrom")
print(f"displacements up to {moving.displacement.norm(dim=1).max():.3f} Angstrom")
# --8<-- [end:energy]

# --8<-- [start:relax]
relaxed = ts.optimize(moving, model, optimizer=ts.Optimizer.fire, max_steps=arguments.steps)
print(f"relaxed: forces up to {relaxed.forces.norm(dim=1).max():.3f} eV/Angstrom")
# --8<-- [end:relax]

# --8<-- [start:pressure]
boxes = [ase.build.molecule("CH3CH2OH", cell=[side] * 3, pbc=True) for side in (5.0, 5.2)]
isotropic = ts.Integrator.npt_nose_hoover_isotropic
crystals = ts.integrate(boxes, model, integrator=isotropic, external_pressure=1.0, **run)  # bar
print("volumes, Angstrom^3:", torch.linalg.det(crystals.cell).abs().tolist())
# --8<-- [end:pressure]
