"""TorchMD-NET's equivariant transformer as a backbone, and its trained models polarized."""

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
from torch import Tensor

from neural_polarization.adapters import torchmd as adapter
from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.testing import ELEMENTS, BackboneContract

if find_spec("torchmdnet") is None:
    pytest.skip("needs TorchMD-NET: pip install neural-polarization[torchmd]", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from torchmdnet.models.model import create_model
    from torchmdnet.models.output_modules import EquivariantDipoleMoment
    from torchmdnet.models.torchmd_et import TorchMD_ET
    from torchmdnet.priors import Atomref

CUTOFF = 4.0


def representation(vector_cutoff: bool = True) -> TorchMD_ET:
    return TorchMD_ET(
        hidden_channels=8,
        num_layers=2,
        num_rbf=8,
        num_heads=2,
        cutoff_upper=CUTOFF,
        max_z=20,
        vector_cutoff=vector_cutoff,
    )


def model(seed: int = 0, vector_cutoff: bool = True, **changes: Any) -> Any:
    """A model as `torchmd-train` makes it, with a prior, mean and spread as after training."""
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {
        "model": "equivariant-transformer",
        "embedding_dimension": 8,
        "num_layers": 2,
        "num_rbf": 8,
        "rbf_type": "expnorm",
        "trainable_rbf": False,
        "activation": "silu",
        "attn_activation": "silu",
        "neighbor_embedding": True,
        "num_heads": 2,
        "distance_influence": "both",
        "cutoff_lower": 0.0,
        "cutoff_upper": CUTOFF,
        "max_z": 20,
        "max_num_neighbors": 32,
        "vector_cutoff": vector_cutoff,
        "output_model": "Scalar",
        "reduce_op": "sum",
        "derivative": True,
        "atom_filter": -1,
        "prior_model": None,
        "precision": 64,
    } | changes
    prior = Atomref(max_z=20)
    made = create_model(arguments, prior_model=prior, mean=torch.tensor(-1.5), std=torch.tensor(2.0))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_()
    return made.eval()


def predictions(trained: Any, molecules: Molecules) -> tuple[Tensor, Tensor]:
    """Energy and forces by TorchMD-NET's own API."""
    return trained(molecules.atomic_numbers, molecules.positions.clone(), molecules.molecule_index)


class TestET(BackboneContract):
    exceptions: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"test_every_parameter_gets_a_gradient": "its first layer has weights for vectors that are still zero"}
    )

    def make_backbone(self, num_species: int) -> adapter.TorchMDNetET:
        return adapter.TorchMDNetET(representation(), ELEMENTS, num_species > len(ELEMENTS))

    def test_nothing_else_is_without_gradient(self) -> None:
        """The exception hides no more than it says."""
        for messages in ("plain", "both_views"):
            model = self.model(Messages(messages))
            self._force_loss(model).backward()
            dead = {name for name, p in model.named_parameters() if not self._alive(p) and ".couples." not in name}
            assert dead == {"network.backbone.layers.0.attention.vec_proj.weight"}


class TestETWithoutVectorCutoff(BackboneContract):
    exceptions: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "test_continuous_through_the_cutoff": "its values have a bias that does not fade out",
            "test_every_parameter_gets_a_gradient": "its first layer has weights for vectors that are still zero",
        }
    )

    def make_backbone(self, num_species: int) -> adapter.TorchMDNetET:
        """The package's default, with biases as after training."""
        network = representation(vector_cutoff=False)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0.0, 0.3)
        return adapter.TorchMDNetET(network, ELEMENTS, num_species > len(ELEMENTS))


class TestPolarized:
    @pytest.mark.parametrize("messages", ["plain", "riding", "moving_view", "both_views"])
    @pytest.mark.parametrize("vector_cutoff", [False, True])
    def test_starts_with_the_same_predictions(self, vector_cutoff: bool, messages: str) -> None:
        trained, molecules = model(vector_cutoff=vector_cutoff), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS, messages), molecules, energy, forces)

    @pytest.mark.parametrize(
        "changes",
        [{"neighbor_embedding": False}, {"rbf_type": "gauss"}, {"distance_influence": "none"}, {"trainable_rbf": True}],
        ids=str,
    )
    def test_variants(self, changes: dict[str, Any]) -> None:
        trained, molecules = model(**changes), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS), molecules, energy, forces)

    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    def test_learns(self, messages: str) -> None:
        assert_learns(polarize(model(), ELEMENTS, messages), batch(CUTOFF))

    def test_single_precision(self) -> None:
        trained, molecules = model(precision=32), batch(CUTOFF, torch.float32)
        assert_single_precision(trained, molecules, *predictions(trained, molecules))

    def test_untouched(self) -> None:
        assert_untouched(model(), batch(CUTOFF))

    def test_saved(self) -> None:
        def make(seed: int) -> FineTuned:
            return polarize(model(seed), ELEMENTS)

        assert_saved(make, batch(CUTOFF))


class TestErrors:
    def test_element_that_is_not_embedded(self) -> None:
        with pytest.raises(ValueError, match=r"does not know I \(it knows H to K\)"):
            polarize(model(), ["H", "I"])

    def test_another_network(self) -> None:
        with pytest.raises(TypeError, match=r"TensorNet cannot be adapted; supported: .*TorchMD_ET"):
            polarize(model(model="tensornet", equivariance_invariance_group="O(3)"), ELEMENTS)

    def test_lower_cutoff(self) -> None:
        with pytest.raises(ValueError, match=r"closer than cutoff_lower=0\.5"):
            polarize(model(cutoff_lower=0.5), ELEMENTS)

    def test_dipoles(self) -> None:
        trained = model()
        trained.output_model = EquivariantDipoleMoment(8)
        with pytest.raises(TypeError, match=r"EquivariantDipoleMoment cannot be adapted; .*Scalar"):
            polarize(trained, ELEMENTS)
