"""Static polarizability as a tensor."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.head import Head, Widths, centre_of_nuclear_charge
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class Polarizability(Head):
    """Polarizability tensor, alpha = sum_i a_i 1 + sym(v_i (x) x_i) + sym(v_i (x) w_i).

    a_i comes from the scalars, plus a reference value per element. v_i and w_i are gated sums of the displacement and
    of the vector features, if there are any. x_i is the position of the atom relative to the centre of nuclear charge.

    References:
        K. T. Schütt, O. T. Unke, M. Gastegger, ICML 2021, eq. 14. The term v (x) w is ours; it needs no origin.
    """

    shape: tuple[int, ...] = (3, 3)
    periodic: bool = False
    has_references: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.isotropic = mlp([widths.scalars, channels, 1])
        self.gates = mlp([widths.scalars, channels, 2 * (widths.vectors + 1)])

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3 3"]:
        """Polarizability volume, Angstrom^3, float64, symmetric."""
        index, count = molecules.molecule_index, molecules.num_molecules
        vectors = atoms.displacement.unsqueeze(-1)
        if atoms.vectors is not None:
            vectors = torch.cat([vectors, atoms.vectors], -1)
        first, second = self.gates(atoms.scalars).unsqueeze(1).chunk(2, -1)
        v, w = (vectors * first).sum(-1), (vectors * second).sum(-1)
        arms = molecules.positions - centre_of_nuclear_charge(molecules)[index]
        outer = v.unsqueeze(-1) * (arms + w).unsqueeze(-2)
        anisotropic = sum_by_index(0.5 * (outer + outer.transpose(-1, -2)), index, count)
        of_atoms = self.baseline.add_to(self.isotropic(atoms.scalars).squeeze(-1), molecules.atomic_numbers)
        isotropic = sum_by_index(of_atoms, index, count)
        unit = torch.eye(3, dtype=torch.float64, device=isotropic.device)
        return anisotropic.to(torch.float64) * self.baseline.scale + isotropic[:, None, None] * unit

    def fit(self, values: Float[Tensor, "molecules 3 3"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Fits the references to the isotropic part by least squares; sets the scale from all components."""
        isotropic = values.diagonal(dim1=-2, dim2=-1).mean(-1)
        explained = isotropic - self.baseline.fit(isotropic, composition)
        self.baseline.set_scale(values - explained[:, None, None] * torch.eye(3, dtype=values.dtype))
