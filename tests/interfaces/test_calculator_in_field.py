"""The calculator in an electric field, and ASE's own infrared spectrum with it."""

import copy
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.md.verlet import VelocityVerlet
from ase.vibrations import Infrared

import neural_polarization as npol
from neural_polarization.architectures import BackboneConfig
from neural_polarization.electronic import ElectronicInput
from neural_polarization.field_derivatives import born_charges
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.molecules import Molecules
from neural_polarization.response import Response

FIELD = [0.0, 0.1, 0.3]


def make_model(response: Response = Response.PUSH_DUAL) -> Model:
    torch.manual_seed(0)
    heads = {
        "energy": HeadConfig("extensive", forces=True),
        "dipole": HeadConfig("dipole_flow"),
        "alpha": HeadConfig("polarizability_bonds"),
    }
    return (
        Model(ModelConfig(("H", "O"), heads, BackboneConfig("painn", 8, 2, 4.0, 6), response=response)).double().eval()
    )


def water(calculator: Calculator, **info: object) -> ase.Atoms:
    atoms = molecule("H2O", calculator=calculator)
    atoms.rattle(0.03, seed=1)
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize("given", ["calculator", "structure"])
def test_energy_forces_and_dipole_in_a_field(given: str) -> None:
    model = make_model()
    by_structure = given == "structure"
    calculator = NeuralPolarizationCalculator(model, double=True, external_field=None if by_structure else FIELD)
    atoms = water(calculator, **({"external_field": FIELD} if by_structure else {}))
    in_field = water(calculator, external_field=FIELD)
    expected = model(Molecules.from_ase(in_field, model.cutoff, torch.float64))
    assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"].detach()), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"].numpy(), atol=1e-12)
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected["dipole"][0].detach().numpy(), atol=1e-12)


def test_names_that_look_like_a_field() -> None:
    """Another spelling is the field, as in a file; another name is not, and that is said once."""
    calculator = NeuralPolarizationCalculator(make_model(), double=True)
    expected = water(calculator, external_field=FIELD).get_potential_energy()
    assert water(calculator, **{"External-Field": FIELD}).get_potential_energy() == expected
    wrong = water(calculator, electric_field=FIELD)
    with pytest.warns(UserWarning, match=r"atoms\.info: electric_field = .* is not used; .* given as external_field"):
        assert wrong.get_potential_energy() != expected
    wrong.rattle(0.01)
    wrong.get_potential_energy()


def test_another_field_is_another_calculation() -> None:
    atoms = water(NeuralPolarizationCalculator(make_model(), double=True))
    free = atoms.get_potential_energy()
    atoms.info["external_field"] = FIELD
    assert atoms.get_potential_energy() != free
    del atoms.info["external_field"]
    assert atoms.get_potential_energy() == free


@pytest.mark.filterwarnings("ignore:structures with a charge")  # only the field pulls at the ion
def test_energy_is_conserved_in_a_field() -> None:
    """Of molecule, ion and field together."""
    for charge in (0, 1):
        atoms = water(NeuralPolarizationCalculator(make_model(), double=True, external_field=FIELD), charge=charge)
        start = atoms.get_total_energy()
        largest = 0.0
        dynamics = VelocityVerlet(atoms, timestep=0.2 * units.fs)
        for _ in range(20):
            dynamics.run(1)
            largest = max(largest, atoms.get_kinetic_energy())
        assert abs(atoms.get_total_energy() - start) < 2e-3 * largest
        assert largest > 1e-5


def test_what_has_no_response_refuses_a_field() -> None:
    with pytest.raises(ValueError, match="external_field: this model has no response"):
        NeuralPolarizationCalculator(make_model(Response.NONE), external_field=FIELD)
    atoms = water(NeuralPolarizationCalculator(make_model(Response.NONE)), external_field=FIELD)
    with pytest.raises(ValueError, match="external_field: this model has no response"):
        atoms.get_potential_energy()


