"""Static polarizability as a tensor."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.heads.edges import EdgeReadout
from neural_polarization.heads.head import Head, Widths, centre_of_nuclear_charge
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized


class PolarizabilityTensor(Head):
    """Abstract: a polarizability of isotropic parts of the atoms and of anisotropic parts that a subclass adds.

    The isotropic part of an atom comes from its scalars, plus a reference value per element. Anisotropic parts are made
    of two vectors of each atom, gated sums of the displacement and of the vector features, if there are any.
    """

    shape: tuple[int, ...] = (3, 3)
    has_references: bool = True

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.isotropic = mlp([widths.scalars, channels, 1])
        self.gates = mlp([widths.scalars, channels, 2 * (widths.vectors + 1)])

    @abstractmethod
    def anisotropic(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "atoms 3 3"]:
        """What each atom adds to its isotropic part, before it is scaled; symmetric."""

    def two_vectors(self, atoms: Polarized) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Two gated sums of the displacement and the vector features of each atom."""
        vectors = atoms.displacement.unsqueeze(-1)
        if atoms.vectors is not None:
            vectors = torch.cat([vectors, atoms.vectors], -1)
        first, second = self.gates(atoms.scalars).unsqueeze(1).chunk(2, -1)
        return (vectors * first).sum(-1), (vectors * second).sum(-1)

    def forward(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "molecules 3 3"]:
        """Polarizability volume, Angstrom^3, float64, symmetric."""
        index, count = molecules.molecule_index, molecules.num_molecules
        anisotropic = sum_by_index(self.anisotropic(atoms, molecules), index, count)
        of_atoms = self.baseline.add_to(self.isotropic(atoms.scalars).squeeze(-1), molecules.atomic_numbers)
        isotropic = sum_by_index(of_atoms, index, count)
        unit = torch.eye(3, dtype=torch.float64, device=isotropic.device)
        return anisotropic.to(torch.float64) * self.baseline.scale + isotropic[:, None, None] * unit

    def fit(self, values: Float[Tensor, "molecules 3 3"], composition: Float[Tensor, "molecules elements"]) -> None:
        """Fits the references to the isotropic part by least squares; sets the scale from all components."""
        isotropic = values.diagonal(dim1=-2, dim2=-1).mean(-1)
        explained = isotropic - self.baseline.fit(isotropic, composition)
        self.baseline.set_scale(values - explained[:, None, None] * torch.eye(3, dtype=values.dtype))


class Polarizability(PolarizabilityTensor):
    """Polarizability of a molecule, alpha = sum_i a_i 1 + sym(v_i (x) x_i) + sym(v_i (x) w_i).

    a_i are the isotropic parts and v_i and w_i the vectors of `PolarizabilityTensor`. x_i is the position of the atom
    relative to the centre of nuclear charge.

    References:
        K. T. Schütt, O. T. Unke, M. Gastegger, ICML 2021, eq. 14. The term v (x) w is ours; it needs no origin.
    """

    periodic: bool = False

    def anisotropic(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "atoms 3 3"]:
        """The last two terms."""
        v, w = self.two_vectors(atoms)
        arms = molecules.positions - centre_of_nuclear_charge(molecules)[molecules.molecule_index]
        return _symmetric(v, arms + w)


class BondPolarizability(PolarizabilityTensor):
    """Polarizability of atoms and bonds, alpha = sum_i a_i 1 + sym(v_i (x) w_i) + sum_ij f_ij r_ij (x) r_ij.

    a_i are the isotropic parts and v_i and w_i the vectors of `PolarizabilityTensor`. f_ij is what the pair of an atom
    and its neighbour adds along their line r_ij. In contrast to `Polarizability` nothing is measured from the centre of
    the molecule, so that distant molecules keep their own polarizabilities, and that of a periodic cell, at a given
    macroscopic field, is defined too.
    """

    def __init__(self, widths: Widths, elements: Sequence[str], channels: int) -> None:
        super().__init__(widths, elements, channels)
        self.along = EdgeReadout(widths.scalars, channels)

    def anisotropic(self, atoms: Polarized, molecules: Molecules) -> Float[Tensor, "atoms 3 3"]:
        """The last two terms."""
        of_atoms, edges = _symmetric(*self.two_vectors(atoms)), atoms.edges
        along = (self.along(atoms) * edges.vectors).unsqueeze(-1) * edges.vectors.unsqueeze(-2)
        return of_atoms + sum_by_index(along, edges.receivers, of_atoms.shape[0])


def _symmetric(v: Float[Tensor, "atoms 3"], w: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 3 3"]:
    outer = v.unsqueeze(-1) * w.unsqueeze(-2)
    return 0.5 * (outer + outer.transpose(-1, -2))
