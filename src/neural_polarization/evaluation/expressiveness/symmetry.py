"""Errors of a network's symmetries."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized


@dataclass(frozen=True)
class SymmetryErrors:
    """Symmetry errors in float64, relative to the largest compared number or, for displacements, to their limit.

    Attributes:
        rotation: Change of scalars under a rotation, and of vectors and displacements that are rotated back.
        reflection: Change under a rotation with a reflection, measured like `rotation`.
        out_of_plane: Largest displacement out of the plane of a planar molecule.
        at_centre: Larger of two errors: the displacement of an atom at an inversion centre, and the difference of the
            displacements of opposite atoms.
    """

    rotation: float
    reflection: float
    out_of_plane: float
    at_centre: float

    @staticmethod
    def worst(errors: "Sequence[SymmetryErrors]") -> "SymmetryErrors":
        """The largest error of each kind."""
        return SymmetryErrors(*(max(values) for values in zip(*map(dataclasses.astuple, errors), strict=True)))


def symmetry_errors(network: NeuralPolarization[Any]) -> SymmetryErrors:
    """Measures a network in float64 that knows the elements H and C."""
    cutoff = network.backbone.cutoff
    bent = _molecule([(0.0, 0.0, 0.0), (1.1, 0.2, -0.1), (-0.3, 1.2, 0.4), (-0.5, -0.6, 1.3), (0.9, -0.4, 1.9)], cutoff)
    proper = _rotation()
    before: Polarized = network(bent)
    planar = _molecule([(0.0, 0.0, 0.0), (1.2, 0.1, 0.0), (-0.5, 1.0, 0.0), (-0.6, -1.1, 0.0), (2.0, 1.0, 0.0)], cutoff)
    half = [(1.1, 0.3, -0.2), (-0.2, 1.2, 0.4)]
    centred = _molecule([(0.0, 0.0, 0.0), *half, *((-x, -y, -z) for x, y, z in half)], cutoff)
    limit = network.limit
    turned = network(planar.with_positions(planar.positions @ proper.T))
    heights = turned.trajectory @ proper[:, 2]
    pairs = network(centred).trajectory
    opposite = pairs[:, 1:3] + pairs[:, 3:5]
    return SymmetryErrors(
        rotation=_turned(network, bent, before, proper),
        reflection=_turned(network, bent, before, -proper),
        out_of_plane=float(heights.abs().max()) / limit,
        at_centre=max(float(pairs[:, 0].abs().max()), float(opposite.abs().max())) / limit,
    )


def _turned(network: NeuralPolarization[Any], molecules: Molecules, before: Polarized, turn: Tensor) -> float:
    after: Polarized = network(molecules.with_positions(molecules.positions @ turn.T))
    errors = [_relative(after.scalars, before.scalars)]
    errors.append(float((after.trajectory - before.trajectory @ turn.T).abs().max()) / network.limit)
    if before.vectors is not None and after.vectors is not None:
        errors.append(_relative(after.vectors, torch.einsum("xy,nyc->nxc", turn, before.vectors)))
    return max(errors)


def _relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max()) / max(float(expected.abs().max()), 1e-3)


def _rotation() -> Tensor:
    """A rotation about a general axis."""
    cos1, sin1, cos2, sin2 = math.cos(0.7), math.sin(0.7), math.cos(1.9), math.sin(1.9)
    about_z = torch.tensor([[cos1, -sin1, 0.0], [sin1, cos1, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    about_x = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos2, -sin2], [0.0, sin2, cos2]], dtype=torch.float64)
    return about_z @ about_x @ about_z


def _molecule(positions: Sequence[tuple[float, float, float]], cutoff: float) -> Molecules:
    """A molecule of one carbon atom, which comes first, and hydrogen atoms."""
    numbers = torch.tensor([6, *([1] * (len(positions) - 1))])
    return Molecules.from_arrays(numbers, torch.tensor(positions, dtype=torch.float64), cutoff)
