"""Weights of SchNetPack's networks under the names of ours.

Both directions need nothing but dictionaries of tensors, so stored references are checked without SchNetPack.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]

PAINN_PARTS = {
    "message.context.0": "interactions.{k}.interatomic_context_net.0",
    "message.context.2": "interactions.{k}.interatomic_context_net.1",
    "update.mix": "mixing.{k}.mu_channel_mix",
    "update.context.0": "mixing.{k}.intraatomic_context_net.0",
    "update.context.2": "mixing.{k}.intraatomic_context_net.1",
}
SCHNET_PARTS = {
    "filter.0": "interactions.{k}.filter_network.0",
    "filter.2": "interactions.{k}.filter_network.1",
    "before": "interactions.{k}.in2f",
    "after.0": "interactions.{k}.f2out.0",
    "after.2": "interactions.{k}.f2out.1",
}


def painn_from_schnetpack(theirs: State, atomic_numbers: Sequence[int], num_layers: int) -> State:
    """The state of our PaiNN, for species in the order of `atomic_numbers`."""
    ours = {"embedding.weight": theirs["embedding.weight"][list(atomic_numbers)]}
    weights = theirs["filter_net.weight"].chunk(num_layers)
    biases = theirs["filter_net.bias"].chunk(num_layers)
    for k in range(num_layers):
        ours[f"layers.{k}.message.filter.weight"] = weights[k]
        ours[f"layers.{k}.message.filter.bias"] = biases[k]
        ours[f"layers.{k}.message.basis.frequencies"] = theirs["radial_basis.freqs"]
        ours |= _parts(theirs, PAINN_PARTS, k)
    return ours


def schnet_from_schnetpack(theirs: State, atomic_numbers: Sequence[int], num_layers: int) -> State:
    """The state of our SchNet, for species in the order of `atomic_numbers`."""
    ours = {"embedding.weight": theirs["embedding.weight"][list(atomic_numbers)]}
    for k in range(num_layers):
        ours[f"layers.{k}.basis.centres"] = theirs["radial_basis.offsets"]
        ours |= _parts(theirs, SCHNET_PARTS, k)
    return ours


def _parts(theirs: State, names: dict[str, str], k: int) -> State:
    found: State = {}
    for mine, original in names.items():
        for kind in ("weight", "bias"):
            name = f"{original.format(k=k)}.{kind}"
            if name in theirs:
                found[f"layers.{k}.{mine}.{kind}"] = theirs[name].clone()
    assert found, f"none of {list(names.values())} is among the original's weights"
    return found


def load(network: torch.nn.Module, state: State) -> None:
    """Loads every parameter; buffers that our network derives from its arguments need not be stored."""
    missing, unexpected = network.load_state_dict(state, strict=False)
    parameters = {name for name, _ in network.named_parameters()}
    assert not parameters & set(missing), f"without a counterpart in the original: {parameters & set(missing)}"
    derived = {name for name in unexpected if name.endswith(("frequencies", "centres"))}
    assert not set(unexpected) - derived, f"without a counterpart here: {set(unexpected) - derived}"
