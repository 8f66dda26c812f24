"""Equivariant networks written here, one file each, and the protocol that they offer."""

from neural_polarization.backbones.egnn import EGNN
from neural_polarization.backbones.painn import PaiNN
from neural_polarization.backbones.protocol import Backbone, Layer, Split
from neural_polarization.backbones.schnet import SchNet

__all__ = ["EGNN", "Backbone", "Layer", "PaiNN", "SchNet", "Split"]
