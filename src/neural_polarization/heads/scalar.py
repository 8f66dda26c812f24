"""Scalar properties that are sums or means over atoms."""

from abc import ABC
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.head import Head, Widths, atom_counts
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class Atomwise(Head, ABC):
    """Contributions of atoms: a perceptron of the scalars of each atom, plus a reference value per element."""

    has_references: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.readout = mlp([widths.scalars, channels, 1])

    def total(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Sum of the contributions of each molecule's atoms, float64."""
        contributions = self.baseline.add_to(self.readout(atoms.scalars).squeeze(-1), molecules.atomic_numbers)
        return sum_by_index(contributions, molecules.molecule_index, molecules.num_molecules)


class Extensive(Atomwise):
    """Sum of the contributions of atoms.

    It is for properties that double when the molecule does: energies, heat capacity, isotropic polarizability.
    """

    of_atoms: bool = True

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """The property in its internal unit, float64."""
        return self.total(atoms, molecules)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Fits the references to the composition by least squares, and sets the scale from the residuals."""
        self.baseline.set_scale(self.baseline.fit(values, composition))


class Intensive(Atomwise):
    """Mean of the contributions of atoms.

    It is for properties that do not change when the molecule doubles: orbital energies and gaps.
    """

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """The property in its internal unit, float64."""
        return self.total(atoms, molecules) / atom_counts(molecules)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Fits the references to the fractions of the elements by least squares; sets the scale from the residuals."""
        fractions = composition / composition.sum(-1, keepdim=True)
        self.baseline.set_scale(self.baseline.fit(values, fractions))
