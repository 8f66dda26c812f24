"""Our equivariant transformer against numbers of TorchMD-NET's, with its weights (see make_torchmd_et.py)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from neural_polarization.backbones.torchmd_et import TorchMDET, TorchMDETLayer
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS

STORED = load_file(Path(__file__).with_name("torchmd_et.safetensors"))
CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, NUM_HEADS = 16, 3, 4.0, 8, 4
SPECIES = [1, 6, 8]  # rows of the original's embeddings

SAME_NAMES = {"norm": "layernorm", "query": "q_proj", "key": "k_proj", "key_filter": "dk_proj"}
TOLERANCE = 1e-9  # relative; our smooth norm alone changes a bond's length by 5e-11


def _by_heads(theirs: Tensor, first: bool) -> Tensor:
    """Rows of the original's values: within each head those for scalars, neighbours' vectors and directions."""
    scalars, vectors, directions = theirs.unflatten(0, (NUM_HEADS, 3, -1)).transpose(0, 1).flatten(1, 2)
    return torch.cat([scalars, directions] if first else [scalars, directions, vectors])


def _out(theirs: Tensor, first: bool) -> Tensor:
    """Rows of the original's output: the gate of vectors, the factor of the product, and what is added to scalars."""
    gate, of_product, to_scalars = theirs.chunk(3)
    return to_scalars if first else torch.cat([to_scalars, of_product, gate])


def carried(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's weights under our names; those that act on the first layer's vectors stay behind."""
    ours = {
        "embedding.weight": theirs["embedding.weight"][SPECIES],
        "neighbour_embedding.weight": theirs["neighbor_embedding.embedding.weight"][SPECIES],
    }
    for kind in ("weight", "bias"):
        ours[f"layers.0.neighbours.filter.{kind}"] = theirs[f"neighbor_embedding.distance_proj.{kind}"]
        ours[f"layers.0.neighbours.combine.{kind}"] = theirs[f"neighbor_embedding.combine.{kind}"]
        ours[f"layers.{NUM_LAYERS - 1}.last_norm.{kind}"] = theirs[f"out_norm.{kind}"]
        for k in range(NUM_LAYERS):
            mine, original = f"layers.{k}", f"attention_layers.{k}"
            for name, its in SAME_NAMES.items():
                ours[f"{mine}.{name}.{kind}"] = theirs[f"{original}.{its}.{kind}"]
            ours[f"{mine}.value.{kind}"] = _by_heads(theirs[f"{original}.v_proj.{kind}"], k == 0)
            ours[f"{mine}.value_filter.{kind}"] = _by_heads(theirs[f"{original}.dv_proj.{kind}"], k == 0)
            ours[f"{mine}.out.{kind}"] = _out(theirs[f"{original}.o_proj.{kind}"], k == 0)
    for k in range(1, NUM_LAYERS):
        ours[f"layers.{k}.mix.weight"] = theirs[f"attention_layers.{k}.vec_proj.weight"]
    return ours


def _results(theirs: dict[str, Tensor], molecule: int) -> dict[str, Tensor]:
    """Scalars, vectors, and forces of the energy sum(scalars @ weights)."""
    backbone = TorchMDET(len(ELEMENTS), CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, NUM_HEADS).double()
    backbone.load_state_dict(carried(theirs))
    for layer in backbone.layers:
        assert isinstance(layer, TorchMDETLayer)
        layer.basis.centres.copy_(theirs["distance_expansion.means"])
    positions = STORED[f"molecule{molecule}.positions"].clone().requires_grad_()
    molecules = Molecules.from_arrays(STORED[f"molecule{molecule}.atomic_numbers"], positions.detach(), CUTOFF)
    points: Polarized = NeuralPolarization(backbone, ELEMENTS, "plain")(molecules.with_positions(positions))
    assert points.vectors is not None
    (gradient,) = torch.autograd.grad((points.scalars @ STORED["weights"]).sum(), positions)
    return {"scalars": points.scalars.detach(), "vectors": points.vectors.detach(), "forces": -gradient}


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def _state() -> dict[str, Tensor]:
    return {key.removeprefix("state."): value for key, value in STORED.items() if key.startswith("state.")}


@pytest.mark.parametrize("molecule", [0, 1])
def test_equal_to_the_original(molecule: int) -> None:
    for what, got in _results(_state(), molecule).items():
        error = _error(got, STORED[f"molecule{molecule}.{what}"])
        assert error < TOLERANCE, f"{what}: differs from the original's by {error:.1e} of the largest"


@pytest.mark.parametrize("weight", ["attention_layers.1.vec_proj.weight", "neighbor_embedding.distance_proj.bias"])
def test_the_check_would_notice(weight: str) -> None:
    """A weight that is wrong in the fifth digit is found."""
    wrong = _state()
    wrong[weight] = wrong[weight] * (1.0 + 1e-5)
    assert _error(_results(wrong, 0)["scalars"], STORED["molecule0.scalars"]) > 10.0 * TOLERANCE
