"""Write labelled frames as extended XYZ, with your own names and units, for `npol train`.

python examples/own_data.py --frames 200
npol train configs/own_data.yaml --data.path molecules.extxyz

The labels come from ASE's EMT, a toy potential that takes no time: take your own calculator instead.
"""

import argparse

# --8<-- [start:imports]
import ase.build
import ase.io
import numpy as np
from ase.calculators.emt import EMT

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--frames", type=int, default=200)
parser.add_argument("--output", default="molecules.extxyz", metavar="FILE.extxyz")
arguments = parser.parse_args()

# --8<-- [start:write]
generator = np.random.default_rng(0)
names = ["CH3CH2OH", "CH3OCH3", "H2CO", "CH3CHO", "CO2", "H2O", "CH4", "CH3OH", "C2H6", "C2H4"]
frames = []
for k in range(arguments.frames):
    frame = ase.build.molecule(names[k % len(names)])
    frame.positions += generator.normal(scale=0.05, size=frame.positions.shape)
    frame.calc = EMT()
    labelled = frame.copy()
    labelled.info["energy"] = frame.get_potential_energy()  # eV, one number per frame
    labelled.arrays["forces"] = frame.get_forces()  # eV/Angstrom, a vector per atom
    frames.append(labelled)
ase.io.write(arguments.output, frames)
# --8<-- [end:write]
print(f"written: {arguments.output} ({len(frames)} frames)")
