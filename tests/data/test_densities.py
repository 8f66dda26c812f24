"""Fitted densities, read beside the data set that they belong to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neural_polarization.data.densities import Densities
from neural_polarization.data.density_structures import structure_arrays
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.errors import DataError

# One electron on H; on OH, 8.5 in the s function of oxygen and half an electron on hydrogen, beside p functions.
ON_HYDROGEN = (4 * np.pi) ** -0.75
S, P, H = 8.5 * np.pi**-0.75, (2.0, 3.0, 4.0), 0.5 * ON_HYDROGEN
ARRAYS = {
    "density_structure": np.array([2, 0]),
    "basis_elements": np.array([1, 8]),
    "basis_n_shells": np.array([1, 2]),
    "basis_degrees": np.array([0, 0, 1]),
    "basis_exponents": np.array([0.5, 2.0, 3.0]),
    "n_coefficients": np.array([5, 1]),
    "coefficients": np.array([S, *P, H, ON_HYDROGEN]),
}


@pytest.fixture
def molecules() -> FlatMolecules:
    """H, He and OH."""
    positions = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
    return FlatMolecules.checked("test", np.array([1, 1, 2]), np.array([1, 2, 8, 1]), positions)


def test_shells_of_every_structure(molecules: FlatMolecules, tmp_path: Path) -> None:
    np.savez(tmp_path / "densities.npz", **ARRAYS)
    densities = Densities(tmp_path / "densities.npz", molecules)
    assert densities.structures.tolist() == [2, 0]
    assert densities[0].num_functions == 5
    both = densities.batch([1, 0])
    np.testing.assert_allclose(both.electrons, [1.0, 9.0])
    assert both.nuclei.atomic_numbers.tolist() == [1, 8, 1]
    # On the oxygen: its s function, and that of hydrogen one Angstrom away; p functions vanish there.
    origin = torch.zeros(1, 3, dtype=torch.float64)
    expected = S * (4.0 / np.pi) ** 0.75 + H * (1.0 / np.pi) ** 0.75 * np.exp(-0.5)
    assert both.evaluate(origin, 1).item() == pytest.approx(expected)
    # The slope there is that of the p function, whose coefficients are of y, z and x.
    step = torch.tensor([[0.0, 1e-4, 0.0]], dtype=torch.float64)
    slope = (both.evaluate(step, 1) - both.evaluate(-step, 1)).item() / 2e-4
    assert slope == pytest.approx(2.0 * 2.0 * 3.0**0.5 * (6.0 / np.pi) ** 0.75, rel=1e-5)


@pytest.mark.parametrize(
    ("array", "value", "reason"),
    [
        ("density_structure", [3, 0], "density 0 is of structure 3, but the data set has 3"),
        ("density_structure", [2, 1], "density 1 does not fit structure 1 .*no functions for atomic number 2"),
        ("density_structure", [0, 2], "density 0 does not fit structure 0 .*5 coefficients, not 1"),
        ("coefficients", [1.0, 2.0], "'coefficients' has shape"),
        ("coefficients", [S, *P, H, 2 * ON_HYDROGEN], r"density 1 has 2\.000 electrons, but structure 0 .* has 1;"),
        ("basis_degrees", [0, 0], "'basis_degrees' has shape"),
    ],
)
def test_a_file_that_does_not_fit(
    array: str, value: list[float], reason: str, molecules: FlatMolecules, tmp_path: Path
) -> None:
    np.savez(tmp_path / "densities.npz", **{**ARRAYS, array: np.array(value)})
    with pytest.raises(DataError, match=reason):
        Densities(tmp_path / "densities.npz", molecules)


@pytest.mark.parametrize("chosen", [[2], [2, 0], [1, 2]])
def test_densities_follow_their_structures(chosen: list[int], molecules: FlatMolecules, tmp_path: Path) -> None:
    """Of some of the molecules, in any order, whatever was left out before."""
    np.savez(tmp_path / "densities.npz", **ARRAYS)
    some = molecules.subset(np.array([2, 1, 0])).subset(np.array([{2: 0, 1: 1, 0: 2}[row] for row in chosen]))
    densities = Densities(tmp_path / "densities.npz", some)
    assert [chosen[molecule] for molecule in densities.structures] == [row for row in (2, 0) if row in chosen]
    for k, row in enumerate(row for row in (2, 0) if row in chosen):
        numbers = densities[k].nuclei.atomic_numbers.tolist()
        assert numbers == molecules.subset(np.array([row])).atomic_numbers.tolist()
        assert densities[k].electrons.item() == pytest.approx(sum(numbers))


def test_a_subset_without_any_density(molecules: FlatMolecules, tmp_path: Path) -> None:
    np.savez(tmp_path / "densities.npz", **ARRAYS)
    with pytest.raises(DataError, match="none of its 2 densities is of one of these 1 structures"):
        Densities(tmp_path / "densities.npz", molecules.subset(np.array([1])))


ATOMS = structure_arrays([np.array([8, 1]), np.array([1])], [np.array([[0.0, 0, 0], [0, 0, 1]]), np.zeros((1, 3))])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"density_positions": [[0, 0, 0], [0, 0, 1.002], [0, 0, 0]]}, "density 0 .* 2: an atom is 0.002 Angstrom"),
        ({"density_positions": [[0, 0, 0], [0, 0, 1], [0, 9, 0]]}, "density 1 .* 0: an atom is 9 Angstrom"),
        ({"density_atomic_numbers": [1, 8, 1]}, "density 0 .* 2: other elements, or another order"),
        ({"density_n_atoms": [1, 2]}, "density 0 .* 2: another number of atoms"),
    ],
)
def test_atoms_of_the_file_are_those_of_the_data_set(
    changed: dict[str, object], reason: str | None, molecules: FlatMolecules, tmp_path: Path
) -> None:
    """A file of another packing with the same composition is refused."""
    arrays = {**ARRAYS, **ATOMS, **{name: np.array(value) for name, value in changed.items()}}
    np.savez(tmp_path / "densities.npz", **arrays)
    if reason is None:
        assert len(Densities(tmp_path / "densities.npz", molecules)) == 2
        return
    pattern = reason.replace(" .* ", " does not fit structure ").replace(": ", r" of the data set \(")
    with pytest.raises(DataError, match=pattern):
        Densities(tmp_path / "densities.npz", molecules)


@pytest.mark.parametrize(("shift", "fits"), [(0.0, True), (0.3, False)])
def test_cores_of_a_file_of_0_1_0_are_at_the_nuclei(
    shift: float, fits: bool, molecules: FlatMolecules, tmp_path: Path
) -> None:
    centroids = {
        "centroid_structure": np.array([2]),
        "n_centroids": np.array([2]),
        "centroid_positions": np.array([[0.0, 0.0, 0.7], [0.0, shift, 0.001]]),
    }
    np.savez(tmp_path / "densities.npz", **ARRAYS, **centroids)
    if fits:
        Densities(tmp_path / "densities.npz", molecules)
        return
    with pytest.raises(DataError, match=r"core orbitals are 0\.3 Angstrom away from the nuclei"):
        Densities(tmp_path / "densities.npz", molecules)
