"""Units: what every quantity is measured in inside the library, and the factors to other units.

Inside: Angstrom, eV, eV/Angstrom, e*Angstrom (dipole), Angstrom^3 (polarizability volume), e/Angstrom^3
(density). A data set's customary units appear only where it is read and where results are shown.

References:
    E. Tiesinga, P. J. Mohr, D. B. Newell, B. N. Taylor, "CODATA recommended values of the fundamental
    physical constants: 2018", Rev. Mod. Phys. 93, 025010 (2021).
"""

import ast
import difflib
from collections.abc import Mapping
from types import MappingProxyType

HARTREE = 27.211386245988
"""One hartree in eV (CODATA 2018)."""

BOHR = 0.529177210903
"""One bohr in Angstrom (CODATA 2018)."""

_ELEMENTARY_CHARGE = 1.602176634e-19  # C, exact in the SI of 2019
_AVOGADRO = 6.02214076e23  # 1/mol, exact
_SPEED_OF_LIGHT = 299792458.0  # m/s, exact

KILOCALORIE_PER_MOLE = 4184.0 / (_AVOGADRO * _ELEMENTARY_CHARGE)
"""One kcal/mol (thermochemical calorie) in eV."""

DEBYE = 1e-21 / _SPEED_OF_LIGHT / _ELEMENTARY_CHARGE * 1e10
"""One debye in e*Angstrom."""

UNITS: Mapping[str, float] = MappingProxyType(
    {
        "eV": 1.0,
        "meV": 1e-3,
        "hartree": HARTREE,
        "Ha": HARTREE,
        "kcal": KILOCALORIE_PER_MOLE,  # as in kcal/mol: `mol` is the number 1 here
        "kJ": KILOCALORIE_PER_MOLE / 4.184,
        "cal": KILOCALORIE_PER_MOLE * 1e-3,
        "mol": 1.0,
        "K": 1.0,
        "Angstrom": 1.0,
        "Ang": 1.0,
        "A": 1.0,
        "bohr": BOHR,
        "a0": BOHR,
        "nm": 10.0,
        "e": 1.0,
        "D": DEBYE,
        "debye": DEBYE,
        "mD": DEBYE * 1e-3,
    }
)
"""Factor from each named unit to the internal one of its dimension."""


def factor(unit: str) -> float:
    """The number that a value in `unit` is multiplied by to become internal.

    Args:
        unit: products, quotients and whole powers of the names in `UNITS`, for instance
            "kcal/mol/Angstrom", "e*bohr", "hartree/bohr", "bohr^3". The empty string and "1" mean a pure
            number.

    Raises:
        ValueError: for a name that is not in `UNITS` (the nearest one is suggested) or another expression.

    Example:
        >>> round(factor("kcal/mol"), 6)
        0.043364
        >>> round(factor("bohr^3"), 6)
        0.148185
    """
    if unit.strip() in ("", "1"):
        return 1.0
    try:
        tree = ast.parse(unit.strip().replace("^", "**"), mode="eval")
    except SyntaxError:
        raise ValueError(f"unit {unit!r} is not an expression such as 'kcal/mol/Angstrom'") from None
    return _evaluate(tree.body, unit)


def convert(source: str, target: str) -> float:
    """The number that a value in unit `source` is multiplied by to be in unit `target`.

    Example:
        >>> round(convert("hartree", "eV"), 6)
        27.211386
    """
    return factor(source) / factor(target)


def _evaluate(node: ast.expr, unit: str) -> float:
    match node:
        case ast.Name(id=name):
            if name not in UNITS:
                near = difflib.get_close_matches(name, list(UNITS), n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"unknown unit {name!r} in {unit!r}{hint} Known: {', '.join(UNITS)}")
            return UNITS[name]
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, unit)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _evaluate(left, unit) * _evaluate(right, unit)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _evaluate(left, unit) / _evaluate(right, unit)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _evaluate(left, unit) ** _evaluate(right, unit)
        case _:
            raise ValueError(f"unit {unit!r}: only names, *, / and whole powers are understood")
