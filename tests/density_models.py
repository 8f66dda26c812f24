"""A small model with a density, and molecules for it."""

import ase
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.heads.density import DensityConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig

SMALL = DensityConfig(size="small")


def density_model(
    messages: Messages = Messages.RIDING,
    density: DensityConfig | None = SMALL,
    **heads: HeadConfig,
) -> Model:
    """A PaiNN of 8 channels for H, C and O whose points move by some hundredths of an Angstrom."""
    torch.manual_seed(1)
    backbone = BackboneConfig("painn", channels=8, num_layers=2, cutoff=4.0, num_basis=6)
    model = Model(ModelConfig(("H", "C", "O"), heads, backbone, PolarizationConfig(messages), density=density))
    for move in model.representation.moves:
        move.enlarge(20.0)
    return model.eval()


def shaken(name: str) -> ase.Atoms:
    """A molecule away from its symmetry."""
    atoms = molecule(name)
    atoms.rattle(0.05, seed=3)
    return ase.Atoms(atoms.numbers, atoms.positions)
