"""Batches of systems through torch-sim: the numbers of the ASE calculator, dynamics, relaxation, and bad states."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torch_sim")

import ase
import torch_sim as ts
from ase.build import bulk, fcc111, molecule
from engine_models import ran
from torch_sim.models.interface import validate_model_outputs

from neural_polarization.architectures import BackboneConfig
from neural_polarization.electronic import ElectronicInput
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.torch_sim import TorchSimModel
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.models import HeadConfig, Model, ModelConfig

DOUBLE = torch.float64


def model_of(elements: tuple[str, ...] = ("H", "C", "O"), electronic: ElectronicInput = ElectronicInput.NONE) -> Model:
    heads = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
    backbone = BackboneConfig("painn", channels=8, num_layers=2, cutoff=4.0)
    model = Model(ModelConfig(elements, heads, backbone, electronic=electronic)).double()
    with torch.no_grad():
        for move in model.representation.moves:
            move.enlarge(10.0)  # displacements that show
    return model


def crystals() -> list[ase.Atoms]:
    """Of different sizes, one sheared, one thinner than the cutoff."""
    cubic = bulk("CO", "rocksalt", a=4.3, cubic=True)
    thin = bulk("CO", "rocksalt", a=4.3)  # its lattice planes are 2.5 Angstrom apart
    sheared = cubic.copy()
    sheared.set_cell(cubic.cell.array + np.array([[0, 0, 0], [0.6, 0, 0], [0.2, -0.4, 0]]), scale_atoms=True)
    for seed, frame in enumerate((cubic, thin, sheared)):
        frame.rattle(0.1, seed=seed)
    return [cubic, thin, sheared]


def molecules() -> list[ase.Atoms]:
    return [molecule("CH3CH2OH"), molecule("H2O"), molecule("CO2")]


def with_calculator(model: Model, frames: list[ase.Atoms]) -> list[ase.Atoms]:
    for frame in frames:
        frame.calc = NeuralPolarizationCalculator(model, double=True)
    return frames


def assert_equal(found: dict[str, torch.Tensor], frames: list[ase.Atoms]) -> None:
    """What torch-sim gets is what ASE gets."""
    np.testing.assert_allclose(found["energy"], [frame.get_potential_energy() for frame in frames], atol=1e-9)
    np.testing.assert_allclose(found["forces"], np.concatenate([frame.get_forces() for frame in frames]), atol=1e-9)
    displacements = np.concatenate([frame.calc.results["displacement"] for frame in frames])
    assert np.abs(displacements).max() > 1e-3
    np.testing.assert_allclose(found["displacement"], displacements, atol=1e-9)
    if frames[0].pbc.any():
        stresses = [frame.get_stress(voigt=False) for frame in frames]
        assert np.abs(stresses).max() > 1e-5
        np.testing.assert_allclose(found["stress"], stresses, atol=1e-10)
        assert "dipole" not in found
    else:
        assert found["stress"].isnan().all()
        np.testing.assert_allclose(found["dipole"], [frame.get_dipole_moment() for frame in frames], atol=1e-9)


@pytest.mark.parametrize("make", [molecules, crystals])
def test_batches_have_the_numbers_of_the_calculator(make: object) -> None:
    """In batches of three, one and two, by one and the same model: nothing of a batch stays for the next."""
    assert callable(make)
    model = model_of()
    frames, engine = with_calculator(model, make()), TorchSimModel(model, double=True)
    state = ts.io.atoms_to_state(frames, torch.device("cpu"), DOUBLE)
    assert_equal(engine(state), frames)
    assert_equal(engine(state[[1]]), frames[1:2])
    assert_equal(engine(state[[0, 2]]), [frames[0], frames[2]])
    assert_equal(engine(state), frames)


def test_cells_and_positions_in_any_order_of_memory() -> None:
    model = model_of()
    frames = with_calculator(model, crystals())
    state = ts.io.atoms_to_state(frames, torch.device("cpu"), DOUBLE)
    state.cell = state.cell.mT.contiguous().mT
    state.positions = state.positions.t().contiguous().t()
    assert not state.cell.is_contiguous() and not state.positions.is_contiguous()
    assert_equal(TorchSimModel(model, double=True)(state), frames)


def test_slabs() -> None:
    slab = fcc111("C", (2, 2, 3), a=3.6, vacuum=6.0)
    slab.rattle(0.1, seed=0)
    model = model_of()
    (slab,) = with_calculator(model, [slab])
    assert slab.pbc.tolist() == [True, True, False]
    assert_equal(TorchSimModel(model, double=True)(ts.io.atoms_to_state([slab], torch.device("cpu"), DOUBLE)), [slab])


def test_the_contract_of_torch_sim() -> None:
    engine = TorchSimModel(model_of(("H", "C", "Mg", "Si", "Fe")), double=True)
    validate_model_outputs(engine, torch.device("cpu"), DOUBLE)


def test_a_network_in_single_precision() -> None:
    """Its energies keep the digits of the references, as in ASE."""
    model = model_of().float()
    model.head("energy").baseline.references.copy_(torch.tensor([-13.0, -1030.0, -2043.0]))
    frames = molecules()
    found = TorchSimModel(model)(ts.io.atoms_to_state(frames, torch.device("cpu"), DOUBLE))
    for number, frame in enumerate(frames):
        frame.calc = NeuralPolarizationCalculator(model)
        assert float(found["energy"][number]) == pytest.approx(frame.get_potential_energy(), abs=1e-5)
    assert found["energy"].dtype is found["forces"].dtype is DOUBLE


def test_charges_and_spins_of_the_systems() -> None:
    model = model_of(electronic=ElectronicInput.CHARGE_AND_SPIN)
    frames = molecules()
    for frame, charge, spin in zip(frames, (1, 0, -1), (1, 2, 1), strict=True):
        frame.info |= {"charge": charge, "spin": spin}
    names = {"charge": "charge", "spin": "spin"}
    state = ts.io.atoms_to_state(frames, torch.device("cpu"), DOUBLE, system_extras_map=names)
    engine = TorchSimModel(model, double=True)
    assert_equal(engine(state), with_calculator(model, frames))
    state.charge = state.charge + torch.tensor([0.0, 0.5, 0.0])
    with pytest.raises(ValueError, match=r"charge of system 1 is 0\.5; expected a whole number"):
        engine(state)


def test_states_and_models_that_do_not_fit() -> None:
    state = ts.io.atoms_to_state(molecules(), torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match=r"its positions are in torch\.float32.*dtype=torch\.float64"):
        TorchSimModel(model_of())(state)
    with pytest.raises(ValueError, match="the model has no energy 'gap' with forces"):
        TorchSimModel(model_of(), energy="gap")
    state = ts.io.atoms_to_state([molecule("NH3")], torch.device("cpu"), DOUBLE)
    with pytest.raises(ValueError, match=r"state \(HN\) contains N, but the model was trained for H, C, O only"):
        TorchSimModel(model_of())(state)
    learned = model_of()
    learned.knowledge = TrainingKnowledge(elements={"H": 4, "C": 2, "O": 0})
    state = ts.io.atoms_to_state(molecules(), torch.device("cpu"), DOUBLE)
    with pytest.raises(ValueError, match="contains O, which the model names, but no training structure had"):
        TorchSimModel(learned)(state)


def test_spins_and_fields_that_cannot_be() -> None:
    frames = molecules()
    for frame in frames:
        frame.info |= {"spin": 0, "external_field": [0.0, 0.0, 0.1]}
    frames[1].info["spin"] = 1
    engine = TorchSimModel(model_of(electronic=ElectronicInput.SPIN))
    state = ts.io.atoms_to_state(frames, torch.device("cpu"), DOUBLE, system_extras_map={"spin": "spin"})
    with pytest.raises(ValueError, match=r"molecule 1: H2O with charge \+0 has 10 electrons, which cannot have 1 unpa"):
        engine(state)
    names = {"external_field": "external_field"}
    state = ts.io.atoms_to_state(frames, torch.device("cpu"), DOUBLE, system_extras_map=names)
    with pytest.raises(ValueError, match="external_field: torch-sim runs without fields"):
        engine(state)


def test_dynamics_of_molecules_keep_energy_displacements_and_dipoles() -> None:
    model = model_of()
    engine = TorchSimModel(model, double=True)
    state = ts.io.atoms_to_state(molecules(), torch.device("cpu"), DOUBLE)
    state.rng = 0
    run = {"n_steps": 20, "timestep": 0.0002, "temperature": 300.0}
    start = ts.integrators.nve_init(state, engine, kT=torch.tensor(300.0 * 8.617333e-5, dtype=DOUBLE))
    total = start.energy + ts.quantities.calc_kinetic_energy(
        momenta=start.momenta, masses=start.masses, system_idx=start.system_idx
    )
    final = ts.integrate(start, engine, integrator=ts.Integrator.nve, **run)
    after = final.energy + ts.quantities.calc_kinetic_energy(
        momenta=final.momenta, masses=final.masses, system_idx=final.system_idx
    )
    assert (final.positions - state.positions).norm(dim=-1).max() > 0.01
    np.testing.assert_allclose(after, total, atol=5e-4)  # of about 1 eV that is exchanged
    frames = with_calculator(model, ts.io.state_to_atoms(final))
    kept = {name: getattr(final, name) for name in ("energy", "forces", "displacement", "dipole")}
    assert_equal({**kept, "stress": torch.full((3, 3, 3), torch.nan)}, frames)
    thermal = ts.integrate(state, engine, integrator=ts.Integrator.nvt_langevin, **run)
    assert thermal.displacement.shape == (15, 3) and thermal.positions.isfinite().all()


def test_cells_move_at_constant_pressure_and_relax() -> None:
    model = model_of()
    engine = TorchSimModel(model, double=True)
    state = ts.io.atoms_to_state(crystals(), torch.device("cpu"), DOUBLE)
    state.rng = 0
    run = {"n_steps": 5, "timestep": 0.001, "temperature": 300.0}
    final = ts.integrate(state, engine, integrator=ts.Integrator.npt_langevin_isotropic, external_pressure=1.0, **run)
    assert (final.cell - state.cell).abs().amax((1, 2)).min() > 1e-6
    assert_equal({name: getattr(final, name) for name in ("energy", "forces", "displacement", "stress")},
                 with_calculator(model, ts.io.state_to_atoms(final)))  # fmt: skip
    relaxed = ts.optimize(
        state,
        engine,
        optimizer=ts.Optimizer.fire,
        max_steps=20,
        init_kwargs={"cell_filter": ts.CellFilter.frechet},
    )
    assert (relaxed.energy < engine(state)["energy"]).all()
    assert relaxed.displacement.shape == state.positions.shape


def test_one_pass_of_the_network_serves_all_systems() -> None:
    engine = TorchSimModel(model_of(), double=True)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    engine.model.representation.register_forward_hook(count)
    engine(ts.io.atoms_to_state(molecules() * 5, torch.device("cpu"), DOUBLE))
    assert calls == 1


@pytest.mark.filterwarnings("ignore:All systems have reached the maximum number of steps")
def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ran("run_torch_sim.py", ["--steps", "3", "--systems", "2"], tmp_path, monkeypatch)
    assert names["relaxed"].energy.max() < names["moving"].energy.max()
    assert names["crystals"].positions.isfinite().all()
