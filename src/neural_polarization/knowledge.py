"""What a model was trained on: kept in its checkpoint, and compared with every structure that it is asked about."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations_with_replacement
from typing import Any, final

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Bool
from torch import Tensor

from neural_polarization.contacts import Ranges, said_of_farther, said_of_nearer
from neural_polarization.errors import DataError
from neural_polarization.facts import Facts, by_symbol, formula_of
from neural_polarization.molecules import Molecules
from neural_polarization.properties import FORCES
from neural_polarization.references import References

LARGER = 2.0
"""Predicted forces count as far outside from this multiple of the largest force that was seen."""

STRONGER = 1.25
"""A field counts as stronger than in training from this multiple of the strongest that was seen."""

_SMALL_FORCE = 0.1  # eV/Angstrom: smaller ones are never far outside of relaxed molecules


class Departure(StrEnum):
    """How a structure lies outside of what a model was trained on."""

    COMPOSITION = "composition"
    CHARGE = "charge"
    SPIN = "spin"
    PERIODICITY = "periodicity"
    SIZE = "size"
    DISTANCE = "distance"
    GAP = "gap"
    FIELD = "field"
    PREDICTION = "prediction"


class OutsideTrainingWarning(UserWarning):
    """A prediction is asked for that the training of the model says nothing about."""


@final
@dataclass(frozen=True)
class TrainingKnowledge:
    """What a model was trained on. Fields that nobody filled in are empty or None, and nothing is compared with them.

    Attributes:
        structures: number of structures that trained.
        elements: atoms of each element in these structures; zero for an element that the model only names.
        references: per property that has reference values of elements.
        ranges: smallest and largest training label per property, internal unit; of vectors, their lengths.
        contacts: distances of neighbours by pair of elements; None if nobody looked.
        largest_molecule: most atoms of one structure.
        charges: total charges that occurred, e.
        periodic: whether structures were periodic (True), molecules (False), or both.
        dipole_origin: the point that dipole labels of ions refer to; empty without dipoles.
        content_hash: SHA-256 of structures and labels of the whole data set.
        spins: numbers of unpaired electrons that occurred; the lowest possible where a structure does not tell.
        per_atom: smallest and largest training label per atom, less the reference values, of each property that is a
            sum over atoms, internal unit.
        stress: root mean square of the stresses that trained, eV/Angstrom^3; None for a model that learned none, whose
            stress is a derivative of what it learned otherwise.
        strongest_field: of the electric fields that trained, V/Angstrom; None for a model that learned in none.
        lone: elements that occurred as atoms without a neighbour within the cutoff.
    """

    structures: int = 0
    elements: Mapping[str, int] = field(default_factory=dict[str, int])
    references: Mapping[str, References] = field(default_factory=dict[str, References])
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    contacts: Ranges | None = None
    largest_molecule: int | None = None
    charges: tuple[float, ...] | None = None
    periodic: tuple[bool, ...] | None = None
    dipole_origin: str = ""
    content_hash: str = ""
    spins: tuple[float, ...] | None = None
    per_atom: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    stress: float | None = None
    strongest_field: float | None = None
    lone: tuple[str, ...] = ()

    @property
    def missing_elements(self) -> tuple[str, ...]:
        """Elements that the model names, but that no training structure had."""
        return tuple(symbol for symbol, count in self.elements.items() if count == 0)

    def outside(self, molecules: Molecules, predictions: Mapping[str, Tensor] | None = None) -> "dict[int, Outside]":
        """Those molecules of a batch that lie outside of the training, by their index.

        Args:
            molecules: the batch.
            predictions: what the model says of them, internal units; compared with the training labels too.
        """
        facts, kinds = Facts.of(molecules), list(Departure)
        strange = np.zeros((len(facts.sizes), len(kinds)), bool)
        for rows, counts in facts.compositions():
            strange[rows, kinds.index(Departure.COMPOSITION)] = bool(self.uncovered(counts))
        if self.charges is not None:
            strange[:, kinds.index(Departure.CHARGE)] = ~np.isin(facts.charges, self.charges)
        if self.spins is not None:
            strange[:, kinds.index(Departure.SPIN)] = ~np.isin(facts.spins, self.spins)
        if self.periodic is not None:
            strange[:, kinds.index(Departure.PERIODICITY)] = ~np.isin(facts.periodic, self.periodic)
        if self.largest_molecule is not None:
            # A crystal of many atoms is no larger than one of few.
            strange[:, kinds.index(Departure.SIZE)] = (facts.sizes > self.largest_molecule) & ~facts.periodic
        near: dict[int, dict[str, float]] = {}
        far: dict[int, dict[str, float]] = {}
        if self.contacts is not None:
            near, far = facts.contacts.nearer(self.contacts), facts.contacts.farther(self.contacts, self.lone)
            strange[list(near), kinds.index(Departure.DISTANCE)] = True
            strange[list(far), kinds.index(Departure.GAP)] = True
        if self.strongest_field is not None:
            strange[:, kinds.index(Departure.FIELD)] = facts.fields > STRONGER * self.strongest_field
        strange[:, kinds.index(Departure.PREDICTION)] = self._far_from_labels(facts, molecules, predictions or {})
        return {
            k: Outside(
                by_symbol(facts.counts[k]),
                float(facts.charges[k]),
                tuple(kind for kind, is_so in zip(kinds, strange[k], strict=True) if is_so),
                float(facts.spins[k]),
                near.get(k, {}),
                far.get(k, {}),
                float(facts.fields[k]),
            )
            for k in np.flatnonzero(strange.any(1)).tolist()
        }

    def _far_from_labels(
        self, facts: Facts, molecules: Molecules, predictions: Mapping[str, Tensor]
    ) -> Bool[np.ndarray, " molecules"]:
        """Whether what is predicted lies far outside of the training labels: forces, and values per atom.

        Values of a composition whose references are not determined are not compared: `COMPOSITION` says more of them.
        """
        far = np.zeros(len(facts.sizes), bool)
        if FORCES in predictions and FORCES in self.ranges:
            lengths = predictions[FORCES].detach().cpu().double().norm(dim=-1).numpy()
            np.logical_or.at(
                far,
                molecules.molecule_index.cpu().numpy(),
                lengths > LARGER * max(self.ranges[FORCES][1], _SMALL_FORCE),
            )
        for name, (low, high) in self.per_atom.items():
            references = self.references.get(name)
            if name not in predictions or references is None or low == high:
                continue
            values = predictions[name].detach().cpu().double().numpy()
            for rows, counts in facts.compositions():
                if references.covers(counts):
                    known = sum(count * references.values[symbol] for symbol, count in counts.items())
                    rest = (values[rows] - known) / sum(counts.values())
                    far[rows] |= (rest < 2 * low - high) | (rest > 2 * high - low)
        return far

    def uncovered(self, counts: Mapping[str, int]) -> list[str]:
        """Properties whose references are not determined for a composition."""
        return [name for name, references in self.references.items() if not references.covers(counts)]


def by_pairs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a `TrainingKnowledge`, those of early checkpoints as well: there, one range stood for all elements."""
    values = dict(values)
    ends = values.pop("distances", None)
    if ends is not None:
        symbols = sorted(values["elements"], key=lambda symbol: atomic_numbers[symbol])
        values["contacts"] = {f"{one}-{other}": ends for one, other in combinations_with_replacement(symbols, 2)}
    return values


