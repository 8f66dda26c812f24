"""Static polarizability from atoms and pairs of neighbours, so that distant molecules keep their own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.edges import EdgeReadout
from neural_polarization.heads.head import Head, Widths
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class BondPolarizability(Head):
    """Polarizability tensor, alpha = sum_i a_i 1 + sym(v_i (x) w_i) + sum_ij f_ij (r_i - r_j) (x) (r_i - r_j).

    a_i comes from the scalars, on top of a reference value per element; v_i and w_i are gated sums of the displacement
    and the vector features, if there are any; f_ij is what the pair of an atom and its neighbour adds along their
    line. In contrast to `Polarizability` nothing is measured from the centre of the molecule, so that the
    polarizability of a periodic cell, at a given macroscopic field, is defined too.
    """

    shape: tuple[int, ...] = (3, 3)

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.isotropic = mlp([widths.scalars, channels, 1])
        self.gates = mlp([widths.scalars, channels, 2 * (widths.vectors + 1)])
        self.along = EdgeReadout(widths.scalars, channels)

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3 3"]:
        """Polarizability volume, Angstrom^3, float64, symmetric."""
        index, count, edges = molecules.molecule_index, molecules.num_molecules, atoms.edges
        vectors = atoms.displacement.unsqueeze(-1)
        if atoms.vectors is not None:
            vectors = torch.cat([vectors, atoms.vectors], -1)
        first, second = self.gates(atoms.scalars).unsqueeze(1).chunk(2, -1)
        outer = (vectors * first).sum(-1).unsqueeze(-1) * (vectors * second).sum(-1).unsqueeze(-2)
        along = (self.along(atoms) * edges.vectors).unsqueeze(-1) * edges.vectors.unsqueeze(-2)
        of_atoms = 0.5 * (outer + outer.transpose(-1, -2)) + sum_by_index(along, edges.receivers, outer.shape[0])
        anisotropic = sum_by_index(of_atoms, index, count)
        isotropic = sum_by_index(
            self.baseline.add_to(self.isotropic(atoms.scalars).squeeze(-1), molecules.atomic_numbers), index, count
        )
        unit = torch.eye(3, dtype=torch.float64, device=isotropic.device)
        return anisotropic.to(torch.float64) * self.baseline.scale + isotropic[:, None, None] * unit

    def fit(self, values: Float[Tensor, "molecules 3 3"], composition: Float[Tensor, "molecules elements"]) -> None:
        """References of the isotropic part by least squares over the composition; scale of a component's rest."""
        isotropic = values.diagonal(dim1=-2, dim2=-1).mean(-1)
        explained = isotropic - self.baseline.fit(isotropic, composition)
        self.baseline.set_scale(values - explained[:, None, None] * torch.eye(3, dtype=values.dtype))
