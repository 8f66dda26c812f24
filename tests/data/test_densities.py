"""Fitted densities, read beside the data set that they belong to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neural_polarization.data.densities import Densities
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.errors import DataError

ARRAYS = {
    "density_structure": np.array([2, 0]),
    "basis_elements": np.array([1, 8]),
    "basis_n_shells": np.array([1, 2]),
    "basis_degrees": np.array([0, 0, 1]),
    "basis_exponents": np.array([0.5, 2.0, 3.0]),
    "n_coefficients": np.array([5, 1]),
    "coefficients": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], np.float32),
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
    electrons = [6.0 * (4 * np.pi) ** 0.75, np.pi**0.75 + 5.0 * (4 * np.pi) ** 0.75]
    np.testing.assert_allclose(both.electrons, electrons)
    assert both.nuclei.atomic_numbers.tolist() == [1, 8, 1]
    # On the oxygen: its s function, and that of hydrogen one Angstrom away; p functions vanish there.
    origin = torch.zeros(1, 3, dtype=torch.float64)
    expected = (4.0 / np.pi) ** 0.75 + 5.0 * (1.0 / np.pi) ** 0.75 * np.exp(-0.5)
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
        ("basis_degrees", [0, 0], "'basis_degrees' has shape"),
    ],
)
def test_a_file_that_does_not_fit(
    array: str, value: list[float], reason: str, molecules: FlatMolecules, tmp_path: Path
) -> None:
    np.savez(tmp_path / "densities.npz", **{**ARRAYS, array: np.array(value)})
    with pytest.raises(DataError, match=reason):
        Densities(tmp_path / "densities.npz", molecules)
