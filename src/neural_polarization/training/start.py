"""A training that starts from a checkpoint's weights: what is taken over, what is new, and where the references go.

The network must be the same. Elements, heads, messages and moves may be others: rows of elements that the checkpoint
knows, and every tensor that fits, are taken over; the rest keeps its random start.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import torch
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.checkpoints import read_weights
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.heads.scalar import Atomwise, Intensive
from neural_polarization.messages import Messages
from neural_polarization.models import Model, ModelConfig
from neural_polarization.molecules import Molecules
from neural_polarization.moves import PairCouple
from neural_polarization.predictor import evaluating
from neural_polarization.settings import differences, plain
from neural_polarization.training.batches import BatchOrder

_SAMPLE = 1000
"""Number of training molecules from which references are fitted; as many again with each new element."""

_OTHER_LEVEL = 0.1
"""References are shifted if the shift leaves less than this fraction of the error, as with another level of theory."""

_NOTICED = 0.01
"""They are left alone if the error is less than this fraction of the property's scale."""

_Rows: TypeAlias = list[int | None]
"""For each row of the new model that of the checkpoint; None for a new one."""

_GROUPS = {
    "representation.backbone.": "network",
    "representation.moves.": "moves",
    "representation.couples.": "couplings",
}


@dataclass(frozen=True)
class _Elements:
    """Which element of the checkpoint is which of the new model.

    Attributes:
        old: the checkpoint's model.
        new: the model that starts from it.
    """

    old: ModelConfig
    new: ModelConfig

    @property
    def same(self) -> bool:
        """Whether rows of elements and of species are in the same places."""
        return self.old.elements == self.new.elements and self._points(self.old) == self._points(self.new)

    @property
    def added(self) -> tuple[str, ...]:
        """Elements that the checkpoint does not know."""
        return tuple(symbol for symbol in self.new.elements if symbol not in self.old.elements)

    def of_elements(self) -> _Rows:
        """For each row of the new elements the row of the old ones; None for a new element."""
        rows = {symbol: row for row, symbol in enumerate(self.old.elements)}
        return [rows.get(symbol) for symbol in self.new.elements]

    def of_species(self) -> _Rows:
        """The same for rows of species; moving points without rows in the checkpoint start like fixed ones."""
        fixed = self.of_elements()
        offset = len(self.old.elements) if self._points(self.old) == 2 else 0
        moving = [None if row is None else row + offset for row in fixed]
        return fixed + (moving if self._points(self.new) == 2 else [])

    def rows(self, size: int, growth: int) -> _Rows | None:
        """The rows along an axis of that size, which grows so much with one more element; None if it is no list."""
        points, count = self._points(self.new), len(self.new.elements)
        if growth == 1 and size == count:
            return self.of_elements()
        return self.of_species() if growth == points and size == points * count else None

    @staticmethod
    def _points(config: ModelConfig) -> int:
        return Messages(config.polarization.messages).points


