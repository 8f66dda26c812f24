"""Equivariant networks written here, one file each, and the protocol that they offer."""

from neural_polarization.backbones.painn import PaiNN
from neural_polarization.backbones.protocol import Backbone, Layer, Split

__all__ = ["Backbone", "Layer", "PaiNN", "Split"]
