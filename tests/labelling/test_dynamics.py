"""Frames of dynamics in a force field: at the temperature that was asked for, and the same every time."""

import ase.units
import numpy as np
import pytest

pytest.importorskip("rdkit")

from neural_polarization.errors import DataError
from neural_polarization.labelling.displacement import ForceField
from neural_polarization.labelling.dynamics import Dynamics, sample
from neural_polarization.structures.smiles import embedded_molecule


def test_forces_are_the_gradient_of_the_energy() -> None:
    """By central differences, away from the minimum."""
    field = ForceField(embedded_molecule("CCO", "ethanol"))
    positions = field.atoms().positions + np.random.default_rng(0).normal(0.0, 0.05, (9, 3))
    _, forces = field.energy_and_forces(positions)
    for atom, axis in ((0, 0), (2, 1), (8, 2)):
        energies: list[float] = []
        for step in (1e-4, -1e-4):
            moved = positions.copy()
            moved[atom, axis] += step
            energies.append(field.energy_and_forces(moved)[0])
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-4)


def test_frames_are_at_the_temperature() -> None:
    """Water's three vibrations are nearly harmonic: kT/2 of potential energy each."""
    temperature = 400.0
    frames = sample(["O"], Dynamics(250, temperature, interval=25.0, seed=1))
    field = ForceField(embedded_molecule("O", "water"))
    lowest = field.energy_and_forces(field.atoms().positions)[0]
    energies = [field.energy_and_forces(frame.positions)[0] - lowest for frame in frames]
    assert np.mean(energies) == pytest.approx(1.5 * ase.units.kB * temperature, rel=0.25)


def test_frames_are_reproducible_and_centred() -> None:
    """The seed decides; each frame says which molecule and which frame it is."""
    short = Dynamics(3, interval=5.0, warm_up=10.0, seed=4)
    first, again = (sample(["C", "O"], short) for _ in range(2))
    assert [(frame.info["smiles"], frame.info["frame"]) for frame in first] == [
        (smiles, frame) for smiles in ("C", "O") for frame in range(3)
    ]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.positions, two.positions)
        np.testing.assert_allclose(one.positions.mean(axis=0), 0.0, atol=1e-12)
    (ion,) = sample(["[NH4+]"], Dynamics(1, warm_up=10.0))
    assert ion.info["charge"] == 1
    (other, *_) = sample(["C", "O"], Dynamics(1, interval=5.0, warm_up=10.0, seed=5))
    assert np.abs(other.get_all_distances() - first[0].get_all_distances()).max() > 1e-3


def test_dynamics_starts_at_rest_at_the_minimum() -> None:
    (first,) = sample(["O"], Dynamics(1, warm_up=0.0))
    relaxed = ForceField(embedded_molecule("O", "water", 1)).atoms()
    np.testing.assert_allclose(first.get_all_distances(), relaxed.get_all_distances(), atol=1e-9)


def test_the_seed_is_that_of_the_thermostat_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames differ where the structure at the start is the same."""
    monkeypatch.setattr(
        "neural_polarization.labelling.dynamics.embedded_molecule",
        lambda smiles, where, _: embedded_molecule(smiles, where),
    )
    one, other = (sample(["O"], Dynamics(1, warm_up=10.0, seed=seed))[0].positions for seed in (0, 1))
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("dynamics", "message"),
    [
        ({"frames": 0}, "frames: expected at least 1"),
        ({"frames": 1, "temperature": 0.0}, "temperature: expected kelvin, more than 0"),
        ({"frames": 1, "temperature": float("nan")}, "temperature: expected kelvin"),
        ({"frames": 1, "interval": 0.1}, "interval: expected at least one time step"),
        ({"frames": 1, "warm_up": -1.0}, "warm_up: expected a time"),
    ],
)
def test_impossible_dynamics_are_errors(dynamics: dict[str, float], message: str) -> None:
    """Each names the argument, what was expected, and what came."""
    with pytest.raises(ValueError, match=message):
        Dynamics(**dynamics)  # pyright: ignore[reportArgumentType] - numbers of a test


@pytest.mark.parametrize("temperature", [1e6, 1e100])
def test_a_molecule_that_flies_apart_is_an_error(temperature: float) -> None:
    """Nobody labels what is left of it."""
    with pytest.raises(DataError, match=r"O, frame 0.*choose a lower temperature"):
        sample(["O"], Dynamics(1, temperature, warm_up=50.0))
