"""Compiled inference, in a process of its own: torch's compiler cannot trace the run-time checks of the tests.

Tracing and differentiating is what can go wrong here, so the cheap back end "aot_eager" does; "inductor" gives the
same numbers for all three backbones, but its C++ compiler takes minutes on a slow machine.
"""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from neural_polarization.backbones import PaiNN
from neural_polarization.messages import Messages
from neural_polarization.testing import BackboneContract

torch.set_num_threads(1)

class Compiled(BackboneContract):
    compiler = "aot_eager"
    def make_backbone(self, num_species):
        return PaiNN(num_species, channels=8, num_layers=2)

Compiled().test_compiled_inference(Messages.BOTH_VIEWS)
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
