"""The method itself: who exchanges messages with whom, where points go, and what a network learns to see by it."""

from dataclasses import replace
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
from neural_polarization.backbones import EGNN, Backbone, PaiNN, SchNet
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.messages import CONNECTIONS, VIEWS, Lengths, Messages, MovingLengths, NuclearLengths
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.moves import EdgeMove, Move, RadialMove, SelfCouple, Still, VectorMove
from neural_polarization.polarization import NeuralPolarization, Polarized, save_memory
from neural_polarization.testing import ELEMENTS, TinyModel, distorted, structure

CUTOFF = 4.0

every_connection = pytest.mark.parametrize("lengths", list(Lengths), ids=[choice.value for choice in Lengths])
every_choice = pytest.mark.parametrize("messages", list(Messages), ids=[choice.value for choice in Messages])


def _network(
    architecture: type[PaiNN] | type[SchNet] | type[EGNN],
    messages: Messages,
    cutoff: float = CUTOFF,
    num_layers: int = 2,
    elements: tuple[str, ...] = ELEMENTS,
) -> NeuralPolarization[Any]:
    torch.manual_seed(1)
    backbone: Backbone[Any] = architecture(2 * len(elements), channels=8, num_layers=num_layers, cutoff=cutoff)
    return NeuralPolarization(backbone, elements, messages).double()


class Steady(Still):
    """A tenth of an Angstrom along x, whatever the features are."""

    def forward(self, points: PointFeatures, edges: Edges) -> Tensor:
        return super().forward(points, edges) + points.scalars.new_tensor([0.1, 0.0, 0.0])


class Rising(Still):
    """Every point goes a little further along x than the one before."""

    def forward(self, points: PointFeatures, edges: Edges) -> Tensor:
        zero = super().forward(points, edges)
        return zero + 0.01 * torch.arange(len(zero)).to(zero)[:, None]


def _energy(network: NeuralPolarization[Any], atoms: ase.Atoms) -> Tensor:
    torch.manual_seed(2)
    model = TinyModel(network).double()
    with torch.no_grad():
        return model(Molecules.from_ase(atoms, network.backbone.cutoff, torch.float64))


class TestEdges:
    def test_every_choice_has_a_class(self) -> None:
        assert set(CONNECTIONS) == set(Lengths)
        assert set(VIEWS) == set(Messages) - {Messages.PLAIN}

    def test_edges_of_moving_points(self) -> None:
        """Every pair of nuclei below the cutoff, with vectors, lengths and envelopes against a loop."""
        molecules = Molecules.from_ase([distorted("CH4"), distorted("H2O")], 1.8, torch.float64)
        displacement = 0.1 * torch.randn_like(molecules.positions)
        connect = MovingLengths(molecules, 1.8)
        edges = connect(displacement)
        moved = molecules.positions + displacement
        for edge, (sender, receiver) in enumerate(molecules.edge_index.T.tolist()):
            assert (edges.senders[edge], edges.receivers[edge]) == (sender, receiver)
            torch.testing.assert_close(edges.vectors[edge], moved[sender] - moved[receiver])
            nuclear = molecules.positions[sender] - molecules.positions[receiver]
            torch.testing.assert_close(connect.nuclear.vectors[edge], nuclear)
            torch.testing.assert_close(edges.nuclear_lengths[edge], safe_norm(nuclear))
        assert torch.equal(edges.lengths, safe_norm(edges.vectors))
        assert torch.equal(connect.nuclear.lengths, edges.nuclear_lengths)
        assert torch.equal(edges.envelope, cosine_envelope(edges.nuclear_lengths, 1.8))

    def test_lengths_may_stay_those_of_the_nuclei(self) -> None:
        """Then vectors have the directions between the points and the lengths between the nuclei."""
        molecules = Molecules.from_ase(distorted("CH4"), CUTOFF, torch.float64)
        displacement = 0.1 * torch.randn_like(molecules.positions)
        moving = MovingLengths(molecules, CUTOFF)(displacement)
        edges = NuclearLengths(molecules, CUTOFF)(displacement)
        assert torch.equal(edges.lengths, moving.nuclear_lengths)
        assert torch.allclose(safe_norm(edges.vectors), edges.lengths)
        assert torch.allclose(edges.vectors / edges.lengths[:, None], moving.vectors / moving.lengths[:, None])
        assert torch.equal(edges.envelope, moving.envelope)

    @every_connection
    def test_on_the_nuclei_nothing_is_displaced(self, lengths: Lengths) -> None:
        molecules = Molecules.from_ase(distorted("CH4"), CUTOFF, torch.float64)
        connect = CONNECTIONS[lengths](molecules, CUTOFF)
        zero = connect(torch.zeros_like(molecules.positions))
        assert torch.equal(connect.nuclear.vectors, zero.vectors)
        assert torch.equal(connect.nuclear.lengths, zero.lengths)

    def test_periodic_edges_are_shifted(self) -> None:
        molecules = Molecules.from_ase(bulk("C", "sc", a=1.5), 2.0, torch.float64)
        assert MovingLengths(molecules, 2.0).nuclear.lengths.tolist() == pytest.approx([1.5] * 6)


