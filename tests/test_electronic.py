"""Charge and unpaired electrons as inputs: what they change, what they leave, and who says so."""

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.electronic import ElectronicInput, Spread, total_charges, unpaired_electrons
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

BOTH = ElectronicInput.CHARGE_AND_SPIN


def model(electronic: ElectronicInput = BOTH, name: str = "painn", messages: Messages = Messages.MOVING_VIEW) -> Model:
    torch.manual_seed(2)
    backbone = BackboneConfig(name, channels=8, num_layers=2, cutoff=4.0, num_basis=6)
    heads = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
    made = Model(ModelConfig(("H", "C", "O"), heads, backbone, PolarizationConfig(messages), electronic=electronic))
    return made.double().eval()


def waters(**info: int) -> Molecules:
    """Water and formaldehyde with the same charge and spin."""
    frames = [ase.Atoms(found.numbers, found.positions, info=info) for found in map(molecule, ("H2O", "H2CO"))]
    return Molecules.from_ase(frames, cutoff=4.0, dtype=torch.float64)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_sees_charge_and_spin(name: str) -> None:
    network = model(name=name, messages=Messages.RIDING)
    states = [waters(), waters(charge=1, spin=1), waters(charge=-1, spin=1), waters(spin=2)]
    energies = torch.stack([network(state, forces=False)["energy"] for state in states])
    forces = torch.stack([network(state)["forces"] for state in states])
    for one in range(4):
        for other in range(one):
            assert (energies[one] - energies[other]).abs().min() > 1e-7
            assert (forces[one] - forces[other]).abs().max() > 1e-7


@pytest.mark.parametrize("messages", Messages)
def test_neutral_singlets_get_what_the_network_without_inputs_gives(messages: Messages) -> None:
    """Bit for bit: what is added is exactly zero."""
    told, plain = model(messages=messages), model(ElectronicInput.NONE, messages=messages)
    plain.load_state_dict({key: told.state_dict()[key] for key in plain.state_dict()})
    for state in (waters(), waters(charge=0, spin=0)):
        assert all(torch.equal(value, plain(waters())[name]) for name, value in told(state).items())


def test_an_unknown_spin_is_the_lowest_that_the_electrons_allow() -> None:
    frames = [molecule("H2O"), molecule("CH3"), ase.Atoms("OH", [[0.0, 0, 0], [0, 0, 1]], info={"charge": -1})]
    frames.append(ase.Atoms("CH2", [[0.0, 0, 0], [0, 1, 0.3], [0, -1, 0.3]], info={"spin": 2}))
    for frame in frames:
        frame.set_initial_magnetic_moments(None)
    batch = Molecules.from_ase(frames, cutoff=4.0)
    assert unpaired_electrons(batch).tolist() == [0.0, 1.0, 0.0, 2.0]
    assert total_charges(batch).tolist() == [0.0, 0.0, -1.0, 0.0]


def test_shares_of_the_atoms_add_up_whatever_else_is_in_the_batch() -> None:
    spread = Spread(5).double()
    torch.nn.init.zeros_(spread.outer.weight)
    batch = waters(charge=-2)
    scalars = torch.randn(batch.num_atoms, 5, dtype=torch.float64)
    added = spread(scalars, total_charges(batch), batch)
    shares = added / spread.values[1]
    sums = torch.zeros(2, 5, dtype=torch.float64).index_add(0, batch.molecule_index, shares)
    torch.testing.assert_close(sums, torch.full((2, 5), -2.0, dtype=torch.float64))
    # A charge of twice the size is not the same charge, and the other sign not its mirror.
    assert not torch.allclose(spread(scalars, -total_charges(batch), batch), -added)


def test_forces_of_an_ion_are_its_gradient() -> None:
    network, state = model(), waters(charge=1)
    forces = network(state)["forces"]
    step = 1e-5
    for atom, axis in ((0, 1), (3, 2)):
        moved = torch.zeros_like(state.positions)
        moved[atom, axis] = step
        up, down = (
            network(state.with_positions(state.positions + sign * moved))["energy"].sum().item() for sign in (1, -1)
        )
        assert float(forces[atom, axis]) == pytest.approx(-(up - down) / (2 * step), abs=1e-7)


def test_a_checkpoint_keeps_the_inputs(tmp_path: pytest.TempPathFactory) -> None:
    file = f"{tmp_path}/model.safetensors"
    made = model(ElectronicInput.SPIN)
    save_model(made, file)
    again, _ = load_model(file)
    assert again.config.electronic is ElectronicInput.SPIN
    assert not again.predictions["energy"].sees_charge and again.predictions["energy"].sees_spin
    assert torch.equal(again(waters(spin=2))["energy"], made(waters(spin=2))["energy"])
    energies = np.array([again(waters(charge=charge, spin=0))["energy"].tolist() for charge in (0, 2)])
    np.testing.assert_array_equal(energies[0], energies[1])
