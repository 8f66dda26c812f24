"""What does not need another package: the bricks of adapters, and polarizing a trained model of any kind."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from adapted import assert_learns, assert_same_predictions, assert_saved, assert_traced, batch
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_stress
from torch import Tensor, nn

import neural_polarization as npol
from neural_polarization.adapters import mace, nequip, pyg, schnetpack, torchmd
from neural_polarization.adapters.host import Columns, EnergyReadout, Parts, PointTable, check_neighbours, numbers_of
from neural_polarization.backbones import EGNN, PaiNN, PointFeatures
from neural_polarization.finetuning import HOSTS, FineTuned, polarize
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.export import network_of, record_of, traced
from neural_polarization.interfaces.exported import Exported
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.testing import ELEMENTS, distorted

CUTOFF = 4.0


class Looking(EnergyReadout):
    """A readout that decides by a value, which a graph cannot do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_atoms = mlp([channels, 1])

    def forward(self, points: PointFeatures, molecules: Molecules) -> Tensor:
        if bool(points.scalars.sum() > 0.0):
            return sum_by_index(points.scalars[:, 0], molecules.molecule_index, molecules.num_molecules)
        raise AssertionError("not reached")


class Readout(EnergyReadout):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_atoms = mlp([channels, 8, 1])

    def forward(self, points: PointFeatures, molecules: Molecules) -> Tensor:
        energies = self.of_atoms(points.scalars).squeeze(-1)
        return sum_by_index(energies, molecules.molecule_index, molecules.num_molecules)


def parts(two_points: bool, architecture: type[PaiNN] | type[EGNN] = PaiNN, seed: int = 0) -> Parts:
    """A native network in the place of another package's, the moving points starting like the fixed ones."""
    torch.manual_seed(seed)
    backbone = architecture(3 * (1 + two_points), channels=8, num_layers=2, cutoff=CUTOFF)
    if two_points:
        with torch.no_grad():
            backbone.embedding.weight[3:] = backbone.embedding.weight[:3]
    torch.manual_seed(seed + 1)
    readout = Readout(8)
    return Parts(backbone.double(), readout.double())


def fine_tuned(messages: str, architecture: type[PaiNN] | type[EGNN] = PaiNN, seed: int = 0) -> FineTuned:
    return FineTuned(parts(Messages(messages).two_points, architecture, seed), ELEMENTS, messages, 0.5)


@pytest.mark.parametrize("messages", Messages)
def test_the_stress_is_a_derivative_of_the_trained_readout(messages: Messages) -> None:
    """Through an adapter's readout and the displacements, once points have moved."""
    module = fine_tuned(messages.value)
    with torch.no_grad():
        for parameter in module.network.moves.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    crystal = bulk("CO", "rocksalt", a=4.4, cubic=True)
    crystal.rattle(0.1, seed=0)
    crystal.calc = NeuralPolarizationCalculator(module)
    found = crystal.get_stress()
    assert messages is Messages.PLAIN or np.abs(crystal.calc.results["displacement"]).max() > 1e-3
    np.testing.assert_allclose(found, calculate_numerical_stress(crystal, eps=1e-5), atol=1e-6 * np.abs(found).max())


class TestFineTuned:
    @pytest.mark.parametrize("messages", ["plain", "riding", "moving_view", "both_views"])
    @pytest.mark.parametrize("architecture", [PaiNN, EGNN])
    def test_starts_as_it_was(self, architecture: type[PaiNN] | type[EGNN], messages: str) -> None:
        molecules = batch(CUTOFF)
        module = fine_tuned(messages, architecture)
        plain = parts(False, architecture)
        plain.backbone.embedding.weight.data.copy_(module.network.backbone.embedding.weight[:3])
        for layer, source in zip(plain.backbone.layers, module.network.backbone.layers, strict=True):
            layer.load_state_dict(source.state_dict())
        network = NeuralPolarization(plain.backbone, ELEMENTS, "plain")
        positions = molecules.positions.clone().requires_grad_()
        energy = plain.readout(network(molecules.with_positions(positions)).fixed, molecules)
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        assert_same_predictions(module, molecules, energy, -gradient, 1e-12)

    def test_forces_have_derivatives_where_positions_are_asked_for(self) -> None:
        module, molecules = fine_tuned("riding").eval(), batch(CUTOFF)

        def forces(positions: Tensor) -> Tensor:
            return module(molecules.with_positions(positions))["forces"]

        hessian = -torch.autograd.functional.jacobian(forces, molecules.positions).flatten(2).flatten(0, 1)
        assert hessian.abs().max() > 1e-3
        torch.testing.assert_close(hessian, hessian.T)

    @pytest.mark.parametrize("messages", ["riding", "moving_view", "both_views"])
    def test_learns(self, messages: str) -> None:
        assert_learns(fine_tuned(messages), batch(CUTOFF))

    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    def test_weights_are_saved_and_loaded(self, messages: str) -> None:
        assert_saved(lambda seed: fine_tuned(messages, seed=seed), batch(CUTOFF))

    def test_two_points_learn_from_each_other(self) -> None:
        """They are silent at first, but gradients reach what they could say."""
        module = fine_tuned("both_views").train()
        module(batch(CUTOFF))["energy"].sum().backward()
        for couple in module.network.couples:
            assert all((weights == 0.0).all() for weights in couple.parameters())
            assert (couple.to_fixed.weight.grad != 0.0).any() and (couple.to_moving.weight.grad != 0.0).any()

    def test_energies_alone(self) -> None:
        module, molecules = fine_tuned("riding"), batch(CUTOFF)
        assert set(module(molecules, forces=False)) == {"energy"}
        assert module.cutoff == CUTOFF

    def test_single_precision(self) -> None:
        """New parts have the type of the trained ones, whatever torch's default is."""
        module = fine_tuned("riding").float()
        again = FineTuned(Parts(module.network.backbone, module.readout), ELEMENTS, "riding", 0.5)
        assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            again = FineTuned(Parts(module.network.backbone, module.readout), ELEMENTS, "riding", 0.5)
        finally:
            torch.set_default_dtype(default)
        assert again(batch(CUTOFF, torch.float32))["forces"].dtype == torch.float32


