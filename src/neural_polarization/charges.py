"""Total charge, unpaired electrons and field of a structure: one rule for files, databases, predictions and dynamics.

The names of `properties.STATES` are looked for in `atoms.info`; where none stands there, ASE's initial charges and
magnetic moments of the atoms, which its calculators add up too, decide.
"""

import difflib
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import ase
import numpy as np

from neural_polarization.errors import DataError
from neural_polarization.properties import AMBIGUOUS, FIELD, STATES, normalized
from neural_polarization.text import counted

_ROUNDING = 1e-3
_PARTIAL = 0.05
"""How far sums of rounded partial charges are from whole numbers."""

STRONGEST_FIELD = 5.0
"""V/Angstrom: beyond it an electron leaves a small molecule, and no self-consistent field means anything."""


_LARGEST = 1e6
_WORDS = ("charge", "spin", "multiplicity", "unpaired")
_SHORT = frozenset({"q", "chrg", "uhf", "s", "mult"})  # names of other programs
_OF_FIELDS = frozenset({"field", "efield", "electricfield", "appliedfield", "uniformfield"})
_KNOWN = {normalized(name): state for state, names in STATES.items() for name in names}
_NOTHING: Mapping[str, int] = MappingProxyType({})


def total_charge(atoms: ase.Atoms, where: str = "structure") -> int:
    """The total charge of a structure, e.

    Args:
        atoms: with `info["charge"]` (or another of its names in `properties.STATES`), or with initial charges.
        where: what the error begins with.

    Raises:
        DataError: for a charge that is not a whole number, or leaves fewer electrons than none.

    Example:
        >>> total_charge(ase.Atoms("Li", info={"total_charge": 1}))
        1
    """
    given, slack = _given(atoms.info, ("charge",), where), _ROUNDING
    if given is None:
        if "initial_charges" not in atoms.arrays:
            return 0
        given, slack = ("the sum of initial_charges", float(np.sum(atoms.get_initial_charges()))), _PARTIAL
    name, value = given
    charge = _whole(name, value, where, slack)
    check_charge(name, charge, atoms.numbers, where)
    return charge


def check_charge(name: str, charge: int | float, numbers: np.ndarray, where: str) -> None:
    """Raises for a charge of more electrons than there are protons.

    Args:
        name: what the charge is called.
        charge: total charge, e.
        numbers: atomic numbers.
        where: what the error begins with.

    Raises:
        DataError: with the number of protons.
    """
    protons = int(np.sum(numbers))
    if not abs(charge) <= protons:  # NaN is not
        raise DataError(
            f"{where}: {name} is {charge:+g} for {protons} protons; expected a total charge in units of e, such as +1"
        )


def unpaired_electrons(atoms: ase.Atoms, where: str = "structure") -> int | None:
    """The number of unpaired electrons of a structure, or None where nothing says it.

    Args:
        atoms: with `info["spin"]`, `info["multiplicity"]` (one more than the unpaired electrons) or another of their
            names, or with initial magnetic moments that add up to a whole number.
        where: what the error begins with.

    Raises:
        DataError: for a number that is not whole, is negative or that the electrons cannot have (`check_spin`), a
            multiplicity below 1, the two of them where they disagree, or a name that is used for either.

    Example:
        >>> unpaired_electrons(ase.Atoms("O2", info={"multiplicity": 3}))
        2
    """
    ambiguous = next((name for name in atoms.info if normalized(name) in AMBIGUOUS), None)
    if ambiguous is not None and _given(atoms.info, ("spin", "multiplicity"), where) is None:
        raise DataError(
            f"{where}: {ambiguous} is used for the multiplicity and for the spin; give spin (number of unpaired "
            "electrons) or multiplicity"
        )
    found: dict[str, int] = {}
    for state, least, less in (("spin", 0, 0), ("multiplicity", 1, 1)):
        given = _given(atoms.info, (state,), where)
        if given is None:
            continue
        name, value = given
        number = _whole(name, value, where, _ROUNDING)
        meaning = "the number of unpaired electrons" if state == "spin" else "unpaired electrons plus one"
        if number < least:
            raise DataError(f"{where}: {name} is {number}; expected {meaning}, {least} or more")
        found[name] = number - less
    if len(set(found.values())) > 1:
        raise DataError(f"{where}: {' and '.join(found)} disagree; multiplicity is the unpaired electrons plus one")
    periodic = bool(atoms.pbc.any())
    if found:
        spin = next(iter(found.values()))
        check_spin(spin, atoms.numbers, total_charge(atoms, where), where, periodic)
        return spin
    if "initial_magmoms" not in atoms.arrays or periodic or atoms.arrays["initial_magmoms"].ndim != 1:
        return None
    moment = abs(float(np.sum(atoms.get_initial_magnetic_moments())))
    # ase.build.molecule gives an ion the moments of the neutral molecule, whose sum may be impossible for it.
    electrons = int(np.sum(atoms.numbers)) - total_charge(atoms, where)
    possible = abs(moment - round(moment)) < _ROUNDING and bool(possible_spins(round(moment), electrons))
    return round(moment) if possible else None


