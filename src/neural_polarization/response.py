"""Fields, and derivatives by fields: one energy E(R, F) that gives forces, dipole, polarizability and Born charges.

    forces          = -dE/dR
    dipole          = -dE/dF
    polarizability  = -d2E/dF2
    born_charges    =  d dipole/dR = d forces/dF (`field_derivatives`)

A uniform field F is in V/Angstrom, a polarizability is a volume in Angstrom^3. A response without a field is the
network without one, bit for bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges, bound
from neural_polarization.messages import Choice, Messages
from neural_polarization.molecules import Molecules
from neural_polarization.moves import STEP, Move
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.units import COULOMB

_FIRST_PUSH = 0.02
"""Standard deviation of a new push's gates: at 1 V/Angstrom the field moves points by thousandths of an Angstrom."""

_MIXES = 4
"""Mixes of vector channels along which a field can push."""


class Response(Choice):
    """How a model responds to a uniform electric field."""

    NONE = "none"
    """Not at all: the model refuses fields. The default."""
    QUADRATIC = "quadratic"
    """Through its heads: E = E_net - F.mu - 1/2 F.alpha.F. Any network can."""
    PUSH = "push"
    """The field also pushes the moving points, whose features every head reads."""
    PUSH_DUAL = "push_dual"
    """The same, but E_net comes from a second pass without a field."""


Readout = Callable[[Polarized, Molecules], Tensor]
"""From features to a property of each molecule, float64."""


@dataclass(frozen=True)
class Readouts:
    """What an energy in a field is made of.

    Attributes:
        energy: (molecules,), eV.
        dipole: (molecules, 3), e*Angstrom, about the origin of the coordinates: for an ion it moves with the origin.
        polarizability: (molecules, 3, 3), Angstrom^3.
    """

    energy: Readout
    dipole: Readout
    polarizability: Readout


@dataclass(frozen=True)
class InField:
    """A batch in its field.

    Attributes:
        points: Features and displacements in the field.
        energy: Energy of each molecule, eV, float64.
        dipole: -dE/dF, e*Angstrom, about the origin of the coordinates; None where it was not asked for.
        polarizability: -d2E/dF2, Angstrom^3; None where it was not asked for.
    """

    points: Polarized
    energy: Float[Tensor, " molecules"]
    dipole: Float[Tensor, "molecules 3"] | None = None
    polarizability: Float[Tensor, "molecules 3 3"] | None = None


class FieldResponse(nn.Module, ABC):
    """One energy in a field, and its derivatives by the field."""

    @abstractmethod
    def forward(
        self, network: NeuralPolarization[Any], readouts: Readouts, molecules: Molecules, order: int = 0
    ) -> InField:
        """The energy of a batch in its field.

        Args:
            network: What is polarized.
            readouts: Read its features.
            molecules: A batch; without a field it is as in a field of zero.
            order: 0 for the energy, 1 for the dipole too, 2 for the polarizability too.
        """


class Quadratic(FieldResponse):
    """E = E_net - F.mu - 1/2 F.alpha.F: forces in a field are exact, the dipole is mu + alpha F."""

    def forward(
        self, network: NeuralPolarization[Any], readouts: Readouts, molecules: Molecules, order: int = 0
    ) -> InField:
        """The energy of a batch in its field, and the derivatives, which the formula gives."""
        points = network(molecules)
        energy, field = readouts.energy(points, molecules), molecules.external_field
        if field is None and order == 0:
            return InField(points, energy)
        dipole = readouts.dipole(points, molecules)
        if field is None and order == 1:
            return InField(points, energy, dipole)
        polarizability = readouts.polarizability(points, molecules)
        if field is None:
            return InField(points, energy, dipole, polarizability)
        energy = energy + field_energy(field, dipole, polarizability)
        induced = torch.einsum("mxy,my->mx", polarizability, field.to(dipole)) / COULOMB
        return InField(points, energy, dipole + induced, polarizability)


