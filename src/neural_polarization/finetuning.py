"""Turns a trained model of another package into a polarized model that starts with the same predictions.

module = polarize(trained, elements=("H", "C", "O"))
module(molecules)  # {"energy", "forces"} as the trained model gives them, until training lets the points move
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.adapters import mace, nequip, pyg, schnetpack, torchmd
from neural_polarization.adapters.host import Parts
from neural_polarization.heads import BondPolarizability, FieldNames, FlowDipole, Widths
from neural_polarization.heads.in_field import respond, values_in_field
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.moves import PairCouple
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.predictor import PredictedProperty, Predictor
from neural_polarization.response import InField, Response, make_response

HOSTS: dict[str, Callable[[nn.Module, Sequence[str], bool], Parts]] = {
    "schnetpack": schnetpack.take_apart,
    "torchmdnet": torchmd.take_apart,
    "mace": mace.take_apart,
    "nequip": nequip.take_apart,
    "torch_geometric": pyg.take_apart,
}
"""The function that takes a model apart, by the package of the model's class."""


ENERGY = "energy"
"""Name of the property that a polarized model of another package predicts, beside its forces."""

DIPOLE, POLARIZABILITY = "dipole", "polarizability"
"""Names of the properties that a response adds."""

_NAMES = FieldNames(ENERGY, DIPOLE, POLARIZABILITY)


class FineTuned(Predictor):
    """A trained model's layers with moving points, read by the trained model's own readout.

    The moves and the coupling of the two points of an atom start at zero, so that energies and forces start as those
    of the trained model. Both have gradients from there on.

    With `Messages.BOTH_VIEWS` the energy is the mean of the energies that the readout gives for fixed and for moving
    points. With `Messages.MOVING_VIEW`, in which fixed points pass through no layer, the moving points are read.

    With a response it has a new dipole and a new polarizability too, of kinds `dipole_flow` and `polarizability_bonds`,
    which read the trained features. Without a field, energies and forces stay those of the trained model; what a field
    adds to them means nothing until it is trained, from dipoles or from energies and forces in fields. The trained
    model's unit of energy must then be the eV.

    Args:
        parts: The trained model, taken apart by an adapter for these messages.
        elements: Chemical symbols, as given to the adapter.
        messages: Which points exchange messages.
        limit: Upper bound of the length of a displacement, Angstrom.
        response: How it responds to an electric field.

    Raises:
        ValueError: for a field that would push points that do not move.
    """

    def __init__(
        self,
        parts: Parts,
        elements: Sequence[str],
        messages: Messages | str,
        limit: float,
        response: Response | str = Response.NONE,
    ) -> None:
        super().__init__()
        self.network: NeuralPolarization[Any] = NeuralPolarization(parts.backbone, elements, messages, limit)
        self.readout = parts.readout
        self.network.hold_still()
        for couple in self.network.couples:
            if isinstance(couple, PairCouple):
                couple.silence()
        self.response = make_response(Response(response), self.network)
        self.heads = nn.ModuleDict()
        if self.response is not None:
            points, backbone = self.network.messages.points, parts.backbone
            widths = Widths(points * backbone.scalar_channels, points * backbone.vector_channels)
            self.heads[DIPOLE] = FlowDipole(widths, elements, backbone.scalar_channels)
            self.heads[POLARIZABILITY] = BondPolarizability(widths, elements, backbone.scalar_channels)
            weight = next(self.network.parameters())  # it has the backbone's type and device
            self.response.to(weight)
            self.heads.to(weight)

    @property
    def cutoff(self) -> float:
        """Distance below which nuclei are neighbours, Angstrom."""
        return self.network.backbone.cutoff

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols of the elements that the network is for."""
        return self.network.elements

    @property
    def predictions(self) -> Mapping[str, PredictedProperty]:
        """The energy with forces, in the trained model's unit and in Angstrom; with a response, what it adds."""
        energy = {ENERGY: PredictedProperty(forces=True)}
        if self.response is None:
            return energy
        return {
            **energy,
            DIPOLE: PredictedProperty(shape=(3,), periodic=False, sees_charge=True, dipole=True),
            POLARIZABILITY: PredictedProperty(shape=(3, 3)),
        }

    @property
    def sees_field(self) -> bool:
        """Whether it understands `Molecules.external_field`: with a response."""
        return self.response is not None

    def compute(
        self, molecules: Molecules, names: Collection[str]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """Some of the properties, without forces, and the displacement of each moving point, Angstrom."""
        if not names:
            return {}, self.network(molecules).displacement
        if self.response is None:
            points = self.network(molecules)
            return {ENERGY: self._read(points, molecules)}, points.displacement
        found = self._respond(molecules, 2 if POLARIZABILITY in names else int(DIPOLE in names))
        values = values_in_field(found, _NAMES, molecules)
        return {name: values[name] for name in names}, found.points.displacement

    def energy(self, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule in its field, eV: what `field_derivatives.born_charges` differentiates.

        Raises:
            ValueError: if the model has no response.
        """
        return self._respond(molecules, 0).energy

    def _respond(self, molecules: Molecules, order: int) -> InField:
        dipole, polarizability = (self.heads[name] if self.heads else self._read for name in (DIPOLE, POLARIZABILITY))
        return respond(self.response, self.network, (self._read, dipole, polarizability), molecules, order)

    def _read(self, points: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """The energy that the trained model's readout gives."""
        energy = self.readout(points.moving, molecules)
        if points.fixed is not points.moving and self.network.messages is not Messages.MOVING_VIEW:
            energy = 0.5 * (energy + self.readout(points.fixed, molecules))
        return energy


def polarize(
    model: nn.Module,
    elements: Sequence[str],
    messages: Messages | str = Messages.RIDING,
    limit: float = 0.5,
    response: Response | str = Response.NONE,
) -> FineTuned:
    """A polarized network that starts from a trained one and shares its parameters.

    Args:
        model: A whole model of SchNetPack, TorchMD-NET, MACE, NequIP or PyTorch Geometric, as its package made or
            loaded it.
        elements: Chemical symbols of elements that the model knows.
        messages: Which points exchange messages.
        limit: Upper bound of the length of a displacement, Angstrom.
        response: How it responds to an electric field; with one, its unit of energy must be the eV.

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
    return FineTuned(HOSTS[known[0]](model, elements, messages.two_points), elements, messages, limit, response)
