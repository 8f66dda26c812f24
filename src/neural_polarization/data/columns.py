"""Labels in files: their keys and units there, and how a user says which are wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from neural_polarization.data.origins import Origin
from neural_polarization.errors import DataError, nearest
from neural_polarization.properties import DEFINITIONS, Property
from neural_polarization.units import Dimension, described, parsed


@dataclass(frozen=True)
class PropertyConfig:
    """How a property stands in the user's file.

    Attributes:
        source: Key of the property in the file. Left out: the property's own name.
        unit: Unit in the file, for instance "kcal/mol/Angstrom", "hartree", or "1" for a pure number. Well-known names
            (energy, forces, dipole, the targets of QM9 and so on) need a unit of that quantity; other names are free.
            Left out: the unit of the format.
        per_atom: Whether the file has one value per atom. Left out: the shape of the array decides.
        shown_in: Unit of the same quantity in which results are shown. Left out: a customary one, or `unit`.
        origin: Point that the dipoles of ions refer to in the file: "nuclear_charge" (the centre of nuclear charge,
            which the library uses), "mass" (the centre of mass) or "coordinates" (the point 0, 0, 0). The dipole of a
            neutral molecule does not depend on it. Left out: the centre of nuclear charge.
    """

    source: str | None = None
    unit: str | None = None
    per_atom: bool | None = None
    shown_in: str | None = None
    origin: Origin | None = None


@dataclass(frozen=True)
class Column:
    """A property of a known format: its key and unit in the file.

    Attributes:
        source: Key in the file.
        unit: Unit in the file.
        property: Property that the column holds.
    """

    source: str
    unit: str
    property: Property


KNOWN: Mapping[str, Column] = MappingProxyType(
    {name: Column(name, kind.unit, kind.property) for name, kind in DEFINITIONS.items() if kind.trainable}
)
"""Properties whose meaning everybody shares, in internal units, which are ASE's, and how results are shown."""


def is_energy(unit: str | None) -> bool:
    """Whether a unit is one of energy, which tells a virial from a stress.

    Example:
        >>> is_energy("kcal/mol"), is_energy("eV/Angstrom^3"), is_energy(None)
        (True, False, False)
    """
    try:
        return unit is not None and parsed(unit).dimension == parsed("eV").dimension
    except ValueError:
        return False


def check_units(
    source: str, name: str, config: PropertyConfig, measured_in: str | None = None, customary: str | None = None
) -> None:
    """Makes sure that a property's units measure what the property is.

    Args:
        source: what errors begin with.
        name: of the property, as under `data.properties`.
        config: its units.
        measured_in: unit in the file, if none is given.
        customary: any unit of what the property is known to be; None for a property of the user's own.

    Raises:
        DataError: for a unit that is not understood or of another dimension, naming the key.

    Example:
        >>> check_units("set.xyz", "forces", PropertyConfig(unit="hartree"), customary="eV/Angstrom")
        Traceback (most recent call last):
            ...
        neural_polarization.errors.DataError: set.xyz: data.properties.forces.unit: 'hartree' is energy, but ...
    """
    key = f"{source}: data.properties.{name}"
    known = None if customary is None else parsed(customary).dimension
    if config.unit is not None:
        own = _dimension(f"{key}.unit", config.unit)
    else:
        own = None if measured_in is None else _dimension(f"{key}: the file's unit", measured_in)
    if known is not None and own is not None and own != known:
        where = "unit" if config.unit is not None else "source"
        raise DataError(
            f"{key}.{where}: {config.unit or measured_in!r} is {described(own)}, but {name} should be "
            f"{described(known)}, such as {customary}; give its unit in the file, or another name to another quantity"
        )
    expected = known if known is not None else own
    if config.shown_in is None or expected is None:
        return
    shown = _dimension(f"{key}.shown_in", config.shown_in)
    if shown != expected:
        raise DataError(
            f"{key}.shown_in: {config.shown_in!r} is {described(shown)}, but {name} is {described(expected)}, such as "
            f"{customary or config.unit or measured_in}; give a unit of that"
        )


def _dimension(key: str, unit: str) -> Dimension:
    try:
        return parsed(unit).dimension
    except ValueError as error:
        raise DataError(f"{key}: {error}") from None


def chosen_columns(
    source: str, columns: Mapping[str, Column], chosen: Mapping[str, PropertyConfig] | None
) -> dict[str, Column]:
    """The columns of a known format that a user wants, under the user's names.

    Args:
        source: what errors begin with.
        columns: the format's, keyed by their names here.
        chosen: the user's choice; all columns if left out.

    Raises:
        DataError: for a property that the format does not have, or has in another shape or unit.
    """
    result: dict[str, Column] = {}
    for name, config in (dict.fromkeys(columns, PropertyConfig()) if chosen is None else chosen).items():
        key = config.source or name
        if key not in columns:
            raise DataError(f"{source}: has no property {key!r}; {nearest(key, columns)}")
        column = columns[key]
        if config.per_atom is not None and config.per_atom != column.property.per_atom:
            raise DataError(
                f"{source}: {key} has one value per {'atom' if column.property.per_atom else 'molecule'}; leave "
                f"per_atom out of data.properties.{name}"
            )
        # The library's own files hold internal units, whatever they are shown in: "1" says so.
        measured_in = None if column.unit == "1" else column.unit
        check_units(source, name, config, measured_in, column.property.unit)
        result[name] = Column(
            source=column.source,
            unit=config.unit or column.unit,
            property=Property(
                name=name,
                unit=config.shown_in or column.property.unit,
                shape=column.property.shape,
                per_atom=column.property.per_atom,
            ),
        )
    return result
