"""The public contract: the tests that any backbone has to pass before it can be polarized (needs pytest).

from neural_polarization.testing import BackboneContract

class TestMine(BackboneContract):
    def make_backbone(self, num_species):
        return MyNetwork(num_species, channels=8)
"""

from neural_polarization.testing.contract import BackboneContract
from neural_polarization.testing.model import Readout, TinyModel
from neural_polarization.testing.structures import ELEMENTS, distorted, structure

__all__ = ["ELEMENTS", "BackboneContract", "Readout", "TinyModel", "distorted", "structure"]
