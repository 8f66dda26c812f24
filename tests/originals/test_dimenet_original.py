"""Our DimeNet++ against numbers of PyTorch Geometric's, with its weights (see make_dimenet.py)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from neural_polarization.backbones.dimenet import DimeNetPP
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS

STORED = load_file(Path(__file__).with_name("dimenet.safetensors"))
CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, NUM_DEGREES = 16, 2, 4.0, 6, 7
SPECIES = [1, 6, 8]  # rows of the original's embedding

INTERACTION = {
    "lin_rbf1": "of_radial.0",
    "lin_rbf2": "of_radial.1",
    "lin_sbf1": "of_angular.0",
    "lin_sbf2": "of_angular.1",
    "lin_kj": "of_into",
    "lin_ji": "of_onward",
    "lin_down": "down",
    "lin_up": "up",
    "layers_before_skip.0.lin1": "before.first",
    "layers_before_skip.0.lin2": "before.second",
    "lin": "skip",
    "layers_after_skip.0.lin1": "after.0.first",
    "layers_after_skip.0.lin2": "after.0.second",
    "layers_after_skip.1.lin1": "after.1.first",
    "layers_after_skip.1.lin2": "after.1.second",
}
OUTPUT = {"lin_rbf": "of_radial", "lin_up": "up", "lin": "last"} | {f"lins.{k}": f"dense.{2 * k}" for k in range(3)}
TOLERANCE = 1e-9  # relative; our smooth norm alone changes a bond's length by 5e-11


def carried(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's weights under our names."""
    names = {
        "emb.lin_rbf": "layers.0.embedding.of_radial",
        "emb.lin": "layers.0.embedding.combine",
    }
    for block in range(NUM_LAYERS + 1):
        mine = "layers.0.first_output" if block == 0 else f"layers.{block - 1}.output"
        names |= {f"output_blocks.{block}.{its}": f"{mine}.{our}" for its, our in OUTPUT.items()}
    for k in range(NUM_LAYERS):
        names |= {f"interaction_blocks.{k}.{its}": f"layers.{k}.interaction.{our}" for its, our in INTERACTION.items()}
    ours = {"embedding.weight": theirs["emb.emb.weight"][SPECIES]}
    for key, value in theirs.items():
        module, kind = key.rsplit(".", 1)
        if module in names:
            ours[f"{names[module]}.{kind}"] = value
    return ours


def _backbone() -> DimeNetPP:
    """In double precision from the start: roots of Bessel functions that were once rounded stay rounded."""
    torch.set_default_dtype(torch.float64)
    try:
        return DimeNetPP(len(ELEMENTS), CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, NUM_DEGREES)
    finally:
        torch.set_default_dtype(torch.float32)


def _results(theirs: dict[str, Tensor], molecule: int) -> dict[str, Tensor]:
    """Scalars, and forces of the energy sum(scalars @ weights)."""
    backbone = _backbone()
    backbone.load_state_dict(carried(theirs))
    positions = STORED[f"molecule{molecule}.positions"].clone().requires_grad_()
    molecules = Molecules.from_arrays(STORED[f"molecule{molecule}.atomic_numbers"], positions.detach(), CUTOFF)
    points: Polarized = NeuralPolarization(backbone, ELEMENTS, "plain")(molecules.with_positions(positions))
    (gradient,) = torch.autograd.grad((points.scalars @ STORED["weights"]).sum(), positions)
    return {"scalars": points.scalars.detach(), "forces": -gradient}


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def _state() -> dict[str, Tensor]:
    return {key.removeprefix("state."): value for key, value in STORED.items() if key.startswith("state.")}


@pytest.mark.parametrize("molecule", [0, 1])
def test_equal_to_the_original(molecule: int) -> None:
    for what, got in _results(_state(), molecule).items():
        error = _error(got, STORED[f"molecule{molecule}.{what}"])
        assert error < TOLERANCE, f"{what}: differs from the original's by {error:.1e} of the largest"


@pytest.mark.parametrize("weight", ["interaction_blocks.1.lin_sbf1.weight", "emb.lin_rbf.bias"])
def test_the_check_would_notice(weight: str) -> None:
    """A weight that is wrong in the fifth digit is found."""
    wrong = _state()
    wrong[weight] = wrong[weight] * (1.0 + 1e-5)
    assert _error(_results(wrong, 0)["scalars"], STORED["molecule0.scalars"]) > 10.0 * TOLERANCE
