"""QM7-X in flat NumPy arrays as an extended XYZ file that says which geometries are of one molecule.

    python experiments/why/qm7x_to_extxyz.py qm7x_2500.npz qm7x.extxyz

Ten consecutive structures are one molecule; energies in eV, forces in eV/Angstrom.
"""

import sys

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

arrays = np.load(sys.argv[1])
ends = np.cumsum(arrays["n_atoms"].astype(int))
frames: list[ase.Atoms] = []
for k, end in enumerate(ends):
    atoms = slice(end - int(arrays["n_atoms"][k]), end)
    frame = ase.Atoms(arrays["atomic_numbers"][atoms], arrays["positions"][atoms])
    first = frames[k - k % 10] if k % 10 else frame
    if not np.array_equal(frame.numbers, first.numbers):
        raise ValueError(f"structure {k} is not of the molecule of structure {k - k % 10}")
    frame.info["molecule"] = k // 10
    frame.calc = SinglePointCalculator(frame, energy=float(arrays["energies"][k]), forces=arrays["forces"][atoms])
    frames.append(frame)
ase.io.write(sys.argv[2], frames, format="extxyz")
