"""Whether cells keep their size: a box of water at constant pressure, and a relaxed crystal of ice.

    python experiments/dynamics/cells.py pressure water.pt2 waters.extxyz --picoseconds 5 --minutes 15
    python experiments/dynamics/cells.py ice water.pt2

The ice is ice XI, the ordered form of ordinary ice, with 8 molecules in its orthorhombic cell (A. J. Leadbetter et al.,
J. Chem. Phys. 82, 424 (1985)).
"""

import argparse
import time
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase import units
from ase.filters import FrechetCellFilter
from ase.md.nptberendsen import NPTBerendsen
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.optimize import FIRE
from ase.spacegroup import crystal

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

COMPRESSIBILITY = 4.6e-5 / units.bar
"""Of water. It sets how fast the box follows the pressure, not where it goes."""


def density(atoms: ase.Atoms) -> float:
    """In g/cm^3."""
    return float(atoms.get_masses().sum() / atoms.get_volume()) / (units.mol * 1e-24)


def pressure(atoms: ase.Atoms) -> float:
    """With the kinetic part, GPa."""
    return -float(atoms.get_stress(include_ideal_gas=True)[:3].mean()) / units.GPa


def at_constant_pressure(options: argparse.Namespace) -> None:
    """Prints density, pressure and temperature ten times."""
    atoms = ase.io.read(options.structure)
    assert isinstance(atoms, ase.Atoms)
    atoms.calc = NeuralPolarizationCalculator(options.model)
    MaxwellBoltzmannDistribution(atoms, temperature_K=options.kelvin, rng=np.random.default_rng(0))
    Stationary(atoms)
    bath = {"temperature_K": options.kelvin, "taut": 50.0 * units.fs, "taup": 200.0 * units.fs}
    dynamics = NPTBerendsen(
        atoms, 0.5 * units.fs, pressure_au=1.0 * units.bar, compressibility_au=COMPRESSIBILITY, **bath
    )
    rows: list[tuple[float, float, float]] = []
    dynamics.attach(lambda: rows.append((density(atoms), pressure(atoms), atoms.get_temperature())), interval=10)
    begin, steps = time.perf_counter(), round(2000 * options.picoseconds)
    for part in range(10):
        try:
            dynamics.run(steps // 10)
        except ValueError as error:
            print(f"broken after {dynamics.get_time() / units.fs / 1000:.3f} ps: {error}")
            break
        mean = np.mean(rows[-steps // 100 :], axis=0)
        print(
            f"{(part + 1) * steps / 20000:6.2f} ps: {mean[0]:.3f} g/cm^3, {mean[1]:+.2f} GPa, {mean[2]:.0f} K, box "
            f"{atoms.cell.lengths().mean():.2f} Angstrom",
            flush=True,
        )
        if time.perf_counter() - begin > 60.0 * options.minutes:
            break


def ice() -> ase.Atoms:
    """Ice XI at its measured structure."""
    places = [(0, 0.6645, 0.0631), (0.5, 0.8255, -0.0631)]
    places += [(0, 0.6636, 0.1963), (0, 0.5363, 0.0183), (0.6766, 0.7748, -0.0183)]
    return crystal("OOHHH", places, spacegroup=36, cellpar=[4.465, 7.859, 7.292, 90, 90, 90])


def relaxed(options: argparse.Namespace) -> None:
    """Prints the cell of ice before and after."""
    atoms = ice()
    atoms.calc = NeuralPolarizationCalculator(options.model)
    start = atoms.get_potential_energy()
    for title in ("measured", "relaxed"):
        lengths = ", ".join(f"{length:.3f}" for length in atoms.cell.lengths())
        print(
            f"{title}: {lengths} Angstrom, {density(atoms):.3f} g/cm^3, pressure {pressure(atoms):+.2f} GPa, largest "
            f"force {np.linalg.norm(atoms.get_forces(), axis=1).max():.3f} eV/Angstrom, energy "
            f"{1000 * (atoms.get_potential_energy() - start) / 8:+.0f} meV per molecule"
        )
        if title == "measured":
            optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
            done = optimizer.run(fmax=options.fmax, steps=options.steps)
            print(f"{optimizer.get_number_of_steps()} steps, {'converged' if done else 'not converged'}")


def main() -> None:
    """Runs one of both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(required=True)
    box = kinds.add_parser("pressure")
    box.add_argument("model", type=Path)
    box.add_argument("structure", type=Path)
    box.add_argument("--picoseconds", type=float, default=5.0)
    box.add_argument("--minutes", type=float, default=15.0, help="at most")
    box.add_argument("--kelvin", type=float, default=300.0)
    box.set_defaults(run=at_constant_pressure)
    of_ice = kinds.add_parser("ice")
    of_ice.add_argument("model", type=Path)
    of_ice.add_argument("--fmax", type=float, default=0.02)
    of_ice.add_argument("--steps", type=int, default=500)
    of_ice.set_defaults(run=relaxed)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
