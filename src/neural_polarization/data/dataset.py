"""`Dataset`: molecules with labels in internal units, from whatever file they came."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import ase
import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.cache import Array
from neural_polarization.data.counts import LabelCount, Reading
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.identity import identities
from neural_polarization.data.splits import Split
from neural_polarization.errors import DataError, nearest
from neural_polarization.molecules import element_table
from neural_polarization.properties import FIELD, LARGEST_LABEL, STRESS, Property
from neural_polarization.text import counted


@final
class Dataset:
    """Molecules in flat arrays with their labels.

    Args:
        name: what errors and tables call it, usually the file.
        molecules: flat arrays, Angstrom.
        properties: what the labels are, keyed by name.
        labels: INTERNAL units, keyed by property: (molecules, ...) or, per atom, (atoms, ...); NaN where there
            is none.
        groups: a number per structure, the same for all geometries of one molecule; every structure is its
            own group if left out.
        splits: splits that came with the data, keyed by name.
        cache_directory: where neighbour lists are kept between runs; None keeps them in memory.
        isolated: which structures are isolated atoms, whose energies are references of their elements; neutral
            single atoms that do not repeat in space if left out.
        reading: what came of the file; counted from the labels if left out.

    Raises:
        DataError: for labels whose shape or name does not fit.

    Example:
        >>> methane = FlatMolecules.checked("doc", np.array([1, 2]), np.array([2, 1, 1]), np.eye(3))
        >>> energy = {"energy": Property("energy", "meV")}
        >>> Dataset("doc", methane, energy, {"energy": np.array([-79.0, -31.0])}).elements
        ('H', 'He')
    """

    def __init__(
        self,
        name: str,
        molecules: FlatMolecules,
        properties: Mapping[str, Property],
        labels: Mapping[str, Array],
        groups: Int[np.ndarray, " molecules"] | None = None,
        splits: Mapping[str, Split] | None = None,
        cache_directory: Path | None = None,
        isolated: Bool[np.ndarray, " molecules"] | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.name = name
        self.molecules = molecules
        self.properties = dict(properties)
        self.labels = {key: np.asarray(value, np.float64) for key, value in labels.items()}
        self.groups = np.arange(len(molecules)) if groups is None else np.asarray(groups, np.int64)
        self.splits = dict(splits or {})
        self.cache_directory = cache_directory
        self.isolated = _single_atoms(molecules) if isolated is None else isolated
        self._prepared: dict[float, PreparedDataset] = {}
        if set(self.labels) != set(self.properties):
            raise DataError(
                f"{name}: there are labels for {sorted(self.labels)} and properties {sorted(self.properties)}; "
                "every property needs its labels"
            )
        if self.groups.shape != (len(molecules),):
            raise DataError(f"{name}: groups have shape {self.groups.shape}; expected ({len(molecules)},)")
        for key, kind in self.properties.items():
            rows = len(molecules.atomic_numbers) if kind.per_atom else len(molecules)
            if self.labels[key].shape != (rows, *kind.shape):
                raise DataError(
                    f"{name}: {key} has shape {self.labels[key].shape}; expected {(rows, *kind.shape)}, one value "
                    f"of shape {kind.shape} per {'atom' if kind.per_atom else 'molecule'}"
                )

            large = np.abs(self.labels[key].reshape(rows, -1)) > LARGEST_LABEL
            if large.any():
                row = int(np.argmax(large.any(1)))
                place = molecules.place_of(row) if kind.per_atom else f"molecule {row}"
                raise DataError(
                    f"{name}: {key} of {place} is infinite or beyond {LARGEST_LABEL:g}; leave the label out (NaN), or "
                    "correct it"
                )
        if STRESS in self.labels:
            self._check_stress()
        if FIELD in self.labels:
            self._check_fields()
        self.reading = reading or self._counted()

    def _check_stress(self) -> None:
        """A stress needs a volume that it is divided by."""
        strange = np.isfinite(self.labels[STRESS].reshape(len(self), -1)).any(1) & (self.molecules.volumes == 0.0)
        if strange.any():
            raise DataError(
                f"{self.name}: structure {int(np.argmax(strange))} has a stress, but no periodic cell with a volume; "
                "give its cell, or NaN in place of the stress"
            )

    def _check_fields(self) -> None:
        """A field is three numbers, or is not there at all."""
        fields, kind = self.labels[FIELD], self.properties[FIELD]
        if kind.shape != (3,) or kind.per_atom:
            raise DataError(
                f"{self.name}: {FIELD} has shape {kind.shape} per {'atom' if kind.per_atom else 'molecule'}; expected "
                "three numbers for each structure, the field along x, y and z"
            )
        partly = np.isfinite(fields).any(1) & ~np.isfinite(fields).all(1)
        if partly.any():
            raise DataError(
                f"{self.name}: {FIELD} of structure {int(np.argmax(partly))} has components that are NaN; give all "
                "three, or leave the field out"
            )

    def __len__(self) -> int:
        return len(self.molecules)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {counted(len(self), 'molecule')} of {', '.join(self.elements)}, "
            f"labels {', '.join(self.properties) or 'none'})"
        )

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the elements that occur, by atomic number."""
        return tuple(chemical_symbols[z] for z in np.unique(self.molecules.atomic_numbers).tolist())

    @property
    def content_hash(self) -> str:
        """SHA-256 of the molecules: what a stored split has to agree with."""
        return self.molecules.content_hash

    def composition(
        self, elements: Sequence[str], indices: Int[np.ndarray, " chosen"] | None = None
    ) -> Float[np.ndarray, "chosen elements"]:
        """How many atoms of each element every molecule has.

        Args:
            elements: symbols, in the order of the columns.
            indices: which molecules; all if left out.

        Raises:
            DataError: for a molecule with an element that is not among them, or something that is no element.
        """
        chosen = self.molecules if indices is None else self.molecules.subset(indices)
        try:
            columns = element_table(elements).numpy()[chosen.atomic_numbers]
        except ValueError as error:
            raise DataError(str(error)) from None
        if (columns < 0).any():
            atom = int(np.argmin(columns))
            raise DataError(
                f"{self.name}: {chosen.place_of(atom)} is {chemical_symbols[int(chosen.atomic_numbers[atom])]}, "
                f"but elements are {', '.join(elements)}; add it to the elements or leave the molecule out"
            )
        owner = np.repeat(np.arange(len(chosen)), chosen.n_atoms)
        counts = np.bincount(owner * len(elements) + columns, minlength=len(chosen) * len(elements))
        return counts.reshape(len(chosen), len(elements)).astype(np.float64)

    def labels_of(self, indices: Int[np.ndarray, " chosen"]) -> dict[str, Tensor]:
        """The labels of some molecules as float64 tensors: what `Model.fit_scales` takes."""
        atoms = self.molecules.atoms_of(indices)
        return {
            key: torch.from_numpy(values[atoms if self.properties[key].per_atom else indices])
            for key, values in self.labels.items()
        }

    def label_counts(self, indices: Int[np.ndarray, " chosen"] | None = None) -> dict[str, int]:
        """How many structures have a label of each property.

        Args:
            indices: structures that are looked at, such as a part of a split; all if left out.
        """
        chosen = slice(None) if indices is None else indices
        return {key: int(self._has(key)[chosen].sum()) for key in self.labels}

    def _has(self, key: str) -> Bool[np.ndarray, " molecules"]:
        values = self.labels[key]
        known = np.asarray(np.isfinite(values.reshape(len(values), -1)).any(1))
        return np.logical_or.reduceat(known, self.molecules.starts) if self.properties[key].per_atom else known

    def _counted(self) -> Reading:
        counts = self.label_counts()
        labels = {
            key: LabelCount(key, number, len(self) - number, "NaN in the file" if number < len(self) else "")
            for key, number in counts.items()
        }
        return Reading(len(self), labels, isolated_atoms=int(self.isolated.sum()))

    def labelled(self) -> Int[np.ndarray, " labelled"]:
        """Indices of the molecules that have at least one label of any property."""
        has = np.zeros(len(self), bool)
        for key in self.labels:
            has |= self._has(key)
        return np.flatnonzero(has)

    def subset(self, indices: Int[np.ndarray, " chosen"]) -> "Dataset":
        """Some of the molecules as a data set of their own, in the order of `indices`.

        Raises:
            DataError: if there are none.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) == 0:
            raise DataError(f"{self.name}: the subset has no molecules; choose at least one")
        atoms = self.molecules.atoms_of(indices)
        return Dataset(
            name=self.name,
            molecules=self.molecules.subset(indices),
            properties=self.properties,
            labels={
                key: values[atoms if self.properties[key].per_atom else indices] for key, values in self.labels.items()
            },
            groups=self.groups[indices],
            splits={key: split.remapped(indices, len(self)) for key, split in self.splits.items()},
            cache_directory=self.cache_directory,
            isolated=self.isolated[indices],
            reading=self.reading,
        )

    def select(self, names: Sequence[str]) -> "Dataset":
        """The same molecules with some of the properties only.

        Raises:
            DataError: for a property that is not there.
        """
        for key in names:
            if key not in self.properties:
                raise DataError(f"{self.name}: has no property {key!r}; {nearest(key, self.properties)}")
        return Dataset(
            self.name,
            self.molecules,
            {key: self.properties[key] for key in names},
            {key: self.labels[key] for key in names},
            self.groups,
            self.splits,
            self.cache_directory,
            self.isolated,
            replace(self.reading, labels={key: n for key, n in self.reading.labels.items() if key in names}),
        )

    def identities(self) -> Int[np.ndarray, " molecules"]:
        """A number for each structure, the same for structures with the same content."""
        return identities(self.molecules, self.cache_directory)

    def prepare(self, cutoff: float) -> PreparedDataset:
        """The data set with neighbour lists, ready for batches; made once per cutoff.

        Args:
            cutoff: Angstrom.

        Raises:
            DataError: for two atoms at one place.
        """
        if cutoff not in self._prepared:
            self._prepared[cutoff] = PreparedDataset(
                self.name, self.molecules, self.properties, self.labels, cutoff, self.cache_directory
            )
        return self._prepared[cutoff]

    def structure(self, index: int) -> ase.Atoms:
        """One molecule as an ASE structure, without labels."""
        chosen = self.molecules.subset(np.array([index]))
        atoms = ase.Atoms(chosen.atomic_numbers, chosen.positions)
        if chosen.cells is not None and chosen.periodic[0]:
            atoms.set_cell(chosen.cells[0])
            atoms.set_pbc(True if chosen.pbc is None else chosen.pbc[0])
        if chosen.charges is not None:
            atoms.info["charge"] = int(chosen.charges[0])
        if chosen.spins is not None and np.isfinite(chosen.spins[0]):
            atoms.info["spin"] = int(chosen.spins[0])
        return atoms


def _single_atoms(molecules: FlatMolecules) -> Bool[np.ndarray, " molecules"]:
    neutral = np.ones(len(molecules), bool) if molecules.charges is None else molecules.charges == 0
    return neutral & (molecules.n_atoms == 1) & ~molecules.periodic


def check_leakage(dataset: Dataset, split: Split) -> None:
    """Makes sure that no molecule that trains also judges.

    Parts may share neither an index nor a structure of the same content (whatever its orientation and order of
    atoms), nor, for a split by group, a group.

    Raises:
        DataError: naming the two parts and an example.
    """
    if split.content_hash not in ("", dataset.content_hash):
        raise DataError(
            f"{dataset.name}: the split was made for other molecules (their hash is {split.content_hash[:12]}, here "
            f"{dataset.content_hash[:12]}); open the same file with the same choice of properties and label_source"
        )
    for name, part in split.parts.items():
        if len(part) and (part.min() < 0 or part.max() >= len(dataset)):
            raise DataError(
                f"{dataset.name}: the split's {name} part has index {int(part.max())} of "
                f"{counted(len(dataset), 'structure')}; the split belongs to another data set"
            )
    keys = {"index": np.arange(len(dataset)), "content": dataset.identities()}
    if split.by == "group":
        keys["group"] = dataset.groups
    parts = list(split.parts.items())
    for what, key in keys.items():
        for k, (one, first) in enumerate(parts):
            for other, second in parts[k + 1 :]:
                shared = np.isin(key[first], key[second])
                if shared.any():
                    leak = int(first[np.argmax(shared)])
                    twin = int(second[np.argmax(key[second] == key[leak])])
                    raise DataError(
                        f"{dataset.name}: the {other} part also has {counted(int(shared.sum()), 'structure')} of the "
                        f"{one} part by {what}, for instance structure {leak} ({one}) and {twin} ({other}); "
                        "leave them out of one of the two, or make a new split"
                    )
