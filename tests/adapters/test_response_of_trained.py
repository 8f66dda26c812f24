"""A trained model with a response: its energies without a field stay, and the response is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from adapted import batch
from test_finetuning import CUTOFF, fine_tuned, parts

from neural_polarization.backbones import EGNN, PaiNN
from neural_polarization.field_derivatives import born_charges, broken_sum_rule
from neural_polarization.finetuning import FineTuned
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.response import Pushed, Response
from neural_polarization.testing import ELEMENTS, distorted
from neural_polarization.units import COULOMB

RESPONSES = [Response.QUADRATIC, Response.PUSH, Response.PUSH_DUAL]


def responding(response: Response, messages: Messages = Messages.RIDING, painn: bool = True) -> FineTuned:
    """A trained network with a new response, which displaces points enough to be seen."""
    trained = parts(messages.two_points, PaiNN if painn else EGNN)
    torch.manual_seed(3)
    module = FineTuned(trained, ELEMENTS, messages, 0.5, response).eval()
    if isinstance(module.response, Pushed):
        module.response.enlarge(20.0)
    return module


def in_field(molecules: Molecules, strength: float = 0.2) -> Molecules:
    field = strength * torch.tensor([[0.36, -0.48, 0.8]], dtype=torch.float64)
    return replace(molecules, external_field=field.repeat(molecules.num_molecules, 1))


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("messages", [Messages.RIDING, Messages.MOVING_VIEW, Messages.BOTH_VIEWS])
@pytest.mark.parametrize("painn", [True, False])
def test_without_a_field_it_is_the_trained_model(response: Response, messages: Messages, painn: bool) -> None:
    module, molecules = responding(response, messages, painn), batch(CUTOFF)
    expected = fine_tuned(messages, PaiNN if painn else EGNN).eval()(molecules)
    for batch_ in (molecules, in_field(molecules, 0.0)):
        got = module(batch_)
        assert torch.equal(got["energy"], expected["energy"]) and torch.equal(got["forces"], expected["forces"])
    assert (module(in_field(molecules))["energy"] - expected["energy"]).abs().max() > 1e-4


@pytest.mark.parametrize("response", RESPONSES)
def test_everything_is_a_derivative_of_its_energy(response: Response) -> None:
    module, molecules, step = responding(response), in_field(batch(CUTOFF)), 1e-4
    found, charges = module(molecules), born_charges(module, molecules)
    assert molecules.external_field is not None
    for axis in range(3):
        change = step * torch.eye(3, dtype=torch.float64)[axis]
        more, less = (module(replace(molecules, external_field=molecules.external_field + s * change)) for s in (1, -1))
        slopes = {name: (more[name] - less[name]).detach() / (2.0 * step) for name in more}
        torch.testing.assert_close(-slopes["energy"], found["dipole"][:, axis], atol=1e-7, rtol=1e-5)
        torch.testing.assert_close(COULOMB * slopes["dipole"], found["polarizability"][:, axis], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(slopes["forces"], charges[:, :, axis], atol=1e-7, rtol=1e-5)
    assert broken_sum_rule(charges, molecules).abs().max() < 1e-9


@pytest.mark.parametrize("response", RESPONSES)
def test_the_response_is_learned_and_the_energy_stays(response: Response) -> None:
    """From dipoles alone, with the trained weights held: what is learned is new."""
    module, molecules = responding(response).train(), batch(CUTOFF)
    before = module(molecules)["energy"].detach()
    target = torch.randn(molecules.num_molecules, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert module.response is not None
    optimizer = torch.optim.Adam([*module.heads.parameters(), *module.response.parameters()], 0.01)
    losses: list[float] = []
    for _ in range(30):
        loss = (module(molecules, forces=False, properties=["dipole"])["dipole"] - 0.2 * target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert torch.equal(module(molecules)["energy"].detach(), before)


def test_it_runs_in_a_field_in_ase() -> None:
    atoms = distorted("CH3CH2OH")
    atoms.calc = NeuralPolarizationCalculator(responding(Response.PUSH_DUAL), double=True)
    free = atoms.get_potential_energy()
    atoms.info["external_field"] = [0.0, 0.0, 0.3]
    assert atoms.get_potential_energy() != free
    assert isinstance(atoms.calc, NeuralPolarizationCalculator)
    charges = atoms.calc.get_property("born_effective_charges", atoms)
    np.testing.assert_allclose(charges.sum(0), np.zeros((3, 3)), atol=1e-8)


def test_without_a_response_it_refuses_fields() -> None:
    module = fine_tuned("riding")
    assert set(module.predictions) == {"energy"} and not list(module.heads)
    with pytest.raises(ValueError, match="external_field: this model has no response"):
        module(in_field(batch(CUTOFF)))
    with pytest.raises(ValueError, match="response: this model has none"):
        born_charges(module, batch(CUTOFF))
