"""The polarizability along one random direction: unbiased, and refused where it means nothing."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.batching import Batch
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.response import Pushed, Response
from neural_polarization.testing import distorted
from neural_polarization.training import directions
from neural_polarization.training.config import LossConfig, TrainingConfig
from neural_polarization.training.losses import Losses
from neural_polarization.training.module import Learner

HEADS = {
    "energy": HeadConfig("extensive", forces=True),
    "dipole": HeadConfig("dipole_flow"),
    "alpha": HeadConfig("polarizability_bonds"),
}
LABELS = ("energy", "forces", "alpha")


def make_model(response: Response) -> Model:
    torch.manual_seed(0)
    polarization = PolarizationConfig(Messages.RIDING)
    backbone = BackboneConfig("painn", 8, 2, 4.0, 6)
    model = Model(ModelConfig(("H", "C", "O"), HEADS, backbone, polarization, response)).double().train()
    if isinstance(model.response, Pushed):
        model.response.enlarge(50.0)
    return model


def make_batch(model: Model) -> Batch:
    """Three molecules in fields; the last has no label of its polarizability."""
    molecules = Molecules.from_ase([distorted(name) for name in ("H2CO", "CH3OH", "H2O")], model.cutoff, torch.float64)
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    alpha = drawn(3, 3, 3)
    alpha = alpha + alpha.transpose(1, 2)
    alpha[2] = float("nan")
    labels = {"energy": drawn(3), "forces": drawn(molecules.num_atoms, 3), "alpha": alpha}
    return Batch(replace(molecules, external_field=0.3 * drawn(3, 3)), labels, torch.arange(3))


def training(directions: str) -> TrainingConfig:
    losses = {name: LossConfig() for name in LABELS} | {"dipole": LossConfig(weight=0.0)}
    losses["alpha"] = LossConfig(weight=2.0, directions="one" if directions == "one" else "all")
    return TrainingConfig(losses=losses)


def gradients(model: Model, batch: Batch, config: TrainingConfig) -> Mapping[str, Tensor]:
    """Of the loss of one step, by every weight."""
    model.zero_grad()
    Learner(model, config, 10).training_step(batch, 0).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("response", [Response.QUADRATIC, Response.PUSH, Response.PUSH_DUAL])
def test_the_mean_over_directions_is_the_full_loss(response: Response, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(response)
    batch = make_batch(model)
    whole = gradients(model, batch, training("all"))
    mean = {name: torch.zeros_like(value) for name, value in whole.items()}
    for axis in torch.eye(3, dtype=torch.float64):  # three directions have the second moment of all of the sphere
        monkeypatch.setattr(directions, "random_directions", lambda count, seed, axis=axis: axis.expand(count, 3))
        of_axis = gradients(model, batch, training("one"))
        assert any(not torch.allclose(of_axis[name], whole[name], rtol=1e-3) for name in whole)
        for name, value in of_axis.items():
            mean[name] += value / 3.0
    for name, value in whole.items():
        torch.testing.assert_close(mean[name], value, rtol=1e-8, atol=1e-10, msg=name)


def test_directions_are_spread_over_the_sphere_and_differ_between_steps() -> None:
    drawn = directions.random_directions(20000, seed=0)
    torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(20000, dtype=torch.float64))
    moment = drawn.T @ drawn / len(drawn)
    torch.testing.assert_close(moment, torch.eye(3, dtype=torch.float64) / 3.0, rtol=0.0, atol=0.01)
    assert drawn.mean(0).abs().max() < 0.02
    assert torch.equal(drawn, directions.random_directions(20000, seed=0))
    assert not torch.allclose(drawn, directions.random_directions(20000, seed=1))


def test_a_step_without_labels_of_the_polarizability_does_not_predict_it() -> None:
    model = make_model(Response.PUSH)
    batch = make_batch(model)
    predicted, labels = directions.in_one_direction(model, batch, ("energy",), True, False, 0)
    assert set(predicted) == {"energy", "forces"}
    assert labels == dict(batch.labels)


def test_what_has_no_direction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training.losses.dipole.directions: only the polarizability"):
        Losses({"dipole": LossConfig(directions="one")}, make_model(Response.PUSH))
    with pytest.raises(ValueError, match=r"directions: with kind 'mae' .* set kind to 'mse'"):
        LossConfig(kind="mae", directions="one")
