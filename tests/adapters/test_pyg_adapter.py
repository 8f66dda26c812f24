"""PyTorch Geometric's SchNet and ViSNet as backbones, and its trained models polarized."""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from adapted import (
    assert_learns,
    assert_same_predictions,
    assert_saved,
    assert_single_precision,
    assert_untouched,
    batch,
)
from torch import Tensor, nn

from neural_polarization.adapters import pyg as adapter
from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.geometry import all_pairs
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.testing import ELEMENTS, BackboneContract

if find_spec("torch_geometric") is None:
    pytest.skip("needs PyTorch Geometric: pip install neural-polarization[pyg]", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from torch_geometric.nn.models import SchNet, ViSNet
    from torch_geometric.nn.models.visnet import Distance, ViSNetBlock

CUTOFF = 4.0
MOST = 64  # neighbours of an atom in any structure here


class Neighbours(nn.Module):
    """In the place of the package's neighbour search, which needs a compiled library that few have."""

    def __init__(self, loops: bool) -> None:
        super().__init__()
        self.loops = loops

    def forward(self, positions: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        edges = all_pairs(positions.detach(), index, CUTOFF)
        vectors = positions[edges[0]] - positions[edges[1]]
        lengths = vectors.norm(dim=-1)
        if not self.loops:
            return edges, lengths
        own = torch.arange(len(positions))
        return (
            torch.cat([edges, torch.stack([own, own])], 1),
            torch.cat([lengths, lengths.new_zeros(len(own))]),
            torch.cat([vectors, vectors.new_zeros(len(own), 3)]),
        )


def randomized(network: nn.Module, size: float = 0.05) -> nn.Module:
    """Biases, which start at zero, as after training; large ones make ViSNet's energies grow without sense."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, size)
    return network


def visnet_block(**changes: Any) -> nn.Module:
    arguments: dict[str, Any] = {"num_heads": 2, "num_layers": 2, "hidden_channels": 8, "num_rbf": 8, "max_z": 20}
    arguments["max_num_neighbors"] = MOST
    return randomized(ViSNetBlock(**(arguments | {"cutoff": CUTOFF} | changes)), 0.3)


def model(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model as users make it, with references and spread as after training."""
    torch.manual_seed(seed)
    if name == "schnet":
        arguments = {"hidden_channels": 8, "num_filters": 8, "num_interactions": 2, "num_gaussians": 8, "mean": -1.0}
        neighbours = {"interaction_graph": Neighbours(False), "cutoff": CUTOFF, "std": 2.0}
        made = SchNet(**(arguments | neighbours | {"atomref": torch.randn(100, 1)} | changes))
    else:
        arguments = {"num_heads": 2, "num_layers": 3, "hidden_channels": 8, "num_rbf": 8, "max_z": 20}
        statistics = {"atomref": torch.randn(20), "mean": -1.5, "std": 2.0, "derivative": False}
        made = ViSNet(**(arguments | {"cutoff": CUTOFF} | statistics | changes))
        made.representation_model.distance = Neighbours(True)
    return randomized(made).double().eval()


def predictions(trained: Any, molecules: Molecules) -> tuple[Tensor, Tensor]:
    """Energy by the package's own API, and its gradient."""
    positions = molecules.positions.clone().requires_grad_()
    out = trained(molecules.atomic_numbers, positions, molecules.molecule_index)
    energy = out[0] if isinstance(out, tuple) else out
    (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=trained.training)
    return energy, -gradient


class TestSchNet(BackboneContract):
    def make_backbone(self, num_species: int) -> adapter.PyGSchNet:
        network = SchNet(8, 8, 2, 8, cutoff=CUTOFF, max_num_neighbors=MOST)
        return adapter.PyGSchNet(randomized(network), ELEMENTS, num_species > len(ELEMENTS))


class TestViSNet(BackboneContract):
    exceptions: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "test_continuous_through_the_cutoff": "messages to its vectors have a bias that does not fade out",
            "test_every_parameter_gets_a_gradient": "its first layer has weights for vectors that are still zero",
        }
    )

    of_vertices: ClassVar[tuple[str, ...]] = ()

    def make_backbone(self, num_species: int) -> adapter.PyGViSNet:
        return adapter.PyGViSNet(visnet_block(), ELEMENTS, num_species > len(ELEMENTS))

    @pytest.mark.parametrize("messages", [Messages.PLAIN, Messages.BOTH_VIEWS])
    def test_nothing_else_is_without_gradient(self, messages: Messages) -> None:
        """The exception hides no more than it says."""
        model = self.model(messages)
        self._force_loss(model).backward()
        dead = {name for name, p in model.named_parameters() if not self._alive(p) and ".couples." not in name}
        first = "network.backbone.layers.0.messages."
        names = ("vec_proj.weight", "w_src_proj.weight", "w_trg_proj.weight", "f_proj.weight", "f_proj.bias")
        assert dead == {first + name for name in (*names, *self.of_vertices)}

    def test_without_the_bias_it_is_continuous(self) -> None:
        model = self.model(Messages.RIDING)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("s_proj.bias"):
                    parameter.zero_()
        (_, wide), (_, narrow) = self._jump(model, 1e-3), self._jump(model, 1e-6)
        assert narrow <= 0.01 * wide


