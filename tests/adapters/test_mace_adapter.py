"""MACE as a backbone, and its trained models polarized."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from adapted import (
    assert_learns,
    assert_not_traced,
    assert_same_predictions,
    assert_saved,
    assert_single_precision,
    assert_untouched,
    batch,
    crystals,
)
from torch import Tensor

from neural_polarization.adapters import mace as adapter
from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.molecules import Molecules
from neural_polarization.testing import ELEMENTS, BackboneContract

if find_spec("mace") is None:
    pytest.skip("needs MACE: pip install neural-polarization[mace]", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from mace import modules
    from mace.modules.models import o3  # e3nn, which loads only after mace

# Its import lets torch.load run code from files.
os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

CUTOFF = 4.0


@contextmanager
def double() -> Iterator[None]:
    """e3nn's constants are as exact as the default type in which they are made."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def model(seed: int = 0, scale_shift: bool = True, **changes: Any) -> Any:
    """A model as `mace_run_train` makes it, small."""
    blocks = modules.interaction_classes
    arguments: dict[str, Any] = {
        "r_max": CUTOFF,
        "num_bessel": 6,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": blocks["RealAgnosticResidualInteractionBlock"],
        "interaction_cls_first": blocks["RealAgnosticInteractionBlock"],
        "num_interactions": 2,
        "num_elements": 4,
        "hidden_irreps": o3.Irreps("8x0e+8x1o"),
        "MLP_irreps": o3.Irreps("4x0e"),
        "atomic_energies": np.array([-0.5, -3.0, -2.0, -4.0]),
        "avg_num_neighbors": 5.0,
        "atomic_numbers": [1, 6, 7, 8],
        "correlation": 2,
        "gate": torch.nn.functional.silu,
        "radial_MLP": [8, 8],
    } | changes
    with double(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        if scale_shift:
            return modules.ScaleShiftMACE(atomic_inter_scale=0.8, atomic_inter_shift=0.1, **arguments)
        return modules.MACE(**arguments)


@cache
def template() -> Any:
    """A model is slow to make and fast to copy."""
    return model()


def predictions(trained: Any, molecules: Molecules, head: int = 0) -> tuple[Tensor, Tensor]:
    """Energy and forces by MACE's own API."""
    frames, edges = molecules.num_molecules, molecules.edge_index.shape[1]
    positions = molecules.positions.clone().requires_grad_()
    sizes = molecules.molecule_index.bincount()
    data = {
        "positions": positions,
        "node_attrs": (molecules.atomic_numbers[:, None] == trained.atomic_numbers).to(positions),
        "edge_index": molecules.edge_index,
        "shifts": positions.new_zeros(edges, 3) if molecules.shifts is None else -molecules.shifts,
        "unit_shifts": positions.new_zeros(edges, 3),
        "cell": positions.new_zeros(3 * frames, 3),
        "batch": molecules.molecule_index,
        "ptr": torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
        "head": torch.full((frames,), head),
    }
    out = trained(data, compute_force=True)
    return out["energy"], out["forces"]


class TestMACE(BackboneContract):
    def make_backbone(self, num_species: int) -> adapter.MACEBackbone:
        network = deepcopy(template())
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
        return adapter.MACEBackbone(network, ELEMENTS, num_species > len(ELEMENTS))


class TestPolarized:
    @pytest.mark.parametrize("messages", ["plain", "riding", "moving_view", "both_views"])
    def test_starts_with_the_same_predictions(self, messages: str) -> None:
        trained, molecules = model(), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS, messages), molecules, energy, forces)

    @pytest.mark.parametrize(
        "changes",
        [
            {"scale_shift": False},
            {"scale_shift": False, "pair_repulsion": True, "distance_transform": "Agnesi"},
            {"pair_repulsion": True, "num_interactions": 3, "keep_last_layer_irreps": True},
            {"hidden_irreps": o3.Irreps("8x0e")},
            {"hidden_irreps": o3.Irreps("8x0e+8x1o+8x2e"), "use_last_readout_only": True},
            {"apply_cutoff": False, "interaction_cls_first": "RealAgnosticDensityInteractionBlock"},
            {"radial_type": "gaussian", "num_interactions": 1},
        ],
        ids=str,
    )
    def test_variants(self, changes: dict[str, Any]) -> None:
        named = {
            name: modules.interaction_classes[value] if name == "interaction_cls_first" else value
            for name, value in changes.items()
        }
        trained, molecules = model(**named), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS), molecules, energy, forces)

    def test_one_of_two_heads(self) -> None:
        trained = model(heads=["one", "other"], scale_shift=False, atomic_energies=np.array([[-1.0] * 4, [-2.0] * 4]))
        molecules = batch(CUTOFF)
        with pytest.raises(ValueError, match=r"head: None is none of the model's heads one, other"):
            polarize(trained, ELEMENTS)
        for number, head in enumerate(["one", "other"]):
            energy, forces = predictions(trained, molecules, number)
            parts = adapter.take_apart(trained, ELEMENTS, head=head)
            assert_same_predictions(FineTuned(parts, ELEMENTS, "riding", 0.5), molecules, energy, forces)

    def test_checkpoint_of_an_older_version(self) -> None:
        """Whole models are pickled: what a later version added is not among their attributes."""
        trained, molecules = model(), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        del trained.heads, trained.radial_embedding.apply_cutoff
        for product in trained.products:
            del product.cueq_config
        assert_same_predictions(polarize(trained, ELEMENTS), molecules, energy, forces)

    def test_periodic(self) -> None:
        trained, molecules = model(), crystals(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ["O", "C"]), molecules, energy, forces)

    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    def test_learns(self, messages: str) -> None:
        assert_learns(polarize(model(), ELEMENTS, messages), batch(CUTOFF))

    def test_single_precision(self) -> None:
        trained, molecules = model().float(), batch(CUTOFF, torch.float32)
        assert_single_precision(trained, molecules, *predictions(trained, molecules))

    def test_untouched(self) -> None:
        assert_untouched(model(), batch(CUTOFF))

    def test_saved(self) -> None:
        def make(seed: int) -> FineTuned:
            return polarize(model(seed), ELEMENTS)

        assert_saved(make, batch(CUTOFF))

    def test_it_cannot_be_exported(self) -> None:
        """Its functions in TorchScript fix the number of edges, and its e3nn makes no others."""
        assert_not_traced("test_mace_adapter", "polarize(model(), ELEMENTS)", "Constraints violated")


class TestErrors:
    def test_element_that_it_does_not_know(self) -> None:
        with pytest.raises(ValueError, match=r"does not know S \(it knows H, C, N, O\)"):
            polarize(model(), ["H", "S"])

    def test_another_network(self) -> None:
        with pytest.raises(TypeError, match=r"Linear cannot be adapted; supported: mace.modules.MACE"):
            adapter.take_apart(torch.nn.Linear(1, 1), ELEMENTS)

    def test_loading_stays_safe(self) -> None:
        polarize(model(), ELEMENTS)
        assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
