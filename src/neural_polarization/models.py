"""A network (polarized or not) with heads, made from a plain configuration."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.architectures import look_up
from neural_polarization.density import Density, Gaussians, Nuclei
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.heads import DIPOLES, HEADS, Head, Widths
from neural_polarization.heads.density import SIZES, DensityHead
from neural_polarization.heads.in_field import respond, values_in_field
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.messages import Messages
from neural_polarization.model_config import MOVES, HeadConfig, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.predictor import PredictedProperty, Predictor, predicted_names
from neural_polarization.properties import FORCES, STRESS
from neural_polarization.references import GIVEN, ISOLATED, References, references_of
from neural_polarization.response import InField, Response, make_response

__all__ = ["HeadConfig", "Model", "ModelConfig", "PolarizationConfig"]

UNSCALED_STEPS = 3
"""So many changes of the weights make a training, of which a model without scales warns."""


class Model(Predictor):
    """A representation with one head per property.

    Args:
        config: what the model is made of; kept for checkpoints with the sizes of presets written out.

    Raises:
        ValueError: for an unknown name in the configuration, or forces asked of more than one head or of one that is
            no energy.

    Example:
        >>> config = ModelConfig(("H", "C", "O"), {"energy": HeadConfig("extensive", forces=True)})
        >>> model = Model(config)
        >>> water = Molecules.from_arrays(
        ...     torch.tensor([8, 1, 1]),
        ...     torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
        ...     cutoff=model.cutoff,
        ... )
        >>> {name: tuple(value.shape) for name, value in model(water).items()}
        {'energy': (1,), 'forces': (3, 3)}
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        config = replace(config, backbone=config.backbone.resolved())
        self.config = config
        messages = Messages(config.polarization.messages)
        species = len(config.elements) * messages.points
        backbone = config.backbone.build(species, smooth=config.response is not Response.NONE)
        self.representation: NeuralPolarization[Any] = NeuralPolarization(
            backbone,
            config.elements,
            messages,
            config.polarization.limit,
            MOVES[config.polarization.move],
            config.polarization.lengths,
            config.electronic,
        )
        self.response = make_response(Response(config.response), self.representation)
        copies = messages.points
        widths = Widths(copies * backbone.scalar_channels, copies * backbone.vector_channels)
        self.heads = nn.ModuleDict(
            {
                name: look_up(HEADS, head.kind, f"heads.{name}.kind")(
                    widths, config.elements, config.backbone.size.channels
                )
                for name, head in config.heads.items()
            }
        )
        self.density_head: DensityHead | None = None
        if config.density is not None:
            size = config.backbone.size
            self.density_head = DensityHead(
                widths, config.elements, size.channels, self.cutoff, config.density.centres, SIZES[config.density.size]
            )
        with_forces = [name for name, head in config.heads.items() if head.forces]
        if len(with_forces) > 1:
            raise ValueError(
                f"heads: forces are asked of {', '.join(with_forces)}; only one property can be the energy whose "
                "gradient they are: set forces to false on the others"
            )
        self._energy = with_forces[0] if with_forces else None
        if self._energy is not None and (self.head(self._energy).shape != () or self.head(self._energy).per_atom):
            shape = "one per atom" if self.head(self._energy).per_atom else self.head(self._energy).shape
            raise ValueError(
                f"heads.{self._energy}.forces: forces are the gradient of one number per molecule, and a "
                f"{config.heads[self._energy].kind} is {shape}; set forces to false"
            )
        self.register_buffer("force_scale", torch.ones((), dtype=torch.float32))
        self._scaled = False  # whether anybody has set references and scales, or loaded them
        self._steps, self._seen_version = 0, -1  # changes of the weights between passes
        self.register_load_state_dict_post_hook(_scales_are_set)

    force_scale: Tensor

    @property
    def cutoff(self) -> float:
        """Distance below which nuclei are neighbours, Angstrom."""
        return self.representation.backbone.cutoff

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols of the elements that it is for."""
        return self.config.elements

    @property
    def predictions(self) -> Mapping[str, PredictedProperty]:
        """What each head predicts."""
        return {
            name: PredictedProperty(
                shape=self.head(name).shape,
                forces=config.forces,
                periodic=self.head(name).periodic,
                sees_charge=self.config.electronic.charge or self.head(name).sees_charge,
                sees_spin=self.config.electronic.spin,
                dipole=config.kind in DIPOLES,
                per_atom=self.head(name).per_atom,
            )
            for name, config in self.config.heads.items()
        }

    @property
    def sees_field(self) -> bool:
        """Whether it understands `Molecules.external_field`: with a response."""
        return self.response is not None

    def head(self, name: str) -> Head:
        """The head of a property."""
        return cast(Head, self.heads[name])

    def represent(self, molecules: Molecules) -> Polarized:
        """Features and displacements, before any head."""
        return self.representation(molecules)

    def forward(
        self,
        molecules: Molecules,
        forces: bool = True,
        properties: Collection[str] | None = None,
        stress: bool = False,
    ) -> dict[str, Tensor]:
        """Properties as `Predictor.forward` gives them; a training without scales is warned of."""
        if self.training and not self._scaled and not torch.compiler.is_compiling():
            self._warn_when_trained()
        return super().forward(molecules, forces, properties, stress)

    def compute(
        self, molecules: Molecules, names: Collection[str]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """Some of the properties, without forces, and the displacement of each moving point, Angstrom."""
        values: dict[str, Tensor] = {}
        if self.response is None:
            atoms = self.representation(molecules)
        else:
            field = self.config.field_names
            found = self._respond(molecules, 2 if field.polarizability in names else int(field.dipole in names))
            atoms, values = found.points, values_in_field(found, field, molecules)
        values |= {name: self.head(name)(atoms, molecules) for name in names if name not in values}
        return {name: values[name] for name in names}, atoms.displacement

    def energy(self, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule in its field, eV, float64: what `field_derivatives.born_charges` differentiates.

        Raises:
            ValueError: if the model has no response.
        """
        return self._respond(molecules, 0).energy

    def trajectory(self, molecules: Molecules) -> Float[Tensor, "steps atoms 3"]:
        """Displacements before the first layer and after every one, Angstrom, in the field of each molecule."""
        if self.response is None:
            return self.representation(molecules).trajectory
        return self._respond(molecules, 0).points.trajectory

    def _respond(self, molecules: Molecules, order: int) -> InField:
        field = self.config.field_names
        heads = self.head(field.energy), self.head(field.dipole), self.head(field.polarizability)
        return respond(self.response, self.representation, heads, molecules, order)

    def density(self, molecules: Molecules) -> Density:
        """The electron density of every molecule of a batch.

        Raises:
            ValueError: for a model without a density, a periodic system, an unknown element, or molecules in a field.
        """
        return self.density_of(self.representation(molecules), molecules)

    def density_of(self, atoms: Polarized, molecules: Molecules) -> Density:
        """The electron density from features that `represent` has given for the same molecules.

        Raises:
            ValueError: as `density`.
        """
        head = self._head_of_density()
        if molecules.external_field is not None:
            raise ValueError(
                "external_field: densities do not respond to a field, and this one would be as if there were none; "
                'leave the field out (`atoms.info["external_field"]` of a structure)'
            )
        return head(atoms, molecules)

    def with_density(
        self, molecules: Molecules, forces: bool = True, properties: Collection[str] | None = None
    ) -> tuple[dict[str, Tensor], Density]:
        """Properties as `forward` gives them and, from the same pass, the electron density of every molecule.

        Raises:
            ValueError: as `forward` and `density`.
        """
        predicted, deformation = self.with_deformation(molecules, forces, properties)
        nuclei = Nuclei.of(molecules)
        return predicted, Density((*free_atoms(nuclei), *deformation), nuclei)

    def with_deformation(
        self, molecules: Molecules, forces: bool = True, properties: Collection[str] | None = None
    ) -> tuple[dict[str, Tensor], tuple[Gaussians, ...]]:
        """The same with the density less that of free atoms, which is what is learned.

        Raises:
            ValueError: as `with_density`.
        """
        head = self._head_of_density()

        def compute(moved: Molecules, names: Collection[str]) -> tuple[dict[str, Tensor], tuple[Gaussians, ...]]:
            atoms = self.representation(moved)
            return {name: self.head(name)(atoms, moved) for name in names}, head.deformation(atoms, moved)

        predicted, deformation = self._differentiated(compute, molecules, forces, properties, stress=False)
        return predicted, deformation if torch.is_grad_enabled() else tuple(part.detach() for part in deformation)

    def _head_of_density(self) -> DensityHead:
        if self.density_head is None:
            raise ValueError(
                "this model has no electron density: displacements of a network that never saw one are no density; "
                "train one with `model.density`, or take the one of the package (--pretrained small)"
            )
        return self.density_head

    def _warn_when_trained(self) -> None:
        """Says once that a model is trained whose scales were never set: when its weights have changed a few times."""
        weight = next(self.parameters())
        if weight.is_inference() or weight._version <= self._seen_version:
            return
        self._steps += self._seen_version >= 0
        self._seen_version = weight._version
        if self._steps == UNSCALED_STEPS:
            warnings.warn(
                "a model is trained whose references and scales were never set: it has to learn total energies of "
                "thousands of eV from zero; call model.fit_scales(labels, composition) with the training labels before "
                "the first step",
                stacklevel=4,
            )

    def fit_scales(
        self,
        labels: Mapping[str, Tensor],
        composition: Float[Tensor, "molecules elements"],
        references: Mapping[str, Mapping[str, float]] | None = None,
        isolated_atoms: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Sets reference values and scales of every head from training labels, and what is known of the training.

        Args:
            labels: per property float64 (molecules, ...) or (atoms, ...), internal units, NaN where missing; "forces"
                (atoms, 3) and "stress" (molecules, 6) if there are any.
            composition: count of each of the configuration's elements in each molecule.
            references: per property, values of free atoms by element, internal unit; what is not given is fitted.
            isolated_atoms: the same from isolated atoms among the data, for elements that are not under `references`.

        Raises:
            ValueError: if a head has no label at all, except the dipole and the polarizability of a response, which
                learn from energies and forces in fields; or references are given for a property that is no sum over
                atoms or for an element that the model does not have.
        """
        given, isolated = references or {}, isolated_atoms or {}
        self._check_references(given)
        self._check_references(isolated)
        learned: dict[str, References] = {}
        for name in self.heads:
            values = labels.get(name)
            known = None if values is None else ~values.reshape(len(values), -1).isnan().any(-1)
            if values is None or known is None or not known.any():
                if name in self._learned_in_fields():
                    continue  # from energies and forces in fields; its scale stays one
                raise ValueError(
                    f"property {name!r} has no label in the training data (there are: {', '.join(labels)}); give "
                    "labels or remove its head"
                )
            head, elements = self.head(name), self.config.elements
            head.baseline.given = {**isolated.get(name, {}), **given.get(name, {})}
            head.fit(values[known].double(), (composition if head.per_atom else composition[known]).double())
            if head.has_references:
                sources = {
                    **dict.fromkeys(isolated.get(name, {}), ISOLATED),
                    **dict.fromkeys(given.get(name, {}), GIVEN),
                }
                learned[name] = references_of(elements, head.baseline.references, sources, composition[known])
        self._scaled = True
        self.knowledge = TrainingKnowledge(
            structures=len(composition),
            elements=dict(zip(self.config.elements, composition.sum(0).round().int().tolist(), strict=True)),
            references=learned,
            ranges={name: _range(labels[name]) for name in predicted_names(self) if _has_range(labels.get(name))},
            stress=self._size_of_stress(labels),
        )
        forces = labels.get(FORCES)
        if self._energy is not None and forces is not None and not forces.isnan().all():
            # One scale for the energy and its gradient: what the network adds per atom is of the size of a force
            # times one Angstrom, far above the spread of total energies divided by anything.
            self.head(self._energy).baseline.set_scale(forces[~forces.isnan()].double())
            self.force_scale.copy_(self.head(self._energy).baseline.scale)

    def _check_references(self, references: Mapping[str, Mapping[str, float]]) -> None:
        for name, values in references.items():
            if name not in self.config.heads or not self.head(name).of_atoms:
                sums = [key for key in self.config.heads if self.head(key).of_atoms]
                raise ValueError(
                    f"references: {name!r} is no property of this model that is a sum over atoms (these are: "
                    f"{', '.join(sums) or 'none'}); leave it out"
                )
            strange = [symbol for symbol in values if symbol not in self.config.elements]
            if strange:
                raise ValueError(
                    f"references.{name}: {', '.join(strange)} is not among the elements of the model "
                    f"({', '.join(self.config.elements)}); leave it out"
                )

    def _learned_in_fields(self) -> tuple[str, ...]:
        """Properties that need no labels of their own."""
        if self.response is None:
            return ()
        return self.config.field_names.dipole, self.config.field_names.polarizability

    def _size_of_stress(self, labels: Mapping[str, Tensor]) -> float | None:
        stress = labels.get(STRESS)
        if self._energy is None or stress is None or stress.isnan().all():
            return None
        return float(stress[~stress.isnan()].double().square().mean().sqrt()) or None

    def scale_of(self, name: str) -> float:
        """Size of a property's residual in the training data, its internal unit.

        Forces are in eV/Angstrom and stresses in eV/Angstrom^3. The scale of what was never learned is one.
        """
        if name == STRESS:
            return (self.knowledge.stress if self.knowledge is not None else None) or 1.0
        return float(self.force_scale if name == FORCES else self.head(name).baseline.scale)


def _has_range(labels: Tensor | None) -> bool:
    return labels is not None and labels.dim() <= 2 and not bool(labels.isnan().all())


def _range(labels: Tensor) -> tuple[float, float]:
    """Smallest and largest label; of vectors, their lengths."""
    sizes = labels.double() if labels.dim() == 1 else labels.double().norm(dim=-1)
    known = sizes[~sizes.isnan()]
    return float(known.min()), float(known.max())


def _scales_are_set(module: nn.Module, _: object) -> None:
    """Weights that are loaded bring their scales."""
    assert isinstance(module, Model)
    module._scaled = True  # pyright: ignore[reportPrivateUsage]
