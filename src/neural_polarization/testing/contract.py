"""`BackboneContract`: every property that a backbone has to have, plain and polarized, as one class for pytest."""

from neural_polarization.testing.derivatives import DerivativeContract
from neural_polarization.testing.interface import InterfaceContract
from neural_polarization.testing.symmetry import SymmetryContract


class BackboneContract(SymmetryContract, DerivativeContract, InterfaceContract):
    """Tests that any backbone has to pass; subclass it in a test module and say how to build yours.

    The network should be small (a handful of channels, two or three layers): derivatives are checked by finite
    differences.

    Example:
        >>> from neural_polarization.backbones import PaiNN
        >>> class TestPaiNN(BackboneContract):
        ...     def make_backbone(self, num_species):
        ...         return PaiNN(num_species, channels=8, num_layers=2)
    """
