"""Total charge and unpaired electrons as an input of any network, added to the scalars before the first layer.

    share_j = psi w_j / sum_i w_i,   w_j = softplus(q(s_j) . k(sign psi) / sqrt(channels))
    s_j    += v_j + W2 silu(W1 silu(v_j)),   v_j = share_j v(sign psi)

psi is the total charge of the molecule, or its number of unpaired electrons. Nothing is added where psi is zero.

References:
    O. T. Unke et al., "SpookyNet: Learning force fields with electronic degrees of freedom and nonlocal effects", Nat.
    Commun. 12, 7273 (2021), eqs. 9 to 11.
"""

import math
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural_polarization.layers import sum_by_index
from neural_polarization.molecules import Molecules


class ElectronicInput(StrEnum):
    """Inputs of a network about the electrons of a molecule, beside its nuclei.

    Attributes:
        NONE: Nothing: states of other charge or spin in one geometry get the same values.
        CHARGE: The total charge.
        SPIN: The number of unpaired electrons.
        CHARGE_AND_SPIN: Both.
    """

    NONE = "none"
    CHARGE = "charge"
    SPIN = "spin"
    CHARGE_AND_SPIN = "charge_and_spin"

    @property
    def charge(self) -> bool:
        """Whether the total charge is an input."""
        return self in (ElectronicInput.CHARGE, ElectronicInput.CHARGE_AND_SPIN)

    @property
    def spin(self) -> bool:
        """Whether the number of unpaired electrons is an input."""
        return self in (ElectronicInput.SPIN, ElectronicInput.CHARGE_AND_SPIN)


def total_charges(molecules: Molecules) -> Float[Tensor, " molecules"]:
    """Total charge of each molecule, e; zero where none is given."""
    if molecules.charge is None:
        return molecules.positions.new_zeros(molecules.num_molecules)
    return molecules.charge


def unpaired_electrons(molecules: Molecules) -> Float[Tensor, " molecules"]:
    """Number of unpaired electrons of each molecule; where it is not known, the lowest that its electrons allow.

    An even number of electrons can all be paired, of an odd number one is left over.

    Example:
        >>> import ase
        >>> oxygen = [ase.Atoms("O"), ase.Atoms("O", info={"charge": -1}), ase.Atoms("O", info={"spin": 2})]
        >>> unpaired_electrons(Molecules.from_ase(oxygen, cutoff=3.0)).tolist()
        [0.0, 1.0, 2.0]
    """
    charges = total_charges(molecules)
    protons = sum_by_index(molecules.atomic_numbers.to(charges), molecules.molecule_index, molecules.num_molecules)
    lowest = torch.remainder((protons - charges).round(), 2.0)
    return lowest if molecules.spin is None else torch.where(molecules.spin.isnan(), lowest, molecules.spin)


class Spread(nn.Module):
    """Spreads one number of each molecule over its atoms, and turns each atom's share into features.

    The shares of the atoms add up to the number, so that a larger molecule does not get more of it. Atoms of two
    molecules in one system share it too, however far apart they are.

    Args:
        channels: Number of scalar channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.keys = nn.Parameter(torch.randn(2, channels))
        self.values = nn.Parameter(torch.randn(2, channels))
        # Without biases zero stays zero.
        self.inner = nn.Linear(channels, channels, bias=False)
        self.outer = nn.Linear(channels, channels, bias=False)

    def forward(
        self, scalars: Float[Tensor, "points channels"], numbers: Float[Tensor, " molecules"], molecules: Molecules
    ) -> Float[Tensor, "points channels"]:
        """What is added to the scalars.

        Args:
            scalars: Features of one point of every atom before the first layer.
            numbers: Charge or unpaired electrons of each molecule.
            molecules: The batch.
        """
        index, count = molecules.molecule_index, molecules.num_molecules
        number = numbers.to(scalars)[index]
        sign = (number < 0).to(torch.long)
        likeness = (self.query(scalars) * self.keys[sign]).sum(-1) / math.sqrt(scalars.shape[-1])
        weight = nn.functional.softplus(likeness)
        share = number * weight / sum_by_index(weight, index, count)[index]
        value = share.unsqueeze(-1) * self.values[sign]
        return value + self.outer(nn.functional.silu(self.inner(nn.functional.silu(value))))


class ElectronicState(nn.Module):
    """The inputs of a network that are not nuclei, as features of its points.

    Args:
        inputs: Which of charge and spin are inputs.
        channels: Number of scalar channels of the network.
    """

    def __init__(self, inputs: ElectronicInput, channels: int) -> None:
        super().__init__()
        self.charge = Spread(channels) if inputs.charge else None
        self.spin = Spread(channels) if inputs.spin else None

    def forward(
        self, scalars: Float[Tensor, "points channels"], molecules: Molecules
    ) -> Float[Tensor, "points channels"]:
        """The scalars with charge and unpaired electrons in them; the same scalars for neutral singlets."""
        added = torch.zeros_like(scalars)
        if self.charge is not None:
            added = added + self.charge(scalars, total_charges(molecules), molecules)
        if self.spin is not None:
            added = added + self.spin(scalars, unpaired_electrons(molecules), molecules)
        return scalars + added


def make_state(inputs: ElectronicInput, channels: int) -> ElectronicState | None:
    """The inputs of a network with so many scalar channels; None where neither is an input."""
    return None if inputs is ElectronicInput.NONE else ElectronicState(inputs, channels)
