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
    """Contributions of atoms: a perceptron of their scalars, on top of a reference value per element."""

    has_references: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.readout = mlp([widths.scalars, channels, 1])

    def total(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Sum of the contributions of each molecule's atoms, float64."""
        contributions = self.baseline.add_to(self.readout(atoms.scalars).squeeze(-1), molecules.atomic_numbers)
        return sum_by_index(contributions, molecules.molecule_index, molecules.num_molecules)


class Extensive(Atomwise):
    """Sum over the contributions of atoms.

    For energies, heat capacity, isotropic polarizability: what doubles with two molecules.
    """

    of_atoms: bool = True

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """The property in its internal unit, float64."""
        return self.total(atoms, molecules)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """References by least squares over the composition; scale of what they leave."""
        self.baseline.set_scale(self.baseline.fit(values, composition))


class Intensive(Atomwise):
    """Mean over the contributions of atoms.

    For orbital energies and gaps: what stays with two molecules.
    """

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """The property in its internal unit, float64."""
        return self.total(atoms, molecules) / atom_counts(molecules)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """References by least squares over the fractions of the elements; scale of what they leave."""
        fractions = composition / composition.sum(-1, keepdim=True)
        self.baseline.set_scale(self.baseline.fit(values, fractions))