@pytest.mark.filterwarnings("ignore:structures with a charge")
def test_single_precision_keeps_the_origin_of_an_ion() -> None:
    """Its energy refers to the origin of the coordinates in either precision, in the calculator and in `predict`."""
    model = make_model()
    ions = [water(Calculator(), charge=charge, external_field=FIELD) for charge in (1, -2, 0)]
    for number, ion in enumerate(ions):
        ion.positions += [3.0 * number, -40.0, 500.0]
    exact = [found["energy"] for found in npol.predict(model, ions)]
    single = [found["energy"] for found in npol.predict(copy.deepcopy(model).float(), ions)]
    np.testing.assert_allclose(single, exact, atol=1e-4)
    assert exact[0] == pytest.approx(-np.dot(FIELD, [0.0, -40.0, 500.0]), abs=5.0)  # not the energy about its centre
    for ion, expected in zip(ions, exact, strict=True):
        ion.calc = NeuralPolarizationCalculator(copy.deepcopy(model).float())
        assert ion.get_potential_energy() == pytest.approx(expected, abs=1e-4)


def test_infrared_intensities_are_those_of_born_charges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASE's finite differences of dipoles give d mu/dQ, which Born charges and the modes give too."""
    monkeypatch.chdir(tmp_path)
    model = make_model()
    calculator = NeuralPolarizationCalculator(model, double=True, external_field=FIELD)
    atoms = water(calculator)
    infrared = Infrared(atoms, delta=1e-3)
    infrared.run()
    infrared.get_frequencies()
    modes = np.array([infrared.get_mode(k) for k in range(9)])
    batch = Molecules.from_ase(water(calculator, external_field=FIELD), model.cutoff, torch.float64)
    charges = born_charges(model, batch).numpy()
    # In (D/Angstrom)^2/amu: get_mode has the mode in units of Angstrom sqrt(amu) already divided by sqrt(mass).
    slopes = np.einsum("kax,axy->ky", modes, charges) / units.Debye
    expected = (slopes**2).sum(1)
    np.testing.assert_allclose(infrared.intensities, expected, rtol=1e-3, atol=1e-3 * expected.max())
    assert expected.max() > 1e-4


def test_nothing_is_remembered_where_field_or_spin_has_changed() -> None:
    """A field that is changed in place, switched off, or set at the calculator; another spin."""
    model = make_model()
    reference = lambda field: water(  # noqa: E731
        NeuralPolarizationCalculator(model, double=True), external_field=np.array(field)
    ).get_potential_energy()
    atoms = water(NeuralPolarizationCalculator(model, double=True), external_field=np.array(FIELD))
    assert atoms.get_potential_energy() == reference(FIELD)
    atoms.info["external_field"] *= -1
    assert atoms.get_potential_energy() == reference([-value for value in FIELD])
    atoms = water(NeuralPolarizationCalculator(model, double=True, external_field=FIELD))
    assert atoms.get_potential_energy() == reference(FIELD)
    atoms.info["external_field"] = np.zeros(3)
    assert atoms.get_potential_energy() == reference([0.0, 0.0, 0.0])
    del atoms.info["external_field"]
    atoms.calc.external_field = [0.0, 0.0, -0.2]
    assert atoms.get_potential_energy() == reference([0.0, 0.0, -0.2])

    heads = {"energy": HeadConfig("extensive", forces=True)}
    torch.manual_seed(0)
    with_spin = Model(ModelConfig(("H", "O"), heads, electronic=ElectronicInput.SPIN)).eval()
    oxygen = ase.Atoms("OO", [[0, 0, 0], [0, 0, 1.2]], calculator=NeuralPolarizationCalculator(with_spin))
    energies: list[float] = []
    for spin in (0, 2):
        oxygen.info["spin"] = spin
        energies.append(oxygen.get_potential_energy())
    assert energies[0] != energies[1]
