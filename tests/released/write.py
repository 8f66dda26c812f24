"""Writes the checkpoint and the predictions that `test_released.py` reads. Run with the release that is to be pinned.

python tests/released/write.py 0.1.0        # in an environment with neural-polarization 0.1.0
"""

import json
import sys
from pathlib import Path

import ase.build
import torch

import neural_polarization
from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import model_config, save_model
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules

CONFIG = {
    "elements": ["H", "C", "O"],
    "heads": {
        "energy": {"kind": "extensive", "forces": True},
        "dipole": {"kind": "dipole"},
        "polarizability": {"kind": "polarizability"},
    },
    "polarization": {"messages": "moving_view", "limit": 0.5, "move": "default", "lengths": "nuclear"},
}


def main(release: str) -> None:
    """One small model with weights large enough to move the points, and what it predicts for ethanol and water."""
    assert neural_polarization.__version__ == release, f"this is {neural_polarization.__version__}"
    torch.manual_seed(0)
    backbone = BackboneConfig("painn", channels=4, num_layers=2, cutoff=4.0, num_basis=4).resolved()
    values = {**CONFIG, "backbone": {name: getattr(backbone, name) for name in backbone.__dataclass_fields__}}
    model = Model(model_config(values)).double()
    with torch.no_grad():
        for move in model.representation.moves:
            move.enlarge(20.0)
    folder = Path(__file__).parent
    save_model(model, folder / f"{release}.safetensors", {"note": "written by a test"})
    molecules = Molecules.from_ase(
        [ase.build.molecule("CH3CH2OH"), ase.build.molecule("H2O")], model.cutoff, torch.float64
    )
    predicted, displacement = model.eval().with_displacement(molecules)
    numbers = {name: value.detach().tolist() for name, value in predicted.items()}
    (folder / f"{release}.json").write_text(json.dumps({**numbers, "displacement": displacement.tolist()}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
