"""How far the fast accuracy (small grids, density fitting) is from the exact one, on displaced structures.

    python experiments/labelling/fast_accuracy.py molecules.extxyz 30 60 90 ...

The numbers choose structures of the file.
"""

import sys
import time

import numpy as np

from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import EXACT, FAST
from neural_polarization.structures import read_structures

LABELS = ("energy", "forces", "dipole", "polarizability", "homo", "lumo", "spatial_extent", "hirshfeld_charges")


def main() -> None:
    structures = read_structures(sys.argv[1])
    level = Level.parse("B3LYP/6-31G(2df,p)")
    print("largest difference of any component (energy in meV, else the labels' units); processor seconds")
    print(f"| molecule | {' | '.join(LABELS)} | fast, s | exact, s |")
    print("|---" * (len(LABELS) + 3) + "|")
    quantities = ("forces", "polarizability", "charges")
    for index in map(int, sys.argv[2:]):
        results, seconds = [], []
        for accuracy in (FAST, EXACT):
            start = time.process_time()
            results.append(compute(structures[index], Request(level, accuracy, quantities)))
            seconds.append(time.process_time() - start)
        fast, exact = results
        cells = [f"{np.abs(fast[name] - exact[name]).max() * (1e3 if name == 'energy' else 1):.2g}" for name in LABELS]
        name = structures[index].info.get("smiles", structures[index].get_chemical_formula())
        print(f"| {name} | {' | '.join(cells)} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
