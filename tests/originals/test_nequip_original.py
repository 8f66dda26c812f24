"""Our NequIP against numbers of the nequip package's, with its weights (see make_nequip.py)."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from e3nn import o3
from safetensors.torch import load_file
from torch import Tensor

from neural_polarization.backbones.nequip import NequIP, NequIPLayer
from neural_polarization.geometry import Edges, cosine_envelope
from neural_polarization.layers.irreps import SCALAR
from neural_polarization.molecules import Molecules

STORED = load_file(Path(__file__).with_name("nequip.safetensors"))
CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, LMAX = 3, 5, 4.0, 6, 2
ATOMIC_NUMBERS = (1, 6, 8)
TOLERANCE = 1e-12  # relative

Kinds = list[Any]
"""Irreps of `CHANNELS` channels each; e3nn's annotations make them tuples of integers."""


def _kinds(irreps: o3.Irreps) -> Kinds:
    return [irrep for _, irrep in irreps]


def _theirs(kinds: Kinds) -> Kinds:
    """The original's order: pseudoscalars stand beside the scalars."""
    return sorted(kinds, key=lambda irrep: irrep.l > 0)


def _paths(kinds: Kinds, wanted: Kinds) -> list[tuple[Any, Any, Any]]:
    """The original's order of the paths (feature, harmonic, product)."""
    harmonics = [o3.Irrep(degree, (-1) ** degree) for degree in range(LMAX + 1)]
    return [(one, y, out) for one in kinds for y in harmonics for out in one * y if out in wanted]


def _blocks(columns: Tensor, kinds: Iterable[Any]) -> dict[Any, Tensor]:
    """Blocks of the last axis by their keys."""
    keys = list(kinds)
    return dict(zip(keys, columns.split(columns.shape[-1] // len(keys), -1), strict=True))


def _carried_layer(theirs: dict[str, Tensor], embedding: Tensor, layer: NequIPLayer) -> dict[str, Tensor]:
    """The original's weights in the order of ours.

    Weights are cut along the order in which the original visits irreps, and put together in ours. In the original's
    gated result the scalars that gate follow the other scalars, in ours they come first.
    """
    ours_in, ours_out = _kinds(layer.irreps_in), _kinds(layer.gated.irreps)
    theirs_in, theirs_out = _theirs(ours_in), _theirs(ours_out)
    # Channels before the nonlinearity: the scalars that gate are sorted beside the others.
    sizes = dict.fromkeys(theirs_out, CHANNELS)
    sizes[SCALAR] += CHANNELS * sum(kind.l > 0 for kind in theirs_out)
    carried: dict[str, Tensor] = {}

    linear = theirs["conv.linear_1.weight"].split(CHANNELS**2)
    by_kind = dict(zip(theirs_in, linear, strict=True))
    carried["before.weight"] = torch.cat([by_kind[kind] for kind in ours_in])

    paths = _paths(theirs_in, ours_out)
    product: Any = layer.product.product.module
    ours = [
        (product.irreps_in1[p.i_in1].ir, product.irreps_in2[p.i_in2].ir, product.irreps_out[p.i_out].ir)
        for p in product.instructions
    ]
    gain = math.sqrt(2.0) / float(layer.gated.silu.cst)
    for n in range(4):
        weight = theirs[f"conv.edge_mlp.mlp.{2 * n}.weight"] * (gain if n else 1.0)
        if n == 3:
            by_path = _blocks(weight, paths)
            weight = torch.cat([by_path[path] for path in ours], -1)
        carried[f"radial.layer{n}.weight"] = weight

    after: dict[Any, Tensor] = {}
    rest = theirs["conv.linear_2.weight"]
    for kind in sorted({out for _, _, out in paths}):
        inputs = [path for path in paths if path[2] == kind]
        weight, rest = rest.tensor_split([len(inputs) * CHANNELS * sizes[kind]])
        rows = _blocks(weight.unflatten(0, (-1, sizes[kind])).t(), inputs)
        after[kind] = torch.cat([rows[path] for path in ours if path[2] == kind], -1).t()
    assert not len(rest)
    carried["after.weight"] = torch.cat([w for _, kind in layer.after.irreps_in for w in _ours(after[kind], kind)])

    own: dict[Any, Tensor] = {}
    rest = theirs["conv.sc.weight"]
    for kind in (kind for kind in theirs_in if kind in sizes):
        weight, rest = rest.tensor_split([CHANNELS**2 * sizes[kind]])
        of_attributes = weight.unflatten(0, (CHANNELS, CHANNELS, sizes[kind]))
        own[kind] = torch.einsum("uvw,sv->usw", of_attributes, embedding) / math.sqrt(CHANNELS)
    assert not len(rest)
    carried["own.product.module.weight"] = torch.cat(
        [w for kind in ours_in if kind in own for w in _ours(own[kind], kind)]
    )
    return carried


def _ours(weights: Tensor, kind: Any) -> list[Tensor]:
    """Flat weights of one kind of result; for scalars those that gate come first."""
    parts = [weights[..., CHANNELS:], weights[..., :CHANNELS]] if kind == SCALAR else [weights]
    return [part.flatten() for part in parts]


def network(theirs: dict[str, Tensor]) -> NequIP:
    """Our network with the original's weights."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    backbone = NequIP(len(ATOMIC_NUMBERS), CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, LMAX)
    torch.set_default_dtype(default)
    embedding = theirs["embedding.embed_module.weight"]
    ours = {"values.embedding.weight": embedding}
    for k, layer in enumerate(backbone.layers):
        assert isinstance(layer, NequIPLayer)
        prefix = f"layer{k}."
        weights = {name.removeprefix(prefix): value for name, value in theirs.items() if name.startswith(prefix)}
        ours |= {f"layers.{k}.{name}": value for name, value in _carried_layer(weights, embedding, layer).items()}
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
        assert isinstance(layer, NequIPLayer)
        energy = energy + (backbone.split(features).scalars @ weights).sum()
        irreps = layer.gated.irreps
        parts = features.values.detach().split([block.dim for block in irreps], -1)
        by_kind = dict(zip(_kinds(irreps), parts, strict=True))
        found[f"layer{k}"] = torch.cat([by_kind[kind] for kind in _theirs(_kinds(irreps))], -1)
    (gradient,) = torch.autograd.grad(energy, positions)
    return found | {"forces": -gradient}


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def _state() -> dict[str, Tensor]:
    return {key.removeprefix("state."): value.double() for key, value in STORED.items() if key.startswith("state.")}


@pytest.mark.parametrize("molecule", [0, 1])
def test_equal_to_the_original(molecule: int) -> None:
    results = _results(_state(), molecule)
    channels = [values.shape[1] // CHANNELS for values in results.values()]
    assert channels[:-1] == [9, 9 + 8, 9 + 9, 9 + 8, 4]  # unnatural parity from the second layer on
    for what, got in results.items():
        error = _error(got, STORED[f"molecule{molecule}.{what}"])
        assert error < TOLERANCE, f"{what}: differs from the original's by {error:.1e} of the largest"


@pytest.mark.parametrize("weight", ["layer2.conv.sc.weight", "layer1.conv.edge_mlp.mlp.6.weight"])
def test_the_check_would_notice(weight: str) -> None:
    """A weight that is wrong in the fifth digit is found."""
    wrong = _state()
    wrong[weight] = wrong[weight] * (1.0 + 1e-5)
    assert _error(_results(wrong, 0)["layer4"], STORED["molecule0.layer4"]) > 10.0 * TOLERANCE
