"""Models with an electron density: one pass with the numbers, checkpoints, choices."""

from pathlib import Path

import pytest
import torch

from density_models import density_model, shaken
from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.heads.density import DensityConfig
from neural_polarization.interfaces.description import describe, info
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig
from neural_polarization.molecules import Molecules

HEADS = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}


def batch() -> Molecules:
    return Molecules.from_ase([shaken("CH3OH"), shaken("H2O")], 4.0, torch.float32)


def points() -> torch.Tensor:
    return 1.5 * torch.randn(40, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("messages", list(Messages))
def test_numbers_and_density_come_from_one_pass(messages: Messages) -> None:
    model, molecules = density_model(messages, **HEADS), batch()
    values, density = model.with_density(molecules)
    plain = model(molecules)
    assert set(values) == {"energy", "forces", "dipole"}
    for name, value in plain.items():
        torch.testing.assert_close(values[name], value)
    alone = model.density(molecules)
    for k in range(2):
        torch.testing.assert_close(density.evaluate(points(), k), alone.evaluate(points(), k))
    torch.testing.assert_close(density.electrons, torch.tensor([18.0, 10.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_without_a_graph_nothing_keeps_one() -> None:
    model, molecules = density_model(**HEADS), batch()
    with torch.no_grad():
        values, density = model.with_density(molecules)
    assert not any(value.requires_grad for value in values.values())
    assert not any(part.requires_grad for part in density.parts)


def test_forces_and_density_train_the_same_weights() -> None:
    model, molecules = density_model(**HEADS).train(), batch()
    values, density = model.with_density(molecules)
    shared = next(model.representation.parameters())
    for loss in (values["forces"].square().sum(), density.evaluate(points()).square().sum()):
        (gradient,) = torch.autograd.grad(loss, shared, retain_graph=True)
        assert gradient.abs().max() > 0


def test_a_density_alone_is_a_model() -> None:
    model = density_model()
    assert model(batch()) == {}
    assert model.with_density(batch())[1].nuclei.num_molecules == 2


@pytest.mark.parametrize("centres", ["nuclei", "moving_bonds"])
def test_a_checkpoint_keeps_the_density(tmp_path: Path, centres: str) -> None:
    model = density_model(density=DensityConfig(centres, "small"), **HEADS)
    save_model(model, tmp_path / "model.safetensors")
    loaded, _ = load_model(tmp_path / "model.safetensors")
    assert loaded.config.density == DensityConfig(centres, "small")
    assert f"electron density: small basis, centres {centres}" in describe(info(tmp_path / "model.safetensors"))
    torch.testing.assert_close(
        loaded.density(batch()).evaluate(points()), model.density(batch()).evaluate(points()), rtol=0, atol=0
    )


def test_a_model_without_a_density_says_so(tmp_path: Path) -> None:
    model = density_model(density=None, **HEADS)
    with pytest.raises(ValueError, match="this model has no electron density"):
        model.density(batch())
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors")[0].config.density is None


def test_a_density_in_a_field_is_refused() -> None:
    """As everything else of a model without a response, and not answered as if there were none."""
    model, methanol = density_model(**HEADS), shaken("CH3OH")
    methanol.info["external_field"] = (0.0, 0.0, 1.0)
    molecules = Molecules.from_ase(methanol, model.cutoff, torch.float32)
    for ask in (
        lambda: model.density(molecules),
        lambda: model.with_density(molecules),
        lambda: predict_density(model, methanol),
    ):
        with pytest.raises(ValueError, match=r"external_field: .* as if there were none; leave the field out"):
            ask()


@pytest.mark.parametrize(
    ("choice", "message"),
    [({"centres": "clouds"}, "centres: 'clouds' is not known"), ({"size": "huge"}, "size: 'huge' is not known")],
)
def test_choices_that_do_not_exist(choice: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DensityConfig(**choice)
