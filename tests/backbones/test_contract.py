"""The public contract, for every backbone that is written here."""

from neural_polarization.backbones import EGNN, PaiNN, SchNet
from neural_polarization.polarization import Lengths
from neural_polarization.testing import BackboneContract


class TestPaiNN(BackboneContract):
    def make_backbone(self, num_species: int) -> PaiNN:
        return PaiNN(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8)


class TestPaiNNOfDirections(TestPaiNN):
    lengths = Lengths.NUCLEAR


class TestSchNet(BackboneContract):
    def make_backbone(self, num_species: int) -> SchNet:
        return SchNet(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8)


class TestEGNN(BackboneContract):
    def make_backbone(self, num_species: int) -> EGNN:
        return EGNN(num_species, channels=8, num_layers=2, cutoff=4.0)