class TestViews:
    """Who is called with which features and edges, by layers that write down what they get."""

    @every_choice
    def test_who_exchanges_messages(self, messages: Messages) -> None:
        network = NeuralPolarization(PaiNN(6, channels=8, cutoff=CUTOFF), ELEMENTS, messages, move=Rising).double()
        seen: list[tuple[Tensor, Edges]] = []
        network.backbone.layers[1].register_forward_pre_hook(
            lambda _, inputs: seen.append((inputs[0].scalars, inputs[1]))
        )
        molecules = Molecules.from_ase(distorted("CH4"), CUTOFF, torch.float64)
        network(molecules)
        nuclear = MovingLengths(molecules, CUTOFF).nuclear
        expected = {
            Messages.PLAIN: ["nuclear"],
            Messages.RIDING: ["moving"],
            Messages.MOVING_VIEW: ["moving"],
            Messages.BOTH_VIEWS: ["nuclear", "moving"],
        }[messages]
        got = ["nuclear" if torch.equal(edges.vectors, nuclear.vectors) else "moving" for _, edges in seen]
        assert got == expected
        if messages is Messages.BOTH_VIEWS:
            assert seen[0][0] is not seen[1][0]


class TestOutput:
    @every_choice
    @pytest.mark.parametrize("architecture", [PaiNN, SchNet, EGNN])
    def test_shapes(self, messages: Messages, architecture: type[PaiNN] | type[SchNet] | type[EGNN]) -> None:
        network = _network(architecture, messages)
        molecules = Molecules.from_ase([structure("CH4"), structure("H2O")], CUTOFF, torch.float64)
        points: Polarized = network(molecules)
        views = messages.points
        assert points.scalars.shape == (8, 8 * views)
        assert points.trajectory.shape == (3, 8, 3)
        assert (points.trajectory[0] == 0.0).all()
        assert torch.equal(points.displacement, points.trajectory[-1])
        width = network.backbone.vector_channels
        if width == 0:
            assert points.vectors is None
        else:
            assert points.vectors is not None and points.vectors.shape == (8, 3, width * views)
        moved = bool((points.displacement != 0.0).any())
        assert moved == (messages is not Messages.PLAIN)

    def test_fixed_points_of_the_moving_view_pass_through_no_layer(self) -> None:
        """They hear of the molecule all the same, through the moving point of their atom."""
        network = _network(PaiNN, Messages.MOVING_VIEW)
        seen: list[int] = []
        for layer in network.backbone.layers:
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0].scalars)))
        lone, bonded = (
            network(Molecules.from_ase([structure(formula)], CUTOFF, torch.float64)) for formula in ("C", "CH4")
        )
        assert seen == [1, 1, 5, 5]
        assert not torch.allclose(lone.fixed.scalars[0], bonded.fixed.scalars[0], rtol=0.0, atol=1e-3)

    def test_default_moves_fit_the_backbone(self) -> None:
        assert all(isinstance(move, VectorMove) for move in _network(PaiNN, Messages.RIDING).moves)
        assert all(isinstance(move, RadialMove) for move in _network(SchNet, Messages.RIDING).moves)

    def test_points_that_are_held_still(self) -> None:
        """Two views without a displacement: the fair control of what the second set of features alone does."""
        network = NeuralPolarization(PaiNN(6, channels=8, num_layers=2), ELEMENTS, Messages.BOTH_VIEWS, move=Still)
        points: Polarized = network(Molecules.from_ase(distorted("CH4"), 5.0))
        assert (points.trajectory == 0.0).all()
        assert not list(network.moves.parameters())

    def test_the_limit_is_kept_and_used(self) -> None:
        molecules = Molecules.from_ase(distorted("CH3CH2OH"), CUTOFF, torch.float64)
        for limit in (0.01, 0.2):
            network = NeuralPolarization(
                PaiNN(6, channels=8, cutoff=CUTOFF), ELEMENTS, Messages.RIDING, limit=limit
            ).double()
            with torch.no_grad():
                for parameter in network.moves.parameters():
                    parameter.mul_(20.0)
            lengths = network(molecules).trajectory.norm(dim=-1)
            assert 0.5 * limit < lengths.max() <= limit * (1.0 + 1e-12)

    @every_choice
    def test_every_layer_moves_the_points_on_from_where_they_were(self, messages: Messages) -> None:
        """A tenth of an Angstrom per layer, each time bounded by hand."""
        network = NeuralPolarization(
            PaiNN(6, channels=8, cutoff=CUTOFF), ELEMENTS, messages, limit=0.3, move=Steady
        ).double()
        trajectory = network(Molecules.from_ase(distorted("CH4"), CUTOFF, torch.float64)).trajectory
        x, push = 0.0, 0.0 if messages is Messages.PLAIN else 0.1
        assert len(trajectory) == 4
        for displacement in trajectory[1:]:
            x += push
            x /= (1.0 + (x / 0.3) ** 2) ** 0.5
            torch.testing.assert_close(displacement, torch.tensor([[x, 0.0, 0.0]], dtype=torch.float64).expand(5, 3))

    @every_choice
    def test_float32_is_float64_rounded(self, messages: Messages) -> None:
        network = _network(PaiNN, messages)
        molecules = Molecules.from_ase(distorted("CH3CH2OH"), CUTOFF, torch.float64)
        exact: Polarized = network(molecules)
        rounded: Polarized = network.float()(molecules.to(dtype=torch.float32))
        assert rounded.scalars.dtype == torch.float32
        assert (rounded.scalars - exact.scalars).abs().max() < 1e-4
        assert (rounded.trajectory - exact.trajectory).abs().max() < 1e-5

    @pytest.mark.parametrize("messages", [Messages.PLAIN, Messages.RIDING, Messages.BOTH_VIEWS])
    def test_a_crystal_is_its_supercell(self, messages: Messages) -> None:
        network = _network(PaiNN, messages)
        cell = bulk("CO", "rocksalt", a=4.0, cubic=True)
        cell.rattle(0.1, seed=3)
        one, many = _energy(network, cell), _energy(network, cell * (2, 1, 1))
        assert many.item() == pytest.approx(2.0 * one.item(), rel=1e-10)

    def test_a_cell_thinner_than_the_cutoff_has_all_of_its_neighbours(self) -> None:
        """Its lattice planes are 2.3 Angstrom apart, so that an atom is its own neighbour."""
        network = _network(PaiNN, Messages.MOVING_VIEW)
        cell = bulk("CO", "rocksalt", a=4.0)
        cell.rattle(0.1, seed=3)
        one, many = _energy(network, cell), _energy(network, cell * (3, 3, 3))
        assert many.item() == pytest.approx(27.0 * one.item(), rel=1e-10)


