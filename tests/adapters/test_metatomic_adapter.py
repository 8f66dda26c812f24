"""Models for metatomic's engines: the file that `npol export --to metatomic` writes, through metatomic's calculator."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("metatomic.torch")

# TorchScript reads the sources of functions, which checks of types at run time wrap: so it is a process of its own.
EXPORT = """
import sys
import numpy as np
import torch
from ase.build import bulk
from metatensor.torch import Labels
from metatomic.torch import ModelOutput
from metatomic_ase import MetatomicCalculator
from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.metatomic import export_metatomic
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.models import HeadConfig, Model, ModelConfig
torch.set_num_threads(1)
backbone = BackboneConfig(sys.argv[1], channels=8, num_layers=2, cutoff=4.0)
model = Model(ModelConfig(("C", "N", "O"), {"energy": HeadConfig("extensive", forces=True)}, backbone))
model.head("energy").baseline.references.copy_(torch.tensor([-1030.0, -1490.0, -2043.0]))
model.knowledge = TrainingKnowledge(elements={"C": 4, "N": 0, "O": 4})  # N is named, but was not learned
save_model(model, "model.safetensors")
export_metatomic("model.safetensors", "model.pt")
atoms = bulk("CO", "rocksalt", a=4.3, cubic=True).repeat(2)
atoms.rattle(0.1, seed=0)
atoms.calc = MetatomicCalculator("model.pt")
other = atoms.copy()
other.calc = NeuralPolarizationCalculator(model, double=True)
np.testing.assert_allclose(atoms.get_potential_energy(), other.get_potential_energy(), atol=1e-7)
np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), atol=1e-8)
np.testing.assert_allclose(atoms.get_stress(), other.get_stress(), atol=1e-9)
# An engine that divides space asks for the energy of its own atoms: the parts add up to the whole.
calculator = atoms.calc
whole = atoms.get_potential_energy()
halves = []
for half in (range(0, 30), range(30, 64)):
    chosen = Labels(["system", "atom"], torch.tensor([[0, k] for k in half]))
    asked = {"energy": ModelOutput(unit="eV", sample_kind="system")}
    halves.append(float(calculator.run_model(atoms, asked, selected_atoms=chosen)["energy"].block().values.detach()))
np.testing.assert_allclose(sum(halves), whole, atol=1e-7)
assert abs(halves[0] - halves[1]) > 1.0
assert calculator._model.capabilities().atomic_types == [6, 8]
"""


@pytest.mark.parametrize("name", ["painn", "schnet"])
def test_an_engine_has_the_energies_forces_and_stresses_of_the_model(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXPORT, name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "model.pt").stat().st_size > 10_000