def possible_spins(
    spins: np.ndarray | int | float, electrons: np.ndarray | int, periodic: np.ndarray | bool = False
) -> np.ndarray | np.bool_:
    """Whether so many of the electrons can be unpaired: zero up to all of them, and the others are in pairs.

    The moment of a cell that repeats is bound to no pairs.

    Args:
        spins: numbers of unpaired electrons; one that is not known, NaN, is possible.
        electrons: numbers of electrons.
        periodic: whether each structure repeats.

    Example:
        >>> possible_spins(np.array([1, 2, 11]), 9).tolist()
        [True, False, False]
    """
    paired = (np.subtract(electrons, spins) % 2 == 0) | periodic
    return np.isnan(spins) | (np.less_equal(0, spins) & np.less_equal(spins, electrons) & paired)


def check_spin(spin: int | float, numbers: np.ndarray, charge: int, where: str, periodic: bool = False) -> None:
    """Raises where a structure cannot have so many unpaired electrons.

    Args:
        spin: number of unpaired electrons.
        numbers: atomic numbers.
        charge: total charge, e.
        where: what the error begins with.
        periodic: whether the structure repeats (`possible_spins`).

    Raises:
        DataError: with the formula, the charge, the electrons and what to give instead.
    """
    electrons = int(np.sum(numbers)) - charge
    if possible_spins(spin, electrons, periodic):
        return
    lowest = electrons % 2
    multiplicity = f", multiplicity={spin:g} if it is one" if possible_spins(spin - 1, electrons) else ""
    raise DataError(
        f"{where}: {ase.Atoms(numbers).get_chemical_formula()} with charge {charge:+d} has "
        f"{counted(electrons, 'electron')}, which cannot have {spin:g} unpaired; give spin={lowest} (or another number "
        f"that is {'odd' if lowest else 'even'}){multiplicity}, or another charge"
    )


def settle_states(atoms: ase.Atoms, where: str, assumed: Mapping[str, int] = _NOTHING) -> None:
    """Writes `info["charge"]` and `info["spin"]` as plain whole numbers where the structure says anything of them.

    Args:
        atoms: the structure.
        where: what errors begin with.
        assumed: "charge" and "spin" of a structure that says nothing about them.

    Raises:
        DataError: as `total_charge` and `unpaired_electrons`, and for columns of the atoms with their names.
    """
    charge = total_charge(atoms, where)
    # Partial charges that add up to zero are no statement about an ion.
    if charge or _given(atoms.info, ("charge",), where) is not None:
        atoms.info["charge"] = charge
    elif "charge" in assumed:
        atoms.info["charge"] = assumed["charge"]
    spin = unpaired_electrons(atoms, where)
    if spin is None and "spin" in assumed:
        atoms.info["spin"] = assumed["spin"]
        spin = unpaired_electrons(atoms, where)
    if spin is not None:
        atoms.info["spin"] = spin


def settle_field(atoms: ase.Atoms) -> None:
    """Writes `info["external_field"]` where a file spells that name in another way.

    Example:
        >>> water = ase.Atoms("H2O", info={"External-Field": [0.0, 0.0, 0.1]})
        >>> settle_field(water)
        >>> water.info["external_field"]
        [0.0, 0.0, 0.1]
    """
    spellings = [name for name in atoms.info if normalized(name) == normalized(FIELD)]
    if spellings:
        atoms.info.setdefault(FIELD, atoms.info[spellings[0]])


def check_columns(atoms: ase.Atoms, where: str, labels: Iterable[str] = ()) -> None:
    """Raises where columns of the atoms speak of the charge or the spin of the molecule, which is not given.

    Args:
        atoms: the structure.
        where: what the error begins with.
        labels: columns that are wanted as labels of atoms, and mean what the user says.

    Raises:
        DataError: naming the column, or the sum of the charges of the atoms.
    """
    for column in atoms.arrays:
        state = _KNOWN.get(normalized(column))
        if state is None or column in labels:
            continue
        alike = ("charge",) if state == "charge" else ("spin", "multiplicity")
        if any(_given(atoms.info, (one,), where) is not None for one in alike):
            continue
        raise DataError(
            f"{where}: the column {column} has one value per atom, but {state} belongs to the molecule; give "
            f"{state}=... in the comment, or call the column otherwise"
        )
    # ASE takes a column `charge` for the result of a calculation.
    results: Mapping[str, Any] = getattr(atoms.calc, "results", {})
    total = float(np.sum(results.get("charges", 0.0)))
    if abs(total) > 0.5 and _given(atoms.info, ("charge",), where) is None and "initial_charges" not in atoms.arrays:
        raise DataError(
            f"{where}: the charges of its atoms add up to {total:+.3g}, but nothing says its total charge; give "
            "charge=... in the comment"
        )


