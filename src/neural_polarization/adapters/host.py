"""What adapters share: the parts of a trained model, and a table of species for both points of an atom."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from ase.data import atomic_numbers as atomic_number_of
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import Backbone, Split
from neural_polarization.molecules import Molecules


class EnergyReadout(nn.Module, ABC):
    """The readout of a trained model, made of the model's own modules: from features of points to energies."""

    @abstractmethod
    def forward(self, points: Split, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule in the model's own unit, from one set of features per atom."""


@dataclass(frozen=True)
class Parts:
    """A trained model taken apart: the model's energy is `readout` of what the layers of `backbone` make."""

    backbone: Backbone[Any]
    readout: EnergyReadout


class PointTable(nn.Module):
    """One row per species: the model's own row of each element, and a copy of its own for the element's moving point.

    Args:
        of_elements: the model's row of each element.
        two_points: whether moving points have features of their own, and so a row.
    """

    def __init__(self, of_elements: Float[Tensor, "elements channels"], two_points: bool) -> None:
        super().__init__()
        self.num_species = len(of_elements) * (2 if two_points else 1)
        self.moving = nn.Parameter(of_elements.detach().clone()) if two_points else None

    def forward(
        self, of_elements: Float[Tensor, "elements channels"], species: Int[Tensor, " points"]
    ) -> Float[Tensor, "points channels"]:
        """Row of each point, given the model's rows as they are now."""
        table = of_elements if self.moving is None else torch.cat([of_elements, self.moving])
        return table[species]


def numbers_of(elements: Sequence[str], largest: int, host: str) -> Int[Tensor, " elements"]:
    """Atomic number of each element.

    Args:
        elements: chemical symbols.
        largest: highest atomic number that the model can embed.
        host: what the model is called in errors.

    Raises:
        ValueError: for something that is no element, or an element that the model has no embedding of.
    """
    for symbol in elements:
        number = atomic_number_of.get(symbol, 0)
        if number == 0:
            raise ValueError(f"elements: {symbol!r} is not a chemical symbol such as 'C' or 'Cl'")
        if number > largest:
            raise ValueError(
                f"elements: {symbol} has atomic number {number}, but this {host} embeds elements up to {largest}; "
                "leave it out, or train a model that knows it"
            )
    return torch.tensor([atomic_number_of[symbol] for symbol in elements])


def host_module(name: str, extra: str) -> Any:
    """A module of another package, imported when an adapter of it is made.

    Raises:
        ImportError: naming the extra that brings the package, if it is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise ImportError(
            f"this adapter needs {package}, which does not import ({error}): pip install neural-polarization[{extra}]"
        ) from error


def unsupported(model: object, supported: str) -> TypeError:
    """The error for an object that an adapter cannot take apart."""
    return TypeError(f"{type(model).__module__}.{type(model).__qualname__} cannot be adapted; supported: {supported}")
