"""AcAc or 3BPA in flat NumPy arrays as extended XYZ files, one for each part (train_300K, test_MD_600K, ...).

    python experiments/extrapolation/to_extxyz.py acac.npz runs/extrapolation/acac

Arrays are PART_positions (Angstrom), PART_energies (eV) and, for frames of dynamics, PART_forces (eV/Angstrom); scans
have energies only, and the order of their atoms as PART_atomic_numbers. Frames of the other parts that train_300K has
too are left out (31 of 3BPA's train_mixedT), so that these parts can be test sets.
"""

import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

arrays, folder = np.load(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
learned = {positions.tobytes() for positions in arrays["train_300K_positions"]}
for key in arrays.files:
    part = key.removesuffix("_positions")
    if part == key:
        continue
    own_numbers = f"{part}_atomic_numbers"
    numbers = arrays[own_numbers if own_numbers in arrays.files else "atomic_numbers"]
    forces = arrays[f"{part}_forces"] if f"{part}_forces" in arrays.files else None
    frames: list[ase.Atoms] = []
    for k, positions in enumerate(arrays[key]):
        if part != "train_300K" and positions.tobytes() in learned:
            continue
        frame = ase.Atoms(numbers, positions)
        labels = {"energy": float(arrays[f"{part}_energies"][k])}
        frame.calc = SinglePointCalculator(frame, **labels, **({} if forces is None else {"forces": forces[k]}))
        frames.append(frame)
    ase.io.write(folder / f"{part}.xyz", frames, format="extxyz")
    print(f"{part}: {len(frames)} structures")