class LookAlikes:
    """Names that look like charge, spin or field and are not understood, gathered over a file for one warning.

    Args:
        source: the file.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._first: dict[str, str] = {}
        self._fields: dict[str, str] = {}

    def see(self, info: Mapping[str, Any], where: str) -> None:
        """Remembers the first structure with each such name."""
        for name in look_alikes(info):
            self._first.setdefault(name, f"{where}: {name} = {info[name]!r}")
        for name in info:
            if normalized(name) in _OF_FIELDS and FIELD not in info:
                self._fields.setdefault(name, f"{where}: {name} = {info[name]!r}")

    def warn(self) -> None:
        """A warning for the file of each kind, if there is anything to say."""
        if self._fields:
            warnings.warn(
                f"{next(iter(self._fields.values()))} is not used; a structure's electric field is given as {FIELD}, "
                "three numbers in V/Angstrom",
                stacklevel=2,
            )
        if self._first:
            warnings.warn(
                f"{next(iter(self._first.values()))} is not used; a structure's charge is given as "
                f"{_names('charge')}, its unpaired electrons as {_names('spin')} or {_names('multiplicity')}"
                + (f". Likewise in {self._source}: {', '.join(list(self._first)[1:])}" if len(self._first) > 1 else ""),
                stacklevel=2,
            )


def look_alikes(info: Mapping[str, Any]) -> list[str]:
    """Names with a whole number that look like charge or spin, but are none that is understood.

    Example:
        >>> look_alikes({"chrage": 1, "uhf": 2, "total_charge": 1, "charge_model": "CM5", "energy": -1.0})
        ['chrage', 'uhf']
    """
    found: list[str] = []
    for name, value in info.items():
        plain = normalized(name)
        if plain in _KNOWN or plain in AMBIGUOUS or not isinstance(value, int | np.integer) or isinstance(value, bool):
            continue
        near = difflib.get_close_matches(plain, _KNOWN, n=1, cutoff=0.8)
        if near or plain in _SHORT or any(word in plain for word in _WORDS):
            found.append(name)
    return found


def _given(info: Mapping[str, Any], states: tuple[str, ...], where: str) -> tuple[str, Any] | None:
    """The name and value of a state, which may stand there under several names if they agree."""
    found = {name: value for name, value in info.items() if _KNOWN.get(normalized(name)) in states}
    if not found:
        return None
    name, value = next(iter(found.items()))
    different = next((other for other in found if str(found[other]) != str(value)), None)
    if (
        different is not None
        and len(states) == 1
        and _whole(different, found[different], where, _ROUNDING) != _whole(name, value, where, _ROUNDING)
    ):
        raise DataError(f"{where}: {name} = {value} and {different} = {found[different]} disagree; give one of them")
    return name, value


def _whole(name: str, value: Any, where: str, slack: float) -> int:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise DataError(f"{where}: {name} is {value!r}; expected a whole number") from None
    if isinstance(value, bool | np.bool_):
        raise DataError(f"{where}: {name} has no number; expected a whole one, such as {name}=1")
    if not isinstance(value, int | float | np.integer | np.floating):
        raise DataError(f"{where}: {name} is {value!r}; expected a whole number")
    if not abs(value) < _LARGEST or abs(value - round(value)) > slack:  # NaN is not below anything
        raise DataError(f"{where}: {name} is {value}; expected a whole number")
    return round(value)


def _names(state: str) -> str:
    return " or ".join(STATES[state])


def frame_field(frame: ase.Atoms, where: str) -> np.ndarray:
    """Field of a structure, `info["external_field"]`, V/Angstrom; zero where there is none.

    Raises:
        ValueError: for anything but three finite numbers.
    """
    value = frame.info.get(FIELD, (0.0, 0.0, 0.0))
    try:
        field = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        field = np.empty(0)
    if field.shape != (3,) or not np.isfinite(field).all():
        raise ValueError(
            f"{where}: external_field is {value!r}; expected three finite numbers, the field along x, y and z in "
            "V/Angstrom"
        )
    return field
