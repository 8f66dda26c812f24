"""NequIP as a backbone, and its trained models polarized."""

import warnings
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from adapted import (
    assert_learns,
    assert_same_predictions,
    assert_saved,
    assert_single_precision,
    assert_untouched,
    batch,
    crystals,
)
from torch import Tensor

from neural_polarization.adapters import nequip as adapter
from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.molecules import Molecules
from neural_polarization.testing import ELEMENTS, BackboneContract

if find_spec("nequip") is None:
    pytest.skip("needs NequIP: pip install neural-polarization[nequip]", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from nequip.data import AtomicDataDict
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    default = torch.get_default_dtype()
    set_global_state()  # what the package asks for; it makes float64 the default type of the process
    torch.set_default_dtype(default)

CUTOFF = 4.0
TYPES = ["O", "H", "N", "C"]


def model(seed: int = 0, **changes: Any) -> Any:
    """A model as NequIP's configurations make it, small."""
    arguments: dict[str, Any] = {
        "seed": seed,
        "model_dtype": "float64",
        "r_max": CUTOFF,
        "type_names": TYPES,
        "num_layers": 2,
        "l_max": 1,
        "num_features": 8,
        "radial_mlp_width": 8,
        "num_bessels": 6,
        "avg_num_neighbors": 5.0,
        "per_type_energy_scales": {"O": 1.2, "H": 0.7, "N": 1.0, "C": 0.9},
        "per_type_energy_shifts": {"O": -4.0, "H": -0.5, "N": -3.0, "C": -2.0},
    } | changes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NequIPGNNModel(**arguments).eval()


@cache
def template() -> Any:
    """A model is slow to make and fast to copy."""
    return model()


def predictions(trained: Any, molecules: Molecules) -> tuple[Tensor, Tensor]:
    """Energy and forces by NequIP's own API."""
    senders, receivers = molecules.edge_index
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8}
    known = torch.tensor([numbers[name] for name in TYPES])
    data = {
        AtomicDataDict.POSITIONS_KEY: molecules.positions.clone(),
        AtomicDataDict.ATOM_TYPE_KEY: (molecules.atomic_numbers[:, None] == known).long().argmax(1),
        AtomicDataDict.EDGE_INDEX_KEY: torch.stack([receivers, senders]),
        AtomicDataDict.BATCH_KEY: molecules.molecule_index,
        AtomicDataDict.NUM_NODES_KEY: molecules.molecule_index.bincount(),
    }
    if molecules.shifts is not None:  # in units of a cell of one Angstrom
        data[AtomicDataDict.CELL_KEY] = torch.eye(3, dtype=torch.float64).repeat(molecules.num_molecules, 1, 1)
        data[AtomicDataDict.EDGE_CELL_SHIFT_KEY] = molecules.shifts
    out = trained(data)
    return out[AtomicDataDict.TOTAL_ENERGY_KEY], out[AtomicDataDict.FORCE_KEY]


class TestNequIP(BackboneContract):
    def make_backbone(self, num_species: int) -> adapter.NequIPBackbone:
        network = deepcopy(template())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 1.5))
        return adapter.NequIPBackbone(network, ELEMENTS, num_species > len(ELEMENTS))


class TestPolarized:
    @pytest.mark.parametrize("messages", ["plain", "riding", "moving_view", "both_views"])
    def test_starts_with_the_same_predictions(self, messages: str) -> None:
        trained, molecules = model(), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS, messages), molecules, energy, forces)

    @pytest.mark.parametrize(
        "changes",
        [
            {"parity": False, "num_layers": 3, "l_max": 2, "num_features": [8, 4, 2]},
            {"type_embed_num_features": 4, "bessel_trainable": True},
            {"avg_num_neighbors": {"O": 3.0, "H": 4.0, "N": 5.0, "C": 6.0}},
            {"per_edge_type_cutoff": {"H": 2.0, "C": {"O": 3.0}}},
            {"l_max": 0, "per_type_energy_scales": None, "per_type_energy_shifts": None},
            {
                "pair_potential": {
                    "_target_": "nequip.nn.pair_potential.ZBL",
                    "units": "metal",
                    "chemical_species": TYPES,
                }
            },
        ],
        ids=str,
    )
    def test_variants(self, changes: dict[str, Any]) -> None:
        trained, molecules = model(**changes), batch(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ELEMENTS), molecules, energy, forces)

    def test_periodic(self) -> None:
        trained, molecules = model(), crystals(CUTOFF)
        energy, forces = predictions(trained, molecules)
        assert_same_predictions(polarize(trained, ["O", "C"]), molecules, energy, forces)

    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    def test_learns(self, messages: str) -> None:
        assert_learns(polarize(model(), ELEMENTS, messages), batch(CUTOFF))

    def test_single_precision(self) -> None:
        trained, molecules = model(model_dtype="float32"), batch(CUTOFF, torch.float32)
        assert_single_precision(trained, molecules, *predictions(trained, molecules))

    def test_untouched(self) -> None:
        assert_untouched(model(), batch(CUTOFF))

    def test_saved(self) -> None:
        def make(seed: int) -> FineTuned:
            return polarize(model(seed), ELEMENTS)

        assert_saved(make, batch(CUTOFF))


class TestErrors:
    def test_element_that_it_does_not_know(self) -> None:
        with pytest.raises(ValueError, match=r"does not know S \(it knows H, C, N, O\)"):
            polarize(model(), ["H", "S"])

    def test_another_network(self) -> None:
        with pytest.raises(TypeError, match=r"Linear cannot be adapted; supported: nequip.nn.GraphModel"):
            adapter.take_apart(torch.nn.Linear(1, 1), ELEMENTS)

    def test_part_that_is_not_known(self) -> None:
        trained = model()
        trained.model.func.add_module("more", torch.nn.Identity())
        with pytest.raises(TypeError, match="Identity cannot be adapted; supported: the parts type_embed"):
            polarize(trained, ELEMENTS)