class TestErrors:
    def test_too_few_species(self) -> None:
        with pytest.raises(ValueError, match=r"embedding has 3 species.*'moving_view' need 6.*num_species=6"):
            NeuralPolarization(PaiNN(3, channels=8), ELEMENTS)

    @pytest.mark.parametrize("symbol", ["Q", "X", "carbon", "c", ""])
    def test_no_such_element(self, symbol: str) -> None:
        with pytest.raises(ValueError, match=f"elements: '{symbol}' is not a chemical symbol"):
            NeuralPolarization(PaiNN(6, channels=8), ["H", symbol])

    def test_element_twice(self) -> None:
        with pytest.raises(ValueError, match="elements: 'H' is listed twice; leave one out"):
            NeuralPolarization(PaiNN(6, channels=8), ["H", "C", "H"])

    @pytest.mark.parametrize("limit", [0.0, -0.1, float("nan")])
    def test_limit_is_a_length(self, limit: float) -> None:
        with pytest.raises(ValueError, match="limit must be a positive length in Angstrom"):
            NeuralPolarization(PaiNN(6, channels=8), ELEMENTS, limit=limit)

    def test_layers_whose_weights_nobody_would_keep(self) -> None:
        backbone = PaiNN(6, channels=8)
        layers = list(backbone.layers)
        del backbone.layers
        object.__setattr__(backbone, "layers", layers)
        with pytest.raises(ValueError, match=r"the weights of layer 0 are not among those of PaiNN, .*ModuleList"):
            NeuralPolarization(backbone, ELEMENTS)

    def test_a_move_along_vectors_needs_them(self) -> None:
        with pytest.raises(ValueError, match="move: points cannot move along vectors in a network that has none"):
            NeuralPolarization(SchNet(6, channels=8), ELEMENTS, move=VectorMove)

    def test_what_is_new_has_the_type_of_the_backbone(self) -> None:
        network = NeuralPolarization(PaiNN(6, channels=8).double(), ELEMENTS, electronic="charge")
        assert {weight.dtype for weight in network.parameters()} == {torch.float64}

    def test_no_such_choice(self) -> None:
        with pytest.raises(ValueError, match=r"'both views' is not known; choose one of plain, riding"):
            NeuralPolarization(PaiNN(6, channels=8), ELEMENTS, messages="both views")
        with pytest.raises(ValueError, match=r"lengths: 'fixed' is not known; choose one of moving, nuclear"):
            NeuralPolarization(PaiNN(6, channels=8), ELEMENTS, lengths="fixed")

    def test_element_that_the_network_does_not_know(self) -> None:
        network = _network(PaiNN, Messages.RIDING)
        molecules = Molecules.from_ase([structure("CH4"), structure("CH3Cl")], CUTOFF, torch.float64)
        with pytest.raises(ValueError, match=r"atom \d is Cl, .*it knows H, C, O.*train one with that element"):
            network(molecules)


