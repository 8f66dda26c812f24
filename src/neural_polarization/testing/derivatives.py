"""The tests of the contract about derivatives: forces, stress, losses on forces, and the cutoff."""

import ase
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from neural_polarization.messages import Lengths, Messages
from neural_polarization.properties import VOIGT
from neural_polarization.testing.base import Contract, every_choice, every_polarized
from neural_polarization.testing.model import TinyModel
from neural_polarization.testing.structures import crystal, distorted, shell, structure


class DerivativeContract(Contract):
    """Energies are smooth at zero displacement and through the cutoff, and can be differentiated twice for losses."""

    @every_choice
    @pytest.mark.parametrize("held", [False, True], ids=["moving", "held_still"])
    def test_first_and_second_derivatives(self, messages: Messages, held: bool) -> None:
        """Autograd agrees with finite differences for methane, whose carbon has a displacement of zero."""
        model = self._model(messages, held)
        molecules = self.molecules(structure("CH4"), model)

        def energy(positions: Tensor) -> Tensor:
            return model(molecules.with_positions(positions))

        positions = molecules.positions.clone().requires_grad_()
        assert gradcheck(energy, positions, fast_mode=True)
        assert gradgradcheck(energy, positions, fast_mode=True, atol=1e-4)

    @every_choice
    def test_forces_are_finite_differences(self, messages: Messages) -> None:
        """Forces are minus the gradient of the energy, including its path through the displacements."""
        model = self.model(messages)
        molecules = self.molecules([distorted("H2O"), distorted("H2CO")], model)
        _, forces = model.energy_and_forces(molecules)
        step = 1e-4
        slopes = torch.empty_like(forces)
        with torch.no_grad():
            for atom in range(molecules.num_atoms):
                for axis in range(3):
                    shift = torch.zeros_like(molecules.positions)
                    shift[atom, axis] = step
                    up = model(molecules.with_positions(molecules.positions + shift)).sum()
                    down = model(molecules.with_positions(molecules.positions - shift)).sum()
                    slopes[atom, axis] = (up - down) / (2.0 * step)
        error = float((forces + slopes).abs().max() / forces.abs().max())
        assert error < 1e-6, f"forces differ from the slope of the energy by {error:.1e} of the largest force"

    @every_choice
    def test_stress_is_finite_differences(self, messages: Messages) -> None:
        """The stress is the slope of the energy of cells that are strained, with neighbours made again, per volume."""
        model = self.model(messages)
        atoms = crystal(3.4)  # atoms are neighbours of their own images
        step = 1e-5
        generator = np.random.default_rng(0)
        times = [1.0 if row == column else 2.0 for row, column in VOIGT]  # in a symmetric tensor
        for lengths in Lengths:
            model.network.lengths = lengths
            stress = model.stress(self.molecules(atoms, model))[0].numpy()
            for _ in range(2):
                strain = generator.normal(size=(3, 3))
                strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
                energies: list[float] = []
                for amount in (step, -step):
                    strained = atoms.copy()
                    strained.set_cell(atoms.cell.array @ (np.eye(3) + amount * strain), scale_atoms=True)
                    with torch.no_grad():
                        energies.append(float(model(self.molecules(strained, model))))
                expected = (energies[0] - energies[1]) / (2.0 * step * atoms.get_volume())
                found = float((stress * times * [strain[place] for place in VOIGT]).sum())
                error = abs(found - expected) / float(np.abs(stress).max())
                assert error < 1e-6, f"stress with {lengths} lengths: differs by {error:.1e} of its largest component"

    @every_choice
    def test_continuous_through_the_cutoff(self, messages: Messages) -> None:
        """Energy and forces do not jump where two atoms stop being neighbours."""
        model = self.model(messages)
        self._assert_continuous(self._jump(model, 1e-3), self._jump(model, 1e-6), "where a pair crosses the cutoff")

    @every_choice
    def test_continuous_where_neighbours_trade_places(self, messages: Messages) -> None:
        """Energy and forces do not jump where the forty neighbours of an atom change their order by distance.

        A sum over the nearest k neighbours jumps there for every k below forty, and so does any other ranking.
        """
        model = self.model(messages)
        near, nearer = self._trade(model, 1e-3), self._trade(model, 1e-6)
        self._assert_continuous(near, nearer, "where neighbours change their order by distance")

    @every_choice
    def test_continuous_between_zero_and_the_cutoff(self, messages: Messages) -> None:
        """Energy and forces do not jump at any distance of a pair from 0.9 Angstrom to the cutoff.

        Third differences of a smooth function are small, and a jump stands out among them. So the scan looks closer
        and closer at where they are largest; what is left there of a smooth function is nothing.
        """
        model = self.model(messages)
        distances = torch.linspace(0.9, model.network.backbone.cutoff, 400, dtype=torch.float64)
        scale = self._scan(model, distances).abs().amax(0).clamp(min=1e-12)
        jump = 0.0
        for _ in range(6):
            values = self._scan(model, distances) / scale
            rough = (values[3:] - 3.0 * values[2:-1] + 3.0 * values[1:-2] - values[:-3]).abs().amax(1)
            first = int(rough.argmax())
            jump = float((values[first + 1 : first + 4] - values[first : first + 3]).abs().max())
            distances = torch.linspace(float(distances[first]), float(distances[first + 3]), 40, dtype=torch.float64)
        assert jump < 1e-4, (
            f"energy or forces jump by {jump:.1e} of their largest value at a distance of {float(distances[0]):.3f} "
            "Angstrom"
        )

    def _scan(self, model: TinyModel, distances: Tensor) -> Tensor:
        """Energy and forces (distances, 10) of an atom of carbon at some distances from the oxygen of OH."""
        away = np.array([0.6, 0.64, 0.48])
        frames = [ase.Atoms("OHC", [[0.0, 0.0, 0.0], [0.3, -0.9, 0.2], float(r) * away]) for r in distances]
        energy, forces = model.energy_and_forces(self.molecules(frames, model))
        return torch.cat([energy.unsqueeze(-1), forces.reshape(len(frames), -1)], -1).detach()

    @every_polarized
    def test_displacements_learn_from_zero(self, messages: Messages) -> None:
        """With moves of zero no point moves, but a loss on forces has a finite gradient that lets the moves grow."""
        model = self._model(messages, held=True)
        molecules = self.molecules(distorted("CH3CH2OH"), model)
        assert (model.network(molecules).trajectory == 0.0).all(), "held still, a point moved"
        self._force_loss(model).backward()
        gradients = [p.grad for p in model.network.moves.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients), "a move's gradient is not finite"
        assert any((gradient != 0.0).any() for gradient in gradients), "no gradient reaches the moves"

    @every_choice
    def test_every_parameter_gets_a_gradient(self, messages: Messages) -> None:
        """A loss on energy and forces reaches every parameter, and gradients of backbone and moves are not zero."""
        model = self.model(messages)
        self._force_loss(model).backward()
        parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        unreached = [name for name, p in parameters if p.grad is None]
        assert not unreached, f"no gradient reaches {', '.join(unreached)}"
        # The coupling may have no gradient in the first layer, before fixed points of the moving view have vectors.
        dead = [name for name, p in parameters if ".couples." not in name and not self._alive(p)]
        assert not dead, f"the gradient is zero everywhere in {', '.join(dead)}"

    def _alive(self, parameter: nn.Parameter) -> bool:
        return parameter.grad is not None and bool((parameter.grad != 0.0).any())

    def _model(self, messages: Messages, held: bool) -> TinyModel:
        model = self.model(messages)
        if held:
            model.network.hold_still()
        return model

    def _force_loss(self, model: TinyModel) -> Tensor:
        molecules = self.molecules([distorted("CH3CH2OH"), distorted("H2CO")], model)
        energy, forces = model.energy_and_forces(molecules, create_graph=True)
        return energy.square().sum() + (forces - 0.1).square().sum()

    def _assert_continuous(self, near: tuple[float, float], nearer: tuple[float, float], where: str) -> None:
        """Fails if changes of energy and forces within steps of 1e-3 and 1e-6 Angstrom do not shrink with the step."""
        for what, wide, narrow in zip(("energy", "forces"), near, nearer, strict=True):
            # The change of a continuous function shrinks with the step, a jump does not.
            assert narrow <= 0.01 * wide + 1e-12, (
                f"{what}: changes by {narrow:.1e} within 2e-6 Angstrom, by {wide:.1e} within 2e-3, {where}"
            )

    def _jump(self, model: TinyModel, step: float) -> tuple[float, float]:
        """Change of energy and forces when one atom of three crosses the cutoff by `step` to either side."""
        cutoff = model.network.backbone.cutoff
        inside, outside = (
            ase.Atoms("OHC", [[0.0, 0.0, 0.0], [0.3, 0.8, 0.0], [distance, 0.0, 0.0]])
            for distance in (cutoff - step, cutoff + step)
        )
        return self._change(model, inside, outside)

    def _trade(self, model: TinyModel, step: float) -> tuple[float, float]:
        """Change of energy and forces when an atom's neighbours change their order, each moving by `step` at most."""
        radius = 0.75 * model.network.backbone.cutoff  # here the envelope is still large enough for messages to show
        return self._change(model, shell(radius, -step), shell(radius, step))

    def _change(self, model: TinyModel, one: ase.Atoms, other: ase.Atoms) -> tuple[float, float]:
        """Largest difference of energy and of forces between two structures."""
        energy, forces = model.energy_and_forces(self.molecules(one, model))
        energy_other, forces_other = model.energy_and_forces(self.molecules(other, model))
        return float((energy - energy_other).abs().max()), float((forces - forces_other).abs().max())
