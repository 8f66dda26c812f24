"""Derivatives of an energy in a field beyond dipole and polarizability: Born charges and hyperpolarizabilities."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.molecules import Molecules
from neural_polarization.predictor import Predictor
from neural_polarization.response import slope


@runtime_checkable
class EnergyInField(Protocol):
    """What derivatives are taken of: a model with a response is one."""

    def energy(self, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule in its field, eV, float64; a graph to positions and field."""
        ...


def responding(model: Predictor) -> EnergyInField:
    """The model, if its energy has derivatives by a field.

    Raises:
        ValueError: if it has no response.
    """
    if not isinstance(model, EnergyInField) or not model.sees_field:
        raise ValueError(
            "born_charges: this model has no response to a field, and its energy no derivatives by one; train one with "
            "`response: quadratic` or `response: push_dual`"
        )
    return model


def born_charges(model: EnergyInField, molecules: Molecules) -> Float[Tensor, "atoms 3 3"]:
    """Born effective charges (atomic polar tensors), d dipole/dR = d force/dF, e.

    Args:
        model: A model with a response.
        molecules: A batch, in a field or without one.

    Returns:
        Indices (atom, direction in which it moves, component of the dipole), detached. The dipole is about a fixed
        origin, so that the charges of a molecule add up to its total charge times the unit matrix
        (`broken_sum_rule`).
    """
    with molecules.in_differentiable_field() as molecules, molecules.differentiable() as molecules:
        assert molecules.external_field is not None
        dipole = -slope(model.energy(molecules).sum(), molecules.external_field, True)
        columns = [slope(dipole[:, axis].sum(), molecules.positions, False) for axis in range(3)]
    return torch.stack(columns, -1).detach()


def broken_sum_rule(charges: Float[Tensor, "atoms 3 3"], molecules: Molecules) -> Float[Tensor, "molecules 3 3"]:
    """Sum of each molecule's Born charges less its total charge times the unit matrix, e: zero where the rule holds.

    Args:
        charges: From `born_charges`.
        molecules: The same batch.
    """
    total = charges.new_zeros(molecules.num_molecules, 3, 3).index_add(0, molecules.molecule_index, charges)
    if molecules.charge is None:
        return total
    return total - molecules.charge.to(total)[:, None, None] * torch.eye(3).to(total)


def hyperpolarizability(model: EnergyInField, molecules: Molecules) -> Float[Tensor, "molecules 3 3 3"]:
    """First hyperpolarizability, -d3E/dF3, e*Angstrom^3/V^2, detached; 1 atomic unit is 2.0013e-4 of it.

    A quadratic response has none: its energy ends with the square of the field.

    Args:
        model: A model with a response.
        molecules: A batch, in a field or without one.
    """
    with molecules.in_differentiable_field() as molecules:
        field = molecules.external_field
        assert field is not None
        dipole = -slope(model.energy(molecules).sum(), field, True)
        rows: list[Tensor] = []
        for x in range(3):
            of_dipole = slope(dipole[:, x].sum(), field, True)
            rows.append(torch.stack([slope(of_dipole[:, y].sum(), field, True) for y in range(3)], 1))
    return torch.stack(rows, 1).detach()
