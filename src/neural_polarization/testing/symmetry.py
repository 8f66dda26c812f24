"""The tests of the contract about symmetries, and about which atoms may influence each other."""

import ase
import numpy as np
import pytest
import torch

from neural_polarization.messages import Messages
from neural_polarization.polarization import Polarized
from neural_polarization.testing.base import Contract, every_choice, every_dtype, every_polarized
from neural_polarization.testing.model import TinyModel
from neural_polarization.testing.structures import crystal, distorted, structure


def orthogonal(determinant: int) -> np.ndarray:
    """A rotation about a general axis (determinant 1), or a rotation with a reflection (-1)."""
    matrix, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return matrix * (np.linalg.det(matrix) * determinant)


_EXACT = 2.0**-16
"""Length (Angstrom) whose multiples below 256 Angstrom are exact in single precision, as are shifts by them."""


class SymmetryContract(Contract):
    """Rotation, reflection, translation, permutation, batches, and sites where symmetry forbids displacements."""

    @every_dtype
    @every_choice
    @pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
    def test_turns_with_the_molecule(self, messages: Messages, dtype: torch.dtype, determinant: int) -> None:
        """Under rotations and reflections scalars do not change, and vectors and displacements turn."""
        model = self.model(messages, dtype)
        atoms, matrix = distorted("CH3CH2OH"), orthogonal(determinant)
        turned = ase.Atoms(atoms.numbers, atoms.positions @ matrix.T)
        before, after = self._points(model, atoms, dtype), self._points(model, turned, dtype)
        turn = torch.as_tensor(matrix, dtype=dtype)
        self.assert_close(after.scalars, before.scalars, "scalars")
        self.assert_close(after.trajectory, before.trajectory @ turn.T, "displacements")
        if before.vectors is not None and after.vectors is not None:
            expected = torch.einsum("xy,nyc->nxc", turn, before.vectors)
            self.assert_close(after.vectors, expected, "vectors")

    @every_dtype
    @every_choice
    def test_moves_with_the_molecule(self, messages: Messages, dtype: torch.dtype) -> None:
        """A translation changes nothing."""
        model = self.model(messages, dtype)
        atoms = distorted("CH3CH2OH")
        shifted = ase.Atoms(atoms.numbers, atoms.positions + np.array([3.0, -2.0, 7.0]))
        self._assert_same(self._points(model, shifted, dtype), self._points(model, atoms, dtype))

    @every_dtype
    @every_choice
    def test_order_of_atoms(self, messages: Messages, dtype: torch.dtype) -> None:
        """Atoms in another order have the same features in that order."""
        model = self.model(messages, dtype)
        atoms = distorted("CH3CH2OH")
        order = np.random.default_rng(2).permutation(len(atoms))
        before = self._points(model, atoms, dtype)
        after = self._points(model, atoms[order], dtype)
        self.assert_close(after.scalars, before.scalars[order], "scalars")
        self.assert_close(after.trajectory, before.trajectory[:, order], "displacements")
        if before.vectors is not None and after.vectors is not None:
            self.assert_close(after.vectors, before.vectors[order], "vectors")

    @every_dtype
    @every_choice
    def test_batch_is_one_by_one(self, messages: Messages, dtype: torch.dtype) -> None:
        """The energy and forces of a molecule do not depend on the other molecules of the batch."""
        model = self.model(messages, dtype)
        frames = [distorted("CH3CH2OH"), distorted("H2CO"), structure("O"), distorted("CH4")]
        energy, forces = model.energy_and_forces(self.molecules(frames, model, dtype))
        alone = [model.energy_and_forces(self.molecules(frame, model, dtype)) for frame in frames]
        self.assert_close(energy, torch.cat([one for one, _ in alone]), "energies")
        self.assert_close(forces, torch.cat([one for _, one in alone]), "forces")

    @every_choice
    def test_no_gradient_across_molecules(self, messages: Messages) -> None:
        """The energy of a molecule has no gradient with respect to the atoms of another molecule."""
        model = self.model(messages)
        molecules = self.molecules([distorted("CH4"), distorted("H2O")], model)
        positions = molecules.positions.clone().requires_grad_()
        energy = model(molecules.with_positions(positions))
        (gradient,) = torch.autograd.grad(energy[0], positions)
        other = molecules.molecule_index == 1
        assert (gradient[other] == 0.0).all(), "the energy of one molecule depends on the atoms of another"
        assert (gradient[~other] != 0.0).any(), "the energy does not depend on the positions"

    @every_dtype
    @every_choice
    def test_size_extensive(self, messages: Messages, dtype: torch.dtype) -> None:
        """Two copies that are far apart have twice the energy, and the same forces."""
        model = self.model(messages, dtype)
        one = distorted("CH3CH2OH")
        one.positions = np.round(one.positions / _EXACT) * _EXACT
        two = one.copy()
        two.translate([np.ceil(10.0 * model.network.backbone.cutoff), 0.0, 0.0])
        energy, forces = model.energy_and_forces(self.molecules(one, model, dtype))
        energy_both, forces_both = model.energy_and_forces(self.molecules(one + two, model, dtype))
        self.assert_close(energy_both, 2.0 * energy, "energy of two copies")
        self.assert_close(forces_both, forces.repeat(2, 1), "forces on two copies")

    @every_choice
    def test_a_crystal_is_its_supercell(self, messages: Messages) -> None:
        """Two unit cells in one have twice the energy and the same forces, also if atoms neighbour their own images."""
        model = self.model(messages)
        one = crystal(0.75 * model.network.backbone.cutoff)
        energy, forces = model.energy_and_forces(self.molecules(one, model))
        energy_both, forces_both = model.energy_and_forces(self.molecules(one * (2, 1, 1), model))
        self.assert_close(energy_both, 2.0 * energy, "energy of a supercell")
        self.assert_close(forces_both, forces.repeat(2, 1), "forces in a supercell")

    @every_choice
    def test_isolated_atom_stays(self, messages: Messages) -> None:
        """An atom without neighbours has no displacement and no force; a batch of such atoms has no edges."""
        model = self.model(messages)
        molecules = self.molecules([structure("O"), structure("C")], model)
        points: Polarized = model.network(molecules)
        assert (points.trajectory == 0.0).all(), "an isolated atom's moving point left its nucleus"
        energy, forces = model.energy_and_forces(molecules)
        assert energy.isfinite().all(), "the energy of an isolated atom is not finite"
        assert (forces == 0.0).all(), "there is a force on an isolated atom"

    @every_dtype
    @every_polarized
    def test_symmetric_site_stays(self, messages: Messages, dtype: torch.dtype) -> None:
        """The carbon atoms of methane and carbon dioxide are not displaced; the hydrogen atoms of methane are."""
        model = self.model(messages, dtype)
        methane = self._points(model, structure("CH4"), dtype)
        limit = model.network.limit
        still = torch.zeros_like(methane.trajectory[:, 0])
        self.assert_close(methane.trajectory[:, 0], still, "displacement of methane's carbon", limit)
        dioxide = self._points(model, structure("CO2"), dtype)
        self.assert_close(dioxide.trajectory[:, 0], still, "displacement of carbon dioxide's carbon", limit)
        assert (methane.displacement[1:].norm(dim=-1) > 1e-6).all(), "methane's hydrogens do not move"

    @every_dtype
    @every_polarized
    def test_planar_molecule_stays_planar(self, messages: Messages, dtype: torch.dtype) -> None:
        """Every displacement of a planar molecule lies in its plane."""
        model = self.model(messages, dtype)
        atoms = structure("H2CO")
        spread = np.linalg.svd(atoms.positions - atoms.positions.mean(0))
        flat = np.random.default_rng(3).normal(0.0, 0.1, (len(atoms), 2)) @ spread[2][:2]  # within the plane
        atoms.positions = (atoms.positions + flat) @ orthogonal(1).T
        normal = torch.as_tensor(orthogonal(1) @ spread[2][2], dtype=dtype)
        points = self._points(model, atoms, dtype)
        height = points.trajectory @ normal
        self.assert_close(height, torch.zeros_like(height), "height above the plane", model.network.limit)
        assert (points.displacement.norm(dim=-1) > 1e-6).all(), "no point moves within the plane"

    @every_dtype
    @every_polarized
    def test_displacement_is_bounded(self, messages: Messages, dtype: torch.dtype) -> None:
        """No moving point goes further than the limit, however strong the moves are."""
        model = self.model(messages, dtype)
        with torch.no_grad():
            for parameter in model.network.moves.parameters():
                parameter.mul_(300.0)
        points = self._points(model, distorted("CH3CH2OH"), dtype)
        limit, furthest = model.network.limit, float(points.trajectory.norm(dim=-1).max())
        assert furthest <= limit * (1.0 + 1e-6), f"a point is displaced by {furthest}, beyond {limit} Angstrom"
        assert furthest > 0.5 * limit, "the test did not reach the limit"

    def _points(self, model: TinyModel, atoms: ase.Atoms, dtype: torch.dtype) -> Polarized:
        with torch.no_grad():
            return model.network(self.molecules(atoms, model, dtype))

    def _assert_same(self, got: Polarized, expected: Polarized) -> None:
        self.assert_close(got.scalars, expected.scalars, "scalars")
        self.assert_close(got.trajectory, expected.trajectory, "displacements")
        if got.vectors is not None and expected.vectors is not None:
            self.assert_close(got.vectors, expected.vectors, "vectors")
