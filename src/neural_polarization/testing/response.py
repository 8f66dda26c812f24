"""`ResponseContract`: what any network has to keep in an electric field, as one class for pytest."""

from dataclasses import replace
from typing import ClassVar

import ase
import numpy as np
import pytest
import torch
from torch import Tensor

from neural_polarization.field_derivatives import born_charges, broken_sum_rule
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Move
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.response import Response
from neural_polarization.testing.base import Contract
from neural_polarization.testing.field_model import TinyFieldModel
from neural_polarization.testing.structures import ELEMENTS, distorted, structure
from neural_polarization.testing.symmetry import orthogonal
from neural_polarization.units import COULOMB

RESPONSES = (Response.QUADRATIC, Response.PUSH, Response.PUSH_DUAL)
"""The responses that are checked."""

every_response = pytest.mark.parametrize("response", RESPONSES, ids=[response.value for response in RESPONSES])
every_push = pytest.mark.parametrize("response", RESPONSES[1:], ids=[response.value for response in RESPONSES[1:]])

_GROWN = 10.0  # as in the other contract: new points hardly move
_STEP = 2e-4  # V/Angstrom: of finite differences
_DIRECTION = (0.36, -0.48, 0.8)  # of length one, along no symmetry


class ResponseContract(Contract):
    """Tests of energies in a field and their derivatives; subclass it and say how to build the network.

    Attributes:
        messages: Of the networks that are checked.

    Example:
        >>> from neural_polarization.backbones import PaiNN
        >>> class TestResponseOfPaiNN(ResponseContract):
        ...     def make_backbone(self, num_species):
        ...         return PaiNN(num_species, channels=8, num_layers=2, norm_epsilon=0.01)
    """

    messages: ClassVar[Messages] = Messages.RIDING

    def field_model(self, response: Response, messages: Messages | None = None) -> TinyFieldModel:
        """The backbone with a response, in double precision; the same weights whatever the response."""
        backbone = self.backbone(messages or self.messages)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = NeuralPolarization(backbone, ELEMENTS, messages or self.messages, lengths=self.lengths)
            for one in network.moves:
                assert isinstance(one, Move)
                one.enlarge(_GROWN)
            return TinyFieldModel(network, response).double()

    @every_response
    @pytest.mark.parametrize("messages", [Messages.RIDING, Messages.MOVING_VIEW], ids=["riding", "moving_view"])
    def test_zero_field_is_the_network_without(self, response: Response, messages: Messages) -> None:
        """Energies and forces without a field, and in one of zero, are those of the network, bit for bit."""
        without, model = self.field_model(Response.NONE, messages), self.field_model(response, messages)
        molecules = self._batch(model, [distorted("CH3CH2OH"), structure("CH4")])
        energy, forces = without.energy_and_forces(molecules)
        for field in (None, torch.zeros(2, 3, dtype=torch.float64)):
            got, got_forces = model.energy_and_forces(replace(molecules, external_field=field))
            assert torch.equal(got, energy), f"energies in the field {field} differ"
            assert torch.equal(got_forces, forces), f"forces in the field {field} differ"

    @every_response
    @pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
    def test_turns_with_molecule_and_field(self, response: Response, determinant: int) -> None:
        """Where molecule and field turn together, energies stay, and everything else turns with them."""
        model, matrix = self.field_model(response), orthogonal(determinant)
        atoms, turn = distorted("H2CO"), torch.as_tensor(matrix)
        turned = ase.Atoms(atoms.numbers, atoms.positions @ matrix.T)
        before = self._in_field(self._batch(model, [atoms]), 0.25)
        after = replace(self._batch(model, [turned]), external_field=self._field(before) @ turn.T)
        with torch.no_grad():
            one, two = model.respond(before), model.respond(after)
        assert one.dipole is not None and two.dipole is not None
        assert one.polarizability is not None and two.polarizability is not None
        self.assert_close(two.energy, one.energy, "energy")
        self.assert_close(two.dipole, one.dipole @ turn.T, "dipole")
        self.assert_close(two.polarizability, turn @ one.polarizability @ turn.T, "polarizability", 1.0)
        forces, forces_turned = model.energy_and_forces(before)[1], model.energy_and_forces(after)[1]
        self.assert_close(forces_turned, forces @ turn.T, "forces")

    @every_response
    def test_derivatives_are_differences(self, response: Response) -> None:
        """Dipoles, polarizabilities and Born charges of methane, carbon dioxide and an atom, in weak and strong fields.

        They are compared with differences of energies, dipoles and forces.
        """
        model = self.field_model(response)
        frames = [structure(name) for name in ("CH4", "CO2", "O")]
        batch = self._batch(model, frames * 2)
        strengths = torch.tensor([1e-3, 0.25], dtype=torch.float64).repeat_interleave(len(frames))
        batch = replace(batch, external_field=strengths[:, None] * torch.tensor(_DIRECTION, dtype=torch.float64))
        charges = born_charges(model, batch)
        with torch.no_grad():
            found = model.respond(batch)
        assert found.dipole is not None and found.polarizability is not None
        for axis in range(3):
            energy, dipole, forces = self._difference(model, batch, axis)
            self._assert_slope(-energy, found.dipole[:, axis], "dipole")
            self._assert_slope(COULOMB * dipole, found.polarizability[:, axis], "polarizability")
            self._assert_slope(forces, charges[:, :, axis], "Born charges")

    @every_response
    def test_ions_are_pulled_by_their_charge(self, response: Response) -> None:
        """The net force on a molecule is Q F, and its Born charges add up to Q times the unit matrix."""
        model = self.field_model(response)
        batch = self._batch(model, [distorted("H2CO"), distorted("CH4"), distorted("H2O")])
        charge = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
        batch = replace(self._in_field(batch, 0.25), charge=charge)
        _, forces = model.energy_and_forces(batch)
        net = torch.zeros(3, 3, dtype=torch.float64).index_add(0, batch.molecule_index, forces)
        self.assert_close(net, charge[:, None] * self._field(batch), "net forces")
        broken = broken_sum_rule(born_charges(model, batch), batch)
        self.assert_close(broken, torch.zeros_like(broken), "sum of Born charges", 1.0)

    @every_response
    def test_distant_molecules_are_additive(self, response: Response) -> None:
        """Two different neutral molecules out of reach have the sum of their properties, and their own forces."""
        model = self.field_model(response)
        one, two = distorted("H2CO"), distorted("H2O")
        two.translate([np.ceil(10.0 * model.network.backbone.cutoff), 0.0, 0.0])
        apart = self._in_field(self._batch(model, [one, two]), 0.25)
        together = self._in_field(self._batch(model, [one + two]), 0.25)
        with torch.no_grad():
            separate, both = model.respond(apart), model.respond(together)
        assert separate.dipole is not None and both.dipole is not None
        assert separate.polarizability is not None and both.polarizability is not None
        self.assert_close(both.energy, separate.energy.sum(0, keepdim=True), "energy")
        self.assert_close(both.dipole, separate.dipole.sum(0, keepdim=True), "dipole")
        total = separate.polarizability.sum(0, keepdim=True)
        self.assert_close(both.polarizability, total, "polarizability")
        forces_apart, forces = model.energy_and_forces(apart)[1], model.energy_and_forces(together)[1]
        self.assert_close(forces, forces_apart, "forces")

    @every_push
    def test_second_derivatives_are_smooth(self, response: Response) -> None:
        """Polarizability and Born charges of methane change in the first thousandth of an Angstrom as they do after it.

        At the exact geometry many vector features are zero; a norm with a narrow kink there has other second
        derivatives than a thousandth of an Angstrom away, and the same from there on.
        """
        model = self.field_model(response)
        frames = [structure("CH4") for _ in range(3)]
        for number, frame in enumerate(frames):
            frame.positions[0] += 1e-3 * number * np.array(_DIRECTION)
            frame.positions[1] -= 1e-3 * number * np.array(_DIRECTION)
        batch = self._batch(model, frames)
        with torch.no_grad():
            polarizability = model.respond(batch).polarizability
        charges = born_charges(model, batch)
        assert polarizability is not None
        for what, (exact, near, far) in (("polarizability", polarizability), ("Born charges", charges.view(3, -1))):
            first, both = float((near - exact).abs().max()), float((far - exact).abs().max())
            allowed = 0.75 * both + 0.01 * float(exact.abs().max())
            assert first < allowed, (
                f"{what}: changes by {first:.1e} within a thousandth of an Angstrom, {both:.1e} in two"
            )

    @every_push
    def test_pushes_are_trained_by_forces_and_dipoles(self, response: Response) -> None:
        """A loss of forces and dipoles in a field reaches every weight of the pushes."""
        model = self.field_model(response)
        batch = self._in_field(self._batch(model, [distorted("CH3CH2OH")]), 0.25)
        _, forces = model.energy_and_forces(batch, create_graph=True)
        dipole = model.respond(batch, 1).dipole
        assert dipole is not None and model.response is not None
        (forces.square().sum() + dipole.square().sum()).backward()
        for name, weight in model.response.named_parameters():
            assert weight.grad is not None and weight.grad.isfinite().all(), f"no finite gradient reaches {name}"
            assert (weight.grad != 0.0).any(), f"the gradient of {name} is zero"

    def _batch(self, model: TinyFieldModel, frames: list[ase.Atoms]) -> Molecules:
        return Molecules.from_ase(frames, model.network.backbone.cutoff, torch.float64)

    def _in_field(self, batch: Molecules, strength: float) -> Molecules:
        """The batch in one field, V/Angstrom."""
        field = strength * torch.tensor([_DIRECTION], dtype=torch.float64)
        return replace(batch, external_field=field.repeat(batch.num_molecules, 1))

    def _field(self, batch: Molecules) -> Tensor:
        assert batch.external_field is not None
        return batch.external_field

    def _difference(self, model: TinyFieldModel, batch: Molecules, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """Central differences of energy, dipole and forces by one component of the field."""
        ends: list[tuple[Tensor, Tensor, Tensor]] = []
        for sign in (1.0, -1.0):
            step = sign * _STEP * torch.eye(3, dtype=torch.float64)[axis]
            moved = replace(batch, external_field=self._field(batch) + step)
            with torch.no_grad():
                dipole = model.respond(moved, 1).dipole
            assert dipole is not None
            ends.append((*model.energy_and_forces(moved), dipole))
        energy, forces, dipole = ((more - less) / (2.0 * _STEP) for more, less in zip(*ends, strict=True))
        return energy, dipole, forces

    def _assert_slope(self, difference: Tensor, derivative: Tensor, what: str) -> None:
        error = float((difference - derivative).abs().max())
        allowed = 1e-5 * float(derivative.abs().max()) + 1e-9
        assert error < allowed, f"{what}: differs from differences by {error:.1e}, more than {allowed:.1e}"
