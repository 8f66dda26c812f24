"""What a data set says about its molecules, and its subsets."""

import numpy as np
import pytest
import torch

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.splits import Split
from neural_polarization.errors import DataError
from neural_polarization.properties import Property


def test_composition_counts_the_atoms_of_each_element(dataset: Dataset) -> None:
    assert dataset.elements == ("H", "C", "N", "O")
    counts = dataset.composition(("O", "H", "N", "C"))
    for k in (0, 9, 39):
        symbols = dataset.structure(k).get_chemical_symbols()
        assert counts[k].tolist() == [symbols.count(s) for s in ("O", "H", "N", "C")]
    np.testing.assert_array_equal(dataset.composition(("O", "H", "N", "C"), np.array([9, 2])), counts[[9, 2]])


def test_composition_refuses_other_elements(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="is N, but elements are H, C, O"):
        dataset.composition(("H", "C", "O"))
    with pytest.raises(DataError, match="'Xx' is not a chemical symbol"):
        dataset.composition(("H", "Xx"))


def test_a_subset_keeps_labels_groups_and_splits(dataset: Dataset) -> None:
    dataset.splits["stored"] = Split(np.array([0, 8, 20]), np.array([9]), np.array([30, 21]), "group")
    kept = np.array([30, 20, 9, 8])
    part = dataset.subset(kept)
    assert len(part) == 4
    np.testing.assert_array_equal(part.labels["energy"], dataset.labels["energy"][kept])
    np.testing.assert_array_equal(part.groups, dataset.groups[kept])
    atoms = dataset.molecules.atoms_of(kept)
    np.testing.assert_array_equal(part.labels["forces"], dataset.labels["forces"][atoms])
    split = part.splits["stored"]
    assert [part_.tolist() for part_ in split.parts.values()] == [[3, 1], [2], [0]]
    assert split.by == "group"
    labels = dataset.labels_of(kept)
    assert labels["energy"].dtype == torch.float64
    assert labels["forces"].shape == (len(atoms), 3)
    assert part.content_hash != dataset.content_hash
    assert part.content_hash == dataset.subset(kept).content_hash


def test_labelled_finds_molecules_with_any_label(dataset: Dataset) -> None:
    assert len(dataset.labelled()) == 40
    assert dataset.select(["energy"]).labelled().tolist() == [k for k in range(40) if k != 3]
    assert dataset.select(["forces"]).labelled().tolist() == list(range(1, 40))
    with pytest.raises(DataError, match="did you mean 'energy'"):
        dataset.select(["enrgy"])


def test_one_component_makes_a_molecule_labelled(dataset: Dataset) -> None:
    dipole, forces = dataset.labels["dipole"], dataset.labels["forces"]
    dipole[5], dipole[6, 1:] = np.nan, np.nan
    assert dataset.select(["dipole"]).labelled().tolist() == [k for k in range(40) if k != 5]
    forces[:] = np.nan
    forces[dataset.molecules.starts[9] + dataset.molecules.n_atoms[9] - 1, 2] = 0.0
    assert dataset.select(["forces"]).labelled().tolist() == [9]


@pytest.mark.parametrize(
    "changed",
    [
        {"n_atoms": np.array([2, 1])},
        {"atomic_numbers": np.array([1, 8, 3])},
        {"positions": np.eye(3)[::-1]},
        {"charges": np.array([1.0, 0.0])},
        {"charges": None},
        {"cells": np.stack([8.0 * np.eye(3), np.full((3, 3), np.nan)])},
        {"cells": None},
    ],
    ids=lambda changed: " ".join(changed),
)
def test_the_hash_is_that_of_everything_about_the_molecules(changed: dict[str, np.ndarray | None]) -> None:
    arrays: dict[str, np.ndarray | None] = {
        "n_atoms": np.array([1, 2]),
        "atomic_numbers": np.array([3, 8, 1]),
        "positions": np.eye(3),
        "charges": np.array([0.0, 1.0]),
        "cells": np.stack([9.0 * np.eye(3), np.full((3, 3), np.nan)]),
    }
    first, again, other = (FlatMolecules(**kind) for kind in (arrays, arrays, arrays | changed))
    assert first.content_hash == again.content_hash != other.content_hash


@pytest.mark.parametrize(
    ("labels", "properties", "message"),
    [
        ({"a": np.zeros(39)}, {"a": Property("a", "1")}, r"a has shape \(39,\); expected \(40,\)"),
        ({"a": np.zeros(40)}, {"a": Property("a", "1", (3,))}, r"expected \(40, 3\), one value of shape \(3,\)"),
        ({"a": np.zeros((40, 3))}, {"a": Property("a", "1", (3,), per_atom=True)}, "per atom"),
        ({"a": np.zeros(40)}, {}, "every property needs its labels"),
        (
            {"external_field": np.zeros((40, 2))},
            {"external_field": Property("external_field", "V/Angstrom", (2,))},
            r"external_field has shape \(2,\) per molecule; expected three numbers for each structure",
        ),
        (
            {"external_field": np.where(np.arange(120).reshape(40, 3) == 7, np.nan, 0.1)},
            {"external_field": Property("external_field", "V/Angstrom", (3,))},
            "external_field of structure 2 has components that are NaN",
        ),
    ],
)
def test_labels_that_do_not_fit(
    flat: FlatMolecules, labels: dict[str, np.ndarray], properties: dict[str, Property], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Dataset("test", flat, properties, labels)


def test_a_property_needs_a_known_unit() -> None:
    with pytest.raises(ValueError, match="did you mean 'meV'"):
        Property("energy", "mev")