@pytest.mark.parametrize("kind", [VectorMove, EdgeMove, RadialMove])
def test_trained_moves_are_enlarged_and_held_still_as_a_whole(
    kind: type[VectorMove] | type[EdgeMove] | type[RadialMove],
) -> None:
    """Biases of gates, which are zero in new moves, included; what is held still has gradients to grow by."""
    move = kind(8, 4).double()
    gate = move.of_receiver if isinstance(move, RadialMove) else move.gate
    torch.nn.init.normal_(gate.bias)
    molecules = Molecules.from_ase(distorted("CH4"), CUTOFF, torch.float64)
    edges = MovingLengths(molecules, CUTOFF).nuclear
    points = PointFeatures(torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64))
    before = move(points, edges)
    assert (before.norm(dim=-1) > 1e-3).all()
    move.enlarge(3.0)
    torch.testing.assert_close(move(points, edges), 3.0 * before)
    move.hold_still()
    still = move(points, edges)
    assert (still == 0.0).all()
    still[0].sum().backward()
    assert gate.weight.grad is not None and gate.bias.grad is not None
    assert gate.weight.grad.abs().max() > 1e-4 and gate.bias.grad.abs().max() > 1e-4


def test_pushes_along_edges_are_what_the_formula_says() -> None:
    """Of two atoms, one pair: the gate is linear in both features, and falls as a Gaussian about each centre."""
    move = RadialMove(3, 0).double()
    scalars = torch.randn(2, 3, dtype=torch.float64)
    pair = Molecules.from_ase(ase.Atoms("CO", [[0, 0, 0], [0, 1.2, 0.5]]), CUTOFF, torch.float64)
    edges = MovingLengths(pair, CUTOFF).nuclear
    found = move(PointFeatures(scalars, None), edges)
    vector = torch.tensor([0.0, 1.2, 0.5], dtype=torch.float64)
    length = (1.2**2 + 0.5**2) ** 0.5
    for point, other, sign in ((0, 1, 1.0), (1, 0, -1.0)):
        gates = move.of_receiver(scalars[point]) + move.of_sender(scalars[other])
        radial = torch.tensor([np.exp(-2.0 * (length - 0.5 * k) ** 2) for k in range(1, 9)], dtype=torch.float64)
        envelope = 0.5 * (np.cos(np.pi * length / CUTOFF) + 1.0)
        expected = 0.3 * sign * (gates * radial).sum() * envelope * vector / (length + 1.0)
        torch.testing.assert_close(found[point], expected, rtol=1e-8, atol=1e-12)


