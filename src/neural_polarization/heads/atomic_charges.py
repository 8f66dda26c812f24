"""Charges of atoms, as of Hirshfeld's or any other partition, whose sum is the charge of the molecule."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.edges import EdgeReadout
from neural_polarization.heads.head import Head, Widths, shares_in_molecule
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class AtomicCharges(Head):
    """Charge of each atom, q_i = sum_j (f_ij - f_ji) + Q w_i.

    f_ij is the charge that flows from a neighbour j to i, in units of the head's scale, the size of a charge in the
    training data. w_i are learned, positive shares of the total charge Q, which add up to one in a molecule. So
    charges add up to the total charge exactly, and neutral molecules out of each other's reach stay neutral.
    """

    per_atom: bool = True
    sees_charge: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.flow = EdgeReadout(widths.scalars, channels)
        self.share = mlp([widths.scalars, channels, 1])

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " atoms"]:
        """Charges, e, float64."""
        edges, count = atoms.edges, molecules.num_atoms
        flows = self.flow(atoms).squeeze(-1).to(torch.float64)  # before the sums, which are then exact
        charges = sum_by_index(flows, edges.receivers, count) - sum_by_index(flows, edges.senders, count)
        charges = charges * self.baseline.scale
        if molecules.charge is None:
            return charges
        shares = shares_in_molecule(self.share(atoms.scalars).to(torch.float64), molecules).squeeze(-1)
        return charges + molecules.charge.to(torch.float64)[molecules.molecule_index] * shares

    def fit(self, values: Float[Tensor, " atoms"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Scale: root mean square of a charge; the composition is not used."""
        self.baseline.set_scale(values)
