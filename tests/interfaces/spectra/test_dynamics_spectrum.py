"""Spectra of dynamics: bands of a harmonic molecule have its harmonic intensities."""

import csv
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from springs import diatomic, springs
from test_vibrations import make_model

from neural_polarization.checkpoints import save_model
from neural_polarization.cli import main
from neural_polarization.interfaces.spectra.dynamics import DynamicsConfig, check_conserved, run_dynamics
from neural_polarization.interfaces.spectra.outputs import broadened
from neural_polarization.interfaces.spectra.spectrum import write_spectrum
from neural_polarization.interfaces.spectra.time_series import SPEED_OF_LIGHT, curve_of_dynamics
from neural_polarization.interfaces.spectra.vibrations import INFRARED, vibrations
from neural_polarization.pretrained import load_pretrained
from neural_polarization.response import Response


def test_one_oscillating_dipole_is_one_line_of_its_intensity() -> None:
    """mu = s Q with <(dQ/dt)^2> = k T has the intensity of the slope s, wherever the line is."""
    temperature, slope, timestep = 300.0, 0.7, 0.5
    times = timestep * np.arange(40000)
    for wavenumber in (500.0, 1700.0, 3600.0):
        rate = 2.0 * np.pi * SPEED_OF_LIGHT * wavenumber / units.fs  # 1 / ASE's time
        amplitude = (2.0 * temperature * units.kB) ** 0.5 / rate
        dipoles = np.zeros((len(times), 3))
        dipoles[:, 1] = slope * amplitude * np.cos(rate * units.fs * times)
        curve = curve_of_dynamics(dipoles, None, timestep, temperature)
        assert curve.infrared is not None and curve.raman is None
        assert curve.wavenumbers[curve.infrared.argmax()] == pytest.approx(wavenumber, abs=5.0)
        area = curve.infrared.sum() * curve.wavenumbers[1]
        assert area == pytest.approx(INFRARED * slope**2, rel=5e-3)
        half = curve.wavenumbers[curve.infrared > 0.5 * curve.infrared.max()]
        assert half.max() - half.min() <= 10.5


def test_dynamics_of_a_diatomic_molecule_gives_its_harmonic_spectrum() -> None:
    """With the energy that this dynamics has in its one vibration."""
    config = DynamicsConfig(picoseconds=2.0, temperature=100.0, equilibration=0.0, seed=1)
    course = run_dynamics(springs, diatomic(), config)
    assert np.abs(course.energies - course.energies[0]).max() < 0.02 * course.energies[0]
    check_conserved(course, 2)
    curve = curve_of_dynamics(
        course.dipoles, course.polarizabilities, course.interval, course.temperature, resolution=30.0
    )
    harmonic = vibrations(springs, diatomic())
    assert curve.infrared is not None and curve.raman is not None
    assert harmonic.infrared is not None and harmonic.raman is not None
    near = np.abs(curve.wavenumbers - harmonic.wavenumbers[0]) < 100.0
    for values, expected in ((curve.infrared, harmonic.infrared), (curve.raman, harmonic.raman)):
        assert values[near].sum() * curve.wavenumbers[1] == pytest.approx(float(expected[0]), rel=0.05)
        assert values[near].max() == values.max()


def test_long_steps_are_refused() -> None:
    """A third of a period is no step: the total energy follows the kinetic one."""
    config = DynamicsConfig(picoseconds=0.2, temperature=300.0, timestep=6.0, equilibration=0.0, every=1)
    with pytest.raises(ValueError, match=r"the total energy of the dynamics moved by .*shorter --timestep"):
        check_conserved(run_dynamics(springs, diatomic(), config), 2)
    with pytest.raises(ValueError, match="expected timestep above zero"):
        DynamicsConfig(timestep=0.0)


def test_lorentzians_keep_intensities() -> None:
    curve, found = broadened(vibrations(springs, diatomic()), 8.0), vibrations(springs, diatomic())
    assert curve.infrared is not None and found.infrared is not None
    assert curve.infrared.sum() == pytest.approx(found.infrared.sum(), rel=0.03)
    with pytest.raises(ValueError, match="expected a width"):
        broadened(found, 0.0)


@pytest.mark.parametrize(
    ("dipoles", "temperature", "message"),
    [
        (np.zeros((10, 3)), 300.0, "0.005 ps are too short to resolve 10 1/cm"),
        (None, 300.0, "neither dipoles nor polarizabilities"),
        (np.zeros((20000, 3)), 0.0, "a temperature above zero"),
    ],
)
def test_series_that_give_no_spectrum(dipoles: np.ndarray | None, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curve_of_dynamics(dipoles, None, 0.5, temperature)


def test_what_cannot_be_resolved_is_refused_before_the_dynamics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before the relaxation."""
    for name in ("relaxed", "vibrations", "run_dynamics"):
        monkeypatch.setattr(f"neural_polarization.interfaces.spectra.spectrum.{name}", None)
    with pytest.raises(ValueError, match=r"2 ps are too short to resolve 10 1/cm; give a dynamics of 4\.81 ps"):
        write_spectrum(make_model(), molecule("H2O"), tmp_path / "water.svg", dynamics=DynamicsConfig(picoseconds=2.0))
    with pytest.raises(ValueError, match="expected an equilibration of zero or more, got -1"):
        DynamicsConfig(equilibration=-1.0)


def test_what_lies_outside_of_the_training_is_said_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Not again for the vibrations, after the relaxation said it."""
    ion = molecule("H2O")
    ion.info["charge"] = 1
    write_spectrum(load_pretrained("small")[0], ion, tmp_path / "water.svg")
    assert sum("charge +1" in str(one.message) for one in recwarn) == 1


def test_the_command_writes_a_figure_and_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(Response.QUADRATIC)
    model.head("energy").baseline.scale.fill_(1e-3)  # atoms that hardly feel each other keep their energy
    save_model(model, tmp_path / "model.safetensors")
    figure = tmp_path / "water.svg"
    words = ["spectrum", str(tmp_path / "model.safetensors"), "--smiles", "O", "--keep-geometry", "-o", str(figure)]
    assert main(words) == 0
    assert "km/mol" in capsys.readouterr().out
    with figure.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["mode"] for row in rows] == ["1", "2", "3"]
    assert all(row["name"] and float(row["infrared [km/mol]"]) >= 0.0 for row in rows)
    assert "<svg" in figure.read_text()
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err
    dynamics = ["--dynamics", "0.06", "--equilibration", "0", "--temperature", "2", "--width", "2000", "--overwrite"]
    assert main([*words, *dynamics]) == 0
    with figure.with_suffix(".csv").open() as file:
        points = list(csv.DictReader(file))
    assert list(points[0]) == ["wavenumber [1/cm]", "infrared [km/mol cm]", "raman [Angstrom^4/amu cm]"]
    assert main([*words, *dynamics, "--dynamics", "0.01"]) == 2
    assert "0.01 ps are too short to resolve 2000 1/cm; give a dynamics of 0.03 ps" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--temperature", "50"]) == 2
    assert "--temperature: is an option of a dynamics; give --dynamics PS too" in capsys.readouterr().err
    assert main([*words[:2], "--smiles", "O", "-o", str(tmp_path / "water.txt")]) == 2
    assert "ending must be one of" in capsys.readouterr().err
