"""Electronic spatial extent, the second moment of the electron density."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.head import Head, Widths, centre_of_nuclear_charge
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class SpatialExtent(Head):
    """Spatial extent, <R^2> = sum_i (Z_i + g_i) |r_i - c|^2 + n_i (|p_i - c|^2 - |r_i - c|^2) + a_i.

    Z_i is the nuclear charge, g_i the number of electrons that the atom has gained, n_i the number of electrons at the
    moving point p_i instead of the nucleus r_i, a_i the spread of the atom's own cloud, and c the centre of nuclear
    charge, the origin of QM9's values. g_i is learned in tenths of an electron, a_i in units of the head's scale.

    The core of an atom does not move, so n_i is learned. If all electrons moved, a shift of a hundredth of an Angstrom
    at the rim of a molecule would change <R^2> by more than the error of a trained model. This head alone would then
    decide where the points go, at the expense of all other targets (docs/method.md).
    """

    periodic: bool = False

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.readout = mlp([widths.scalars, channels, 3])

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Spatial extent, e*Angstrom^2, float64."""
        gained, moved, spread = self.readout(atoms.scalars).unbind(-1)
        arms = molecules.positions - centre_of_nuclear_charge(molecules)[molecules.molecule_index]
        electrons = molecules.atomic_numbers.to(arms) + 0.1 * gained
        displacement = atoms.displacement
        on_nuclei = electrons * arms.square().sum(-1)
        by_moving = moved * ((2.0 * arms + displacement) * displacement).sum(-1)
        contributions = (
            (on_nuclei + by_moving).to(torch.float64)
            + spread.to(torch.float64) * self.baseline.scale
            + self.baseline.of_atoms(molecules.atomic_numbers)
        )
        return sum_by_index(contributions, molecules.molecule_index, molecules.num_molecules)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Sets the scale from the labels, and leaves the references at zero.

        The nuclear term is not known here, so the scale is that of the whole label per atom without its mean. This is
        an upper bound, which only sets the unit of the loss.
        """
        per_atom = values / composition.sum(-1)
        self.baseline.set_scale(per_atom - per_atom.mean())
