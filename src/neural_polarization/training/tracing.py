"""The whole forward of a model, the gradient that gives the forces included, as one graph of plain operations."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from neural_polarization.models import Model
from neural_polarization.molecules import Molecules


def trace(
    model: Model,
    molecules: Molecules,
    keep_detached: bool = False,
    stress: bool = False,
    properties: tuple[str, ...] | None = None,
) -> tuple[list[str], GraphModule]:
    """The model's forward in its present mode, with the gradient that gives forces, as one graph.

    Args:
        model: what is traced.
        molecules: a batch; its shapes are those of the graph.
        keep_detached: leaves the nodes that cut second derivatives, to show in a test what they do.
        stress: whether stresses are among the outputs.
        properties: which properties are among them, by default all.

    Returns:
        The names of the outputs, and the graph; its inputs are those of `inputs`.
    """
    state = _state(model)
    names: list[str] = []

    def forward(*tensors: Tensor) -> list[Tensor]:
        values = dict(zip(state, tensors, strict=False))
        batch = _with_tensors(molecules, tensors[len(state) :])
        # Each place in the model is in `state` on its own, tied or not: functional_call need not look for ties.
        asked = {"stress": stress, "properties": properties}
        outputs = torch.func.functional_call(model, values, (batch,), asked, tie_weights=False)
        names[:] = list(outputs)
        return list(outputs.values())

    batch = molecules.with_positions(molecules.positions.detach().clone().requires_grad_())
    graph = make_fx(forward, tracing_mode="fake")(*inputs(model, batch))
    if not keep_detached:
        for node in list(graph.graph.nodes):
            if node.target is torch.ops.aten.detach.default:
                node.replace_all_uses_with(node.args[0])
                graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return names, graph


def inputs(model: Model, molecules: Molecules) -> list[Tensor]:
    """What a graph of `trace` is called with: the model's state and the batch's tensors."""
    return [*_state(model).values(), *_tensors(molecules)]


def _state(model: Model) -> dict[str, Tensor]:
    """Parameters and buffers, once for each module that has them (a shared module counts once)."""
    return {
        f"{path}.{name}" if path else name: value
        for path, module in model.named_modules()
        for part in (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, value in part
    }


def _tensors(molecules: Molecules) -> list[Tensor]:
    return [
        molecules.atomic_numbers,
        molecules.positions,
        molecules.molecule_index,
        molecules.edge_index,
        *(value for value in optional(molecules) if value is not None),
    ]


def optional(molecules: Molecules) -> tuple[Tensor | None, ...]:
    """The tensors of a batch that it may be without."""
    return molecules.shifts, molecules.charge, molecules.external_field, molecules.spin, molecules.volume


def _with_tensors(molecules: Molecules, tensors: Iterable[Tensor]) -> Molecules:
    values = iter(tensors)
    return replace(
        molecules,
        atomic_numbers=next(values),
        positions=next(values),
        molecule_index=next(values),
        edge_index=next(values),
        shifts=None if molecules.shifts is None else next(values),
        charge=None if molecules.charge is None else next(values),
        external_field=None if molecules.external_field is None else next(values),
        spin=None if molecules.spin is None else next(values),
        volume=None if molecules.volume is None else next(values),
    )
