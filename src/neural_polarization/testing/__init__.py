"""The public contracts: tests that any backbone has to pass before it can be polarized, and in a field (needs pytest).

from neural_polarization.testing import BackboneContract, ResponseContract

class TestMine(BackboneContract):
    def make_backbone(self, num_species):
        return MyNetwork(num_species, channels=8)

class TestMineInFields(ResponseContract):
    def make_backbone(self, num_species):
        return MyNetwork(num_species, channels=8)
"""

from neural_polarization.testing.contract import BackboneContract
from neural_polarization.testing.field_model import TinyFieldModel
from neural_polarization.testing.model import Readout, TinyModel
from neural_polarization.testing.response import ResponseContract
from neural_polarization.testing.structures import ELEMENTS, distorted, structure

__all__ = [
    "ELEMENTS",
    "BackboneContract",
    "Readout",
    "ResponseContract",
    "TinyFieldModel",
    "TinyModel",
    "distorted",
    "structure",
]
