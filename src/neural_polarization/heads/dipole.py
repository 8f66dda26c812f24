"""Dipole moments from charges, from the displacements of the moving points, and from vector features."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.geometry import safe_norm
from neural_polarization.heads.head import Head, Widths, atom_counts, centre_of_nuclear_charge
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized

_MAGNITUDE_EPSILON = 1e-3  # e*Angstrom (0.005 D): below it the length of a dipole turns smooth


class Dipole(Head):
    """Dipole vector, mu = sum_i q_i (r_i - c) - n_i d_i + sum_v g_v(s_i) V_iv.

    q are charges that add up to the molecule's, n the electrons that sit on a moving point beyond those that
    screen its nucleus, V the vector features, gated by g; c is the centre of nuclear charge (where the molecule
    is neutral the dipole does not depend on it). Everything learned is in units of the head's scale, the size of a
    component in the training data.

    References:
        the charges and vectors: K. T. Schütt, O. T. Unke, M. Gastegger, ICML 2021, eq. 13.
    """

    shape: tuple[int, ...] = (3,)
    periodic: bool = False
    sees_charge: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.charges = mlp([widths.scalars, channels, 2])
        self.gates = mlp([widths.scalars, channels, widths.vectors]) if widths.vectors else None

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3"]:
        """Dipole, e*Angstrom, float64; of a charged molecule with respect to its centre of nuclear charge."""
        return self.moment(atoms, molecules).to(torch.float64) * self.baseline.scale

    def moment(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3"]:
        """Dipole in units of the scale, in the network's precision."""
        index, count = molecules.molecule_index, molecules.num_molecules
        charges, electrons = self.charges(atoms.scalars).chunk(2, -1)
        surplus = sum_by_index(charges, index, count)
        if molecules.charge is not None:
            surplus = surplus - molecules.charge.unsqueeze(-1) / self.baseline.scale.to(surplus)
        charges = charges - (surplus / atom_counts(molecules).unsqueeze(-1))[index]
        arms = molecules.positions - centre_of_nuclear_charge(molecules)[index]
        of_atoms = charges * arms - electrons * atoms.displacement
        if self.gates is not None and atoms.vectors is not None:
            of_atoms = of_atoms + (atoms.vectors * self.gates(atoms.scalars).unsqueeze(1)).sum(-1)
        return sum_by_index(of_atoms, index, count)

    def fit(self, values: Float[Tensor, "molecules 3"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Scale: root mean square of a component."""
        self.baseline.set_scale(values)


class DipoleMagnitude(Head):
    """Length of the dipole vector, for data sets that have nothing else."""

    periodic: bool = False
    sees_charge: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.dipole = Dipole(widths, elements, channels)

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, " molecules"]:
        """Dipole moment, e*Angstrom, float64."""
        return safe_norm(self.dipole(atoms, molecules), _MAGNITUDE_EPSILON)

    def fit(self, values: Float[Tensor, " molecules"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Scale: root mean square."""
        self.baseline.set_scale(values)
        self.dipole.baseline.set_scale(values)
