"""What every model is to those who use it: properties by name, and the derivatives of one energy."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.architectures import look_up
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.molecules import Molecules
from neural_polarization.properties import FORCES, STRESS, VOIGT

Extra = TypeVar("Extra")
"""What else a pass gives: displacements, or a density."""


@dataclass(frozen=True)
class PredictedProperty:
    """What is predicted under one name.

    Attributes:
        shape: Shape of the property of one molecule, or of one atom; `()` is one number.
        forces: Whether the property is an energy whose negative gradient is predicted as "forces", and whose
            derivative by the strain as "stress".
        periodic: Whether the property of a periodic system is defined.
        sees_charge: Whether the property depends on the total charge of a molecule.
        dipole: Whether the property is a dipole moment, e*Angstrom.
        sees_spin: Whether the property depends on the number of unpaired electrons of a molecule.
        per_atom: Whether there is one value per atom instead of one per molecule.
    """

    shape: tuple[int, ...] = ()
    forces: bool = False
    periodic: bool = True
    sees_charge: bool = False
    dipole: bool = False
    sees_spin: bool = False
    per_atom: bool = False


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """The model in evaluation mode within the block; after it every part is in the mode that it was in before."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:  # a part comes before those within it
            if part.training != mode:
                part.train(mode)


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
        """What it predicts, by name; "forces" and "stress" come with the property that has them."""

    @property
    def sees_field(self) -> bool:
        """Whether it understands `Molecules.external_field`."""
        return False

    @abstractmethod
    def compute(
        self, molecules: Molecules, names: Collection[str]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """Some of the properties, without derivatives, and the displacement of each moving point, Angstrom."""

    def forward(
        self,
        molecules: Molecules,
        forces: bool = True,
        properties: Collection[str] | None = None,
        stress: bool = False,
    ) -> dict[str, Tensor]:
        """Properties in their internal units, by name.

        Args:
            molecules: a batch; its floating-point type must be that of the model.
            forces: whether "forces" (atoms, 3), eV/Angstrom, are among them, if a property is their energy.
                They are minus the gradient of the energy, through the displacements. In training mode, and where
                `molecules.positions` require a gradient, they can be differentiated again.
            properties: names of the properties that are asked for, by default all; there are no forces and no stress
                without their energy.
            stress: whether "stress" (molecules, 6), eV/Angstrom^3, is among them, if a property is its energy: the
                derivative by a symmetric strain of positions and cells, through the displacements, divided by the
                volume, with ASE's sign and order (xx, yy, zz, yz, xz, xy). It is NaN for a molecule without a volume.

        Returns:
            Tensors (molecules, ...), or (atoms, ...) of properties of atoms; those of a `Model` are float64, so that
            reference values keep all their digits. Under `torch.no_grad` and `torch.inference_mode` none of them keeps
            a graph.

        Raises:
            ValueError: for a property that it does not predict, one that is not defined for these molecules, the
                stress of molecules of which none has a volume, or a field that it would not see.
        """
        return self.with_displacement(molecules, forces, properties, stress)[0]

    def with_displacement(
        self,
        molecules: Molecules,
        forces: bool = True,
        properties: Collection[str] | None = None,
        stress: bool = False,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """Properties as `forward` gives them and, from the same pass, the displacement of each moving point, Angstrom.

        Raises:
            ValueError: as `forward`.
        """
        predicted, displacement = self._differentiated(self.compute, molecules, forces, properties, stress)
        return predicted, displacement if torch.is_grad_enabled() else displacement.detach()

    def _differentiated(
        self,
        compute: Callable[[Molecules, Collection[str]], tuple[dict[str, Tensor], Extra]],
        molecules: Molecules,
        forces: bool,
        properties: Collection[str] | None,
        stress: bool,
    ) -> tuple[dict[str, Tensor], Extra]:
        """What a function gives for molecules and names, with the derivatives of the energy where they are asked for.

        Args:
            compute: some of the properties, as `compute` gives them, and something else of the same pass.
            molecules: as `forward` takes them.
            forces: likewise.
            properties: likewise.
            stress: likewise.

        Raises:
            ValueError: as `forward`.
        """
        known = self.predictions
        wanted = _wanted(known, properties)
        if molecules.external_field is not None and not self.sees_field:
            raise ValueError(
                "external_field: this model has no response to a field, and would answer as if there were none; leave "
                "the field out, or train a model with `response: quadratic` or `response: push_dual`"
            )
        energies = [name for name in wanted if known[name].forces]
        by = tuple(kind for kind, asked in ((Forces(), forces), (Stress(), stress)) if asked)
        if not energies or not by:
            return compute(molecules, wanted)
        (energy,) = energies
        others: list[Extra] = []

        def values(moved: Molecules) -> dict[str, Tensor]:
            predicted, other = compute(moved, wanted)
            others.append(other)
            return predicted

        predicted = with_derivatives(values, energy, molecules, by, self.training)
        (other,) = others
        return predicted, other


def _wanted(known: Mapping[str, PredictedProperty], properties: Collection[str] | None) -> tuple[str, ...]:
    """Names that are asked for, each once."""
    if properties is None:
        return tuple(known)
    if isinstance(properties, str):
        raise ValueError(f"properties: give a list of names such as [{properties!r}], not text")
    for name in properties:
        if name in (FORCES, STRESS) and name not in known:
            raise ValueError(
                f"properties: {name!r} is not known; choose one of {', '.join(known)} ({name} of an energy: name the "
                f"energy, with {name}=True)"
            )
        look_up(known, name, "properties")
    return tuple(dict.fromkeys(properties))


class Derivative(ABC):
    """One derivative of the energy of a batch."""

    name: ClassVar[str]
    """Of the prediction."""

    @abstractmethod
    def variable(self, molecules: Molecules) -> tuple[Molecules, Tensor]:
        """The molecules as a function of what is differentiated by, and that, in a context with gradients."""

    @abstractmethod
    def value(self, gradient: Tensor, molecules: Molecules) -> Tensor:
        """The prediction, from the gradient of the energy by the variable."""


class Forces(Derivative):
    """Minus the gradient of the energy by the nuclei, (atoms, 3), eV/Angstrom."""

    name = FORCES

    def variable(self, molecules: Molecules) -> tuple[Molecules, Tensor]:
        """The nuclei."""
        return molecules, molecules.positions

    def value(self, gradient: Tensor, molecules: Molecules) -> Tensor:
        """Minus the gradient."""
        return -gradient


class Stress(Derivative):
    """Derivative of the energy by a symmetric strain, divided by the volume, (molecules, 6), eV/Angstrom^3."""

    name = STRESS

    def variable(self, molecules: Molecules) -> tuple[Molecules, Tensor]:
        """The strain of each molecule, which is zero.

        Raises:
            ValueError: if no molecule has a volume.
        """
        if molecules.volume is None:
            raise ValueError(
                "stress: none of these molecules has a volume; give periodic systems with a cell of three lattice "
                "vectors, or do not ask for a stress"
            )
        strain = molecules.positions.new_zeros(molecules.num_molecules, 3, 3).requires_grad_()
        return molecules.strained(strain), strain

    def value(self, gradient: Tensor, molecules: Molecules) -> Tensor:
        """The gradient per volume in ASE's order; NaN where there is no volume."""
        assert molecules.volume is not None
        components = torch.stack([gradient[:, row, column] for row, column in VOIGT], -1)
        volume = molecules.volume.unsqueeze(-1)
        exists = volume > 0.0
        # The inner choice keeps the gradient of the outer one finite.
        return torch.where(exists, components / torch.where(exists, volume, 1.0), float("nan"))


def with_derivatives(
    values: Callable[[Molecules], dict[str, Tensor]],
    energy: str,
    molecules: Molecules,
    by: Sequence[Derivative],
    training: bool,
) -> dict[str, Tensor]:
    """What a function of molecules gives, and derivatives of the energy among it, all of one pass.

    Args:
        values: the function; the energy is one number per molecule.
        energy: its name among the values.
        molecules: where it is evaluated.
        by: which derivatives.
        training: whether the derivatives are to be differentiated by weights. Where `molecules.positions` require a
            gradient they can be differentiated in any case, for the Hessian.

    Raises:
        ValueError: for a derivative that is not defined for these molecules.
    """
    graph = torch.is_grad_enabled()
    with molecules.differentiable() as start:
        moved, variables = start, list[Tensor]()
        for derivative in by:
            moved, variable = derivative.variable(moved)
            variables.append(variable)
        predicted = values(moved)
        gradients = torch.autograd.grad(
            predicted[energy].sum(),
            variables,
            create_graph=graph and (training or molecules.positions.requires_grad),
            retain_graph=graph,  # the other properties share it
            allow_unused=True,
            materialize_grads=True,
        )
        found = {kind.name: kind.value(gradient, start) for kind, gradient in zip(by, gradients, strict=True)}
    if not graph:
        predicted = {name: value.detach() for name, value in predicted.items()}
    return {**predicted, **found}


def with_forces(
    values: Callable[[Molecules], dict[str, Tensor]], energy: str, molecules: Molecules, training: bool
) -> dict[str, Tensor]:
    """What a function of molecules gives, and "forces" (atoms, 3); arguments as of `with_derivatives`."""
    return with_derivatives(values, energy, molecules, (Forces(),), training)


def predicted_names(model: Predictor) -> tuple[str, ...]:
    """Names of what a model predicts; "forces" and "stress" are among them where a property is their energy."""
    known = model.predictions
    return (*known, FORCES, STRESS) if any(of.forces for of in known.values()) else tuple(known)
