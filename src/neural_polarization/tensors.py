"""What tensors of molecules have to be: checked before a batch is made of them."""

import math
from collections.abc import Sequence

import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.charges import check_charge, check_spin
from neural_polarization.geometry import MANY_ATOMS, all_pairs
from neural_polarization.plausibility import close_pair

CLASH = 1e-3
"""Distance (Angstrom) below which two nuclei count as being at one place, which is an error in the input."""


def check_shapes(
    atomic_numbers: Tensor,
    positions: Tensor,
    sizes: Sequence[int] | None,
    charge: Tensor | None,
    external_field: Tensor | None,
    spin: Tensor | None,
) -> None:
    """Raises for the first argument of `Molecules.from_arrays` that does not fit the others.

    Raises:
        ValueError: with the name of the argument, what was expected and what was given.
    """
    _expect("atomic_numbers", atomic_numbers, None, "one whole number per atom", floating=False)
    atoms = len(atomic_numbers)
    _expect("positions", positions, (atoms, 3), f"x, y, z for each of the {atoms} atomic_numbers")
    counts = [atoms] if sizes is None else list(sizes)
    if sum(counts) != atoms:
        raise ValueError(
            f"sizes: the molecules have {sum(counts)} atoms together, but atomic_numbers has {atoms}; give one size "
            "per molecule"
        )
    molecules = len(counts)
    each = f"each of the {molecules} molecules" if molecules > 1 else "the molecule"
    for name, value in (("charge", charge), ("spin", spin)):
        if value is not None:
            _expect(name, value, (molecules,), f"one number for {each}")
    if external_field is not None:
        _expect("external_field", external_field, (molecules, 3), f"the field along x, y and z at {each}")
        if not bool(external_field.isfinite().all()):
            row = int((~external_field.isfinite()).any(-1).nonzero()[0, 0])
            raise ValueError(f"external_field: that of molecule {row} is not finite; give V/Angstrom along x, y and z")


def _expect(name: str, value: object, shape: tuple[int, ...] | None, meaning: str, floating: bool = True) -> None:
    """Raises where an argument is no tensor of this kind and shape; without a shape it is a list."""
    kind = "floating-point" if floating else "whole"
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name}: is of type {type(value).__name__}; expected a tensor of {kind} numbers (torch.as_tensor)"
        )
    right = value.dim() == 1 if shape is None else value.shape == shape
    if not right:
        wanted = "(atoms,)" if shape is None else str(shape)
        raise ValueError(f"{name}: has shape {tuple(value.shape)}; expected {wanted}, {meaning}")
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    if value.is_floating_point() != floating or not (floating or whole):
        raise ValueError(f"{name}: has type {value.dtype}; expected {kind} numbers")


def check_states(
    atomic_numbers: Int[Tensor, " atoms"],
    sizes: Sequence[int],
    charge: Float[Tensor, " molecules"] | None,
    spin: Float[Tensor, " molecules"] | None,
) -> None:
    """Raises where a molecule cannot have its charge or its unpaired electrons.

    Args:
        atomic_numbers: of the atoms of one molecule after the other.
        sizes: number of atoms of each molecule.
        charge: total charges, e; None where all are neutral.
        spin: numbers of unpaired electrons, NaN where one is not known and None where none is; with parts of a charge
            any number is possible.

    Raises:
        DataError: as `charges.check_charge` and `charges.check_spin`.
    """
    numbers = [part.numpy() for part in atomic_numbers.cpu().split(list(sizes))]
    charges: list[float] = [0.0] * len(numbers) if charge is None else charge.tolist()
    spins: list[float] = [math.nan] * len(numbers) if spin is None else spin.tolist()
    for molecule, (of_molecule, total, unpaired) in enumerate(zip(numbers, charges, spins, strict=True)):
        check_charge("charge", total, of_molecule, f"molecule {molecule}")
        if total.is_integer() and unpaired == unpaired:
            check_spin(unpaired, of_molecule, int(total), f"molecule {molecule}")


def check_atoms(
    atomic_numbers: Int[Tensor, " atoms"],
    positions: Float[Tensor, "atoms 3"],
    sizes: Int[Tensor, " molecules"],
    molecule_index: Int[Tensor, " atoms"],
) -> None:
    """Raises for an unknown element, a position that is not finite, or two atoms at one place.

    Raises:
        ValueError: with the atoms and the remedy.
    """
    check_values(atomic_numbers, positions)
    if int(sizes.max()) >= MANY_ATOMS:
        # All pairs of many atoms are more than a machine holds.
        for number, points in enumerate(positions.detach().cpu().double().split(sizes.tolist())):
            found = close_pair(points.numpy(), limit=CLASH)
            if found is not None:
                raise ValueError(f"molecule {number}: {_clash(*found[:2])}")
        return
    clashing = all_pairs(positions.detach(), molecule_index, CLASH)
    if clashing.numel():
        receiver, sender = int(clashing[1, 0]), int(clashing[0, 0])
        raise ValueError(_clash(receiver, sender))


def check_sizes(sizes: Int[Tensor, " molecules"]) -> None:
    """Raises for a molecule without atoms.

    Raises:
        ValueError: with its number.
    """
    empty = (sizes < 1).nonzero().flatten().tolist()
    if empty or len(sizes) == 0:
        raise ValueError(f"molecule {empty[0] if empty else 0} has no atoms; leave empty molecules out")


def check_cutoff(cutoff: float) -> None:
    """Raises for a cutoff that is no positive length.

    Raises:
        ValueError: with its value.
    """
    if not cutoff > 0.0:
        raise ValueError(f"cutoff must be a positive length in Angstrom, not {cutoff}")


def check_values(atomic_numbers: Int[Tensor, " atoms"], positions: Float[Tensor, "atoms 3"]) -> None:
    """Raises for an unknown element, or a position that is not finite.

    Raises:
        ValueError: with the atom and the remedy.
    """
    unreal = ((atomic_numbers < 1) | (atomic_numbers >= len(chemical_symbols))).nonzero().flatten()
    if len(unreal):
        atom = int(unreal[0])
        raise ValueError(
            f"atom {atom} has atomic number {int(atomic_numbers[atom])}; elements are 1 to "
            f"{len(chemical_symbols) - 1}: correct the element"
        )
    broken = (~positions.isfinite().all(-1)).nonzero().flatten()
    if len(broken):
        atom = int(broken[0])
        raise ValueError(
            f"atom {atom} has position {positions[atom].tolist()}; every coordinate must be a finite number of "
            "Angstrom: repair or leave out the structure"
        )


def _clash(one: int, other: int) -> str:
    return (
        f"atoms {min(one, other)} and {max(one, other)} are at one place (closer than {CLASH} Angstrom); "
        "remove one of them"
    )
