"""Models in an electric field: one energy, its derivatives, checkpoints, and what is refused."""

from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
from neural_polarization.backbones.painn import PaiNNUpdate
from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.field_derivatives import born_charges, broken_sum_rule, hyperpolarizability
from neural_polarization.heads.density import DensityConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.response import Pushed, Response, field_energy
from neural_polarization.units import COULOMB

ELEMENTS = ("H", "C", "O")
HEADS = {
    "energy": HeadConfig("extensive", forces=True),
    "dipole": HeadConfig("dipole_flow"),
    "polarizability": HeadConfig("polarizability_bonds"),
    "gap": HeadConfig("intensive"),
}
EVERY = [choice for choice in Response if choice is not Response.NONE]


def make_model(response: Response, messages: Messages = Messages.RIDING, heads: dict[str, HeadConfig] = HEADS) -> Model:
    """A small model in double precision whose points a field of 1 V/Angstrom pushes by a tenth of an Angstrom."""
    torch.manual_seed(0)
    backbone = BackboneConfig("painn", 8, 2, 4.0, 6)
    model = Model(ModelConfig(ELEMENTS, heads, backbone, PolarizationConfig(messages), response)).double().eval()
    if isinstance(model.response, Pushed):
        model.response.enlarge(50.0)
    return model


def formaldehyde(field: tuple[float, float, float] | None = (0.1, -0.2, 0.3), charge: float | None = None) -> Molecules:
    frame = molecule("H2CO")
    frame.rattle(0.05, seed=0)
    if field is not None:
        frame.info["external_field"] = field
    if charge is not None:
        frame.info["charge"] = charge
    return Molecules.from_ase(frame, 4.0, torch.float64)


def slope(model: Model, molecules: Molecules, name: str, axis: int, step: float = 1e-3) -> Tensor:
    """Central difference of a prediction by a component of the field."""
    assert molecules.external_field is not None
    by = step * torch.eye(3, dtype=torch.float64)[axis]
    with torch.no_grad():
        ends = [model(replace(molecules, external_field=molecules.external_field + s * by))[name] for s in (1.0, -1.0)]
    return (ends[0] - ends[1]) / (2.0 * step)


