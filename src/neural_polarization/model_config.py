"""What a model is made of, as plain values: network, polarization, heads, response, density."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from neural_polarization.architectures import BackboneConfig, look_up
from neural_polarization.electronic import ElectronicInput
from neural_polarization.heads import FieldNames
from neural_polarization.heads.density import DensityConfig
from neural_polarization.messages import Lengths, Messages
from neural_polarization.moves import EdgeMove, Move, RadialMove, Still, VectorMove
from neural_polarization.polarization import check_limit
from neural_polarization.properties import BORN_CHARGES, DENSITY, DISPLACEMENT, FIELD, FORCES, STRESS
from neural_polarization.response import Response


@dataclass(frozen=True)
class PolarizationConfig:
    """How the network is polarized.

    Attributes:
        messages: Which points exchange messages: "plain" is the network as it is; in "riding" an atom has one set of
            features, and the geometry is that of the moving points; in "moving_view" the moving points exchange
            messages, and a fixed point exchanges features with its own moving point alone; in "both_views" the fixed
            points exchange messages too, at twice the cost.
        limit: Upper bound of the length of a displacement, Angstrom. 0.5 is about half of the shortest bonds.
        move: What displaces the points: "vectors", "radial" (pushes along edges) or "edges" (pushes by a perceptron on
            each edge, as in version 0.1); "default" takes "vectors" or "radial", as fits the network, "still" holds
            the moving points on their nuclei.
        lengths: Lengths of the edges: "moving" takes the distance of the points, for forces and varied geometries;
            "nuclear" takes the distance of their nuclei, for molecules at equilibrium.

    Raises:
        ValueError: for a choice that is not known, or a limit that is no length.
    """

    messages: Messages = Messages.MOVING_VIEW
    limit: float = 0.5
    move: str = "default"
    lengths: Lengths = Lengths.MOVING

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", Messages(self.messages))
        object.__setattr__(self, "lengths", Lengths(self.lengths))
        check_limit(self.limit)
        look_up(MOVES, self.move, "move")


@dataclass(frozen=True)
class HeadConfig:
    """How a property is predicted.

    Attributes:
        kind: Kind of head: "extensive" sums over atoms, "intensive" averages; others are "dipole", "dipole_balanced",
            "dipole_flow", "dipole_magnitude", "polarizability", "polarizability_bonds", "spatial_extent" and, one value
            per atom, "atomic_charges". Dipoles of kinds "dipole_balanced" and "dipole_flow" and polarizabilities of
            kind "polarizability_bonds" add up for molecules far apart.
        forces: Whether the property is an energy whose negative gradient is predicted as "forces", and whose derivative
            by the strain of a cell as "stress". Data without forces can train such a model too, on energies alone.
    """

    kind: str
    forces: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """A whole model.

    Attributes:
        elements: Chemical symbols of the elements that the model is for.
        heads: How each property is predicted, by its name (see `check_head_names`).
        backbone: The network that is polarized.
        polarization: How the network is polarized.
        density: How the electron density is predicted; none if left out.
        response: How the model responds to an electric field: "none", "quadratic", "push" or "push_dual" (see
            docs/response.md). A response needs an energy with forces, a dipole and a polarizability among the heads.
        electronic: Additional inputs of the network: "none", "charge", "spin" or "charge_and_spin".

    Raises:
        ValueError: for a name that no head can have, or a response without the heads that it needs.
    """

    elements: tuple[str, ...]
    heads: Mapping[str, HeadConfig]
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    polarization: PolarizationConfig = field(default_factory=PolarizationConfig)
    response: Response = Response.NONE
    density: DensityConfig | None = None
    electronic: ElectronicInput = ElectronicInput.NONE

    def __post_init__(self) -> None:
        object.__setattr__(self, "response", Response(self.response))
        object.__setattr__(self, "electronic", ElectronicInput(self.electronic))
        check_head_names(self.heads)
        if self.response is not Response.NONE:
            self.field_names  # noqa: B018 (it raises)
            if self.density is not None:
                raise ValueError(
                    "response: a model with an electron density does not respond to fields yet; leave out `density`, "
                    "or train two models"
                )

    @property
    def field_names(self) -> FieldNames:
        """Names of the properties that a response is made of.

        Raises:
            ValueError: if one of them is not there, or more than one.
        """
        kinds = {name: head.kind for name, head in self.heads.items()}
        return FieldNames.among(kinds, [name for name, head in self.heads.items() if head.forces])


def check_head_names(names: Iterable[str]) -> None:
    """Makes sure that heads can be called like this: their names stand in keys, columns, file names and weights.

    Raises:
        ValueError: for other characters than letters, digits, `_` and `-`, or a name that means something else.

    Example:
        >>> check_head_names(["energy", "E.tot"])
        Traceback (most recent call last):
            ...
        ValueError: heads: 'E.tot' cannot be the name of a property; names have letters, digits, _ and - only: ...
    """
    of_modules = dir(nn.ModuleDict())  # torch keeps the weights of a head as an attribute of that name
    for name in names:
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(
                f"heads: {name!r} cannot be the name of a property; names have letters, digits, _ and - only: rename "
                "it, and give the name in the file as its `source` under data.properties"
            )
        if name == FORCES:
            raise ValueError(
                "heads: 'forces' have no head of their own; they are minus the gradient of an energy: set forces to "
                "true on the energy's head"
            )
        if name == STRESS:
            raise ValueError(
                "heads: a stress has no head of its own; it is a derivative of an energy: set forces to true on the "
                "energy's head, and name the labels under data.properties.stress"
            )
        if name in (DISPLACEMENT, DENSITY, BORN_CHARGES, FIELD):
            raise ValueError(
                f"heads: {name!r} cannot be the name of a property; models and data have something else under it: "
                "rename it, and give the name in the file as its `source` under data.properties"
            )
        if name in of_modules:
            raise ValueError(
                f"heads: {name!r} is reserved, as are the names of torch's modules such as values, keys, items, type "
                "and float; rename it, and give the name in the file as its `source` under data.properties"
            )


MOVES: dict[str, type[Move] | None] = {
    "default": None,
    "vectors": VectorMove,
    "radial": RadialMove,
    "edges": EdgeMove,
    "still": Still,
}
"""Every move by its name; None is the one that fits the backbone."""
