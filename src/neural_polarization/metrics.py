"""Errors against labels, added up batch by batch: mean absolute and root mean square."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from neural_polarization.properties import Property
from neural_polarization.units import factor


@dataclass(frozen=True)
class Error:
    """Errors of one property over a set of labels, in the property's internal unit.

    Attributes:
        mae: mean absolute error; of vectors and tensors, over components.
        rmse: root of the mean squared error, likewise.
        count: number of labels (components) that exist.
        mae_per_atom: mean of the absolute error divided by the number of atoms; None for properties of atoms.
    """

    mae: float
    rmse: float
    count: int
    mae_per_atom: float | None = None


class ErrorSums:
    """Sums of absolute and squared errors per property, in float64.

    Example:
        >>> sums = ErrorSums()
        >>> sums.add({"energy": torch.tensor([1.0, 2.0])}, {"energy": torch.tensor([1.5, float("nan")])})
        >>> sums.errors()["energy"].mae
        0.5
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(
        self,
        predictions: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        atoms_per_molecule: Tensor | None = None,
    ) -> None:
        """Adds a batch; labels that are NaN are left out.

        Args:
            predictions: per property.
            labels: per property, the same shapes.
            atoms_per_molecule: for the errors per atom.
        """
        for name, prediction in predictions.items():
            if name not in labels:
                continue
            label = labels[name].double()
            errors = torch.where(label.isnan(), 0.0, prediction.detach().double() - label)
            per_atom = errors.new_tensor(float("nan"))
            if atoms_per_molecule is not None and len(atoms_per_molecule) == len(errors):
                per_atom = (errors.abs().reshape(len(errors), -1).sum(-1) / atoms_per_molecule).sum()
            sums = torch.stack([errors.abs().sum(), errors.square().sum(), (~label.isnan()).sum().double(), per_atom])
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def reduce(self) -> None:
        """Adds up the sums of all processes of a distributed run; does nothing in an ordinary one."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for sums in self._sums.values():
                torch.distributed.all_reduce(sums)

    def errors(self) -> dict[str, Error]:
        """Errors per property, of those that have labels."""
        result: dict[str, Error] = {}
        for name, sums in self._sums.items():
            absolute, squared, count, per_atom = sums.tolist()
            if count:
                result[name] = Error(
                    mae=absolute / count,
                    rmse=(squared / count) ** 0.5,
                    count=int(count),
                    mae_per_atom=None if per_atom != per_atom else per_atom / count,
                )
        return result


def in_units(errors: Mapping[str, Error], properties: Mapping[str, Property]) -> dict[str, dict[str, float | None]]:
    """Errors in the customary units of their properties, as plain values."""
    result: dict[str, dict[str, float | None]] = {}
    for name, error in errors.items():
        size = factor(properties[name].unit)
        per_atom = None if error.mae_per_atom is None else error.mae_per_atom / size
        result[name] = asdict(Error(error.mae / size, error.rmse / size, error.count, per_atom))
    return result
