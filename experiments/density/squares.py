"""A density that is nowhere negative: free atoms, of which a part is replaced by sums of squares.

    rho = sum_i [ core_i + (1 - x_i) valence_i + n_i sum_k |phi_ik|^2 ]

An orbital phi is a sum of s and p functions on the moving point of atom i, about the axis to a neighbour j (s and p
along it, or a pair of p across it), with coefficients from the scalars of both; others are s or p in all directions.
Products of functions on one centre are Gaussians again, of l up to 2. The orbitals of an atom have the x_i of its
valence electrons that they replace, less what its neighbours take, plus what they give: the sum is exact, and nothing
is negative.
`variants.py` trains it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.density import Gaussians, Nuclei
from neural_polarization.density.centres import OnMovingPoints, Sites
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.density.gaussians import charge_of_s, normalization, solid_harmonics
from neural_polarization.geometry import safe_norm
from neural_polarization.heads.density import BasisSize, Exponents, exponent_range
from neural_polarization.layers import BesselBasis, mlp, sum_by_index
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized

LARGEST_OF_VALENCE = 60.0
"""1/Angstrom^2: the functions of a free atom up to here are its valence."""

STEP = 0.03
"""Of the logarithm of an exponent: r^2 exp(-a r^2) is the difference of two s functions."""


class SquaresHead(nn.Module):
    """Deformation density from squares of orbitals.

    Args:
        elements: chemical symbols of the network's elements.
        scalars: channels of the features.
        channels: width of the hidden layers.
        cutoff: Angstrom.
        shells: s and p shells that orbitals are made of.
        orbitals: of each kind for every pair of neighbours.
    """

    def __init__(
        self,
        elements: Sequence[str],
        scalars: int,
        channels: int,
        cutoff: float,
        shells: tuple[int, int] = (4, 4),
        orbitals: int = 2,
    ) -> None:
        super().__init__()
        self.centres = OnMovingPoints(elements, cutoff)
        self.shells, self.orbitals = shells, orbitals
        ranges = [(0.5 * low, 0.5 * high) for low, high in map(exponent_range, elements)]
        self.exponents = Exponents(ranges, BasisSize(shells))
        self.radial = BesselBasis(12, cutoff)
        self.of_receiver = nn.Linear(scalars, channels)
        self.of_sender = nn.Linear(scalars, channels, bias=False)
        self.of_length = nn.Linear(12, channels, bias=False)
        self.filters = nn.Linear(12, channels, bias=False)
        self.readout = mlp([channels, channels, 1 + orbitals * (shells[0] + 2 * shells[1])])
        self.of_site = mlp([scalars, channels, 1 + sum(shells)])
        self.alone = nn.Parameter(torch.full((len(elements), shells[0]), 0.5))

    def deformation(self, atoms: Polarized, molecules: Molecules) -> tuple[Gaussians, ...]:
        """The squares, and minus the part of the free atoms that they replace."""
        sites = self.centres.atoms(atoms.scalars, atoms.displacement, molecules)
        lengths = safe_norm(sites.vectors)
        radial = self.radial(lengths) * sites.envelope.unsqueeze(-1)
        hidden = self.of_receiver(sites.scalars)[sites.receivers] + self.of_sender(atoms.scalars)[sites.senders]
        edges = self.readout((hidden + self.of_length(radial)) * self.filters(radial))
        replaced, *alone = self.of_site(sites.scalars).split([1, *self.shells], -1)
        alone[0] = alone[0] + self.alone[sites.kinds]
        share = torch.sigmoid(replaced[:, 0] - 1.0)
        taken, valence = self._valence(share, molecules)
        pool = share * valence
        held = pool + self._passed(edges[:, 0], pool, sites)
        return (*taken, self._squares(sites, lengths, edges[:, 1:], alone, held))

    @staticmethod
    def _valence(
        share: Float[Tensor, " atoms"], molecules: Molecules
    ) -> tuple[list[Gaussians], Float[Tensor, " atoms"]]:
        """Minus the shares of the free atoms' valence, and its electrons."""
        parts: list[Gaussians] = []
        electrons = torch.zeros_like(share)
        numbers = torch.unique(molecules.atomic_numbers).tolist()
        for number, atom in zip(numbers, free_atoms(Nuclei.of(molecules)), strict=True):
            here = (molecules.atomic_numbers == number).nonzero()[:, 0]
            outer = atom.exponents[0][0] <= LARGEST_OF_VALENCE
            exponents, coefficients = atom.exponents[0][:, outer], atom.coefficients[0][:, outer]
            of_each = (coefficients[..., 0] * charge_of_s(exponents)).sum(-1)
            electrons = electrons.index_copy(0, here, of_each.to(electrons))
            scaled = -share[here, None, None] * coefficients.to(share)
            parts.append(Gaussians(atom.centres.to(share), atom.molecule_index, (exponents.to(share),), (scaled,)))
        return parts, electrons

    @staticmethod
    def _passed(
        logits: Float[Tensor, " edges"], pool: Float[Tensor, " atoms"], sites: Sites
    ) -> Float[Tensor, " atoms"]:
        """Electrons that an atom gets less those that it gives; it never gives more than it has."""
        wishes = torch.exp(logits.clamp(max=10.0) - 3.0) * sites.envelope
        given = wishes / (1.0 + sum_by_index(wishes, sites.senders, len(pool)))[sites.senders] * pool[sites.senders]
        return sum_by_index(given, sites.receivers, len(pool)) - sum_by_index(given, sites.senders, len(pool))

    def _squares(
        self,
        sites: Sites,
        lengths: Float[Tensor, " edges"],
        amplitudes: Float[Tensor, "edges amplitudes"],
        alone: Sequence[Float[Tensor, "atoms shells"]],
        held: Float[Tensor, " atoms"],
    ) -> Gaussians:
        """Products of all pairs of functions of an atom, scaled to the electrons that it holds."""
        s_number, p_number = self.shells
        of_orbitals = amplitudes.unflatten(-1, (self.orbitals, s_number + 2 * p_number))
        s, along, across = (of_orbitals * sites.envelope.sqrt()[:, None, None]).split(
            [s_number, p_number, p_number], -1
        )
        x, y, z = (sites.vectors / lengths.unsqueeze(-1)).unbind(-1)
        harmonics = [torch.stack(values, -1) for values in solid_harmonics(x, y, z, 2)]

        def summed(values: Tensor) -> Tensor:
            return sum_by_index(values, sites.receivers, len(held))

        def product(one: Tensor, other: Tensor) -> Tensor:
            return torch.einsum("eka,ekb->eab", one, other)

        def own(values: Tensor) -> Tensor:
            return values.unsqueeze(-1) * values.unsqueeze(-2)

        of_s, of_p = self.exponents(sites.kinds)
        norm_s, norm_p = normalization(0, of_s), normalization(1, of_p)
        parallel, normal = product(along, along), product(across, across)
        ss = (summed(product(s, s)) + own(alone[0])) * own(norm_s)
        sp = summed(2.0 * product(s, along).unsqueeze(-1) * harmonics[1][:, None, None]) * (
            norm_s[:, :, None] * norm_p[:, None, :]
        ).unsqueeze(-1)
        pp = (summed(parallel / 3.0 + 2.0 / 3.0 * normal) + own(alone[1])) * own(norm_p)
        difference = (2.0 / 3.0 * (parallel - normal)).unsqueeze(-1) * harmonics[2][:, None, None]
        dd = summed(difference) * own(norm_p).unsqueeze(-1)

        one, other = torch.triu_indices(s_number, s_number)
        twice = torch.where(one == other, 1.0, 2.0)
        ss, of_ss = ss[:, one, other] * twice, of_s[:, one] + of_s[:, other]
        one, other = torch.triu_indices(p_number, p_number)
        twice = torch.where(one == other, 1.0, 2.0)
        of_pp = of_p[:, one] + of_p[:, other]
        pp, dd = pp[:, one, other] * twice / (2.0 * STEP * of_pp), dd[:, one, other] * twice.unsqueeze(-1)
        of_sp = (of_s[:, :, None] + of_p[:, None, :]).flatten(1)
        exponents = (torch.cat([of_ss, of_pp * (1.0 - STEP), of_pp * (1.0 + STEP)], -1), of_sp, of_pp)
        raw = (torch.cat([ss, pp, -pp], -1).unsqueeze(-1), sp.flatten(1, 2), dd)
        electrons = (raw[0][..., 0] * (torch.pi / exponents[0]) ** 1.5).sum(-1)
        scale = (held / electrons)[:, None, None]
        coefficients = tuple(
            scale * value / normalization(degree, exponents[degree]).unsqueeze(-1) for degree, value in enumerate(raw)
        )
        return Gaussians(sites.positions, sites.molecule_index, exponents, coefficients)