class TestViSNetOfDegree2(TestViSNet):
    of_vertices: ClassVar[tuple[str, ...]] = ("t_src_proj.weight", "t_trg_proj.weight")

    def make_backbone(self, num_species: int) -> adapter.PyGViSNet:
        block = visnet_block(lmax=2, vertex=True, num_layers=3)
        return adapter.PyGViSNet(block, ELEMENTS, num_species > len(ELEMENTS))


class TestPolarized:
    @pytest.mark.parametrize("messages", ["plain", "riding", "moving_view", "both_views"])
    @pytest.mark.parametrize("name", ["schnet", "visnet"])
    def test_starts_with_the_same_predictions(self, name: str, messages: str) -> None:
        trained, molecules = model(name), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS, messages), molecules, energy, forces)

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            ("visnet", {"vertex": True, "reduce_op": "mean", "trainable_rbf": True}),
            ("visnet", {"trainable_vecnorm": True, "num_layers": 1}),
            ("schnet", {"readout": "mean", "mean": None, "atomref": None}),
        ],
        ids=str,
    )
    def test_variants(self, name: str, changes: dict[str, Any]) -> None:
        trained, molecules = model(name, **changes), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS), molecules, energy, forces)

    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    @pytest.mark.parametrize("name", ["schnet", "visnet"])
    def test_learns(self, name: str, messages: str) -> None:
        assert_learns(polarize(model(name), ELEMENTS, messages), batch(CUTOFF))

    @pytest.mark.parametrize("name", ["schnet", "visnet"])
    def test_single_precision(self, name: str) -> None:
        trained, molecules = model(name).float(), batch(CUTOFF, torch.float32)
        assert_single_precision(trained, molecules, *predictions(trained, molecules))

    @pytest.mark.parametrize("name", ["schnet", "visnet"])
    def test_untouched(self, name: str) -> None:
        assert_untouched(model(name), batch(CUTOFF))

    def test_saved(self) -> None:
        def make(seed: int) -> FineTuned:
            return polarize(model("visnet", seed), ELEMENTS)

        assert_saved(make, batch(CUTOFF))


def limited(name: str, most: int) -> Any:
    """A model with the package's own neighbour search, which keeps `most` neighbours of an atom."""
    if name == "schnet":
        return model(name, interaction_graph=None, max_num_neighbors=most)
    trained = model(name)
    trained.representation_model.distance = Distance(CUTOFF, most + 1)  # the atom itself is one of them
    return trained


class TestErrors:
    @pytest.mark.parametrize("messages", ["plain", "both_views"])
    @pytest.mark.parametrize("name", ["schnet", "visnet"])
    def test_more_neighbours_than_the_model_keeps(self, name: str, messages: str) -> None:
        """Its search would leave some out: without an error, predictions would be others than the trained ones."""
        molecules = batch(CUTOFF)
        counts = molecules.edge_index[1].bincount()
        most = int(counts.max())
        atom = int((counts == most).nonzero()[0, 0])
        polarize(limited(name, most), ELEMENTS, messages)(molecules)
        module = polarize(limited(name, most - 1), ELEMENTS, messages)
        with pytest.raises(
            ValueError, match=rf"atom {atom} of the batch has {most} neighbours, more than the {most - 1}"
        ):
            module(molecules)

    def test_element_that_is_not_embedded(self) -> None:
        with pytest.raises(ValueError, match=r"does not know I \(it knows H to K\)"):
            polarize(model("visnet"), ["H", "I"])

    def test_normalized_vectors(self) -> None:
        with pytest.raises(ValueError, match="vecnorm_type='max_min' divides by lengths"):
            polarize(model("visnet", vecnorm_type="max_min"), ELEMENTS)

    def test_readout_of_degree_2(self) -> None:
        with pytest.raises(ValueError, match="takes the degree 2 of features"):
            polarize(model("visnet", lmax=2), ELEMENTS)

    def test_dipoles(self) -> None:
        with pytest.raises(ValueError, match="it predicts dipoles"):
            polarize(model("schnet", dipole=True), ELEMENTS)

    def test_another_network(self) -> None:
        with pytest.raises(TypeError, match=r"Linear cannot be adapted; supported: torch_geometric"):
            adapter.take_apart(nn.Linear(1, 1), ELEMENTS)
