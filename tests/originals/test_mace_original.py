"""Our MACE against numbers of mace-torch's, with its weights (see make_mace.py)."""

from pathlib import Path

import pytest
import torch
from e3nn import o3
from safetensors.torch import load_file
from torch import Tensor

from neural_polarization.backbones.mace import MACE, MACELayer
from neural_polarization.geometry import Edges, cosine_envelope
from neural_polarization.molecules import Molecules

STORED = load_file(Path(__file__).with_name("mace.safetensors"))
CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, LMAX, LMAX_FEATURES, CORRELATION = 4, 2, 4.0, 6, 3, 2, 3
ATOMIC_NUMBERS = (1, 6, 8)

SAME_NAMES = {"up": "linear_up", "gather": "linear"} | {
    f"radial.layer{n}": f"conv_tp_weights.layer{n}" for n in range(4)
}
TOLERANCE = 1e-12  # relative


def _contraction(theirs: dict[str, Tensor], layer: int, degrees: int) -> Tensor:
    """Weights (species, channels, paths) of the independent polynomials."""
    blocks: list[Tensor] = []
    for degree in range(degrees):
        name = f"products.{layer}.symmetric_contractions.contractions.{degree}"
        of_orders = [theirs[f"{name}.weights.1"], theirs[f"{name}.weights.0"], theirs[f"{name}.weights_max"]]
        for order, weights in enumerate(of_orders, start=1):
            blocks.append(torch.einsum("pk,skc->scp", STORED[f"independent.{degree}.{order}"], weights))
    return torch.cat(blocks, -1)


def _by_path(layer: MACELayer, theirs: Tensor) -> Tensor:
    """Columns of the original's last radial layer, which are sorted by the place of their path in the product."""
    product = layer.product.product.module
    assert isinstance(product, o3.TensorProduct)
    places = torch.tensor([path.i_out for path in product.instructions])
    return theirs.unflatten(1, (len(places), -1))[:, places.argsort().argsort()].flatten(1)


def network(theirs: dict[str, Tensor]) -> MACE:
    """Our network with the original's weights; those of the last layer's degree 2 stay behind."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    backbone = MACE(len(ATOMIC_NUMBERS), CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, LMAX, LMAX_FEATURES, CORRELATION)
    torch.set_default_dtype(default)
    species = len(ATOMIC_NUMBERS)
    ours = {
        "values.embedding.weight": theirs["node_embedding.linear.weight"].unflatten(0, (species, -1)) / species**0.5
    }
    for k, layer in enumerate(backbone.layers):
        assert isinstance(layer, MACELayer)
        for mine, its in SAME_NAMES.items():
            ours[f"layers.{k}.{mine}.weight"] = theirs[f"interactions.{k}.{its}.weight"]
        last = f"layers.{k}.radial.layer3.weight"
        ours[last] = _by_path(layer, ours[last])
        degrees = 2 if k == NUM_LAYERS - 1 else 3
        ours[f"layers.{k}.contraction.weights"] = _contraction(theirs, k, degrees)
        ours[f"layers.{k}.update.weight"] = theirs[f"products.{k}.linear.weight"][: degrees * CHANNELS**2]
        own = theirs[f"interactions.{k}.skip_tp.weight"]
        ours[f"layers.{k}.own.module.weight"] = own[: degrees * species * CHANNELS**2]
        layer.functions.basis.frequencies.copy_(STORED["frequencies"])
    missing, unexpected = backbone.load_state_dict(ours, strict=False)
    assert not unexpected
    assert not {name for name, _ in backbone.named_parameters()} & set(missing)
    return backbone


def _results(theirs: dict[str, Tensor], molecule: int) -> dict[str, Tensor]:
    """Features after every layer, and forces of the energy that reads the scalars of all of them."""
    backbone = network(theirs)
    stored, numbers = STORED[f"molecule{molecule}.positions"], STORED[f"molecule{molecule}.atomic_numbers"]
    senders, receivers = Molecules.from_arrays(numbers, stored, CUTOFF).edge_index
    positions = stored.clone().requires_grad_()
    vectors = positions[senders] - positions[receivers]
    lengths = vectors.norm(dim=-1)  # not smooth at zero, but the original's: ours changes a bond's by 5e-11
    edges = Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, CUTOFF))
    features = backbone.embed(torch.tensor([ATOMIC_NUMBERS.index(int(number)) for number in numbers]))
    found: dict[str, Tensor] = {}
    energy = positions.new_zeros(())
    for k, (layer, weights) in enumerate(zip(backbone.layers, STORED["weights"], strict=True)):
        features = layer(features, edges)
        energy = energy + (backbone.split(features).scalars @ weights).sum()
        # The original's vectors go from sender to receiver, ours the other way.
        odd = slice(CHANNELS, 4 * CHANNELS)
        values = features.values.detach().clone()
        values[:, odd] *= -1.0
        found[f"layer{k}"] = values
    (gradient,) = torch.autograd.grad(energy, positions)
    return found | {"forces": -gradient}


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected[:, : got.shape[1]]).abs().max() / expected.abs().max())


def _state() -> dict[str, Tensor]:
    return {key.removeprefix("state."): value for key, value in STORED.items() if key.startswith("state.")}


@pytest.mark.parametrize("molecule", [0, 1])
def test_equal_to_the_original(molecule: int) -> None:
    results = _results(_state(), molecule)
    assert [values.shape[1] for values in results.values()] == [CHANNELS * 9, CHANNELS * 4, 3]
    for what, got in results.items():
        error = _error(got, STORED[f"molecule{molecule}.{what}"])
        assert error < TOLERANCE, f"{what}: differs from the original's by {error:.1e} of the largest"


@pytest.mark.parametrize(
    "weight",
    ["products.0.symmetric_contractions.contractions.2.weights_max", "interactions.1.conv_tp_weights.layer3.weight"],
)
def test_the_check_would_notice(weight: str) -> None:
    """A weight that is wrong in the fifth digit is found."""
    wrong = _state()
    wrong[weight] = wrong[weight] * (1.0 + 1e-5)
    assert _error(_results(wrong, 0)["layer1"], STORED["molecule0.layer1"]) > 10.0 * TOLERANCE
