"""What every model is to those who use it: properties by name, and forces as minus the gradient of an energy."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.architectures import look_up
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.molecules import Molecules

FORCES = "forces"
"""Name of the predictions, and of the labels, that are minus the gradient of the energy."""


@dataclass(frozen=True)
class PredictedProperty:
    """What is predicted under one name.

    Attributes:
        shape: Shape of the property of one molecule; `()` is one number.
        forces: Whether the property is an energy whose negative gradient is predicted as "forces".
        periodic: Whether the property of a periodic system is defined.
        sees_charge: Whether the property depends on the total charge of a molecule.
        dipole: Whether the property is a dipole moment, e*Angstrom.
        sees_spin: Whether the property depends on the number of unpaired electrons of a molecule.
    """

    shape: tuple[int, ...] = ()
    forces: bool = False
    periodic: bool = True
    sees_charge: bool = False
    dipole: bool = False
    sees_spin: bool = False


class Predictor(nn.Module, ABC):
    """Anything that predicts properties of molecules: what `predict`, the ASE calculator and a training loop need.

    `Model` is one, and so is `FineTuned`, a model of another package that was polarized.

    Attributes:
        knowledge: what the model was trained on, as far as it is known; None for one that knows nothing.
    """

    knowledge: TrainingKnowledge | None = None

    @property
    @abstractmethod
    def cutoff(self) -> float:
        """Distance below which nuclei are neighbours, Angstrom."""

    @property
    @abstractmethod
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols of the elements that it is for."""

    @property
    @abstractmethod
    def predictions(self) -> Mapping[str, PredictedProperty]:
        """What it predicts, by name; "forces" come with the property that has them."""

    @property
    def sees_field(self) -> bool:
        """Whether it understands `Molecules.external_field`."""
        return False

    @abstractmethod
    def compute(
        self, molecules: Molecules, names: Collection[str]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """Some of the properties, without forces, and the displacement of each moving point, Angstrom."""

    def forward(
        self, molecules: Molecules, forces: bool = True, properties: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Properties in their internal units, by name.

        Args:
            molecules: a batch; its floating-point type must be that of the model.
            forces: whether "forces" (atoms, 3), eV/Angstrom, are among them, if a property is their energy.
                They are minus the gradient of the energy, through the displacements. In training mode, and where
                `molecules.positions` require a gradient, they can be differentiated again.
            properties: names of the properties that are asked for, by default all; there are no forces without their
                energy.

        Returns:
            Tensors (molecules, ...); those of a `Model` are float64, so that reference values keep all their digits.
            Under `torch.no_grad` and `torch.inference_mode` none of them keeps a graph.

        Raises:
            ValueError: for a property that it does not predict, one that is not defined for these molecules, or a
                field that it would not see.
        """
        return self.with_displacement(molecules, forces, properties)[0]

    def with_displacement(
        self, molecules: Molecules, forces: bool = True, properties: Collection[str] | None = None
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """Properties as `forward` gives them and, from the same pass, the displacement of each moving point, Angstrom.

        Raises:
            ValueError: as `forward`.
        """
        known = self.predictions
        wanted = tuple(known) if properties is None else tuple(properties)
        if molecules.external_field is not None and not self.sees_field:
            raise ValueError(
                "external_field: this model has no response to a field, and would answer as if there were none; leave "
                "the field out, or train a model with `response: quadratic` or `response: push_dual`"
            )
        energies = [name for name in wanted if look_up(known, name, "properties").forces]
        if not energies or not forces:
            return self.compute(molecules, wanted)
        (energy,) = energies
        points: list[Tensor] = []

        def values(moved: Molecules) -> dict[str, Tensor]:
            predicted, displacement = self.compute(moved, wanted)
            points.append(displacement)
            return predicted

        predicted = with_forces(values, energy, molecules, self.training)
        (displacement,) = points
        return predicted, displacement if torch.is_grad_enabled() else displacement.detach()


def with_forces(
    values: Callable[[Molecules], dict[str, Tensor]], energy: str, molecules: Molecules, training: bool
) -> dict[str, Tensor]:
    """What a function of molecules gives, and "forces" (atoms, 3): minus the gradient of the energy among it.

    Args:
        values: the function; the energy is one number per molecule.
        energy: its name among the values.
        molecules: where it is evaluated.
        training: whether the forces are to be differentiated by weights. Where `molecules.positions` require a
            gradient they can be differentiated in any case, for the Hessian.
    """
    graph = torch.is_grad_enabled()
    with molecules.differentiable() as moved:
        predicted = values(moved)
        (gradient,) = torch.autograd.grad(
            predicted[energy].sum(),
            moved.positions,
            create_graph=graph and (training or molecules.positions.requires_grad),
            retain_graph=graph,  # the other properties share it
            allow_unused=True,
            materialize_grads=True,
        )
    if not graph:
        predicted = {name: value.detach() for name, value in predicted.items()}
    return {**predicted, FORCES: -gradient}


def predicted_names(model: Predictor) -> tuple[str, ...]:
    """Names of what a model predicts, "forces" among them where a property is their energy."""
    known = model.predictions
    return (*known, FORCES) if any(of.forces for of in known.values()) else tuple(known)
