"""From a trained model of another package to a polarized one that starts with the same predictions.

module = polarize(trained, elements=("H", "C", "O"))
module(molecules)  # {"energy", "forces"} as the trained model gives them, until training lets the points move
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neural_polarization.adapters import mace, nequip, pyg, schnetpack, torchmd
from neural_polarization.adapters.host import Parts
from neural_polarization.messages import Messages
from neural_polarization.models import FORCES
from neural_polarization.molecules import Molecules
from neural_polarization.moves import PairCouple
from neural_polarization.polarization import NeuralPolarization

HOSTS: dict[str, Callable[[nn.Module, Sequence[str], bool], Parts]] = {
    "schnetpack": schnetpack.take_apart,
    "torchmdnet": torchmd.take_apart,
    "mace": mace.take_apart,
    "nequip": nequip.take_apart,
    "torch_geometric": pyg.take_apart,
}
"""How a model is taken apart, by the package that its class comes from."""


class FineTuned(nn.Module):
    """A trained model's layers with moving points, read by the trained model's own readout.

    Moves start at zero, and so does what the two points of an atom tell each other, so that energies and forces start
    as those of the trained model; all of it has gradients from there.

    Where both points have features and exchange messages alike, the energy is the mean of what both are read as; with
    `Messages.MOVING_VIEW`, in which fixed points pass through no layer, the moving ones are read.

    Args:
        parts: the trained model, taken apart by an adapter for these messages.
        elements: chemical symbols, as given to the adapter.
        messages: which points exchange messages.
        limit: bound of the length of a displacement, Angstrom.
    """

    def __init__(self, parts: Parts, elements: Sequence[str], messages: Messages | str, limit: float) -> None:
        super().__init__()
        self.network: NeuralPolarization[Any] = NeuralPolarization(parts.backbone, elements, messages, limit)
        self.readout = parts.readout
        weight = next(self.network.parameters())  # of the backbone: its type and device
        self.network.moves.to(weight)
        self.network.couples.to(weight)
        self.network.hold_still()
        for couple in self.network.couples:
            if isinstance(couple, PairCouple):
                couple.silence()

    @property
    def cutoff(self) -> float:
        """Distance below which nuclei are neighbours, Angstrom."""
        return self.network.backbone.cutoff

    def forward(self, molecules: Molecules, forces: bool = True) -> dict[str, Tensor]:
        """Energies (molecules,) and forces (atoms, 3), in the trained model's unit of energy and Angstrom.

        Args:
            molecules: a batch; its floating-point type must be that of the model.
            forces: whether "forces", minus the gradient of the energy, are wanted. In training mode, and where
                `molecules.positions` require a gradient, they can be differentiated again.
        """
        if not forces:
            return {"energy": self._energy(molecules)}
        graph = torch.is_grad_enabled()
        with molecules.differentiable() as moved:
            energy = self._energy(moved)
            (gradient,) = torch.autograd.grad(
                energy.sum(),
                moved.positions,
                create_graph=graph and (self.training or molecules.positions.requires_grad),
                retain_graph=graph,
                allow_unused=True,
                materialize_grads=True,
            )
        return {"energy": energy if graph else energy.detach(), FORCES: -gradient}

    def _energy(self, molecules: Molecules) -> Tensor:
        points = self.network(molecules)
        energy = self.readout(points.moving, molecules)
        if points.fixed is points.moving or self.network.messages is Messages.MOVING_VIEW:
            return energy
        return 0.5 * (energy + self.readout(points.fixed, molecules))


def polarize(
    model: nn.Module, elements: Sequence[str], messages: Messages | str = Messages.RIDING, limit: float = 0.5
) -> FineTuned:
    """A polarized network that starts from a trained one, whose parameters it shares.

    Args:
        model: a whole model of SchNetPack, TorchMD-NET, MACE, NequIP or PyTorch Geometric, as its package made or
            loaded it.
        elements: chemical symbols; the model has to know them.
        messages: which points exchange messages.
        limit: bound of the length of a displacement, Angstrom.

    Raises:
        TypeError: for a model that no adapter knows.
        ValueError: for an element that the model does not know, and as `FineTuned` does.
    """
    packages = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    known = [package for package in packages if package in HOSTS]
    if not known:
        raise TypeError(
            f"model: {type(model).__module__}.{type(model).__qualname__} is of none of the packages that have an "
            f"adapter ({', '.join(HOSTS)}); write one as docs/adapters.md says"
        )
    messages = Messages(messages)
    return FineTuned(HOSTS[known[0]](model, elements, messages.two_points), elements, messages, limit)
