"""Dipole moments from charges that flow between neighbours, so that distant molecules keep their own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.edges import EdgeReadout
from neural_polarization.heads.head import (
    Head,
    Widths,
    centre_of_nuclear_charge,
    check_neutral_cells,
    shares_in_molecule,
)
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class FlowDipole(Head):
    """Dipole vector, mu = sum_ij f_ij (r_i - r_j) + sum_i Q w_i (r_i - c) - n_i d_i + sum_v g_v(s_i) V_iv.

    f_ij is the charge that flows from a neighbour j to i; atom i has the charge sum_j (f_ij - f_ji) + Q w_i. Neutral
    molecules out of each other's reach exchange none, whatever else is in the list, so that their dipoles add up. w_i
    are learned, positive shares of the total charge Q, which add up to one in a molecule. n_i are the electrons that
    sit on a moving point beyond those that screen its nucleus, V the vector features, gated by g; c is the centre of
    nuclear charge. f, n and V are in units of the head's scale, the size of a component in the training data.

    Shares know nothing of distance: where an ion and a neutral molecule are in one list, some of the charge is on the
    neutral one, however far away it is. Dipoles of such pairs do not add up.

    Of a neutral periodic system this is the polarization of the cell times its volume, on a branch that the flows
    choose: it depends on no image of an atom and follows the atoms smoothly, so that its changes and slopes (Born
    charges, forces in a field) are those of the crystal. The value itself is known up to a quantum of polarization
    only, and is not among the predictions unless it is asked for by name.
    """

    shape: tuple[int, ...] = (3,)
    periodic: bool = False
    sees_charge: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.flow = EdgeReadout(widths.scalars, channels)
        self.readout = mlp([widths.scalars, channels, 2])
        self.gates = mlp([widths.scalars, channels, widths.vectors]) if widths.vectors else None

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3"]:
        """Dipole, e*Angstrom, float64; of a charged molecule with respect to its centre of nuclear charge.

        Raises:
            ValueError: for a periodic system with a charge.
        """
        index, count, edges = molecules.molecule_index, molecules.num_molecules, atoms.edges
        shares, electrons = self.readout(atoms.scalars).chunk(2, -1)
        carried = sum_by_index(-self.flow(atoms) * edges.vectors, edges.receivers, molecules.positions.shape[0])
        of_atoms = carried - electrons * atoms.displacement
        if self.gates is not None and atoms.vectors is not None:
            of_atoms = of_atoms + (atoms.vectors * self.gates(atoms.scalars).unsqueeze(1)).sum(-1)
        moment = sum_by_index(of_atoms, index, count).to(torch.float64) * self.baseline.scale
        if molecules.charge is None:
            return moment
        if molecules.shifts is not None:
            check_neutral_cells(molecules)
            return moment
        arms = molecules.positions - centre_of_nuclear_charge(molecules)[index]
        of_charge = sum_by_index(shares_in_molecule(shares, molecules) * arms, index, count)
        return moment + (molecules.charge.unsqueeze(-1) * of_charge).to(torch.float64)

    def charges(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " atoms"]:
        """Charge of each atom, e, float64; those of a molecule add up to its total charge."""
        edges, flows, points = atoms.edges, self.flow(atoms).squeeze(-1), atoms.scalars.shape[0]
        gained = sum_by_index(flows, edges.receivers, points) - sum_by_index(flows, edges.senders, points)
        charges = gained.to(torch.float64) * self.baseline.scale
        if molecules.charge is None:
            return charges
        shares = shares_in_molecule(self.readout(atoms.scalars)[:, :1], molecules).squeeze(-1)
        return charges + (molecules.charge[molecules.molecule_index] * shares).to(torch.float64)

    def fit(self, values: Float[Tensor, "molecules 3"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Scale: root mean square of a component."""
        self.baseline.set_scale(values)
