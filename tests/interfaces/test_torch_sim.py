"""A model in torch-sim, where that is installed."""

import warnings
from typing import Any

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


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": 50}, "0: charge is .50 for 10 protons"),
        ({"spin": -1}, "-1"),
        ({"charge": [1]}, r"charge: has shape \(1, 1\); expected \(1,\)"),
        ({"spin": 1.5}, "spin of system 0 is 1.5; expected a whole number"),
    ],
)
def test_charges_and_spins_that_cannot_be(info: dict[str, Any], message: str, periodic: bool) -> None:
    from torch_sim.io import atoms_to_state

    from neural_polarization.interfaces.torch_sim import TorchSimModel

    model = Model(ModelConfig(("H", "O"), {"energy": HeadConfig("extensive", forces=True)}))
    water = molecule("H2O", cell=[9.0, 9.0, 9.0], pbc=periodic)
    water.info = info
    state = atoms_to_state([water], torch.device("cpu"), torch.float64, system_extras_map={name: name for name in info})
    with pytest.raises(ValueError, match=message):
        TorchSimModel(model)(state)
