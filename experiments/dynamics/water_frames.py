"""Liquid water for the trainings of `water.yaml`, and 64 molecules of it for dynamics.

    python experiments/dynamics/water_frames.py training liquid_water_dplr_30.npz water.extxyz
    python experiments/dynamics/water_frames.py start liquid_water_wannier_160.npz waters.extxyz

The first makes an extended XYZ file of 30 periodic frames of 128 molecules with energies and forces (the data of DPLR,
L. Zhang et al., J. Chem. Phys. 156, 124107 (2022)). The second writes a frame of 64 molecules out of a dynamics of the
liquid near room temperature, which comes with the same method's examples, without labels.
"""

import argparse
from pathlib import Path

import ase
import ase.io
import numpy as np


def training(source: Path) -> list[ase.Atoms]:
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


def start(source: Path) -> ase.Atoms:
    """The first frame of the validation part, whose O-H bonds are 0.92 to 1.04 Angstrom long."""
    arrays = np.load(source)
    positions, cell = arrays["validation_positions"][0], arrays["validation_cell"][0]
    return ase.Atoms(arrays["atomic_numbers"], positions.astype(np.float64), cell=cell, pbc=True)


def main() -> None:
    """Writes one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = {"training": training, "start": start}
    parser.add_argument("kind", choices=list(kinds))
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    ase.io.write(options.output, kinds[options.kind](options.source))


if __name__ == "__main__":
    main()
