"""SchNetPack's networks as backbones, and its trained potentials polarized."""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
import torch.utils.data.dataloader as loader
from adapted import (
    assert_learns,
    assert_same_predictions,
    assert_saved,
    assert_single_precision,
    assert_traced,
    assert_untouched,
    batch,
    crystals,
)
from torch import Tensor, nn

from neural_polarization.adapters import schnetpack as adapter
from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.molecules import Molecules
from neural_polarization.testing import ELEMENTS, BackboneContract

if find_spec("schnetpack") is None:
    pytest.skip("needs SchNetPack: pip install neural-polarization[schnetpack]", allow_module_level=True)

# SchNetPack 2.0 imports a name that torch has made private since.
if "T_co" not in vars(loader):
    loader.T_co = loader._T_co
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    import schnetpack.atomistic
    import schnetpack.nn as snn
    import schnetpack.transform
    from schnetpack import properties
    from schnetpack.model import NeuralNetworkPotential
    from schnetpack.representation import PaiNN, SchNet, SO3net

CUTOFF = 4.0
NAMES = ("painn", "schnet", "so3net")


def representation(name: str, channels: int = 8) -> nn.Module:
    cutoff = snn.CosineCutoff(CUTOFF)
    if name == "painn":
        return PaiNN(channels, 2, snn.BesselRBF(8, CUTOFF), cutoff, max_z=20)
    if name == "schnet":
        return SchNet(channels, 2, snn.GaussianRBF(8, CUTOFF), cutoff, max_z=20)
    return SO3net(channels, 2, 2, snn.GaussianRBF(8, CUTOFF), cutoff, max_z=20, return_vector_representation=True)


def potential(name: str, seed: int = 0, channels: int = 8) -> Any:
    """A potential as SchNetPack's users make it, with offsets as after training."""
    torch.manual_seed(seed)
    offsets = schnetpack.transform.AddOffsets("energy", add_mean=True, add_atomrefs=True, zmax=20)
    offsets.mean = torch.tensor([-0.3])
    offsets.atomref = torch.randn(20)
    model = NeuralNetworkPotential(
        representation(name, channels),
        [schnetpack.atomistic.PairwiseDistances()],
        [schnetpack.atomistic.Atomwise(channels, output_key="energy"), schnetpack.atomistic.Forces()],
        [schnetpack.transform.CastTo64(), offsets],
    )
    return model.double().eval()


def inputs(molecules: Molecules) -> dict[str, Tensor]:
    senders, receivers = molecules.edge_index
    return {
        properties.Z: molecules.atomic_numbers,
        properties.R: molecules.positions.clone(),
        properties.idx_i: receivers,
        properties.idx_j: senders,
        properties.offsets: molecules.positions.new_zeros(len(senders), 3)
        if molecules.shifts is None
        else molecules.shifts,
        properties.idx_m: molecules.molecule_index,
        properties.n_atoms: molecules.molecule_index.bincount(),
    }


