"""Liquid water for the trainings of `water.yaml`, and a box of 64 molecules for dynamics.

    python experiments/dynamics/water_frames.py frames liquid_water_dplr_30.npz water.extxyz
    python experiments/dynamics/water_frames.py box waters.extxyz --model runs/water/plain/seed_0/model.safetensors

The first makes an extended XYZ file of 30 periodic frames of 128 molecules with energies and forces (the data of DPLR,
L. Zhang et al., J. Chem. Phys. 156, 124107 (2022)). The second places 64 molecules in random orientations on the points
of a cubic grid, at a density of 1 g/cm^3, and relaxes them a little.
"""

import argparse
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
from ase.optimize import FIRE

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

VOLUME = 29.92
"""Of one molecule at 1 g/cm^3, Angstrom^3."""


def frames(source: Path) -> list[ase.Atoms]:
    """The frames of the file with their labels."""
    arrays = np.load(source)
    found: list[ase.Atoms] = []
    labels = zip(arrays["positions"], arrays["cell"], arrays["energies"], arrays["forces"], strict=True)
    for positions, cell, energy, forces in labels:
        frame = ase.Atoms(arrays["atomic_numbers"], positions.astype(np.float64), cell=cell, pbc=True)
        frame.info["energy"] = float(energy)
        frame.arrays["forces"] = forces.astype(np.float64)
        found.append(frame)
    return found


def box(count: int = 64) -> ase.Atoms:
    """Molecules in random orientations on a cubic grid."""
    side = round(count ** (1 / 3))
    spacing = VOLUME ** (1 / 3)
    generator = np.random.default_rng(0)
    whole = ase.Atoms(cell=[side * spacing] * 3, pbc=True)
    for place in np.argwhere(np.ones((side, side, side))):
        water = ase.build.molecule("H2O")
        water.rotate(generator.uniform(0, 360), generator.normal(size=3))
        water.translate(spacing * (place + 0.5))
        whole += water
    return whole


def main() -> None:
    """Writes one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_frames = kinds.add_parser("frames")
    of_frames.add_argument("source", type=Path)
    of_box = kinds.add_parser("box")
    for command in (of_frames, of_box):
        command.add_argument("output", type=Path)
    of_box.add_argument("--model", type=Path, required=True)
    of_box.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    if options.kind == "frames":
        ase.io.write(options.output, frames(options.source))
        return
    waters = box()
    waters.calc = NeuralPolarizationCalculator(options.model)
    FIRE(waters, logfile=None).run(fmax=0.3, steps=options.steps)
    forces = np.linalg.norm(waters.get_forces(), axis=1)
    waters.calc = None
    ase.io.write(options.output, waters)
    print(f"64 molecules in {waters.cell[0, 0]:.2f} Angstrom, largest force {forces.max():.2f} eV/Angstrom")


if __name__ == "__main__":
    main()
