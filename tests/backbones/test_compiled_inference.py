"""Compiled inference, in a process of its own: torch's compiler cannot trace the run-time checks of the tests."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from neural_polarization.backbones import EGNN, PaiNN, SchNet
from neural_polarization.polarization import Messages
from neural_polarization.testing import BackboneContract

torch.set_num_threads(1)

class Traced(BackboneContract):
    compiler = "aot_eager"
    def __init__(self, architecture):
        self.architecture = architecture
    def make_backbone(self, num_species):
        return self.architecture(num_species, channels=8, num_layers=2)

class Compiled(BackboneContract):
    compiler = "inductor"
    def make_backbone(self, num_species):
        return PaiNN(num_species, channels=8, num_layers=1)

for architecture in (EGNN, PaiNN, SchNet):
    Traced(architecture).test_compiled_inference(Messages.BOTH_VIEWS)
Compiled().test_compiled_inference(Messages.RIDING)
print("compiled and compared")
"""


@pytest.mark.slow
def test_compiled_energies_and_forces() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "compiled and compared" in done.stdout
