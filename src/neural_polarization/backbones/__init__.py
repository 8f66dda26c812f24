"""Equivariant networks of this library, one per file, and the protocol that a backbone has to offer.

Networks of irreducible representations need e3nn and are imported from their own modules, such as `backbones.nequip`.
"""

from neural_polarization.backbones.cgcnn import CGCNN
from neural_polarization.backbones.dimenet import DimeNetPP
from neural_polarization.backbones.egnn import EGNN
from neural_polarization.backbones.gvp import GVP
from neural_polarization.backbones.painn import PaiNN
from neural_polarization.backbones.protocol import Backbone, Layer, PointFeatures
from neural_polarization.backbones.schnet import SchNet
from neural_polarization.backbones.torchmd_et import TorchMDET

__all__ = ["CGCNN", "EGNN", "GVP", "Backbone", "DimeNetPP", "Layer", "PaiNN", "PointFeatures", "SchNet", "TorchMDET"]
