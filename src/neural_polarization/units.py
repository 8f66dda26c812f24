"""Units: what every quantity is measured in inside the library, and the factors to other units.

Inside: Angstrom, eV, eV/Angstrom, e*Angstrom (dipole), Angstrom^3 (polarizability volume), e/Angstrom^3
(density). A data set's customary units appear only where it is read and where results are shown.

References:
    E. Tiesinga, P. J. Mohr, D. B. Newell, B. N. Taylor, "CODATA recommended values of the fundamental
    physical constants: 2018", Rev. Mod. Phys. 93, 025010 (2021).
"""

import ast
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

HARTREE = 27.211386245988
"""One hartree in eV (CODATA 2018)."""

BOHR = 0.529177210903
"""One bohr in Angstrom (CODATA 2018)."""

COULOMB = HARTREE * BOHR
"""e^2 / (4 pi epsilon_0) in eV*Angstrom: a polarizability of one Angstrom^3 is e*Angstrom^2/V divided by it."""

_PER_PARTICLE = ("atom", "atoms", "molecule", "molecules", "cell")
_LARGEST_POWER = 12  # far above any quantity; 9**9**9 would keep the machine busy
_LONGEST = 200  # letters of a unit
_ELEMENTARY_CHARGE = 1.602176634e-19  # C, exact in the SI of 2019
_AVOGADRO = 6.02214076e23  # 1/mol, exact
_SPEED_OF_LIGHT = 299792458.0  # m/s, exact

KILOCALORIE_PER_MOLE = 4184.0 / (_AVOGADRO * _ELEMENTARY_CHARGE)
"""One kcal/mol (thermochemical calorie) in eV."""

DEBYE = 1e-21 / _SPEED_OF_LIGHT / _ELEMENTARY_CHARGE * 1e10
"""One debye in e*Angstrom."""

Dimension: TypeAlias = tuple[int, ...]
"""Whole exponents of the quantities `QUANTITIES`, in their order; all zero for a pure number."""

QUANTITIES = ("energy", "length", "charge", "temperature", "amount")
"""What dimensions are made of."""

NUMBER: Dimension = (0, 0, 0, 0, 0)
_ENERGY: Dimension = (1, 0, 0, 0, 0)
_LENGTH: Dimension = (0, 1, 0, 0, 0)
_CHARGE: Dimension = (0, 0, 1, 0, 0)
_DIPOLE: Dimension = (0, 1, 1, 0, 0)
# Energies of a mole become energies, per particle, when they are divided by mol: `kcal` alone is no energy here.
_MOLAR: Dimension = (1, 0, 0, 0, 1)


@dataclass(frozen=True)
class Unit:
    """A unit as a number and what it measures.

    Attributes:
        factor: what a value is multiplied by to become internal.
        dimension: exponents of energy, length, charge, temperature and amount.
    """

    factor: float
    dimension: Dimension = NUMBER

    def __mul__(self, other: "Unit") -> "Unit":
        return Unit(self.factor * other.factor, tuple(map(int.__add__, self.dimension, other.dimension)))

    def __truediv__(self, other: "Unit") -> "Unit":
        return Unit(self.factor / other.factor, tuple(map(int.__sub__, self.dimension, other.dimension)))

    def __pow__(self, exponent: int) -> "Unit":
        return Unit(self.factor**exponent, tuple(exponent * one for one in self.dimension))


UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        "eV": Unit(1.0, _ENERGY),
        "meV": Unit(1e-3, _ENERGY),
        "hartree": Unit(HARTREE, _ENERGY),
        "Ha": Unit(HARTREE, _ENERGY),
        "kcal": Unit(KILOCALORIE_PER_MOLE, _MOLAR),
        "kJ": Unit(KILOCALORIE_PER_MOLE / 4.184, _MOLAR),
        "cal": Unit(KILOCALORIE_PER_MOLE * 1e-3, _MOLAR),
        "mol": Unit(1.0, (0, 0, 0, 0, 1)),
        "K": Unit(1.0, (0, 0, 0, 1, 0)),
        "Angstrom": Unit(1.0, _LENGTH),
        "Ang": Unit(1.0, _LENGTH),
        "A": Unit(1.0, _LENGTH),
        "bohr": Unit(BOHR, _LENGTH),
        "a0": Unit(BOHR, _LENGTH),
        "nm": Unit(10.0, _LENGTH),
        "e": Unit(1.0, _CHARGE),
        "V": Unit(1.0, (1, 0, -1, 0, 0)),
        "D": Unit(DEBYE, _DIPOLE),
        "debye": Unit(DEBYE, _DIPOLE),
        "mD": Unit(DEBYE * 1e-3, _DIPOLE),
    }
)
"""Each named unit in terms of the internal one of its dimension."""


