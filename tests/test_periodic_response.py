"""Periodic systems in a field: changes of polarization, Born charges and polarizability of the cell."""

from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from neural_polarization.field_derivatives import born_charges, broken_sum_rule
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.models import HeadConfig, Model
from neural_polarization.molecules import Molecules
from neural_polarization.response import Response
from test_response import EVERY, HEADS, make_model

FIELD = torch.tensor([[0.05, -0.02, 0.1]], dtype=torch.float64)


def rocksalt(rattled: float = 0.1) -> ase.Atoms:
    crystal = bulk("CO", "rocksalt", a=4.2, cubic=True)
    crystal.rattle(rattled, seed=2)
    return crystal


def batch_of(crystal: ase.Atoms, field: Tensor | None = FIELD) -> Molecules:
    return replace(Molecules.from_ase(crystal, 4.0, torch.float64), external_field=field)


@pytest.mark.parametrize("response", EVERY)
def test_derivatives_of_a_crystal_are_differences(response: Response) -> None:
    model, batch, step = make_model(response), batch_of(rocksalt()), 1e-4
    charges = born_charges(model, batch)
    tensor = model(batch, properties=["polarizability"])["polarizability"]
    for axis in range(3):
        change = step * torch.eye(3, dtype=torch.float64)[axis]
        more, less = (
            model(replace(batch, external_field=FIELD + sign * change), properties=["energy", "dipole"])
            for sign in (1.0, -1.0)
        )
        slopes = {name: (more[name] - less[name]).detach() / (2.0 * step) for name in more}
        torch.testing.assert_close(slopes["forces"], charges[:, :, axis], atol=1e-7, rtol=1e-4)
        torch.testing.assert_close(14.399645 * slopes["dipole"][0], tensor[0, axis].detach(), atol=1e-5, rtol=1e-4)
    assert broken_sum_rule(charges, batch).abs().max() < 1e-9
    assert charges.abs().max() > 1e-3


@pytest.mark.parametrize("response", EVERY)
def test_they_depend_on_no_image_and_on_no_choice_of_the_cell(response: Response) -> None:
    model, crystal = make_model(response), rocksalt()
    reference = model(batch_of(crystal), properties=["energy", "dipole", "polarizability"])
    charges = born_charges(model, batch_of(crystal))
    elsewhere = crystal.copy()
    elsewhere.positions[3] += np.array([2.0 * 4.2, 0.0, -4.2])
    torch.testing.assert_close(born_charges(model, batch_of(elsewhere)), charges)
    torch.testing.assert_close(model(batch_of(elsewhere), properties=["dipole"])["dipole"], reference["dipole"])
    doubled = model(batch_of(crystal * (2, 1, 1)), properties=["energy", "dipole", "polarizability"])
    for name in ("energy", "dipole", "polarizability"):
        torch.testing.assert_close(doubled[name], 2.0 * reference[name])
    torch.testing.assert_close(born_charges(model, batch_of(crystal * (2, 1, 1))), charges.repeat(2, 1, 1))


@pytest.mark.parametrize("response", EVERY)
def test_a_crystal_without_dipole_has_none(response: Response) -> None:
    """Every atom is a centre of inversion: no polarization, no force, isotropic charges that cancel."""
    model, batch = make_model(response), batch_of(rocksalt(0.0), None)
    found, charges = model(batch, properties=["energy", "dipole", "polarizability"]), born_charges(model, batch)
    assert found["dipole"].abs().max() < 1e-10 and found["forces"].abs().max() < 1e-9
    unit = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(charges, charges[:, :1, :1] * unit)
    torch.testing.assert_close(charges[0], -charges[1])
    torch.testing.assert_close(found["polarizability"][0], found["polarizability"][0, 0, 0] * unit)