@final
@dataclass(frozen=True)
class Outside:
    """A molecule that lies outside of what a model was trained on.

    Attributes:
        counts: atoms by element.
        charge: total charge, e.
        departures: in which ways it lies outside.
        spin: number of unpaired electrons.
        near: pairs of elements that are nearer than in training, and their shortest distance, Angstrom.
        far: nearest neighbours farther apart than in training, or of elements that were none there, and their longest
            distance, Angstrom; an element whose atom has no neighbour, and infinity.
        field: strength of the electric field, V/Angstrom.
    """

    counts: Mapping[str, int]
    charge: float
    departures: tuple[Departure, ...]
    spin: float
    near: Mapping[str, float] = field(default_factory=dict[str, float])
    far: Mapping[str, float] = field(default_factory=dict[str, float])
    field: float = 0.0

    @property
    def formula(self) -> str:
        """In Hill's order."""
        return formula_of(self.counts)

    def subject(self, kind: Departure) -> str:
        """What is said once: a composition, a charge, a size, pairs of elements; periodicity as such."""
        match kind:
            case Departure.COMPOSITION:
                return self.formula
            case Departure.CHARGE:
                return f"{self.charge:+g}" if self.charge else "0"
            case Departure.SPIN:
                return f"{self.spin:g}"
            case Departure.SIZE:
                return str(sum(self.counts.values()))
            case Departure.DISTANCE:
                return ", ".join(self.near)
            case Departure.GAP:
                return ", ".join(self.far)
            case _:
                return kind.value


