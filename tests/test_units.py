"""Units against the constants of ASE, which come from the same adjustment by another hand."""

import pytest
from ase.units import create_units

from neural_polarization import units


def test_against_ase() -> None:
    known = create_units("2018")
    assert pytest.approx(known["Hartree"], rel=1e-9) == units.HARTREE
    assert pytest.approx(known["Bohr"], rel=1e-9) == units.BOHR
    assert pytest.approx(known["kcal"] / known["mol"], rel=1e-9) == units.KILOCALORIE_PER_MOLE
    assert pytest.approx(known["Debye"], rel=1e-9) == units.DEBYE


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("hartree", "kcal/mol", 627.509474),
        ("e*bohr", "D", 2.541746473),
        ("D", "mD", 1000.0),
        ("hartree/bohr", "eV/Angstrom", 51.42206747),
        ("kcal/mol/Angstrom", "meV/Angstrom", 43.3641043),
        ("bohr^3", "A**3", 0.148184711),
        ("eV", "kJ/mol", 96.4853321),
        ("1", "", 1.0),
        ("nm^-1", "Angstrom^-1", 0.1),
    ],
)
def test_conversions(source: str, target: str, expected: float) -> None:
    one, other = units.parsed(source), units.parsed(target)
    assert one.dimension == other.dimension
    assert one.factor / other.factor == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("unit", "meaning"),
    [
        ("kcal/mol/Angstrom", "energy / length"),
        ("cal/mol/K", "energy / temperature"),
        ("kcal", "energy * amount"),
        ("D", "length * charge"),
        ("1/bohr^3", "1 / length^3"),
        ("100", "a pure number"),
        ("-hartree/bohr", "energy / length"),
    ],
)
def test_what_units_measure(unit: str, meaning: str) -> None:
    assert units.described(units.parsed(unit).dimension) == meaning


@pytest.mark.parametrize("unit", ["1/0", "0*eV", "1e200*1e200", "eV^eV", "eV^0.5", "9^9^9^9", "bohr^-99", "2^2.5"])
def test_units_without_a_size(unit: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        units.factor(unit)


@pytest.mark.parametrize("unit", ["hartre", "eV//A", "eV + eV", "__import__('os')", "eV[0]", "'eV'"])
def test_what_is_no_unit(unit: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        units.factor(unit)