def predictions(model: nn.Module, molecules: Molecules) -> tuple[Tensor, Tensor]:
    """Energy and forces by SchNetPack's own API."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(molecules.positions.dtype)  # the type of its first vectors
    try:
        out = model(inputs(molecules))
    finally:
        torch.set_default_dtype(default)
    return out["energy"], out["forces"]


class TestPaiNN(BackboneContract):
    def make_backbone(self, num_species: int) -> adapter.SchNetPackPaiNN:
        return adapter.SchNetPackPaiNN(representation("painn"), ELEMENTS, num_species > len(ELEMENTS))


class TestSchNet(BackboneContract):
    def make_backbone(self, num_species: int) -> adapter.SchNetPackSchNet:
        return adapter.SchNetPackSchNet(representation("schnet"), ELEMENTS, num_species > len(ELEMENTS))


class TestSO3net(BackboneContract):
    tolerance: ClassVar[Mapping[torch.dtype, float]] = MappingProxyType({torch.float64: 1e-6, torch.float32: 1e-4})

    def make_backbone(self, num_species: int) -> adapter.SchNetPackSO3net:
        return adapter.SchNetPackSO3net(representation("so3net"), ELEMENTS, num_species > len(ELEMENTS))


class TestPolarized:
    @pytest.mark.parametrize("messages", ["plain", "riding", "moving_view", "both_views"])
    @pytest.mark.parametrize("name", NAMES)
    def test_starts_with_the_same_predictions(self, name: str, messages: str) -> None:
        model, molecules = potential(name), batch(CUTOFF)
        energy, forces = predictions(model, molecules)
        tolerance = 1e-7 if name == "so3net" else 1e-8  # it has directions to the power of lmax
        assert_same_predictions(polarize(model, ELEMENTS, messages), molecules, energy, forces, tolerance)

    def test_periodic(self) -> None:
        model, molecules = potential("painn"), crystals(CUTOFF)
        energy, forces = predictions(model, molecules)
        assert_same_predictions(polarize(model, ["O", "C"]), molecules, energy, forces)

    def test_shared_interactions_and_filters(self) -> None:
        model = potential("painn")
        model.representation = PaiNN(
            8, 2, snn.GaussianRBF(8, CUTOFF), snn.MollifierCutoff(CUTOFF), shared_interactions=True, shared_filters=True
        )
        molecules = batch(CUTOFF)
        energy, forces = predictions(model.double(), molecules)
        assert_same_predictions(polarize(model, ELEMENTS), molecules, energy, forces)

    @pytest.mark.parametrize("messages", ["riding", "both_views"])
    @pytest.mark.parametrize("name", NAMES)
    def test_learns(self, name: str, messages: str) -> None:
        assert_learns(polarize(potential(name), ELEMENTS, messages), batch(CUTOFF))

    @pytest.mark.parametrize("name", NAMES)
    def test_single_precision(self, name: str) -> None:
        model, molecules = potential(name).float(), batch(CUTOFF, torch.float32)
        assert_single_precision(model, molecules, *predictions(model, molecules))

    @pytest.mark.parametrize("name", NAMES)
    def test_untouched(self, name: str) -> None:
        assert_untouched(potential(name), batch(CUTOFF))

    def test_saved(self) -> None:
        def make(seed: int) -> FineTuned:
            return polarize(potential("painn", seed), ELEMENTS)

        assert_saved(make, batch(CUTOFF))

    def test_offsets_and_means(self) -> None:
        """The sums over atoms are SchNetPack's in all their kinds."""
        model, molecules = potential("painn"), batch(CUTOFF)
        model.output_modules[0].aggregation_mode = "avg"
        model.output_modules[0].per_atom_output_key = "energies"
        model.postprocessors[1].is_extensive = False
        energy, forces = predictions(model, molecules)
        assert_same_predictions(polarize(model, ELEMENTS), molecules, energy, forces)

    @pytest.mark.parametrize("name", ["painn", "schnet"])
    def test_it_is_one_graph_for_any_number_of_atoms(self, name: str) -> None:
        assert_traced("test_schnetpack_adapter", f"polarize(potential({name!r}), ELEMENTS)")


class TestErrors:
    def test_element_that_is_not_embedded(self) -> None:
        with pytest.raises(ValueError, match=r"does not know I \(it knows H to K\)"):
            adapter.SchNetPackPaiNN(representation("painn"), ["H", "I"])

    def test_another_network(self) -> None:
        with pytest.raises(TypeError, match=r"SchNet cannot be adapted; supported: schnetpack.representation.PaiNN"):
            adapter.SchNetPackPaiNN(representation("schnet"), ELEMENTS)

    def test_input_that_is_not_known(self) -> None:
        model = potential("painn")
        model.input_modules.append(schnetpack.atomistic.FilterShortRange(3.0))
        with pytest.raises(TypeError, match=r"FilterShortRange cannot be adapted; .*PairwiseDistances and Strain"):
            polarize(model, ELEMENTS)

    def test_two_energies(self) -> None:
        model = potential("painn")
        model.output_modules[1] = schnetpack.atomistic.Atomwise(8, output_key="other")
        with pytest.raises(ValueError, match=r"name 2 energies \(energy, other\)"):
            polarize(model, ELEMENTS)