def test_weights_of_former_moves_load_and_give_the_same_numbers() -> None:
    """In version 0.1 the default of networks without vectors was a perceptron on each edge."""
    torch.manual_seed(0)
    heads, backbone = {"energy": HeadConfig("extensive", forces=True)}, BackboneConfig("schnet", channels=8)
    config = ModelConfig(ELEMENTS, heads, backbone, PolarizationConfig(Messages.RIDING))
    former = Model(replace(config, polarization=PolarizationConfig(Messages.RIDING, move="edges"))).double()
    model = Model(config).double()
    assert all(isinstance(move, RadialMove) for move in model.representation.moves)
    model.load_state_dict(former.state_dict())
    batch = Molecules.from_ase(distorted("CH3CH2OH"), model.cutoff, torch.float64)
    torch.testing.assert_close(model(batch)["forces"], former(batch)["forces"], rtol=0.0, atol=0.0)
    model.load_state_dict(model.state_dict())


def test_the_spring_is_of_the_displacement_in_units_of_its_limit() -> None:
    couple = SelfCouple(4, 0, limit=0.5).double()
    scalars = torch.randn(2, 4, dtype=torch.float64)
    displacement = torch.tensor([[0.0, 0.25, 0.0], [0.3, 0.0, 0.4]], dtype=torch.float64)
    points = PointFeatures(scalars, None)
    after, _ = couple(points, points, displacement)
    expected = scalars + torch.tensor([[0.25], [1.0]], dtype=torch.float64) * couple.spring(scalars)
    torch.testing.assert_close(after.scalars, expected)


def _trained(network: NeuralPolarization[Any]) -> NeuralPolarization[Any]:
    """The same network with displacements as large as training makes them; new ones hardly move."""
    for move in network.moves:
        assert isinstance(move, Move)
        move.enlarge(1000.0)
    return network


