"""Energy drift of dynamics at constant energy: how much the total energy changes per picosecond and atom.

    python experiments/dynamics/drift.py model.safetensors                                # ethanol, ASE, 20 ps
    python experiments/dynamics/drift.py model.pt2 --picoseconds 20 --minutes 10          # an exported model
    python experiments/dynamics/drift.py model.safetensors --engine torch-sim --copies 20 # 20 at a time, Python 3.12
    python experiments/dynamics/drift.py water.pt2 --structure waters.extxyz --warm       # a frame of a dynamics

A minimum starts with twice the kinetic energy of the temperature, half of which goes into the bonds; a frame of a
dynamics (`--warm`) starts with that of the temperature. The drift is the slope of a straight line through the total
energies, the fluctuation is the standard deviation about it. A run ends after the given time at the latest, or where
the model breaks, and says how far it came.
"""

import argparse
import time
from pathlib import Path

import ase.build
import ase.io
import numpy as np
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--structure", type=Path, help="by default ethanol")
    parser.add_argument("--warm", action="store_true", help="the structure is of a dynamics at this temperature")
    parser.add_argument("--engine", choices=["ase", "torch-sim"], default="ase")
    parser.add_argument("--copies", type=int, default=1, help="systems at a time, of torch-sim")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=30.0, help="at most")
    parser.add_argument("--step", type=float, default=0.5, help="fs")
    parser.add_argument("--kelvin", type=float, default=300.0)
    parser.add_argument("--double", action="store_true")
    return parser.parse_args()


def started(options: argparse.Namespace, seed: int) -> ase.Atoms:
    """The structure with random velocities."""
    atoms = ase.io.read(options.structure) if options.structure else ase.build.molecule("CH3CH2OH")
    assert isinstance(atoms, ase.Atoms)
    kelvin = options.kelvin if options.warm else 2.0 * options.kelvin
    MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=np.random.default_rng(seed))
    Stationary(atoms)
    return atoms


def with_ase(options: argparse.Namespace) -> np.ndarray:
    """Total energy, eV, (frames, 1), one per 10 steps."""
    from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

    atoms = started(options, 0)
    atoms.calc = NeuralPolarizationCalculator(options.model, double=options.double)
    dynamics = VelocityVerlet(atoms, timestep=options.step * units.fs)
    energies, begin = [atoms.get_total_energy()], time.perf_counter()
    while len(energies) * 10 * options.step < 1000.0 * options.picoseconds:
        try:
            dynamics.run(10)
        except ValueError as error:  # atoms at one place, or numbers that are not finite: a model that is no good
            print(f"{options.model.name}: broken after {len(energies) * 10 * options.step / 1000:.3f} ps: {error}")
            break
        energies.append(atoms.get_total_energy())
        if time.perf_counter() - begin > 60.0 * options.minutes:
            break
    return np.array(energies)[:, None]


def with_torch_sim(options: argparse.Namespace) -> np.ndarray:
    """Total energies, eV, (frames, copies), one per 10 steps."""
    import torch
    import torch_sim as ts

    from neural_polarization.interfaces.torch_sim import TorchSimModel

    torch.set_num_threads(1)
    frames = [started(options, seed) for seed in range(options.copies)]
    model = TorchSimModel(options.model, double=options.double, stress=False)
    state = ts.io.atoms_to_state(frames, model.device, model.dtype)
    # torch-sim's unit of time is that of eV, Angstrom and atomic mass, as ASE's.
    momenta = torch.tensor(np.concatenate([frame.get_momenta() for frame in frames]))
    state = ts.integrators.md.MDState.from_state(state, momenta=momenta, energy=None, forces=None)
    state = ts.integrators.nve_init(state, model, kT=torch.tensor(0.0, dtype=torch.float64))

    def totals() -> np.ndarray:
        kinetic = ts.quantities.calc_kinetic_energy(
            momenta=state.momenta, masses=state.masses, system_idx=state.system_idx
        )
        return (state.energy + kinetic).numpy()

    energies, begin = [totals()], time.perf_counter()
    while len(energies) * 10 * options.step < 1000.0 * options.picoseconds:
        for _ in range(10):
            state = ts.integrators.nve_step(state, model, dt=torch.tensor(options.step * units.fs))
        energies.append(totals())
        if time.perf_counter() - begin > 60.0 * options.minutes:
            break
    return np.array(energies)


def main() -> None:
    """Prints one line."""
    options = parsed()
    atoms, begin = started(options, 0), time.process_time()
    energies = with_ase(options) if options.engine == "ase" else with_torch_sim(options)
    spent = time.process_time() - begin
    picoseconds = np.arange(len(energies)) * 10 * options.step / 1000.0
    lines = [np.polyfit(picoseconds, energies[:, k], 1) for k in range(energies.shape[1])]
    slopes = 1e6 * np.array([line[0] for line in lines]) / len(atoms)
    rest = [energies[:, k] - np.polyval(line, picoseconds) for k, line in enumerate(lines)]
    steps = (len(energies) - 1) * 10
    print(
        f"{options.model.name}, {options.engine}, {energies.shape[1]} x {len(atoms)} atoms, {picoseconds[-1]:.2f} ps: "
        f"drift {slopes.mean():+.2f} (largest {np.abs(slopes).max():.2f}) microeV per ps and atom, fluctuation "
        f"{1e3 * np.std(rest) / len(atoms):.4f} meV per atom, {1e3 * spent / steps / energies.shape[1]:.2f} ms per step"
    )


if __name__ == "__main__":
    main()
