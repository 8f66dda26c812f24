"""The smallest energy in a field that reads everything a polarized network offers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.heads import BondPolarizability, Extensive, FlowDipole, Widths
from neural_polarization.heads.in_field import respond
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.predictor import with_forces
from neural_polarization.properties import FORCES
from neural_polarization.response import InField, Pushed, Response, make_response

_GROWN = 50.0  # the field of a new push moves points by thousandths of an Angstrom; a fault would hide


class TinyFieldModel(nn.Module):
    """A network with an energy, a dipole and a polarizability, and a response that matters.

    Args:
        network: The backbone inside `NeuralPolarization`.
        response: How it responds; with `Response.NONE` its energy is the network's.
    """

    def __init__(self, network: NeuralPolarization[Any], response: Response) -> None:
        super().__init__()
        self.network = network
        points, backbone = network.messages.points, network.backbone
        widths = Widths(points * backbone.scalar_channels, points * backbone.vector_channels)
        kinds = (Extensive, FlowDipole, BondPolarizability)
        self.of_energy, self.of_dipole, self.of_polarizability = (kind(widths, network.elements, 8) for kind in kinds)
        self.response = make_response(response, network)
        if isinstance(self.response, Pushed):
            self.response.enlarge(_GROWN)

    def energy(self, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule in its field."""
        if self.response is None:
            return self.of_energy(self.network(molecules), molecules)
        return self.respond(molecules, 0).energy

    def respond(self, molecules: Molecules, order: int = 2) -> InField:
        """Energy, and derivatives by the field, of each molecule in its field."""
        heads = self.of_energy, self.of_dipole, self.of_polarizability
        return respond(self.response, self.network, heads, molecules, order)

    def energy_and_forces(
        self, molecules: Molecules, create_graph: bool = False
    ) -> tuple[Float[Tensor, " molecules"], Float[Tensor, "atoms 3"]]:
        """Energy of each molecule in its field, and minus its gradient.

        Args:
            molecules: The batch.
            create_graph: Whether a loss of the forces is to be differentiated.
        """
        fixed = molecules.with_positions(molecules.positions.detach())
        with torch.enable_grad():
            values = with_forces(lambda moved: {"energy": self.energy(moved)}, "energy", fixed, create_graph)
        return (values["energy"] if create_graph else values["energy"].detach()), values[FORCES]
