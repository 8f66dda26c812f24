"""Stress at the edge: the calculator's, in ASE's sign and order, files that ASE reads back, and dynamics of cells."""

import csv
import json
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

import neural_polarization as npol
from neural_polarization.architectures import BackboneConfig
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.outputs import write_predictions
from neural_polarization.interfaces.prediction import predict
from neural_polarization.models import HeadConfig, Model, ModelConfig


@pytest.fixture
def model() -> Model:
    heads = {"energy": HeadConfig("extensive", forces=True)}
    return Model(ModelConfig(("C", "O"), heads, BackboneConfig(channels=8, num_layers=2, cutoff=4.0))).eval()


def salt() -> ase.Atoms:
    """A crystal without symmetry."""
    atoms = bulk("CO", "rocksalt", a=4.5, cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.set_cell(atoms.cell.array + np.random.default_rng(1).normal(0.0, 0.1, (3, 3)), scale_atoms=True)
    return atoms


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (True, False, False)])
def test_the_calculator_has_the_stress_that_ase_finds_numerically(model: Model, pbc: tuple[bool, bool, bool]) -> None:
    """Of crystals, slabs and wires, per volume of ASE's cell."""
    atoms = salt()
    atoms.pbc = pbc
    atoms.calc = NeuralPolarizationCalculator(model, double=True)
    found = atoms.get_stress()
    np.testing.assert_allclose(found, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-6 * np.abs(found).max())
    assert np.abs(found).min() > 1e-5
    np.testing.assert_allclose(npol.predict(model, atoms)["stress"], found, atol=1e-6)


def test_energies_and_forces_are_those_without_a_stress(model: Model) -> None:
    atoms = salt()
    molecules = npol.Molecules.from_ase(atoms, model.cutoff)
    without, beside = model(molecules), model(molecules, stress=True)
    assert beside.keys() - without.keys() == {"stress"}
    assert all((without[name] == beside[name]).all() for name in without)


def test_what_has_no_volume_has_no_stress(model: Model) -> None:
    thin = ase.Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]], cell=[3.0, 3.0, 0.0], pbc=[True, True, False])
    for atoms in (molecule("CO"), thin):
        atoms.calc = NeuralPolarizationCalculator(model)
        assert np.isfinite(atoms.get_forces()).all()
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
    with pytest.raises(ValueError, match="stress: none of these molecules has a volume"):
        model(npol.Molecules.from_ase(molecule("CO"), model.cutoff), stress=True)
    mixed = model(npol.Molecules.from_ase([molecule("CO"), salt()], model.cutoff), stress=True)["stress"]
    assert mixed.isnan().all(1).tolist() == [True, False]


def test_files_of_predictions_have_the_stress(model: Model, tmp_path: Path) -> None:
    predictions = predict(model, [molecule("CO"), salt()])
    assert predictions[0].stress is None
    stress = predictions[1].stress
    assert stress is not None
    for ending in ("extxyz", "csv", "json"):
        write_predictions(predictions, {"energy": "meV"}, tmp_path / f"all.{ending}")
    frames = ase.io.read(tmp_path / "all.extxyz", ":")
    assert isinstance(frames, list)
    np.testing.assert_allclose(frames[1].get_stress(), stress, atol=1e-8)
    assert "stress" not in frames[0].calc.results
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert rows[0]["stress_yz [eV/Angstrom^3]"] == ""
    assert float(rows[1]["stress_yz [eV/Angstrom^3]"]) == pytest.approx(stress[3])
    written = json.loads((tmp_path / "all.json").read_text())
    assert written["structures"][1]["stress"] == pytest.approx(stress.tolist())
    assert written["units"]["stress"] == "eV/Angstrom^3"


def test_a_cell_relaxes(model: Model) -> None:
    atoms = salt()
    atoms.calc = NeuralPolarizationCalculator(model, double=True)
    energy, cell = atoms.get_potential_energy(), atoms.cell.array.copy()
    BFGS(FrechetCellFilter(atoms), logfile=None, maxstep=0.02).run(fmax=1e-4, steps=8)
    assert atoms.get_potential_energy() < energy - 1e-4
    assert np.abs(atoms.cell.array - cell).max() > 0.01


def test_constant_pressure_dynamics_conserve_their_energy(model: Model) -> None:
    """The conserved quantity of the barostat drifts at once where the stress is not the derivative of the energy."""
    barostats = pytest.importorskip("ase.md.nose_hoover_chain")
    if not hasattr(barostats, "IsotropicMTKNPT"):
        pytest.skip("this version of ASE has no barostat with a conserved quantity")
    atoms = salt()
    atoms.calc = NeuralPolarizationCalculator(model, double=True)
    spread = np.sqrt(300 * units.kB * atoms.get_masses())
    atoms.set_momenta(np.random.default_rng(0).normal(size=(len(atoms), 3)) * spread[:, None])
    volume = atoms.get_volume()
    dynamics = barostats.IsotropicMTKNPT(
        atoms, timestep=0.5 * units.fs, temperature_K=300, pressure_au=0.1, tdamp=50 * units.fs, pdamp=50 * units.fs
    )
    start = dynamics.get_conserved_energy()
    dynamics.run(40)
    moved = abs(atoms.get_volume() - volume) * 0.1
    assert moved > 0.01, "the cell does not move"
    assert abs(dynamics.get_conserved_energy() - start) < 0.01 * moved
