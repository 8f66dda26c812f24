"""What point the dipoles of ions refer to in a file: the dipole of a charged molecule depends on it."""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from neural_polarization.data.cache import Array
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.errors import DataError
from neural_polarization.properties import Property

Origin: TypeAlias = Literal["nuclear_charge", "mass", "coordinates"]
"""The centre of nuclear charge, which the library uses; the centre of mass; the point 0, 0, 0 of the coordinates."""

_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "nuclear_charge": "the centre of nuclear charge",
        "mass": "the centre of mass",
        "coordinates": "the point 0, 0, 0 of the coordinates",
    }
)


def about_nuclear_charge(
    source: str, name: str, kind: Property, dipoles: Array, molecules: FlatMolecules, origin: Origin | None
) -> Array:
    """Dipoles about the centre of nuclear charge, from dipoles about another point.

    mu(c) = mu(o) + Q (o - c), with the total charge Q: nothing changes for neutral molecules.

    Args:
        source: what errors begin with.
        name: of the property.
        kind: its shape.
        dipoles: e*Angstrom, (molecules, 3).
        molecules: with their charges.
        origin: the point o in the file; None where the user does not say it, which for ions is a warning.

    Raises:
        DataError: for a property that is no dipole.
    """
    if kind.shape != (3,) or kind.per_atom:
        raise DataError(f"{source}: data.properties.{name}.origin: {name} is no dipole; leave it out")
    charges = molecules.charges
    if charges is None or not charges.any():
        return dipoles
    if origin is None:
        number = int((np.isfinite(dipoles).all(1) & (charges != 0)).sum())
        if number:
            warnings.warn(
                f"{source}: the dipoles of {number} ions are taken about {_MEANINGS['nuclear_charge']}; if the file "
                f"has another origin, set data.properties.{name}.origin to mass or coordinates",
                stacklevel=2,
            )
        return dipoles
    shift = centres(molecules, origin) - centres(molecules, "nuclear_charge")
    return dipoles + charges[:, None] * shift


def centres(molecules: FlatMolecules, origin: Origin) -> Float[np.ndarray, "molecules 3"]:
    """The point that an origin means in each molecule, Angstrom."""
    if origin == "coordinates":
        return np.zeros((len(molecules), 3))
    table = np.arange(len(atomic_masses), dtype=np.float64) if origin == "nuclear_charge" else atomic_masses
    weights = table[molecules.atomic_numbers][:, None]
    totals = np.add.reduceat(weights * molecules.positions, molecules.starts)
    return totals / np.add.reduceat(weights, molecules.starts)
