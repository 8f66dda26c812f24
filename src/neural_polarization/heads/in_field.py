"""An energy in a field, made of the heads of a model."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.head import centre_of_nuclear_charge, check_neutral_cells
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.response import FieldResponse, InField, Readouts

DIPOLES = ("dipole", "dipole_balanced", "dipole_flow")
"""Kinds of heads that predict a dipole vector."""

POLARIZABILITIES = ("polarizability", "polarizability_bonds")
"""Kinds of heads that predict a polarizability tensor."""


@dataclass(frozen=True)
class FieldNames:
    """Names of the properties that a response is made of.

    Attributes:
        energy: Of the energy with forces.
        dipole: Of the dipole vector.
        polarizability: Of the polarizability.
    """

    energy: str
    dipole: str
    polarizability: str

    @classmethod
    def among(cls, kinds: Mapping[str, str], energies: Collection[str]) -> "FieldNames":
        """The names among a model's heads.

        Args:
            kinds: Kind of head of every property.
            energies: Properties whose negative gradients are forces.

        Raises:
            ValueError: if one of them is not there, or more than one.
        """
        dipoles = [name for name, kind in kinds.items() if kind in DIPOLES]
        tensors = [name for name, kind in kinds.items() if kind in POLARIZABILITIES]
        for what, found in (
            ("energy (with forces: true)", list(energies)),
            ("dipole (kind 'dipole_flow' or 'dipole')", dipoles),
            ("polarizability (kind 'polarizability_bonds' or 'polarizability')", tensors),
        ):
            if len(found) != 1:
                raise ValueError(
                    f"response: a response to fields needs exactly one {what} among the heads, found "
                    f"{', '.join(found) or 'none'}; correct `heads` (a dipole and a polarizability may be without "
                    "labels), or set response to 'none'"
                )
        return cls(*energies, *dipoles, *tensors)


def respond(
    response: FieldResponse | None,
    network: NeuralPolarization[Any],
    heads: tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., Tensor]],
    molecules: Molecules,
    order: int,
) -> InField:
    """The energy of a batch in its field.

    Args:
        response: Of the model.
        network: What is polarized.
        heads: Energy, dipole about the centre of nuclear charge, polarizability.
        molecules: A batch.
        order: 0 for the energy, 1 for the dipole too, 2 for the polarizability too.

    Raises:
        ValueError: if there is no response.
    """
    if response is None:
        raise ValueError(
            "response: this model has none, so that its energy has no derivatives by a field; train one with "
            "`response: quadratic` or `response: push_dual`"
        )
    energy, dipole, polarizability = heads

    def about_origin(atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3"]:
        return dipole(atoms, molecules) + _of_total_charge(molecules)

    return response(network, Readouts(energy, about_origin, polarizability), molecules, order)


def values_in_field(found: InField, names: FieldNames, molecules: Molecules) -> dict[str, Tensor]:
    """What of an energy in a field was asked for, by name; dipoles of ions about the centre of nuclear charge."""
    values = {names.energy: found.energy}
    if found.dipole is not None:
        values[names.dipole] = found.dipole - _of_total_charge(molecules)
    if found.polarizability is not None:
        values[names.polarizability] = found.polarizability
    return values


def _of_total_charge(molecules: Molecules) -> Float[Tensor, "molecules 3"] | float:
    """Dipole of the total charge at the centre of nuclear charge, e*Angstrom; zero where all are neutral.

    Raises:
        ValueError: for a periodic system with a charge.
    """
    if molecules.charge is None:
        return 0.0
    if molecules.shifts is not None:
        check_neutral_cells(molecules)
        return 0.0
    return (molecules.charge.unsqueeze(-1) * centre_of_nuclear_charge(molecules)).double()
