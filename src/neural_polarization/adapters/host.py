"""Components that adapters share: the parts of a trained model, and an embedding for both points of an atom."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from ase.data import atomic_numbers as atomic_number_of
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.backbones.protocol import Backbone, PointFeatures
from neural_polarization.molecules import Molecules


class EnergyReadout(nn.Module, ABC):
    """The readout of a trained model, made of the model's own modules: it maps features of points to energies."""

    @abstractmethod
    def forward(self, points: PointFeatures, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Energy of each molecule in the model's own unit, from one set of features per atom."""


@dataclass(frozen=True)
class Parts:
    """The two parts of a trained model: its energy is the `readout` of the features after the layers of `backbone`."""

    backbone: Backbone[Any]
    readout: EnergyReadout


class PointTable(nn.Module):
    """Embedding with one row per species: the model's row of each element, and a separate copy for its moving point.

    Args:
        of_elements: The model's row of each element.
        two_points: Whether moving points have their own features, and so their own rows.
    """

    def __init__(self, of_elements: Float[Tensor, "elements channels"], two_points: bool) -> None:
        super().__init__()
        self.num_species = len(of_elements) * (2 if two_points else 1)
        self.moving = nn.Parameter(of_elements.detach().clone()) if two_points else None

    def forward(
        self, of_elements: Float[Tensor, "elements channels"], species: Int[Tensor, " points"]
    ) -> Float[Tensor, "points channels"]:
        """Row of each point, given the present rows of the model."""
        table = of_elements if self.moving is None else torch.cat([of_elements, self.moving])
        return table[species]


def numbers_of(elements: Sequence[str], known: Sequence[int], host: str) -> Int[Tensor, " elements"]:
    """Atomic number of each element.

    Args:
        elements: Chemical symbols.
        known: Atomic numbers that the model can embed, ascending.
        host: Name of the model in errors.

    Raises:
        ValueError: for a symbol that is no element, or an element that the model cannot embed.
    """
    for symbol in elements:
        number = atomic_number_of.get(symbol, 0)
        if number == 0:
            raise ValueError(f"elements: {symbol!r} is not a chemical symbol such as 'C' or 'Cl'")
        if number not in known:
            names = [chemical_symbols[k] for k in known]
            kept = ", ".join(names) if len(names) < 15 else f"{names[0]} to {names[-1]}"
            raise ValueError(
                f"elements: this {host} does not know {symbol} (it knows {kept}); leave it out, or train a model "
                "that knows it"
            )
    return torch.tensor([atomic_number_of[symbol] for symbol in elements])


def check_neighbours(receivers: Int[Tensor, " edges"], most: int | None, host: str) -> None:
    """Refuses atoms with more neighbours than a model keeps.

    Args:
        receivers: Receivers of the messages of a layer.
        most: Largest number of neighbours that the model's own search keeps; None if it keeps all.
        host: Name of the model in errors.

    Raises:
        ValueError: for an atom with more neighbours; the message names the first one.
    """
    if most is None or torch.compiler.is_compiling():  # a traced tensor has no values to check
        return
    counts = torch.bincount(receivers)
    crowded = (counts > most).nonzero()
    if len(crowded):
        atom = int(crowded[0, 0])
        raise ValueError(
            f"atom {atom} of the batch has {int(counts[atom])} neighbours, more than the {most} that this {host} keeps "
            "of them (max_num_neighbors), so that its predictions depend on the order of atoms; give a model trained "
            "with a larger max_num_neighbors or a smaller cutoff"
        )


@dataclass(frozen=True)
class Columns:
    """The columns of the scalars "0e" and the vectors "1o" in a tensor of irreps in e3nn's layout.

    Attributes:
        scalars: Columns of the scalars.
        vectors: Columns of the vectors, (channels, 3) flattened; None without vectors.
    """

    scalars: slice
    vectors: slice | None

    @classmethod
    def of(cls, irreps: Any) -> "Columns":
        """The columns in these irreps, an `o3.Irreps` of any version of e3nn.

        Raises:
            ValueError: if there are no scalars, or if scalars or vectors are in more than one block.
        """
        blocks = list(zip(irreps, irreps.slices(), strict=True))
        scalars = [where for (_, irrep), where in blocks if (irrep.l, irrep.p) == (0, 1)]
        vectors = [where for (_, irrep), where in blocks if (irrep.l, irrep.p) == (1, -1)]
        if len(scalars) != 1 or len(vectors) > 1:
            raise ValueError(f"features {irreps} cannot be polarized: '0e' and '1o' have to be one block each")
        return cls(scalars[0], vectors[0] if vectors else None)

    @property
    def widths(self) -> tuple[int, int]:
        """Numbers of channels of scalars and of vectors."""
        vectors = 0 if self.vectors is None else (self.vectors.stop - self.vectors.start) // 3
        return self.scalars.stop - self.scalars.start, vectors

    def take(self, features: Float[Tensor, "points irreps"]) -> PointFeatures:
        """The scalars and the vectors of features."""
        vectors = None if self.vectors is None else features[:, self.vectors].unflatten(-1, (-1, 3)).transpose(1, 2)
        return PointFeatures(features[:, self.scalars], vectors)

    def put(self, features: Float[Tensor, "points irreps"], split: PointFeatures) -> Float[Tensor, "points irreps"]:
        """The features with these scalars and vectors; vectors are left out if the irreps have none."""
        joined = features.clone()
        joined[:, self.scalars] = split.scalars
        if self.vectors is not None and split.vectors is not None:
            joined[:, self.vectors] = split.vectors.transpose(1, 2).flatten(1)
        return joined


def host_module(name: str, extra: str) -> Any:
    """A module of another package, imported when an adapter for the package is made.

    Raises:
        ImportError: if the package is missing; the message names the extra that installs it.
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