class Watch:
    """Says what lies outside of a model's training, each thing once; `strict` makes an error of it, each time.

    Args:
        strict: whether to raise instead of warning.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self._said: set[str] = set()

    def tell(self, knowledge: TrainingKnowledge, molecules: Iterable[Outside], blind: Sequence[str] = ()) -> None:
        """Warns of what has not been said before, in one sentence.

        Args:
            knowledge: of the model.
            molecules: those that lie outside.
            blind: properties of the model that do not depend on the charge.

        Raises:
            DataError: if there is something to say and `strict` is set.
        """
        found, parts = list(molecules), list[str]()
        for kind in Departure:
            subjects = {one.subject(kind): one for one in found if kind in one.departures}
            new = {name: one for name, one in subjects.items() if self.strict or f"{kind} {name}" not in self._said}
            if new:
                self._said.update(f"{kind} {subject}" for subject in new)
                parts.append(_clause(knowledge, kind, list(new.values()), blind))
        if parts:
            self._say(f"outside of what the model was trained on: {'; '.join(parts)}")

    def say(self, text: str | None) -> None:
        """Warns of something else, unless it has been said, or there is nothing to say.

        Raises:
            DataError: if `strict` is set.
        """
        if text and (self.strict or text not in self._said):
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        if self.strict:
            raise DataError(f"{text} (with --strict, or strict=True, this is an error)")
        warnings.warn(text, OutsideTrainingWarning, stacklevel=4)


def _clause(knowledge: TrainingKnowledge, kind: Departure, molecules: Sequence[Outside], blind: Sequence[str]) -> str:
    formulas = _listed(list(dict.fromkeys(one.formula for one in molecules)))
    match kind:
        case Departure.COMPOSITION:
            names = list(dict.fromkeys(name for one in molecules for name in knowledge.uncovered(one.counts)))
            references = knowledge.references[names[0]]
            return (
                f"composition {formulas}: the training determines {references.rank} of {len(references.values)} "
                f"independent reference values of elements, so {', '.join(names)} may be wrong by any amount "
                "(differences between geometries of one molecule are not concerned): train on such molecules or give "
                "training.references"
            )
        case Departure.CHARGE:
            seen = ", ".join(f"{charge:+g}" if charge else "0" for charge in knowledge.charges or ())
            new = ", ".join(one.subject(kind) for one in molecules)
            same = f", and {', '.join(blind)} and displacements of a molecule and its ion are the same" if blind else ""
            return f"charge {new} ({formulas}): the training had {seen} only{same}"
        case Departure.SPIN:
            seen = ", ".join(f"{spin:g}" for spin in knowledge.spins or ())
            new = ", ".join(one.subject(kind) for one in molecules)
            return f"{new} unpaired electrons ({formulas}): the training had {seen} only"
        case Departure.PERIODICITY:
            periodic = True in (knowledge.periodic or ())
            had, asked = ("periodic systems", "a molecule") if periodic else ("molecules", "a periodic system")
            return f"{asked} ({formulas}): the training had {had} only"
        case Departure.SIZE:
            largest = max(sum(one.counts.values()) for one in molecules)
            return f"{largest} atoms ({formulas}): the training had at most {knowledge.largest_molecule}"
        case Departure.DISTANCE:
            pairs = said_of_nearer([one.near for one in molecules], knowledge.contacts or {})
            return f"atoms nearer than in the training: {pairs} ({formulas})"
        case Departure.GAP:
            pairs = said_of_farther([one.far for one in molecules], knowledge.contacts or {})
            return (
                f"nearest neighbours farther apart than in the training, or of elements that were none there: {pairs} "
                f"({formulas}); are positions in Angstrom (not bohr)?"
            )
        case Departure.FIELD:
            strongest = max(one.field for one in molecules)
            return (
                f"a field of {strongest:.3g} V/Angstrom ({formulas}): the training had at most "
                f"{knowledge.strongest_field:.3g}"
            )
        case Departure.PREDICTION:
            return f"predictions far outside of the training labels ({formulas}), which have {_label_ranges(knowledge)}"


def _label_ranges(knowledge: TrainingKnowledge) -> str:
    forces = [f"forces up to {knowledge.ranges[FORCES][1]:.3g} eV/Angstrom"] if FORCES in knowledge.ranges else []
    per_atom = [
        f"{name} per atom from {low:.3g} to {high:.3g} about the references (in eV, Angstrom and e)"
        for name, (low, high) in knowledge.per_atom.items()
    ]
    return " and ".join([*forces, *per_atom])


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
