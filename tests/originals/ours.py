"""Our networks with the originals' weights, and what is compared: scalars, vectors and forces."""

from typing import Any

import torch
from carry import State, load, painn_from_schnetpack, schnet_from_schnetpack
from torch import Tensor

from neural_polarization.backbones import PaiNN, SchNet
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS

# Gaussians 0.5 Angstrom apart: the original keeps their width in float32, where others would be rounded.
CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS = 16, 2, 4.0, 9
ATOMIC_NUMBERS = (1, 6, 8)  # of ELEMENTS
MOLECULES = ("CH3CH2OH", "H2CCO")

TOLERANCE = 1e-9
"""Relative; our smooth norm alone changes a bond's length by 5e-11."""


def network(name: str, theirs: State) -> NeuralPolarization[Any]:
    """Our plain network in float64 with the weights of SchNetPack's.

    Args:
        name: "painn" or "schnet".
        theirs: the original's state.
    """
    backbone: PaiNN | SchNet
    if name == "painn":
        backbone = PaiNN(len(ELEMENTS), CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS).double()
        load(backbone, painn_from_schnetpack(theirs, ATOMIC_NUMBERS, NUM_LAYERS))
    else:
        backbone = SchNet(len(ELEMENTS), CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS).double()
        load(backbone, schnet_from_schnetpack(theirs, ATOMIC_NUMBERS, NUM_LAYERS))
    return NeuralPolarization(backbone, ELEMENTS, "plain")


def scalars_and_forces(
    plain: NeuralPolarization[Any], molecules: Molecules, weights: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scalars and vectors (if any), and forces of the energy sum(scalars @ weights)."""
    positions = molecules.positions.clone().requires_grad_()
    points: Polarized = plain(molecules.with_positions(positions))
    (gradient,) = torch.autograd.grad((points.scalars @ weights).sum(), positions)
    vectors = points.vectors
    return points.scalars.detach(), None if vectors is None else vectors.detach(), -gradient


def assert_equal(got: Tensor, expected: Tensor, what: str) -> None:
    """Fails unless the numbers agree to rounding."""
    error = float((got - expected).abs().max() / expected.abs().max())
    assert error < TOLERANCE, f"{what}: differs from the original's by {error:.1e} of the largest"
