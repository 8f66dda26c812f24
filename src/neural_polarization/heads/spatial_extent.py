"""Electronic spatial extent: the second moment of the electron density."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.head import Head, Widths, centre_of_nuclear_charge
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class SpatialExtent(Head):
    """<R^2> = sum_i (Z_i + n_i) |p_i - c|^2 + a_i: each atom's electrons sit around its moving point p_i.

    Z_i is the nuclear charge, n_i the electrons that the atom has gained, a_i the spread of its own cloud (with
    a reference value per element), and c the centre of nuclear charge, the origin of QM9's values.
    """

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.readout = mlp([widths.scalars, channels, 2])

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Spatial extent, e*Angstrom^2, float64."""
        gained, spread = self.readout(atoms.scalars).unbind(-1)
        arms = molecules.positions - centre_of_nuclear_charge(molecules)[molecules.molecule_index]
        distance2 = (arms + atoms.displacement).square().sum(-1)
        electrons = molecules.atomic_numbers.to(distance2) + 0.1 * gained
        contributions = (
            (electrons * distance2).to(torch.float64)
            + spread.to(torch.float64) * self.baseline.scale
            + self.baseline.of_atoms(molecules.atomic_numbers)
        )
        return sum_by_index(contributions, molecules.molecule_index, molecules.num_molecules)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """References and scale over the composition.

        The nuclear term is not known here, so the scale is that of the whole residual: an upper bound, which
        only sets the unit of the loss. The references are left at zero.
        """
        per_atom = values / composition.sum(-1)
        self.baseline.set_scale(per_atom - per_atom.mean())
