"""What of a molecule can be compared with a training: composition, charge, field, periodicity, distances."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from jaxtyping import Bool, Float, Int

from neural_polarization.contacts import Contacts
from neural_polarization.electronic import total_charges, unpaired_electrons
from neural_polarization.molecules import Molecules


@final
@dataclass(frozen=True)
class Facts:
    """What can be compared with a training, per molecule of a batch.

    Attributes:
        counts: atoms by atomic number.
        charges: total charges, e.
        spins: numbers of unpaired electrons, the lowest that is possible where it is not known.
        periodic: whether a neighbour lies in another cell; a molecule in a box beyond the cutoff counts as isolated.
        fields: strengths of the electric fields, V/Angstrom; zero without one.
        contacts: pairs of neighbours within the cutoff.
    """

    counts: Int[np.ndarray, "molecules numbers"]
    charges: Float[np.ndarray, " molecules"]
    spins: Float[np.ndarray, " molecules"]
    periodic: Bool[np.ndarray, " molecules"]
    fields: Float[np.ndarray, " molecules"]
    contacts: Contacts

    @property
    def sizes(self) -> Int[np.ndarray, " molecules"]:
        """Atoms of each molecule."""
        return self.counts.sum(1)

    def compositions(self) -> list[tuple[Int[np.ndarray, " rows"], dict[str, int]]]:
        """Every composition that occurs, with the molecules that have it."""
        rows, which = np.unique(self.counts, axis=0, return_inverse=True)
        return [(np.flatnonzero(which.reshape(-1) == k), by_symbol(row)) for k, row in enumerate(rows)]

    @classmethod
    def of(cls, molecules: Molecules) -> "Facts":
        """Of a batch on any device."""
        count, owner = molecules.num_molecules, molecules.molecule_index.cpu().numpy()
        counts = np.zeros((count, len(chemical_symbols)), np.int64)
        numbers = molecules.atomic_numbers.cpu().numpy()
        np.add.at(counts, (owner, numbers), 1)
        positions = molecules.positions.detach().cpu().double().numpy()
        senders, receivers = molecules.edge_index.cpu().numpy()
        between = positions[senders] - positions[receivers]
        periodic = np.zeros(count, bool)
        if molecules.shifts is not None:
            shifts = molecules.shifts.detach().cpu().double().numpy()
            between += shifts
            periodic[owner[receivers[shifts.any(1)]]] = True
        contacts = Contacts.of(numbers, owner, molecules.edge_index.cpu().numpy(), np.sqrt((between**2).sum(1)))
        charges = np.round(total_charges(molecules).detach().cpu().double().numpy(), 6)
        spins = unpaired_electrons(molecules).detach().cpu().double().numpy()
        fields = np.zeros(count)
        if molecules.external_field is not None:
            fields = molecules.external_field.detach().cpu().double().norm(dim=-1).numpy()
        return cls(counts, charges, spins, periodic, fields, contacts)


def by_symbol(row: Int[np.ndarray, " numbers"]) -> dict[str, int]:
    """Atoms of each element, from their number by atomic number."""
    return {chemical_symbols[number]: int(row[number]) for number in np.flatnonzero(row)}


def formula_of(counts: Mapping[str, int]) -> str:
    """The formula of a composition in Hill's order.

    Example:
        >>> formula_of({"O": 1, "H": 6, "C": 2})
        'C2H6O'
    """
    present = {symbol: count for symbol, count in counts.items() if count}
    return Formula.from_dict(present).format("hill") if present else ""
