"""A model in torch-sim, where that is installed."""

import warnings

import numpy as np
import pytest
import torch
from ase.build import molecule

from neural_polarization.electronic import ElectronicInput
from neural_polarization.interfaces.prediction import predict
from neural_polarization.models import HeadConfig, Model, ModelConfig

pytest.importorskip("torch_sim")


def test_a_state_without_the_charge_that_a_model_takes() -> None:
    """torch-sim leaves out `atoms.info`, of all systems if one has no charge."""
    from torch_sim.io import atoms_to_state

    from neural_polarization.interfaces.torch_sim import TorchSimModel

    heads = {"energy": HeadConfig("extensive", forces=True)}
    model = Model(ModelConfig(("H", "O"), heads, electronic=ElectronicInput.CHARGE)).double()
    ion, neutral = molecule("H2O"), molecule("H2O")
    ion.info["charge"] = 1
    charges = {"charge": "charge"}
    for frames, extras in (([ion], None), ([ion, neutral], charges)):
        state = atoms_to_state(frames, torch.device("cpu"), torch.float64, system_extras_map=extras)
        asked = TorchSimModel(model, double=True)
        with pytest.warns(UserWarning, match="the state has no charge, which this model takes as input"):
            asked(state)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asked(state)
    neutral.info["charge"] = 0
    state = atoms_to_state([ion, neutral], torch.device("cpu"), torch.float64, system_extras_map=charges)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = TorchSimModel(model, double=True)(state)["energy"].numpy()
    expected = [float(of.properties["energy"]) for of in predict(model, [ion, neutral])]
    np.testing.assert_allclose(found, expected)
    assert abs(found[0] - found[1]) > 1e-3