@pytest.mark.parametrize("response", [Response.NONE, Response.QUADRATIC])
def test_what_is_said_of_charges_in_a_batch_with_crystals(response: Response) -> None:
    """An ion beside a crystal is no charged cell; a charged cell is one, whatever is beside it."""
    model, crystal, ion = make_model(response), rocksalt(), ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
    ion.info["charge"] = 1
    with pytest.raises(ValueError, match=r"system 1 has a charge and is in one batch .* batches of their own"):
        model(Molecules.from_ase([crystal, ion], 4.0, torch.float64))
    for alone in (ion, crystal):
        model(Molecules.from_ase(alone, 4.0, torch.float64))
    charged = crystal.copy()
    charged.info["charge"] = 2
    for frames, number in (([charged], 0), ([ion.copy(), charged], 1)):
        frames[0].info["charge"] = 2 * (number == 0)
        with pytest.raises(ValueError, match=rf"polarization of a charged cell \(system {number}\)"):
            model(Molecules.from_ase(frames, 4.0, torch.float64))


def energy(model: Model, batch: Molecules) -> float:
    return float(model(batch, properties=["energy"])["energy"].detach())


def test_energies_in_a_field_are_work_along_a_path() -> None:
    """What a moving atom loses in the field is the work of the forces that the field adds."""
    model, crystal = make_model(Response.QUADRATIC), rocksalt()
    steps = 40
    work = 0.0
    for step in range(steps):
        moved = crystal.copy()
        moved.positions[0] += (step + 0.5) / steps * np.array([0.4, 0.0, 0.0])
        forces = [model(batch_of(moved, field), properties=["energy"])["forces"][0, 0] for field in (FIELD, None)]
        work += float((forces[0] - forces[1]).detach()) * 0.4 / steps
    end = crystal.copy()
    end.positions[0, 0] += 0.4
    of_field = [energy(model, batch_of(one)) - energy(model, batch_of(one, None)) for one in (crystal, end)]
    assert work == pytest.approx(of_field[0] - of_field[1], abs=1e-5)


def test_the_calculator_knows_crystals_in_a_field() -> None:
    crystal = rocksalt()
    calculator = NeuralPolarizationCalculator(make_model(Response.PUSH_DUAL), double=True)
    crystal.calc = calculator
    free = crystal.get_forces()
    charges = np.asarray(calculator.get_property("born_effective_charges", crystal))
    crystal.info["external_field"] = [0.0, 0.0, 1e-3]
    np.testing.assert_allclose(crystal.get_forces() - free, 1e-3 * charges[:, :, 2], atol=1e-5)
    assert "dipole" not in calculator.results


@pytest.mark.parametrize("response", EVERY)
def test_the_stress_in_a_field_is_a_difference(response: Response) -> None:
    """Of the energy of cell and field, by a strain along one axis, at a fixed field."""
    energies: list[float] = []
    stresses: list[float] = []
    crystal = rocksalt()
    crystal.info["external_field"] = [0.1, 0.0, 0.2]
    for strain in (0.0, 1e-5, -1e-5):
        strained = crystal.copy()
        strained.set_cell(np.diag([1.0 + strain, 1.0, 1.0]) * 4.2, scale_atoms=True)
        strained.calc = NeuralPolarizationCalculator(make_model(response), double=True)
        energies.append(strained.get_potential_energy())
        stresses.append(float(strained.get_stress()[0]))
    assert stresses[0] == pytest.approx((energies[1] - energies[2]) / 2e-5 / crystal.get_volume(), rel=1e-5)


@pytest.mark.parametrize("response", EVERY)
def test_what_is_not_defined_is_refused(response: Response) -> None:
    charged = rocksalt()
    charged.info["charge"] = 1
    with pytest.raises(ValueError, match="the polarization of a charged cell"):
        make_model(response)(batch_of(charged), properties=["energy"])
    for name, kind in (("dipole", "dipole"), ("polarizability", "polarizability")):
        model = make_model(response, heads={**HEADS, name: HeadConfig(kind)})
        assert isinstance(model, Model) and model(batch_of(rocksalt(), None), properties=["energy"])
        with pytest.raises(ValueError, match=r"of periodic systems are not defined .*dipole_flow"):
            model(batch_of(rocksalt()), properties=["energy"])