class FieldPush(nn.Module):
    """How far a field pushes the moving points in one layer, 0.1 [a(s) F + sum_k b_k(s) U_k (U_k . F)].

    U are a few linear mixes of the vectors after the layer; a network without vectors has the first term alone.

    Args:
        scalar_channels: Width of the backbone's scalars.
        vector_channels: Width of the backbone's vectors; 0 where it has none.
    """

    def __init__(self, scalar_channels: int, vector_channels: int) -> None:
        super().__init__()
        self.along_field = nn.Linear(scalar_channels, 1)
        self.along_mixes = nn.Linear(scalar_channels, _MIXES) if vector_channels else None
        self.mix = nn.Linear(vector_channels, _MIXES, bias=False) if vector_channels else None
        for gate in (self.along_field, self.along_mixes):
            if gate is not None:
                nn.init.normal_(gate.weight, 0.0, _FIRST_PUSH / scalar_channels**0.5)
                nn.init.zeros_(gate.bias)

    def forward(self, points: PointFeatures, field: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 3"]:
        """Step of each point, Angstrom, in the field at it (V/Angstrom)."""
        step = self.along_field(points.scalars) * field
        if self.mix is not None and self.along_mixes is not None and points.vectors is not None:
            mixes = self.mix(points.vectors)
            felt = (mixes * field.unsqueeze(-1)).sum(1)
            step = step + (mixes * (self.along_mixes(points.scalars) * felt).unsqueeze(1)).sum(-1)
        return STEP * step


@dataclass(frozen=True)
class _PushedMove:
    """A network's own move of one layer, and the push of a field."""

    move: Move
    push: FieldPush
    field: Float[Tensor, "atoms 3"]

    def __call__(self, points: PointFeatures, edges: Edges) -> Float[Tensor, "atoms 3"]:
        """Step of each point, Angstrom."""
        return self.move(points, edges) + self.push(points, self.field)


class Pushed(FieldResponse, ABC):
    """A field that pushes the moving points: d_0 = bound(0.1 a_0(species) F), and a `FieldPush` in every layer.

    Dipole and polarizability are derivatives by the field, through all layers.

    Args:
        network: What is polarized.

    Raises:
        ValueError: if nothing moves in the network.
    """

    def __init__(self, network: NeuralPolarization[Any]) -> None:
        super().__init__()
        if network.messages is Messages.PLAIN:
            raise ValueError(
                "response: a field can push moving points only, and with messages 'plain' there are none; take "
                "'quadratic', or other messages"
            )
        backbone = network.backbone
        self.first = nn.Parameter(_FIRST_PUSH * torch.randn(len(network.elements)))
        self.pushes = nn.ModuleList(
            FieldPush(backbone.scalar_channels, backbone.vector_channels) for _ in network.moves
        )

    @abstractmethod
    def points(self, network: NeuralPolarization[Any], molecules: Molecules) -> tuple[Polarized, Polarized]:
        """What the energy is read from, and what all other properties are read from, in a field."""

    def pushed(self, network: NeuralPolarization[Any], molecules: Molecules) -> Polarized:
        """The network with its moving points pushed by the field of each molecule."""
        assert molecules.external_field is not None
        field = molecules.external_field[molecules.molecule_index]
        first = self.first[network.species(molecules.atomic_numbers)].unsqueeze(-1)
        moves = [
            _PushedMove(move, push, field)  # pyright: ignore[reportArgumentType]
            for move, push in zip(network.moves, self.pushes, strict=True)
        ]
        return network(molecules, bound(STEP * first * field, network.limit), moves)

    def forward(
        self, network: NeuralPolarization[Any], readouts: Readouts, molecules: Molecules, order: int = 0
    ) -> InField:
        """The energy of a batch in its field, and its derivatives by autograd."""
        if molecules.external_field is None and order == 0:
            points = network(molecules)
            return InField(points, readouts.energy(points, molecules))
        if order == 0:
            return self._energy(network, readouts, molecules)
        keep = torch.is_grad_enabled()
        with molecules.in_differentiable_field() as molecules:
            found = self._energy(network, readouts, molecules)
            assert molecules.external_field is not None
            dipole = -slope(found.energy.sum(), molecules.external_field, keep or order > 1)
            polarizability = None
            if order > 1:
                rows = [slope(dipole[:, axis].sum(), molecules.external_field, keep) for axis in range(3)]
                polarizability = COULOMB * torch.stack(rows, 1).to(torch.float64)
        found = replace(found, dipole=dipole.to(torch.float64), polarizability=polarizability)
        return found if keep else _detached(found)

    def _energy(self, network: NeuralPolarization[Any], readouts: Readouts, molecules: Molecules) -> InField:
        assert molecules.external_field is not None
        of_energy, points = self.points(network, molecules)
        dipole, polarizability = readouts.dipole(points, molecules), readouts.polarizability(points, molecules)
        of_field = field_energy(molecules.external_field, dipole, polarizability)
        return InField(points, readouts.energy(of_energy, molecules) + of_field)

    def hold_still(self) -> None:
        """Sets every push to zero, while gradients remain by which they can grow."""
        self.enlarge(0.0)

    def enlarge(self, factor: float) -> None:
        """Multiplies every push, before the bound: to study networks that nobody has trained."""
        with torch.no_grad():
            self.first.mul_(factor)
            for push in self.pushes:
                assert isinstance(push, FieldPush)
                for gate in (push.along_field, push.along_mixes):
                    if gate is not None:
                        gate.weight.mul_(factor)
                        gate.bias.mul_(factor)


class Push(Pushed):
    """Everything is read from the points in the field, the energy too."""

    def points(self, network: NeuralPolarization[Any], molecules: Molecules) -> tuple[Polarized, Polarized]:
        """The same points twice."""
        points = self.pushed(network, molecules)
        return points, points


class PushDual(Pushed):
    """The energy is read from points without a field; dipole and polarizability from points in it."""

    def points(self, network: NeuralPolarization[Any], molecules: Molecules) -> tuple[Polarized, Polarized]:
        """Points without a field, and in it."""
        return network(molecules), self.pushed(network, molecules)


def make_response(response: Response, network: NeuralPolarization[Any]) -> FieldResponse | None:
    """The response of a network; None where it has none.

    Raises:
        ValueError: for a field that would push points of a network in which nothing moves.
    """
    if response is Response.NONE:
        return None
    if response is Response.QUADRATIC:
        return Quadratic()
    return Push(network) if response is Response.PUSH else PushDual(network)


def field_energy(
    field: Float[Tensor, "molecules 3"],
    dipole: Float[Tensor, "molecules 3"],
    polarizability: Float[Tensor, "molecules 3 3"],
) -> Float[Tensor, " molecules"]:
    """Energy of a dipole and a polarizability in a field, -F.mu - 1/2 F.alpha.F / 14.39964, eV.

    Args:
        field: Electric field, V/Angstrom.
        dipole: Dipole moment, e*Angstrom.
        polarizability: Polarizability, Angstrom^3.

    Example:
        >>> along_z = torch.tensor([[0.0, 0.0, 1.0]])
        >>> field_energy(along_z, 0.5 * along_z, torch.zeros(1, 3, 3)).tolist()
        [-0.5]
    """
    field = field.to(dipole)
    return -(field * (dipole + 0.5 / COULOMB * torch.einsum("mxy,my->mx", polarizability, field))).sum(-1)


def slope(value: Tensor, by: Tensor, graph: bool) -> Tensor:
    """Gradient of a number; zero where it does not depend on `by`.

    Args:
        value: One number.
        by: What it is differentiated by.
        graph: Whether the gradient can be differentiated again.
    """
    if not value.requires_grad:
        return torch.zeros_like(by)
    (slope,) = torch.autograd.grad(
        value, by, create_graph=graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return slope


def _detached(found: InField) -> InField:
    points = found.points

    def cut(features: PointFeatures) -> PointFeatures:
        return PointFeatures(features.scalars.detach(), None if features.vectors is None else features.vectors.detach())

    fixed = cut(points.fixed)
    moving = fixed if points.moving is points.fixed else cut(points.moving)
    assert found.dipole is not None
    return InField(
        replace(points, fixed=fixed, moving=moving, trajectory=points.trajectory.detach()),
        found.energy.detach(),
        found.dipole.detach(),
        None if found.polarizability is None else found.polarizability.detach(),
    )
