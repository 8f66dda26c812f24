"""Labels that stand far from the others are named, and no others."""

import numpy as np
import pytest

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.properties import Property
from neural_polarization.training.outliers import largest_forces, outliers


def frames(count: int = 60, kinds: int = 1, seed: int = 0) -> Dataset:
    """Chains of H, C and O whose energies are sums over elements and normal noise."""
    rng = np.random.default_rng(seed)
    sizes = np.array([6 if kinds == 1 else 4 + k % kinds for k in range(count)])
    numbers = np.concatenate([np.resize([1, 6, 8, 1], size) for size in sizes])
    positions = np.concatenate([np.arange(size)[:, None] * [1.2, 0.0, 0.0] for size in sizes])
    owner = np.repeat(np.arange(count), sizes)
    values = np.select([numbers == 1, numbers == 6], [-13.6, -1029.0], -2043.0)
    energy = np.bincount(owner, values) + rng.normal(scale=0.2, size=count)
    forces = rng.normal(scale=0.8, size=(len(numbers), 3))
    kind = {
        "energy": Property("energy", "meV"),
        "forces": Property("forces", "meV/Angstrom", (3,), per_atom=True),
    }
    return Dataset(
        "set", FlatMolecules.checked("set", sizes, numbers, positions), kind, {"energy": energy, "forces": forces}
    )


@pytest.mark.parametrize("kinds", [1, 30])
def test_ordinary_labels_are_not_named(kinds: int) -> None:
    for seed in range(5):
        dataset = frames(kinds=kinds, seed=seed)
        assert outliers(dataset, np.arange(60), ["energy"]) == []


@pytest.mark.parametrize("kinds", [1, 30])  # 60 frames of one composition, or two of each of 30
def test_an_energy_in_hartree_and_a_force_a_thousand_times_too_large(kinds: int) -> None:
    dataset = frames(kinds=kinds)
    dataset.labels["energy"][7] /= 27.211386
    dataset.labels["forces"][dataset.molecules.starts[33] + 2] *= 1000.0
    found = outliers(dataset, np.arange(60), ["energy"])
    assert {(one.structure, one.property) for one in found} == {(7, "energy"), (33, "forces")}
    by_name = {one.property: one for one in found}
    assert by_name["energy"].value == pytest.approx(dataset.labels["energy"][7])
    assert by_name["energy"].usual == pytest.approx(27.211386 * dataset.labels["energy"][7], rel=1e-3)
    assert by_name["forces"].value == pytest.approx(largest_forces(dataset)[33])


def test_only_the_chosen_structures_are_looked_at() -> None:
    dataset = frames()
    dataset.labels["energy"][7] = 0.0
    assert [one.structure for one in outliers(dataset, np.arange(5, 40), ["energy"])] == [7]
    assert outliers(dataset, np.arange(8, 40), ["energy"]) == []


def test_missing_labels_are_no_outliers() -> None:
    dataset = frames()
    dataset.labels["energy"][:30] = np.nan
    dataset.labels["forces"][: dataset.molecules.starts[20]] = np.nan
    assert outliers(dataset, np.arange(60), ["energy"]) == []
    assert np.isnan(largest_forces(dataset)[:20]).all() and np.isfinite(largest_forces(dataset)[20:]).all()


def test_the_largest_force_against_numpy() -> None:
    dataset = frames(10)
    lengths = np.linalg.norm(dataset.labels["forces"], axis=1).reshape(10, 6)
    np.testing.assert_allclose(largest_forces(dataset), lengths.max(1), rtol=1e-12)
