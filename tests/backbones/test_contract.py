"""The public contract, for every backbone that is written here."""

import pytest
import torch

from neural_polarization.backbones import EGNN, PaiNN, SchNet
from neural_polarization.messages import Lengths
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.testing import ELEMENTS, BackboneContract, structure


class TestPaiNN(BackboneContract):
    def make_backbone(self, num_species: int) -> PaiNN:
        return PaiNN(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8)


@pytest.mark.parametrize("name", ["H2", "O"])
def test_painn_of_few_edges_is_the_same_without_gradients(name: str) -> None:
    network = NeuralPolarization(PaiNN(len(ELEMENTS), 8, 2, 4.0, 8), ELEMENTS, "plain").double()
    molecules = Molecules.from_ase(structure(name), 4.0, torch.float64)
    expected = network(molecules.with_positions(molecules.positions.clone().requires_grad_())).scalars
    with torch.no_grad():
        assert torch.allclose(network(molecules).scalars, expected, rtol=1e-12)


class TestPaiNNOfDirections(TestPaiNN):
    lengths = Lengths.NUCLEAR


class TestSchNet(BackboneContract):
    def make_backbone(self, num_species: int) -> SchNet:
        return SchNet(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8)


class TestEGNN(BackboneContract):
    def make_backbone(self, num_species: int) -> EGNN:
        return EGNN(num_species, channels=8, num_layers=2, cutoff=4.0)