class TestPredictor:
    """A model of another package in the interfaces of this library's own models."""

    def test_it_runs_in_ase(self) -> None:
        module = fine_tuned("riding")
        frame = distorted("CH3CH2OH")
        expected = {k: v.detach() for k, v in module(Molecules.from_ase([frame], CUTOFF, torch.float64)).items()}
        frame.calc = NeuralPolarizationCalculator(module)
        assert frame.get_potential_energy() == pytest.approx(expected["energy"].item(), rel=1e-12)
        np.testing.assert_allclose(frame.get_forces(), expected["forces"].detach().numpy(), atol=1e-12)
        assert frame.calc.results["displacement"].shape == (len(frame), 3)
        energies: list[float] = []
        for sign in (1, -1):
            moved = frame.copy()
            moved.calc = frame.calc
            moved.positions[4, 1] += sign * 1e-4
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / 2e-4
        assert frame.get_forces()[4, 1] == pytest.approx(-slope, rel=1e-6, abs=1e-8)
        with pytest.raises(ValueError, match="energy: the model has no property 'enthalpy' "):
            NeuralPolarizationCalculator(module, energy="enthalpy")

    def test_predict(self) -> None:
        module = fine_tuned("both_views")
        assert (module.elements, module.cutoff, module.predictions["energy"].forces) == (tuple(ELEMENTS), CUTOFF, True)
        frames = [distorted("CH3CH2OH"), distorted("H2CO")]
        found = npol.predict(module, frames)
        expected = module(Molecules.from_ase(frames, CUTOFF, torch.float64))
        np.testing.assert_allclose([of["energy"] for of in found], expected["energy"].detach().numpy(), rtol=1e-12)
        forces = np.concatenate([of["forces"] for of in found])
        np.testing.assert_allclose(forces, expected["forces"].detach().numpy(), atol=1e-12)
        with pytest.raises(ValueError, match=r"structure 0 \(H2S\) contains S, but the model was trained for"):
            npol.predict(module, molecule("SH2"))

    def test_without_a_gradient_nothing_keeps_a_graph(self) -> None:
        module, molecules = fine_tuned("riding"), batch(CUTOFF)
        with torch.no_grad():
            values, displacement = module.with_displacement(molecules)
        assert not any(value.requires_grad for value in (*values.values(), displacement))
        with pytest.raises(ValueError, match="properties: 'dipole' is not known; choose one of energy"):
            module(molecules, properties=["dipole"])
        assert module(molecules, properties=[]) == {}


class TestExport:
    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    def test_it_is_one_graph_for_any_number_of_atoms(self, messages: str) -> None:
        assert_traced("test_finetuning", f"fine_tuned({messages!r})")

    def test_what_cannot_be_traced_is_refused(self) -> None:
        """With the reason, before anything is compiled."""
        module = fine_tuned("riding")
        module.readout = Looking(8).double()
        with pytest.raises(
            ValueError, match=r"PaiNN cannot be traced, .*\(test_finetuning\.py, line \d+: .*\); if it has TorchScript"
        ):
            traced(module)
        module.eval().requires_grad_(False)
        with pytest.raises(ValueError, match="model: Exported cannot be exported; give a checkpoint"):
            network_of(Exported(record_of(module), list, Path("model.pt2")))


