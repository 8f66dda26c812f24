"""What all heads share: a map from features to a property, with a baseline and a scale that come from training data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization.geometry import centre_of_charge
from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules, element_table
from neural_polarization.polarization import Polarized

_ROUNDING = 1e-13
"""Of the largest label: residuals below it are rounding, in float64."""


@dataclass(frozen=True)
class Widths:
    """Numbers of channels of `Polarized.scalars` and `Polarized.vectors` that a head reads; 0 without vectors."""

    scalars: int
    vectors: int


class Baseline(nn.Module):
    """Reference value of each element, and the scale of the network's part; both always stay in float64.

    A total energy is thousands of eV, and a model's error some meV. In single precision the sum of the references alone
    would have an error as large as the model's. So casts of the model do not change these numbers.

    Attributes:
        references: Reference value of one atom of each element, in the property's internal unit.
        scale: Root mean square of the residual, in the property's internal unit.
        given: Values of elements that are known, as of isolated atoms; `fit` determines those of the others.
    """

    references: Tensor
    scale: Tensor
    _element_of: Tensor

    def __init__(self, elements: Sequence[str]) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.given: Mapping[str, float] = {}
        self.register_buffer("references", torch.zeros(len(elements), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        # The network has refused every other element before it calls a head.
        self.register_buffer("_element_of", element_table(elements).clamp(min=0), persistent=False)

    def of_atoms(self, atomic_numbers: Int[Tensor, " atoms"]) -> Float[Tensor, " atoms"]:
        """Reference value of each atom."""
        return self.references[self._element_of[atomic_numbers]]

    def add_to(
        self, residual: Float[Tensor, " atoms"], atomic_numbers: Int[Tensor, " atoms"]
    ) -> Float[Tensor, " atoms"]:
        """Contribution of each atom, float64: the network's output times the scale, plus the reference."""
        return residual.to(torch.float64) * self.scale + self.of_atoms(atomic_numbers)

    def fit(
        self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]
    ) -> Float[Tensor, " molecules"]:
        """Sets the references to the least-squares solution of `composition @ references = values`.

        Values that are `given` are kept, and the others fitted to what they leave over.

        Args:
            values: Labels, float64, finite.
            composition: Count of each element in each molecule, or any other weight of each element.

        Returns:
            The residuals, `values - composition @ references`.
        """
        # gelsd gives the minimum-norm solution where labels cannot separate elements, as in frames of one molecule.
        design = composition.to(torch.float64)
        references = torch.tensor([self.given.get(symbol, 0.0) for symbol in self.elements], dtype=torch.float64)
        fitted = torch.tensor([symbol not in self.given for symbol in self.elements])
        if fitted.any():
            rest = (values - design @ references).unsqueeze(-1)
            references[fitted] = torch.linalg.lstsq(design[:, fitted], rest, driver="gelsd").solution[:, 0]
        self.references.copy_(references)
        residual = values - design @ references
        # Where references explain every label, rounding is all that is left: it is no scale.
        return residual.where(residual.abs() > _ROUNDING * values.abs().max(), 0.0)

    def set_scale(self, residuals: Float[Tensor, "..."]) -> None:
        """Sets the scale to the root mean square of `residuals`, or to one if it is zero or there are no residuals."""
        size = residuals.square().mean().sqrt() if residuals.numel() else residuals.new_ones(())
        self.scale.fill_(float(size) if float(size) > 1e-12 else 1.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Baseline":
        exact = (self.references, self.scale)
        super()._apply(fn, recurse)
        self.references = exact[0].to(self.references.device)
        self.scale = exact[1].to(self.scale.device)
        return self


class Head(nn.Module, ABC):
    """Predicts one property of each molecule, or of each atom.

    Args:
        widths: Numbers of channels of the features that it reads.
        elements: Chemical symbols of the network's elements.
        channels: Width of the hidden layer of its readout.
    """

    shape: tuple[int, ...] = ()
    """Shape of the property of one molecule, or of one atom."""
    per_atom: bool = False
    """Whether there is one value per atom instead of one per molecule."""
    periodic: bool = True
    """Whether the property is defined for a periodic system."""
    sees_charge: bool = False
    """Whether it reads the total charge; no network does."""
    has_references: bool = False
    """Whether training sets a reference value for every element."""
    of_atoms: bool = False
    """Whether these are values of free atoms, which a user may know, because the property is a sum over atoms."""

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__()
        self.widths = widths
        self.baseline = Baseline(elements)

    @abstractmethod
    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "..."]:
        """The property in its internal unit, float64: (molecules, ...), or (atoms, ...) of a property of atoms."""

    @abstractmethod
    def fit(self, values: Float[Tensor, "..."], composition: Float[Tensor, "molecules elements"]) -> None:
        """Sets baseline and scale from training labels.

        Args:
            values: Labels in the internal unit, float64, none missing.
            composition: Count of each element in each molecule; of a property of atoms, in all molecules of the data.
        """


def centre_of_nuclear_charge(molecules: Molecules) -> Float[Tensor, "molecules 3"]:
    """Mean nuclear position weighted by nuclear charge, Angstrom: the origin that moments of charge refer to.

    Raises:
        ValueError: for periodic systems, where moments depend on which image of an atom is taken.
    """
    if molecules.shifts is not None:
        raise ValueError(
            "molecules: dipoles, polarizabilities and spatial extents of periodic systems are not defined (they would "
            "depend on which image of an atom stands in the list); ask for other properties, train heads of kinds "
            "dipole_flow and polarizability_bonds, or set `pbc` to none for a molecule"
        )
    return centre_of_charge(
        molecules.atomic_numbers, molecules.positions, molecules.molecule_index, molecules.num_molecules
    )


def check_neutral_cells(molecules: Molecules) -> None:
    """Makes sure that no system is charged in a batch that repeats.

    Where a charged cell begins decides about its polarization. Dipoles of ions have another origin than those of cells.

    Raises:
        ValueError: for a periodic system with a charge, or a molecule with a charge beside periodic systems.
    """
    if molecules.charge is None or not bool((molecules.charge != 0.0).any()):
        return
    charged = int(molecules.charge.nonzero()[0, 0])
    if molecules.shifts is not None:
        own = molecules.molecule_index[molecules.edge_index[1]] == charged
        if bool(molecules.shifts[~own].any()) and not bool(molecules.shifts[own].any()):
            raise ValueError(
                f"molecules: system {charged} has a charge and is in one batch with periodic systems, whose dipoles "
                "have another origin; put molecules with a charge and periodic systems into batches of their own (as "
                "`npol.predict` does), or leave one kind out"
            )
    raise ValueError(
        f"molecules: the polarization of a charged cell (system {charged}), and its energy in a field, depend on where "
        "the cell begins and are not defined; give a neutral cell, or set `pbc` to none for a molecule"
    )


def shares_in_molecule(raw: Float[Tensor, "atoms 1"], molecules: Molecules) -> Float[Tensor, "atoms 1"]:
    """Positive numbers whose sum over a molecule is one, from any numbers."""
    positive = nn.functional.softplus(raw)
    return (
        positive / sum_by_index(positive, molecules.molecule_index, molecules.num_molecules)[molecules.molecule_index]
    )


def atom_counts(molecules: Molecules) -> Float[Tensor, " molecules"]:
    """Number of atoms of each molecule, as a floating-point number."""
    ones = torch.ones_like(molecules.positions[:, 0])
    return sum_by_index(ones, molecules.molecule_index, molecules.num_molecules)
