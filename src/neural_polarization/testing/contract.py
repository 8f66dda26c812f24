"""`BackboneContract`: every property that a backbone has to have, plain and polarized, as one class for pytest."""

from neural_polarization.testing.derivatives import DerivativeContract
from neural_polarization.testing.interface import InterfaceContract
from neural_polarization.testing.symmetry import SymmetryContract


class BackboneContract(SymmetryContract, DerivativeContract, InterfaceContract):
    """Tests that any backbone has to pass. Subclass it in a test module and override `make_backbone`.

    The network should be small (a few channels, two or three layers), because derivatives are checked by finite
    differences.

    Example:
        >>> from neural_polarization.backbones import PaiNN
        >>> class TestPaiNN(BackboneContract):
        ...     def make_backbone(self, num_species):
        ...         return PaiNN(num_species, channels=8, num_layers=2)
    """
