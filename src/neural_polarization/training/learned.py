"""What a model learns from, as its checkpoint keeps it: filled in before the training starts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from neural_polarization.checkpoints import read_knowledge
from neural_polarization.contacts import merged
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.config import DataConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.errors import DataError
from neural_polarization.facts import Facts
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.models import Model
from neural_polarization.references import FITTED, References, independent
from neural_polarization.training.batches import BatchOrder

DIPOLE_ORIGIN = "centre of nuclear charge"
"""The point that dipole labels of ions refer to."""

_AT_A_TIME = 512  # structures whose distances are in memory together


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of structures and labels: equal for data that train the same model."""
    digest = hashlib.sha256(dataset.content_hash.encode())
    for name in sorted(dataset.labels):
        digest.update(f"|{name}|".encode())
        digest.update(np.ascontiguousarray(dataset.labels[name]).tobytes())
    return digest.hexdigest()


def files_beside(config: DataConfig) -> dict[str, str]:
    """SHA-256 of the files beside the data that decide what is learned, by the key that names them."""
    named = {"data.split.path": config.split.path, "data.densities": config.densities}
    return {key: hashlib.sha256(Path(path).read_bytes()).hexdigest() for key, path in named.items() if path is not None}


def changed_files(former: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Keys of files beside the data that have other contents; earlier trainings did not write all of them."""
    return [key for key, content in present.items() if former.get(key, content) != content]


def completed(
    knowledge: TrainingKnowledge, model: Model, dataset: Dataset, training: PreparedDataset
) -> TrainingKnowledge:
    """What `Model.fit_scales` knows, with what only the structures tell.

    Args:
        knowledge: of `fit_scales`.
        model: its heads are asked for dipoles.
        dataset: all of the data.
        training: the part that trains.
    """
    charges: set[float] = set()
    spins: set[float] = set()
    periodic: set[bool] = set()
    contacts: dict[str, tuple[float, float]] = {}
    lone: set[str] = set()
    largest, strongest = 0, 0.0
    for rows in BatchOrder(len(training), _AT_A_TIME):
        facts = Facts.of(training.batch(rows, torch.float64).molecules)
        charges.update(facts.charges.tolist())
        spins.update(facts.spins.tolist())
        periodic.update(facts.periodic.tolist())
        contacts = merged(contacts, facts.contacts.ranges())
        lone.update(facts.contacts.lone_elements())
        largest = max(largest, int(facts.sizes.max()))
        strongest = max(strongest, float(facts.fields.max()))
    has_dipole = any(head.kind.startswith("dipole") for head in model.config.heads.values())
    return replace(
        knowledge,
        contacts=contacts,
        lone=tuple(sorted(lone)),
        largest_molecule=largest,
        charges=tuple(sorted(charges)),
        spins=tuple(sorted(spins)),
        periodic=tuple(sorted(periodic)),
        dipole_origin=DIPOLE_ORIGIN if has_dipole else "",
        content_hash=fingerprint(dataset),
        strongest_field=strongest or None,
    )


def with_ranges_per_atom(
    knowledge: TrainingKnowledge, model: Model, dataset: Dataset, train: Int[np.ndarray, " train"]
) -> TrainingKnowledge:
    """The same, with the range of labels per atom less the reference values, when these are settled.

    Args:
        knowledge: with references.
        model: its heads that are sums over atoms have such a range.
        dataset: all of the data.
        train: indices of the structures that train.
    """
    composition = dataset.composition(model.elements, train)
    ranges: dict[str, tuple[float, float]] = {}
    for name, references in knowledge.references.items():
        if not model.head(name).of_atoms:
            continue
        known = composition @ np.array([references.values[symbol] for symbol in model.elements])
        rest = (dataset.labels[name][train] - known) / composition.sum(1)
        ranges[name] = (float(np.nanmin(rest)), float(np.nanmax(rest)))
    return replace(knowledge, per_atom=ranges)


def check_elements(model: Model, named: bool) -> str:
    """Makes sure that every element of a model occurs in its training.

    Args:
        model: after `fit_scales`.
        named: whether the configuration named the elements; otherwise they come from all parts of the data.

    Returns:
        What to tell of elements that occur outside of the training part only; empty if there are none.

    Raises:
        DataError: for an element that was named.
    """
    assert model.knowledge is not None
    missing = ", ".join(model.knowledge.missing_elements)
    if not missing:
        return ""
    if named:
        raise DataError(
            f"model.elements: no training structure contains {missing}, so that nothing could be learned of it; remove "
            "it from the elements, or train on structures that contain it"
        )
    return (
        f"{missing} occurs in the validation or test part only: nothing is learned of it, and the model will refuse to "
        "predict it; take another split (kind random, or another seed)"
    )


def inherited(knowledge: TrainingKnowledge, model: Model, path: str | Path) -> TrainingKnowledge:
    """What a model knows whose references are those of a checkpoint that it starts from.

    Compositions of the earlier training count too, unless the references were shifted to labels of another level.

    Args:
        knowledge: of the new training.
        model: after it took over what it could.
        path: the checkpoint.
    """
    before = read_knowledge(path)
    references = dict(knowledge.references)
    for name, fitted in knowledge.references.items():
        values = dict(zip(model.elements, model.head(name).baseline.references.tolist(), strict=True))
        former = None if before is None else before.references.get(name)
        compositions = fitted.compositions
        if former is not None and all(values.get(symbol) == value for symbol, value in former.values.items()):
            counts = [dict(zip(former.values, row, strict=True)) for row in former.compositions]
            rows = [tuple(count.get(symbol, 0) for symbol in model.elements) for count in counts]
            compositions = independent([*rows, *fitted.compositions])
        sources = {
            symbol: _source(symbol, value, [fitted, *([] if former is None else [former])])
            for symbol, value in values.items()
        }
        references[name] = References(values, sources, compositions)
    return replace(knowledge, references=references)


def _source(symbol: str, value: float, known: Sequence[References]) -> str:
    """Where a reference comes from: the first that has this value for the element; else it was fitted, or shifted."""
    return next((one.sources[symbol] for one in known if one.values.get(symbol) == value), FITTED)
