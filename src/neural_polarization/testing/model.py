"""The smallest model of an energy that reads all features of a polarized network."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.predictor import Stress, with_derivatives, with_forces
from neural_polarization.properties import FORCES, STRESS


class Readout(nn.Module):
    """Energy of each atom: a perceptron of its scalars, plus a weighted sum of the squares of its vectors.

    Args:
        scalar_channels: Number of channels of `Polarized.scalars`.
        vector_channels: Number of channels of `Polarized.vectors`; 0 without vectors.
    """

    def __init__(self, scalar_channels: int, vector_channels: int) -> None:
        super().__init__()
        self.of_scalars = mlp([scalar_channels, 8, 1])
        self.of_squares = nn.Linear(vector_channels, 1, bias=False) if vector_channels else None

    def forward(self, points: Polarized) -> Float[Tensor, " atoms"]:
        """Energy of each atom."""
        energy = self.of_scalars(points.scalars)
        if self.of_squares is not None and points.vectors is not None:
            energy = energy + self.of_squares(points.vectors.square().sum(1))
        return energy.squeeze(-1)


class TinyModel(nn.Module):
    """A network, polarized or not, with an extensive energy.

    Args:
        network: The backbone inside `NeuralPolarization`.
    """

    def __init__(self, network: NeuralPolarization[Any]) -> None:
        super().__init__()
        self.network = network
        points = network.messages.points
        backbone = network.backbone
        self.readout = Readout(points * backbone.scalar_channels, points * backbone.vector_channels)

    def forward(self, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule."""
        return sum_by_index(self.readout(self.network(molecules)), molecules.molecule_index, molecules.num_molecules)

    def energy_and_forces(
        self, molecules: Molecules, create_graph: bool = False
    ) -> tuple[Float[Tensor, " molecules"], Float[Tensor, "atoms 3"]]:
        """Energy of each molecule and minus its gradient.

        Args:
            molecules: The batch.
            create_graph: Whether the forces can be differentiated, for a loss on forces.
        """
        fixed = molecules.with_positions(molecules.positions.detach())
        values = with_forces(lambda moved: {"energy": self(moved)}, "energy", fixed, create_graph)
        return (values["energy"] if create_graph else values["energy"].detach()), values[FORCES]

    def stress(self, molecules: Molecules) -> Float[Tensor, "molecules 6"]:
        """Derivative of the energy by the strain, per volume, in ASE's order."""
        values = with_derivatives(lambda moved: {"energy": self(moved)}, "energy", molecules, (Stress(),), False)
        return values[STRESS]
