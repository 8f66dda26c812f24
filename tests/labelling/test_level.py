"""The level is QM9's: published energies are met."""

import ase
import numpy as np
import pytest

from neural_polarization.labelling.calculation import Request, converge
from neural_polarization.labelling.level import Level, pure_shells
from neural_polarization.labelling.mean_field import FAST, Accuracy, build_molecule, mean_field

QM9 = Level.parse("B3LYP/6-31G(2df,p)")

# Ramakrishnan et al., Sci. Data 1, 140022 (2014): energies of the free atoms, hartree.
FREE_ATOMS = [("H", 1, -0.500273), ("N", 3, -54.583861)]


@pytest.mark.parametrize(("element", "spin", "energy"), FREE_ATOMS)
def test_published_energies_of_atoms(element: str, spin: int, energy: float) -> None:
    atom = ase.Atoms(element, [[0, 0, 0]], info={"spin": spin})
    scf = converge(build_molecule(atom, QM9, Accuracy()), Request(QM9))
    assert scf.e_tot == pytest.approx(energy, abs=2e-6)


def test_published_energy_of_water(water: ase.Atoms) -> None:
    # gdb 3: U0 = -76.404702 hartree, of which 0.021375 are the zero-point energy.
    scf = converge(build_molecule(water, QM9, Accuracy()), Request(QM9))
    assert scf.e_tot == pytest.approx(-76.404702 - 0.021375, abs=3e-6)
    assert scf.mo_coeff.shape == (41, 38), "six d functions, seven of ten f functions"


def test_exponents_are_split_as_in_gaussian() -> None:
    shells = QM9.shells(["C", "H"])
    assert [shell[1][0] for shell in shells["C"] if shell[0] == 2] == [1.6, 0.4]
    assert [shell[1][0] for shell in shells["C"] if shell[0] == 3] == [0.8]
    assert [shell[1][0] for shell in shells["H"] if shell[0] == 1] == [1.1]
    three = Level.parse("HF/6-31G(3df,p)").shells(["O"])["O"]
    assert [shell[1][0] for shell in three if shell[0] == 2] == pytest.approx([3.2, 0.8, 0.2])


def test_other_levels_are_left_as_they_are() -> None:
    assert Level.parse("PBE/def2-SVP").cartesian_d is False
    assert Level.parse("HF/6-311G(d,p)").cartesian_d is False
    assert Level.parse("HF/6-31G*").cartesian_d is True
    assert Level.parse("b3lyp/sto-3g").functional == "b3lypg"
    assert Level.parse("HF/sto-3g").functional == "hf"
    assert str(Level.parse(" PBE0 / def2-SVP ")) == "PBE0/def2-SVP"


@pytest.mark.parametrize("name", ["B3LYP", "/6-31G", "PBE/", "MP2/a/b"])
def test_names_that_are_no_levels(name: str) -> None:
    with pytest.raises(ValueError, match="expected METHOD/BASIS"):
        Level.parse(name)


def test_unknown_method_basis_and_element() -> None:
    with pytest.raises(ValueError, match="method 'B4LYP' is not known"):
        Level.parse("B4LYP/6-31G").check(["H"])
    with pytest.raises(ValueError, match="basis 'nonsense' has no functions for H"):
        Level.parse("PBE/nonsense").check(["H"])
    with pytest.raises(ValueError, match="has no functions for U"):
        Level.parse("PBE/6-31G").check(["H", "U"])


@pytest.mark.parametrize(
    ("basis", "element"),
    [
        ("def2-SVP", "I"),
        ("def2-TZVP", "Pt"),
        ("LANL2DZ", "Na"),
        ("cc-pVDZ-PP", "Cu"),
        # whose potentials PySCF has under another name, or not at all
        ("ccecp-cc-pVDZ", "O"),
        ("gth-dzvp", "C"),
        ("cc-pwCVTZ-PP", "Zn"),
        ("def2-mTZVPP", "Pt"),
    ],
)
def test_bases_for_core_potentials_are_refused(basis: str, element: str) -> None:
    message = f"basis '{basis}' needs an effective core potential for {element}, .*; choose an all-electron basis"
    with pytest.raises(ValueError, match=message):
        Level("PBE", basis).check([element])
    with pytest.raises(ValueError, match=message):
        build_molecule(ase.Atoms(element), Level("PBE", basis), Accuracy())


@pytest.mark.parametrize(
    "basis", ["STO-3G", "3-21G", "6-31G(2df,p)", "def2-SVP", "def2-TZVPP", "cc-pVDZ", "DZP", "pc-0"]
)
def test_bases_of_all_electrons_are_accepted(basis: str) -> None:
    Level("PBE", basis).check(["H", "He", "C", "O", "Ne", "Si", "Cl", "Ar"])


def test_heavy_elements_have_a_basis_and_no_density_fitting() -> None:
    Level.parse("PBE/DZP").check(["H", "Br", "I", "Ag", "Pt"])
    Level.parse("PBE/def2-SVP").check(["Br"])
    FAST.check(["H", "Br", "Kr"])
    Accuracy().check(["I"])
    with pytest.raises(ValueError, match="no functions for the inner electrons of Ag, I; take --accuracy standard"):
        FAST.check(["H", "I", "Ag"])
    level = Level.parse("PBE/3-21G")
    with pytest.raises(ValueError, match="inner electrons of I"):
        mean_field(build_molecule(ase.Atoms("HI", [[0, 0, 0], [0, 0, 1.6]]), level, FAST), level, FAST)


def test_projection_keeps_pure_f_functions() -> None:
    projection = pure_shells([0, 2, 3])
    assert projection.shape == (1 + 6 + 10, 1 + 6 + 7)
    np.testing.assert_array_equal(projection[:7, :7], np.eye(7))