def parsed(unit: str) -> Unit:
    """What a unit means.

    Args:
        unit: products, quotients and whole powers of the names in `UNITS`, for instance
            "kcal/mol/Angstrom", "e*bohr", "hartree/bohr", "bohr^3". The empty string and "1" mean a pure
            number.

    Raises:
        ValueError: for a name that is not in `UNITS` (the nearest one is suggested), another expression, or one
            that is no finite number other than zero.

    Example:
        >>> parsed("eV/Angstrom").dimension == parsed("hartree/bohr").dimension
        True
        >>> parsed("eV/Angstrom").dimension == parsed("hartree").dimension
        False
    """
    if unit.strip() in ("", "1"):
        return Unit(1.0)
    try:
        if len(unit) > _LONGEST:
            raise ValueError
        tree = ast.parse(unit.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"unit {unit!r} is not an expression such as 'kcal/mol/Angstrom'") from None
    try:
        result = _evaluate(tree.body, unit)
    except ArithmeticError as error:
        raise ValueError(f"unit {unit!r} has no value ({error}); give one such as 'kcal/mol/Angstrom'") from None
    if result.factor == 0.0 or not math.isfinite(result.factor):
        raise ValueError(f"unit {unit!r} is {result.factor} times the internal one; give one that is a finite size")
    return result


def factor(unit: str) -> float:
    """The number that a value in `unit` is multiplied by to become internal.

    Args:
        unit: see `parsed`.

    Raises:
        ValueError: as `parsed`.

    Example:
        >>> round(factor("kcal/mol"), 6)
        0.043364
        >>> round(factor("bohr^3"), 6)
        0.148185
    """
    return parsed(unit).factor


def described(dimension: Dimension) -> str:
    """A dimension in words.

    Example:
        >>> described(parsed("kcal/mol/Angstrom").dimension), described(parsed("bohr^3").dimension)
        ('energy / length', 'length^3')
    """
    powers = [(name, power) for name, power in zip(QUANTITIES, dimension, strict=True) if power]
    above = [name if power == 1 else f"{name}^{power}" for name, power in powers if power > 0]
    below = [name if power == -1 else f"{name}^{-power}" for name, power in powers if power < 0]
    if not powers:
        return "a pure number"
    return " / ".join([" * ".join(above) or "1", *below])


def _evaluate(node: ast.expr, unit: str) -> Unit:
    match node:
        case ast.Name(id=name):
            if name.lower() in _PER_PARTICLE:
                raise ValueError(
                    f"unit {unit!r}: energies are totals of structures here; multiply them by the number of "
                    f"{name.lower().rstrip('s')}s, and give the unit without {name!r}"
                )
            if name not in UNITS:
                near = [known for known in UNITS if known.lower() == name.lower()]
                near = near or difflib.get_close_matches(name, list(UNITS), n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"unknown unit {name!r} in {unit!r}{hint} Known: {', '.join(UNITS)}")
            return UNITS[name]
        case ast.Constant(value=int() | float() as value):
            return Unit(float(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Unit(-1.0) * _evaluate(operand, unit)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _evaluate(left, unit) * _evaluate(right, unit)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _evaluate(left, unit) / _evaluate(right, unit)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _evaluate(left, unit) ** _whole(_evaluate(right, unit), unit)
        case _:
            raise ValueError(f"unit {unit!r}: only names, *, / and whole powers are understood")


def _whole(power: Unit, unit: str) -> int:
    if power.dimension != NUMBER or not power.factor.is_integer() or abs(power.factor) > _LARGEST_POWER:
        raise ValueError(f"unit {unit!r}: only names, *, / and whole powers are understood")
    return int(power.factor)
