"""Training in mixed precision: every network takes a step of it, forces and their derivatives included."""

import pytest
import torch

from neural_polarization.architectures import ARCHITECTURES
from neural_polarization.messages import Messages
from small import tiny


@pytest.mark.parametrize("messages", [Messages.RIDING, Messages.BOTH_VIEWS], ids=["riding", "both_views"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_in_bfloat16(name: str, messages: Messages) -> None:
    """Forward and backward under autocast give the numbers of single precision, to the digits of bfloat16."""
    model, molecules = tiny(name, messages)
    _, expected = model.energy_and_forces(molecules)
    with torch.autocast("cpu", torch.bfloat16):
        energy, forces = model.energy_and_forces(molecules, create_graph=True)
        (energy.square().sum() + forces.square().sum()).backward()
    assert (forces.detach() - expected).abs().max() < 0.1 * expected.abs().max()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
