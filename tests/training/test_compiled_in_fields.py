"""The compiled training step in electric fields against the model itself."""

from dataclasses import replace

import pytest
import torch
from test_compiled import assert_same, needs_minutes, without_compiler

from neural_polarization.architectures import BackboneConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.response import Pushed, Response
from neural_polarization.testing import distorted
from neural_polarization.training.compiled import compile_training

HEADS = {
    "energy": HeadConfig("extensive", forces=True),
    "dipole": HeadConfig("dipole_flow"),
    "alpha": HeadConfig("polarizability_bonds"),
}


def make_model(response: Response, backbone: str = "painn") -> Model:
    """A model whose points a field of 1 V/Angstrom pushes by a tenth of an Angstrom."""
    torch.manual_seed(0)
    size = BackboneConfig(backbone, 4, 2, 4.0, 4)
    config = ModelConfig(("H", "C", "O"), HEADS, size, PolarizationConfig(Messages.RIDING), response)
    model = Model(config).double().train()
    if isinstance(model.response, Pushed):
        model.response.enlarge(50.0)
    return model


def in_fields(names: list[str], cutoff: float, seed: int) -> Molecules:
    molecules = Molecules.from_ase([distorted(name) for name in names], cutoff, torch.float64)
    generator = torch.Generator().manual_seed(seed)
    field = 0.3 * torch.randn(len(names), 3, generator=generator, dtype=torch.float64)
    return replace(molecules, external_field=field)


def assert_same_in_fields(response: Response, properties: tuple[str, ...], backbone: str = "painn") -> None:
    """Values and gradients of a batch that fills the graph, and of a smaller one in other fields."""
    model = make_model(response, backbone)
    first = in_fields(["CH3OH", "H2CO"], model.cutoff, 0)
    compiled = compile_training(model, first, properties=properties)
    for molecules in (first, in_fields(["H2O"], model.cutoff, 1)):
        assert list(compiled(molecules)) == [*properties, "forces"]
        of_model = assert_same(model, compiled, molecules, properties)
        pushes = [of_model[name] for name in of_model if name.startswith("response.pushes")]
        assert response is Response.QUADRATIC or any(push is not None and push.any() for push in pushes)
    assert compiled.compilations == 1


@pytest.mark.parametrize(
    ("response", "properties"),
    [
        (Response.QUADRATIC, ("energy", "dipole", "alpha")),
        (Response.PUSH, ("energy",)),
        (Response.PUSH_DUAL, ("energy", "dipole")),
    ],
)
def test_a_traced_step_in_a_field_is_the_model(
    response: Response, properties: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_compiler(monkeypatch)
    assert_same_in_fields(response, properties)


@needs_minutes
@pytest.mark.parametrize("response", [Response.QUADRATIC, Response.PUSH_DUAL])
def test_a_compiled_step_in_a_field_is_the_model(response: Response) -> None:
    assert_same_in_fields(response, ("energy", "dipole"), "schnet")