def start_from(
    model: Model,
    path: str | Path,
    training: PreparedDataset,
    given: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Gives a new model the weights of a checkpoint, as far as they fit.

    References of energies and other sums stay those of the checkpoint; those of new elements are fitted to what is
    left. If the labels are of another level of theory, so that a shift of the references takes away nearly all of the
    error, they are shifted. References that the user gives are kept.

    Args:
        model: a new one, with references and scales from the training data.
        path: the checkpoint.
        training: molecules that train.
        given: per property, references of elements that the user gives, internal unit.

    Returns:
        Lines that say what was taken over and what is new.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if its network is another one.
    """
    old, weights = read_weights(path)
    _check_network(old, model.config, path)
    elements = _Elements(old, model.config)
    taken = _take_over(model, weights, elements)
    lines = [f"starting from {path}:"]
    if elements.added:
        lines.append(f"  elements: {', '.join(elements.added)} new, the others taken over")
    for group, names in _grouped(model.state_dict()):
        missing = [name for name in names if name not in taken]
        still = group == "moves" and len(missing) == len(names)
        if still:
            _hold_still(model)
        what = "new" if len(missing) == len(names) else "taken over"
        some = f", except {', '.join(missing)}, which are new" if 0 < len(missing) < len(names) else ""
        lines.append(f"  {group}: {what}{some}{', all displacements start at zero' if still else ''}")
    lines += [f"  head {name} of the checkpoint: not used" for name in old.heads if name not in model.config.heads]
    for name in model.config.heads:
        head = model.head(name)
        if isinstance(head, Atomwise) and f"heads.{name}.baseline.references" in taken:
            lines += _fit_references(model, name, head, elements, training, given.get(name, {}))
    return tuple(lines)


def _check_network(old: ModelConfig, new: ModelConfig, path: str | Path) -> None:
    before, now = plain(old.backbone), plain(new.backbone)
    changed = [line for line in differences(before, now) if not line.startswith("preset:")]
    if changed:
        raise ValueError(
            f"start_from: the network of {path} is another one than model.backbone ({'; '.join(changed)}); its weights "
            "fit the same network only: set model.backbone to that of the checkpoint"
        )


def _take_over(model: Model, weights: Mapping[str, Tensor], elements: _Elements) -> set[str]:
    """Copies what fits; returns the names of the tensors that were taken over, if only for some elements."""
    with torch.random.fork_rng(devices=[]):  # the wider model must not change what is drawn later
        former = Model(elements.old)
        symbols = [symbol for symbol in chemical_symbols[1:] if symbol not in model.config.elements]
        wider = Model(replace(model.config, elements=(*model.config.elements, symbols[0]))).state_dict()
    known = elements.old.heads
    of_other_kind = [
        f"heads.{name}." for name, head in model.config.heads.items() if name in known and known[name].kind != head.kind
    ]
    state = model.state_dict()
    taken: set[str] = set()
    for name, value in state.items():
        source = weights.get(name)
        if source is None or any(name.startswith(prefix) for prefix in of_other_kind):
            continue
        source, rows = source.to(value), _Rows()
        if value.dim() == 1 and wider[name].shape != value.shape and not elements.same:
            source, rows = _flat(model, former, name, source, elements)
        merged = _merged(value, source, wider[name].shape, elements, rows)
        if merged is not None:
            state[name] = merged
            taken.add(name)
    energy = [name for name, head in model.config.heads.items() if head.forces]
    if not energy or f"heads.{energy[0]}.baseline.scale" not in taken:
        state["force_scale"] = model.force_scale
    model.load_state_dict(state)
    return taken


def _flat(
    model: Model, former: Model, name: str, source: Tensor, elements: _Elements
) -> tuple[Tensor, list[int | None]]:
    """Flat weights of e3nn's product of features and one-hot species: scaled for the new number of species, and rows.

    Its paths stand one after the other, each an array (features in, species, features out) with a coefficient that may
    depend on the number of species. For every other tensor there are no rows.
    """
    e3nn: Any = sys.modules.get("e3nn.o3")
    owner, before = (of.get_submodule(name.rpartition(".")[0]) for of in (model, former))
    if e3nn is None or not isinstance(owner, e3nn.TensorProduct) or not name.endswith(".weight"):
        return source, []
    rows: _Rows = []
    scaled: list[Tensor] = []
    start = 0
    for new, old in zip(cast(Any, owner).instructions, cast(Any, before).instructions, strict=True):
        places = torch.arange(math.prod(old.path_shape)).view(old.path_shape) + start
        scaled.append(source[places.flatten()] * (old.path_weight / new.path_weight))
        start += places.numel()
        for k in range(places.shape[0]):
            for row in elements.of_species():
                rows += [None] * places.shape[2] if row is None else places[k, row].tolist()
    return torch.cat(scaled), rows


def _merged(
    value: Tensor,
    source: Tensor,
    wider: Sequence[int],
    elements: _Elements,
    flat: _Rows,
) -> Tensor | None:
    """A tensor with the checkpoint's numbers wherever they belong; None if it does not fit.

    Args:
        value: the new model's.
        source: the checkpoint's.
        wider: its shape with one element more, which tells the axes that list elements or species.
        elements: which row is which.
        flat: rows of a tensor of one axis on which species and features stand together; empty for others.
    """
    if elements.same:
        return source if source.shape == value.shape else None
    if source.dim() != value.dim():
        return None
    places: list[tuple[list[int], list[int]]] = []
    for size, before, grown in zip(value.shape, source.shape, wider, strict=True):
        rows = flat or (list(range(size)) if grown == size else elements.rows(size, grown - size))
        if rows is None or (grown == size and before != size):
            return None
        known = [(new, old) for new, old in enumerate(rows) if old is not None]
        places.append(([new for new, _ in known], [old for _, old in known]))
    if not value.dim():
        return source
    merged = value.clone()
    to, of = (
        torch.meshgrid(*(torch.tensor(pair[k], dtype=torch.long) for pair in places), indexing="ij") for k in (0, 1)
    )
    merged[to] = source[of]
    return merged


def _grouped(names: Mapping[str, Tensor]) -> Iterator[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        known = [group for prefix, group in _GROUPS.items() if name.startswith(prefix)]
        if known or name.startswith("heads."):
            groups.setdefault(known[0] if known else f"head {name.split('.')[1]}", []).append(name)
    yield from groups.items()


def _hold_still(model: Model) -> None:
    """New moves start at zero, and two points of an atom say nothing to each other at first."""
    model.representation.hold_still()
    for couple in model.representation.couples:
        if isinstance(couple, PairCouple):
            couple.silence()


def _fit_references(
    model: Model,
    name: str,
    head: Atomwise,
    elements: _Elements,
    training: PreparedDataset,
    given: Mapping[str, float],
) -> list[str]:
    """Fits references of new elements to what the model leaves over, and shifts all where that explains the labels.

    Those that are given stay as they are.
    """
    symbols = elements.new.elements
    for symbol, value in given.items():
        head.baseline.references[symbols.index(symbol)] = value
    lines = [f"  references of {name}: as given for {', '.join(given)}"] if given else []
    composition, residual = _residuals(model, name, elements, training)
    if not len(residual):
        return lines
    if isinstance(head, Intensive):
        composition = composition / composition.sum(-1, keepdim=True)
    free = [k for k, symbol in enumerate(symbols) if symbol not in given]
    new = [k for k in free if symbols[k] in elements.added and composition[:, k].any()]
    if new:
        # What the fit to the data alone gave them is part of a sum whose other terms are now the checkpoint's.
        start = head.baseline.references[new].clone()
        residual = residual + composition[:, new] @ start
        solution = torch.linalg.lstsq(composition[:, new], residual.unsqueeze(-1), driver="gelsd").solution[:, 0]
        head.baseline.references[new] = solution
        residual = residual - composition[:, new] @ solution
        lines.append(f"  references of {name}: fitted for {', '.join(symbols[k] for k in new)}")
    if not free:
        return lines
    shift = torch.linalg.lstsq(composition[:, free], residual.unsqueeze(-1), driver="gelsd").solution[:, 0]
    size, left = residual.square().mean().sqrt(), (residual - composition[:, free] @ shift).square().mean().sqrt()
    if left < _OTHER_LEVEL * size and size > _NOTICED * head.baseline.scale:
        head.baseline.references[free] += shift
        lines.append(
            f"  references of {name}: shifted, which takes the error from {float(size):.4g} to {float(left):.4g} "
            "(internal units); so it is with labels of another level of theory"
        )
    return lines


def _residuals(
    model: Model, name: str, elements: _Elements, training: PreparedDataset
) -> tuple[Float[Tensor, "known elements"], Float[Tensor, " known"]]:
    """Composition, and label minus prediction, of some training molecules that have the label."""
    weight = next(model.parameters())
    chosen = _sample(training, elements.added)
    compositions: list[Tensor] = []
    residuals: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        for rows in BatchOrder(len(chosen), 64):
            batch = training.batch(chosen[torch.as_tensor(rows)], weight.dtype)
            predicted = model(batch.molecules, forces=False, properties=[name])[name]
            label = batch.labels[name].double()
            known = label.isfinite()
            compositions.append(_composition(batch.molecules, model.elements)[known])
            residuals.append((label - predicted.double())[known])
    return torch.cat(compositions), torch.cat(residuals)


def _sample(training: PreparedDataset, added: Sequence[str]) -> Int[Tensor, " chosen"]:
    """Some training molecules, among them some with each new element, however rare it is."""
    everything = torch.arange(len(training))
    chosen = _thinned(everything)
    if len(chosen) < len(everything) and added:
        batches = (training.batch(rows).molecules for rows in BatchOrder(len(training), 256))
        counts = torch.cat([_composition(molecules, added) for molecules in batches])
        chosen = torch.cat([chosen, *(_thinned(everything[counts[:, k] > 0]) for k in range(len(added)))]).unique()
    return chosen


def _thinned(rows: Int[Tensor, " rows"]) -> Int[Tensor, " some"]:
    return rows[:: max(1, len(rows) // _SAMPLE)]


def _composition(molecules: Molecules, elements: Sequence[str]) -> Float[Tensor, "molecules elements"]:
    counts = torch.zeros(molecules.num_molecules, len(elements), dtype=torch.float64)
    for column, symbol in enumerate(elements):
        here = molecules.molecule_index[molecules.atomic_numbers == number_of[symbol]]
        counts[:, column] = torch.bincount(here, minlength=molecules.num_molecules).double()
    return counts
