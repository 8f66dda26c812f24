"""Checkpoints that earlier releases wrote load, and predict what they predicted then."""

import json
from pathlib import Path

import ase.build
import pytest
import torch

from neural_polarization.checkpoints import load_model
from neural_polarization.molecules import Molecules

FOLDER = Path(__file__).parent
RELEASES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def test_there_are_releases() -> None:
    assert "0.1.0" in RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_a_checkpoint_predicts_what_it_did(release: str) -> None:
    model, checkpoint = load_model(FOLDER / f"{release}.safetensors")
    assert checkpoint.versions["neural-polarization"] == release
    expected = json.loads((FOLDER / f"{release}.json").read_text(encoding="utf-8"))
    structures = [ase.build.molecule("CH3CH2OH"), ase.build.molecule("H2O")]
    predicted, displacement = model.with_displacement(Molecules.from_ase(structures, model.cutoff, torch.float64))
    got = {**predicted, "displacement": displacement}
    assert got.keys() == expected.keys()
    assert displacement.norm(dim=-1).max() > 0.01
    for name, value in got.items():
        torch.testing.assert_close(value, torch.tensor(expected[name], dtype=value.dtype), rtol=1e-10, atol=1e-10)