@pytest.mark.parametrize("charge", [None, 1.0])
@pytest.mark.parametrize("response", EVERY)
def test_everything_is_a_derivative_of_one_energy(response: Response, charge: float | None) -> None:
    model, molecules = make_model(response), formaldehyde(charge=charge)
    with torch.no_grad():
        out = model(molecules)
    assert not any(value.requires_grad for value in out.values())
    charges = born_charges(model, molecules)
    # The energy of an ion refers to the origin of the coordinates, its dipole to the centre of nuclear charge.
    numbers = molecules.atomic_numbers.double()
    of_charge = 0.0 if charge is None else charge * (numbers @ molecules.positions) / numbers.sum()
    total = out["dipole"][0] + of_charge
    for axis in range(3):
        assert -slope(model, molecules, "energy", axis).item() == pytest.approx(total[axis].item(), rel=1e-6, abs=1e-6)
        induced = COULOMB * slope(model, molecules, "dipole", axis)[0]
        torch.testing.assert_close(out["polarizability"][0, axis], induced, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(charges[:, :, axis], slope(model, molecules, "forces", axis), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("response", EVERY)
def test_hyperpolarizability_is_a_difference_of_polarizabilities(response: Response) -> None:
    model, molecules = make_model(response), formaldehyde()
    found = hyperpolarizability(model, molecules)
    if response is Response.QUADRATIC:
        assert (found == 0.0).all()
        return
    for axis in range(3):
        expected = slope(model, molecules, "polarizability", axis) / COULOMB
        torch.testing.assert_close(found[:, axis], expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found, found.transpose(1, 3))


def test_quadratic_energy_by_hand() -> None:
    model, molecules = make_model(Response.QUADRATIC), formaldehyde()
    with torch.no_grad():
        free = model(formaldehyde(field=None))
        out = model(molecules)
    field = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    dipole, tensor = free["dipole"][0], free["polarizability"][0]
    expected = free["energy"] - field @ dipole - 0.5 * field @ tensor @ field / 14.3996454
    torch.testing.assert_close(out["energy"], expected)
    torch.testing.assert_close(out["dipole"][0], dipole + tensor @ field / 14.3996454)
    assert torch.equal(out["polarizability"], free["polarizability"])


def test_one_cubic_angstrom_in_one_volt_per_angstrom() -> None:
    along_x = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    energy = field_energy(along_x, torch.zeros_like(along_x), torch.eye(3, dtype=torch.float64).unsqueeze(0))
    assert energy.item() == pytest.approx(-0.5 / 14.399645, rel=1e-6)


@pytest.mark.parametrize("response", EVERY)
def test_properties_do_not_depend_on_what_is_asked_for(response: Response) -> None:
    model, molecules = make_model(response), formaldehyde()
    out = model(molecules)
    for name in HEADS:
        torch.testing.assert_close(model(molecules, properties=[name])[name], out[name], rtol=0.0, atol=0.0)
    with torch.inference_mode():
        again = model(molecules)
    for name, value in out.items():
        torch.testing.assert_close(again[name], value)


@pytest.mark.parametrize("response", list(Response))
def test_the_trajectory_ends_where_the_prediction_is(response: Response) -> None:
    model, molecules = make_model(response), formaldehyde(None if response is Response.NONE else (0.1, -0.2, 0.3))
    with torch.no_grad():
        trajectory = model.trajectory(molecules)
        _, displacement = model.with_displacement(molecules)
        without = model.represent(molecules).displacement
    assert trajectory.shape == (3, 4, 3)
    torch.testing.assert_close(trajectory[-1], displacement, rtol=1e-12, atol=1e-14)
    pushed = response in (Response.PUSH, Response.PUSH_DUAL)
    assert bool((displacement - without).abs().max() > 0.01) == pushed, "the field pushes the points"


@pytest.mark.parametrize("response", [Response.PUSH, Response.PUSH_DUAL])
def test_pushes_that_hold_still_are_the_quadratic_response(response: Response) -> None:
    model, quadratic = make_model(response), make_model(Response.QUADRATIC)
    assert isinstance(model.response, Pushed)
    model.response.hold_still()
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("response.")}
    quadratic.load_state_dict(weights)
    molecules = formaldehyde()
    for name, value in quadratic(molecules).items():
        torch.testing.assert_close(model(molecules)[name], value)


def test_the_energy_of_a_dual_pass_does_not_hear_the_push() -> None:
    dual, push = make_model(Response.PUSH_DUAL), make_model(Response.PUSH)
    push.load_state_dict(dual.state_dict())
    without = formaldehyde(field=None)
    assert torch.equal(dual(without)["energy"], push(without)["energy"])
    # Without a field the dipole of a dual pass is that of the head; points that are pushed add to it.
    head = dual.head("dipole")(dual.represent(without), without)
    torch.testing.assert_close(dual(without)["dipole"], head)
    assert (push(without)["dipole"] - head).abs().max() > 1e-4


@pytest.mark.parametrize("response", EVERY)
def test_checkpoints_keep_the_response(tmp_path: Path, response: Response) -> None:
    model, molecules = make_model(response), formaldehyde()
    save_model(model, tmp_path / "model.safetensors")
    loaded, _ = load_model(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    for name, value in model(molecules).items():
        assert torch.equal(loaded(molecules)[name], value)


def test_norms_are_smoother_where_a_field_is_seen() -> None:
    expected = {Response.NONE: 1e-4, Response.QUADRATIC: 0.01, Response.PUSH: 0.01}  # none: every checkpoint of 0.1
    for response, epsilon in expected.items():
        updates = [part for part in make_model(response).modules() if isinstance(part, PaiNNUpdate)]
        assert [update.norm_epsilon for update in updates] == [epsilon, epsilon]


def test_a_model_without_response_refuses_fields() -> None:
    model = make_model(Response.NONE)
    with pytest.raises(ValueError, match=r"external_field: this model has no response.*response: quadratic"):
        model(formaldehyde())
    with pytest.raises(ValueError, match="response: this model has none"):
        born_charges(model, formaldehyde())
    assert model(formaldehyde(field=None))["energy"].isfinite().all()


@pytest.mark.parametrize(
    ("missing", "message"),
    [("polarizability", "one polarizability .*found none"), ("dipole", "one dipole"), ("energy", "one energy")],
)
def test_a_response_needs_its_heads(missing: str, message: str) -> None:
    heads = {name: head for name, head in HEADS.items() if name != missing}
    with pytest.raises(ValueError, match=f"response: .*{message}"):
        make_model(Response.QUADRATIC, heads=heads)
    with pytest.raises(ValueError, match=r"one dipole .*found dipole, other"):
        make_model(Response.PUSH, heads={**HEADS, "other": HeadConfig("dipole")})


def test_nothing_can_be_pushed_in_a_plain_network() -> None:
    assert make_model(Response.QUADRATIC, Messages.PLAIN)(formaldehyde())["energy"].isfinite().all()
    with pytest.raises(ValueError, match=r"response: a field can push moving points only.*'quadratic'"):
        make_model(Response.PUSH, Messages.PLAIN)


@pytest.mark.parametrize("field", [(0.1, 0.2), (0.1, float("nan"), 0.0), "strong"])
def test_fields_that_are_none_name_the_structure(field: object) -> None:
    frames = [molecule("H2O"), molecule("CH4")]
    frames[1].info["external_field"] = field
    with pytest.raises(ValueError, match=r"structure 1: external_field is .*expected three finite numbers"):
        Molecules.from_ase(frames, 4.0)


@pytest.mark.parametrize("response", EVERY)
def test_structures_without_a_field_may_stand_beside_others(response: Response) -> None:
    frames = [molecule("H2O"), molecule("CH4")]
    frames[1].info["external_field"] = [0.0, 0.0, 0.2]
    model = make_model(response)
    both = model(Molecules.from_ase(frames, 4.0, torch.float64))
    alone = [model(Molecules.from_ase(frame, 4.0, torch.float64)) for frame in frames]
    for name, value in both.items():
        torch.testing.assert_close(value, torch.cat([one[name] for one in alone]))


def test_fields_alone_train_dipole_and_polarizability() -> None:
    """From energies in a field, without a label of either, they become those of the labels."""
    model = make_model(Response.QUADRATIC).train()
    rng = np.random.default_rng(0)
    frames = [ase.Atoms("OHH", molecule("H2O").positions) for _ in range(12)]
    fields = torch.from_numpy(rng.uniform(-1.0, 1.0, (12, 3)))
    dipole, tensor = torch.tensor([0.0, 0.0, -0.4]).double(), torch.diag(torch.tensor([0.9, 1.2, 1.0])).double()
    labels = -2000.0 - fields @ dipole - 0.5 * torch.einsum("fx,xy,fy->f", fields, tensor, fields) / COULOMB
    composition = torch.tensor([[2.0, 0.0, 1.0]], dtype=torch.float64).repeat(12, 1)
    model.fit_scales({"energy": labels, "gap": torch.zeros(12).double()}, composition)
    batch = replace(Molecules.from_ase(frames, 4.0, torch.float64), external_field=fields)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        loss = (model(batch, forces=False, properties=["energy"])["energy"] - labels).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    still = replace(batch, external_field=torch.zeros_like(fields))
    out = model.eval()(still)
    assert float((out["dipole"][0] - dipole).detach().norm()) < 0.05
    assert float((out["polarizability"][0] - tensor).detach().abs().max()) < 0.4


def test_the_sum_rule_is_measured() -> None:
    molecules = formaldehyde(charge=2.0)
    charges = torch.zeros(4, 3, 3, dtype=torch.float64)
    charges[0] = 3.0 * torch.eye(3)
    torch.testing.assert_close(broken_sum_rule(charges, molecules)[0], torch.eye(3, dtype=torch.float64))


def test_a_model_with_a_density_has_no_response_yet() -> None:
    with pytest.raises(ValueError, match="a model with an electron density does not respond to fields yet"):
        ModelConfig(ELEMENTS, HEADS, density=DensityConfig(), response=Response.QUADRATIC)
