"""Small networks and models that several rooms test."""

import torch

from neural_polarization.architectures import ARCHITECTURES
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.testing import ELEMENTS, TinyModel, distorted

EVERY_HEAD = {
    "energy": HeadConfig("extensive", forces=True),
    "gap": HeadConfig("intensive"),
    "dipole": HeadConfig("dipole"),
    "mu": HeadConfig("dipole_magnitude"),
    "alpha": HeadConfig("polarizability"),
    "r2": HeadConfig("spatial_extent"),
}


def tiny(name: str, messages: Messages, dtype: torch.dtype = torch.float32) -> tuple[TinyModel, Molecules]:
    """An energy from the small form of an architecture, and two molecules."""
    architecture = ARCHITECTURES[name]
    backbone = architecture.build(architecture.presets["small"], 2 * len(ELEMENTS))
    model = TinyModel(NeuralPolarization(backbone, ELEMENTS, messages)).to(dtype)
    return model, Molecules.from_ase([distorted("CH3CH2OH"), distorted("H2CO")], backbone.cutoff, dtype)
