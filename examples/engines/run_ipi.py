"""A trained model in i-PI: ethanol as a ring polymer (quantum nuclei). i-PI moves it, this process computes forces.

python examples/engines/run_ipi.py runs/demo/moving_view/seed_0/model.safetensors --steps 1000
"""

import argparse

# --8<-- [start:imports]
import os
import subprocess
import time
from pathlib import Path

import ase.build
import ase.io
import numpy as np
from ase import units
from ase.calculators.socketio import SocketClient

from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("checkpoint", metavar="MODEL", help="a checkpoint (.safetensors) or an exported model (.pt2)")
parser.add_argument("--steps", type=int, default=1000, help="number of steps of half a femtosecond")
parser.add_argument("--beads", type=int, default=8, help="points of the ring polymer; 1 for classical nuclei")
parser.add_argument("--folder", type=Path, default=Path("ipi"), help="where i-PI writes")
arguments = parser.parse_args()

# --8<-- [start:input]
INPUT = """
<simulation verbosity="low">
  <output prefix="ethanol">
    <properties stride="1" filename="out">
      [step, conserved{electronvolt}, potential{electronvolt}, kinetic_cv{electronvolt}]
    </properties>
    <trajectory stride="1" filename="pos" format="ase">positions{ase}</trajectory>
    <trajectory stride="1" filename="frc" format="ase">forces{ase}</trajectory>
  </output>
  <total_steps>STEPS</total_steps>
  <prng><seed>1</seed></prng>
  <ffsocket name="model" mode="unix" pbc="false"><address>ADDRESS</address></ffsocket>
  <system>
    <initialize nbeads="BEADS">
      <file mode="ase">start.extxyz</file>
      <velocities mode="thermal" units="kelvin">300</velocities>
    </initialize>
    <forces><force forcefield="model"/></forces>
    <ensemble><temperature units="kelvin">300</temperature></ensemble>
    <motion mode="dynamics">
      <dynamics mode="nvt">
        <timestep units="femtosecond">0.5</timestep>
        <thermostat mode="pile_g"><tau units="femtosecond">100</tau></thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""
# --8<-- [end:input]

# --8<-- [start:server]
ethanol = ase.build.molecule("CH3CH2OH", cell=[50.0, 50.0, 50.0])
address = f"neural_polarization_{os.getpid()}"
arguments.folder.mkdir(parents=True, exist_ok=True)
ase.io.write(arguments.folder / "start.extxyz", ethanol)
words = {"STEPS": arguments.steps, "BEADS": arguments.beads, "ADDRESS": address}
text = INPUT
for word, value in words.items():
    text = text.replace(word, str(value))
(arguments.folder / "input.xml").write_text(text, encoding="utf-8")
with (arguments.folder / "log.txt").open("w") as log:
    server = subprocess.Popen(["i-pi", "input.xml"], cwd=arguments.folder, stdout=log, stderr=log)
# --8<-- [end:server]

# --8<-- [start:client]
ethanol.calc = NeuralPolarizationCalculator(arguments.checkpoint)
while not Path(f"/tmp/ipi_{address}").exists() and server.poll() is None:  # i-PI takes seconds to start
    time.sleep(0.1)
if server.poll() is None:
    SocketClient(unixsocket=address).run(ethanol)  # until i-PI has made its steps
if server.wait() != 0:
    raise RuntimeError(f"i-PI failed; {arguments.folder / 'log.txt'} says why")
rows = np.loadtxt(arguments.folder / "ethanol.out", ndmin=2)
print(f"{len(rows) - 1} steps of {arguments.beads} beads: conserved energy changed by {np.ptp(rows[:, 1]):.4f} eV")
classical = 1.5 * len(ethanol) * units.kB * 300.0
print(f"kinetic energy of the nuclei: {rows[:, 3].mean():.3f} eV; classical nuclei: {classical:.3f} eV")
# --8<-- [end:client]