class TestHosts:
    def test_model_of_no_known_package(self) -> None:
        with pytest.raises(TypeError, match=r"torch\.nn\..*Linear is of none of the packages .*schnetpack, torchmdnet"):
            polarize(nn.Linear(1, 1), ELEMENTS)

    @pytest.mark.parametrize("messages", [None, "both_views"])
    def test_choices_reach_the_network(self, monkeypatch: pytest.MonkeyPatch, messages: str | None) -> None:
        """Points ride unless other messages are asked for, and go as far as the limit however far moves push them."""
        monkeypatch.setitem(HOSTS, "torch", lambda model, elements, two_points: parts(two_points))
        choices = {} if messages is None else {"messages": messages}
        network = polarize(nn.Linear(1, 1), ELEMENTS, limit=0.07, **choices).network
        assert network.messages is Messages(messages or "riding")
        assert network.backbone.num_species == (3 if messages is None else 6)
        for move in network.moves:
            move.gate.bias.data.fill_(1e6)
        lengths = network(batch(CUTOFF)).displacement.norm(dim=-1)
        assert 0.07 * 0.99 < lengths.max() < 0.07 * 1.0001

    @pytest.mark.parametrize(
        ("package", "extra", "take_apart"),
        [
            ("schnetpack", "schnetpack", schnetpack.take_apart),
            ("torchmdnet", "torchmd", torchmd.take_apart),
            ("mace", "mace", mace.take_apart),
            ("nequip", "nequip", nequip.take_apart),
            ("torch_geometric", "pyg", pyg.take_apart),
        ],
    )
    def test_missing_package_names_its_extra(self, package: str, extra: str, take_apart: object) -> None:
        assert HOSTS[package] is take_apart
        if find_spec(package) is not None:
            pytest.skip(f"{package} is installed")
        with pytest.raises(ImportError, match=rf"needs {package}.*pip install neural-polarization\[{extra}\]"):
            HOSTS[package](nn.Linear(1, 1), ELEMENTS, False)

    def test_adapters_import_no_package(self) -> None:
        code = (
            "import sys, neural_polarization.finetuning; "
            f"sys.exit(', '.join(sorted({set(HOSTS)!r} & set(sys.modules))) or 0)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


class TestBricks:
    def test_moving_rows_start_as_copies(self) -> None:
        rows = torch.randn(3, 4)
        table = PointTable(rows, two_points=True)
        assert table.num_species == 6
        assert torch.equal(table(rows, torch.tensor([5, 2, 0])), rows[[2, 2, 0]])
        assert table.moving is not None and table.moving.data_ptr() != rows.data_ptr()

    def test_one_row_each_without_moving_features(self) -> None:
        table = PointTable(torch.randn(3, 4), two_points=False)
        assert table.num_species == 3
        assert not list(table.parameters())

    def test_numbers(self) -> None:
        assert numbers_of(["O", "H"], range(1, 10), "network").tolist() == [8, 1]
        with pytest.raises(ValueError, match=r"this network does not know S \(it knows H, O\)"):
            numbers_of(["S"], [1, 8], "network")
        with pytest.raises(ValueError, match="'Xx' is not a chemical symbol"):
            numbers_of(["Xx"], [1, 8], "network")

    def test_too_many_neighbours(self) -> None:
        receivers = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3])
        for most in (3, 32, None):
            check_neighbours(receivers, most, "network")
            check_neighbours(receivers[:0], most, "network")
        with pytest.raises(
            ValueError, match=r"atom 2 of the batch has 3 neighbours, more than the 2 .* larger max_num"
        ):
            check_neighbours(receivers, 2, "network")

    @pytest.mark.skipif(find_spec("mace") is not None, reason="the old e3nn of MACE does not import without MACE")
    def test_columns(self) -> None:
        o3 = pytest.importorskip("e3nn.o3", reason="needs e3nn: pip install neural-polarization[e3nn]")
        columns = Columns.of(o3.Irreps("3x0e+2x0o+2x1o+1x2e"))
        assert columns.widths == (3, 2)
        features = torch.randn(4, 3 + 2 + 6 + 5)
        split = columns.take(features)
        assert split.vectors is not None
        assert torch.equal(split.vectors[:, :, 1], features[:, 8:11])
        put = columns.put(features, PointFeatures(split.scalars + 1.0, split.vectors * 2.0))
        assert torch.equal(put[:, :3], features[:, :3] + 1.0)
        assert torch.equal(put[:, 3:5], features[:, 3:5])
        assert torch.equal(put[:, 5:11], features[:, 5:11] * 2.0)
        assert torch.equal(put[:, 11:], features[:, 11:])
        assert Columns.of(o3.Irreps("3x0e")).vectors is None
        with pytest.raises(ValueError, match="'0e' and '1o' have to be one block each"):
            Columns.of(o3.Irreps("3x0e+2x1o+1x0e"))