class TestWhatItSees:
    """Angles, for networks that know distances alone; and the limits of vectors."""

    polarized = pytest.mark.parametrize("messages", [Messages.RIDING, Messages.MOVING_VIEW, Messages.BOTH_VIEWS])

    def _angle(self, degrees: float) -> ase.Atoms:
        """Two hydrogens at equal distance from an oxygen, further apart than the cutoff of 1.5 Angstrom."""
        angle = np.deg2rad(degrees)
        return ase.Atoms("OH2", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])

    @pytest.mark.parametrize("architecture", [SchNet, EGNN])
    def test_plain_distances_know_no_angles(self, architecture: type[SchNet] | type[EGNN]) -> None:
        network = _network(architecture, Messages.PLAIN, cutoff=1.5, num_layers=5)
        narrow = network(Molecules.from_ase(self._angle(110.0), 1.5, torch.float64)).scalars
        wide = network(Molecules.from_ase(self._angle(180.0), 1.5, torch.float64)).scalars
        assert (narrow - wide).abs().max() < 1e-12

    @polarized
    @pytest.mark.parametrize("architecture", [SchNet, EGNN])
    def test_polarized_distances_know_angles(self, architecture: type[SchNet] | type[EGNN], messages: Messages) -> None:
        network = _trained(_network(architecture, messages, cutoff=1.5))
        narrow = network(Molecules.from_ase(self._angle(110.0), 1.5, torch.float64)).scalars
        wide = network(Molecules.from_ase(self._angle(180.0), 1.5, torch.float64)).scalars
        assert (narrow - wide).abs().max() > 1e-4

    def _icosahedron(self, which: tuple[int, ...]) -> ase.Atoms:
        """Some corners of an icosahedron: all of them within the cutoff of each other."""
        ratio = (1.0 + 5.0**0.5) / 2.0
        corners = [
            corner for s in (1.0, -1.0) for t in (ratio, -ratio) for corner in ((0.0, s, t), (s, t, 0.0), (t, 0.0, s))
        ]
        return ase.Atoms("C" * len(which), [corners[k] for k in which])

    # Different molecules, but every atom of the one has the distances of an atom of the other, at every depth. Found
    # by trying all sextuples of corners.
    PAIR = ((0, 1, 2, 9, 10, 11), (0, 1, 3, 6, 9, 10))

    def test_the_pair_is_two_molecules(self) -> None:
        one, other = (self._icosahedron(which).get_all_distances() for which in self.PAIR)
        assert np.allclose(np.sort(one, 1)[np.lexsort(np.sort(one, 1).round(6).T)],
                           np.sort(other, 1)[np.lexsort(np.sort(other, 1).round(6).T)])  # fmt: skip
        assert abs(np.linalg.eigvalsh(one) - np.linalg.eigvalsh(other)).max() > 0.1

    def test_no_depth_of_plain_distances_tells_the_pair_apart(self) -> None:
        network = _network(SchNet, Messages.PLAIN, num_layers=6)
        one, other = (_energy(network, self._icosahedron(which)) for which in self.PAIR)
        assert abs(one - other) < 1e-12

    @polarized
    def test_polarized_distances_tell_the_pair_apart(self, messages: Messages) -> None:
        network = _trained(_network(SchNet, messages, num_layers=3))
        one, other = (_energy(network, self._icosahedron(which)) for which in self.PAIR)
        assert abs(one - other) > 1e-6

    def _twisted(self, leaves: int, degrees: float) -> ase.Atoms:
        """Two carbons with a star of hydrogens each, one star turned about the bond; leaves of the two do not meet."""
        positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]]
        for end, (height, turn) in enumerate([(-0.36, 0.0), (1.86, np.deg2rad(degrees))]):
            del end
            for k in range(leaves):
                angle = turn + 2.0 * np.pi * k / leaves
                positions.append([1.03 * np.cos(angle), 1.03 * np.sin(angle), height])
        return ase.Atoms("C2" + f"H{2 * leaves}", positions)

    @pytest.mark.parametrize("messages", [Messages.PLAIN, Messages.RIDING, Messages.BOTH_VIEWS])
    def test_stars_are_beyond_vectors(self, messages: Messages) -> None:
        """The limit of l = 1, polarized or not: the vectors of a threefold star cancel, and its turn goes unseen."""
        network = _trained(_network(PaiNN, messages, cutoff=1.7, num_layers=4))
        eclipsed, staggered = (_energy(network, self._twisted(3, angle)) for angle in (0.0, 60.0))
        assert abs(eclipsed - staggered) < 1e-10

    @polarized
    def test_a_torsion_of_single_leaves_is_seen_by_polarized_distances(self, messages: Messages) -> None:
        plain = _network(SchNet, Messages.PLAIN, cutoff=1.7, num_layers=4)
        network = _trained(_network(SchNet, messages, cutoff=1.7, num_layers=4))
        cis, trans = self._twisted(1, 0.0), self._twisted(1, 150.0)
        assert abs(_energy(plain, cis) - _energy(plain, trans)) < 1e-12
        assert abs(_energy(network, cis) - _energy(network, trans)) > 1e-8

    def test_symmetric_molecules_of_the_set_have_symmetric_displacements(self) -> None:
        """Benzene: all carbons are displaced alike, and along their radius."""
        network = _trained(_network(PaiNN, Messages.BOTH_VIEWS, elements=("H", "C")))
        benzene = molecule("C6H6")
        displacement = network(Molecules.from_ase(benzene, CUTOFF, torch.float64)).displacement[:6]
        radial = torch.as_tensor(benzene.positions[:6] / np.linalg.norm(benzene.positions[:6], axis=1)[:, None])
        along = (displacement * radial).sum(-1)
        assert (displacement - along[:, None] * radial).abs().max() < 1e-6  # the coordinates have six digits
        assert (along - along.mean()).abs().max() < 1e-5
        assert along.abs().min() > 1e-4


@every_choice
def test_saving_memory_changes_no_value(messages: Messages) -> None:
    """Forces, and gradients of a loss of forces, are the same; less than half waits for the gradient."""
    torch.manual_seed(0)
    heads = {"energy": HeadConfig("extensive", forces=True)}
    backbone = BackboneConfig("painn", channels=8, num_layers=3)
    model = Model(ModelConfig(ELEMENTS, heads, backbone, PolarizationConfig(messages))).double()
    batch = Molecules.from_ase([distorted("CH3CH2OH"), distorted("H2CO")], model.cutoff, torch.float64)

    def found() -> tuple[list[Tensor], int]:
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            energy = model(batch, forces=False)["energy"]
        del energy
        values = model(batch)
        values["forces"].square().sum().backward()
        gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
        return [values["energy"].detach(), values["forces"].detach(), *gradients], sum(kept.values())

    expected, before = found()
    save_memory(model)
    values, after = found()
    assert len(values) == len(expected) > 10
    for value, one in zip(values, expected, strict=True):
        torch.testing.assert_close(value, one, rtol=1e-12, atol=1e-12)
    assert after < 0.5 * before
    with pytest.raises(ValueError, match="there is no polarized network in this model"):
        save_memory(torch.nn.Linear(1, 1))
