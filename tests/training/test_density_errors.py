"""The error of a density as a loss and as a measure, on the repository's own data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from density_models import density_model
from neural_polarization.data.density_points import DensityPoints, read_density_points
from neural_polarization.data.packed import read_packed
from neural_polarization.training.densities import DensityBatch, by_molecule, density_errors, dipole_differences

DATA = Path(__file__).parent.parent.parent / "data"


@pytest.fixture(scope="module")
def methanes() -> tuple[object, DensityPoints]:
    """Structures of methane, ready for batches, and their densities."""
    dataset = read_packed(DATA / "small_molecules.npz")
    smiles = np.load(DATA / "small_molecules.npz")["smiles"]
    points = read_density_points(DATA / "small_molecules_densities.npz", dataset.molecules)
    return dataset.prepare(4.0), points.of_structures(np.flatnonzero(smiles == "C"))


def test_a_model_learns(methanes) -> None:
    prepared, points = methanes
    assert len(points) >= 3
    assert points.free_atoms.mean() == pytest.approx(0.175, abs=0.01)
    model = density_model()
    before = density_errors(model, prepared, points)
    assert before.mean() < 2.0 * points.free_atoms.mean()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = np.random.default_rng(0)
    for _ in range(40):
        batch = DensityBatch.of(prepared, points.drawn(300, generator))
        assert model.density_head is not None
        loss = batch.errors(model.density_head.deformation(model.represent(batch.molecules), batch.molecules)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert density_errors(model, prepared, points).mean() < 0.4 * before.mean()


def test_the_measure_does_not_depend_on_the_batches(methanes) -> None:
    prepared, points = methanes
    model = density_model()
    np.testing.assert_allclose(
        density_errors(model, prepared, points, 2), density_errors(model, prepared, points, 100), rtol=1e-4
    )


def test_a_batch_moves_with_all_of_its_arrays(methanes) -> None:
    """A model on a GPU needs points and weights there too; "meta" is a device that every machine has."""
    prepared, points = methanes
    batch = DensityBatch.of(prepared, points).to(torch.device("meta"))
    moved = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    assert len(moved) == 4
    assert {value.device.type for value in (*moved, batch.molecules.positions, batch.molecules.edge_index)} == {"meta"}


def test_mean_of_each_molecule() -> None:
    assert by_molecule(np.array([0.1, 0.3, 0.5]), np.array([4, 4, 7])) == pytest.approx({4: 0.2, 7: 0.5})


def test_a_model_without_a_density(methanes) -> None:
    with pytest.raises(ValueError, match="it has no density"):
        density_errors(density_model(density=None), *methanes)


def test_dipoles_of_what_is_learned(methanes) -> None:
    """The dipole of the whole density less the label, with gradients that reduce it."""
    (prepared, points), model = methanes, density_model()
    batch = prepared.batch(points.structures[:2])
    labels = torch.tensor([[0.1, 0.0, 0.0], [0.0, -0.2, 0.3]], dtype=torch.float64)
    assert model.density_head is not None
    learned = model.density_head.deformation(model.represent(batch.molecules), batch.molecules)
    difference = dipole_differences(learned, batch.molecules, labels)
    torch.testing.assert_close(difference, model.density(batch.molecules).dipole - labels, rtol=0, atol=1e-6)
    difference.square().sum().backward()
    gradients = [weight.grad for weight in model.density_head.parameters() if weight.grad is not None]
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-3
