"""Harmonic spectra against closed forms, PySCF's Hessian and Born charges, and ASE's infrared class."""

import gc
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.vibrations import Infrared
from springs import ACROSS, ALONG, SLOPE, STIFFNESS, diatomic, springs

from neural_polarization.architectures import BackboneConfig
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.spectra.mode_names import mode_names
from neural_polarization.interfaces.spectra.outputs import named_modes
from neural_polarization.interfaces.spectra.surface import Names, Values, polar_tensors_of, surface_of
from neural_polarization.interfaces.spectra.vibrations import (
    INFRARED,
    WAVENUMBER,
    Vibrations,
    internal_displacements,
    vibrations,
)
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.response import Response


@pytest.fixture(autouse=True)
def _collected_here() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """PySCF leaves its temporary files to the garbage collector, which reports them."""
    yield
    gc.collect()


def test_constants_are_the_usual_ones() -> None:
    """Of the literature: 42.2561 km/mol are one (D/Angstrom)^2/amu; 1302.79 1/cm are one mdyn/(Angstrom amu)."""
    assert INFRARED * units.Debye**2 == pytest.approx(42.2561, abs=2e-3)
    assert pytest.approx(1302.79, abs=0.02) == WAVENUMBER * 6.241509074**0.5


def test_a_diatomic_molecule_has_its_closed_form() -> None:
    found = vibrations(springs, diatomic())
    masses = diatomic().get_masses()
    reduced = masses.prod() / masses.sum()
    assert found.wavenumbers == pytest.approx([WAVENUMBER * (STIFFNESS / reduced) ** 0.5], rel=1e-5)
    assert found.infrared == pytest.approx([INFRARED * SLOPE**2 / reduced], rel=1e-4)
    mean, anisotropy = (ALONG + 2.0 * ACROSS) / 3.0, ALONG - ACROSS
    assert found.raman == pytest.approx([(45.0 * mean**2 + 7.0 * anisotropy**2) / reduced], rel=1e-4)
    ratio = 3.0 * anisotropy**2 / (45.0 * mean**2 + 4.0 * anisotropy**2)
    assert found.depolarization == pytest.approx([ratio], rel=1e-4)
    assert mode_names(found.atoms, found.modes) == ["C-O stretch"]


@pytest.mark.parametrize("height", [0.0, 0.02])
def test_a_kink_of_the_energy_is_said(height: float) -> None:
    """As that of a norm of vectors, |x|, which is smooth within a thousandth: the second derivative is no property."""
    atoms = diatomic()

    def kinked(structures: Sequence[ase.Atoms]) -> list[Values]:
        found: list[Values] = []
        for moved, values in zip(structures, springs(structures), strict=True):
            bond = moved.positions[1] - moved.positions[0]
            length = float(np.linalg.norm(bond))
            stretch = length - atoms.get_distance(0, 1)
            pull = height * stretch / np.sqrt(stretch**2 + 1e-6) * bond / length
            found.append(Values(values.energy, values.forces + np.array([pull, -pull])))
        return found

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vibrations(kinked, atoms)
    assert len(said) == (1 if height else 0)
    if height:
        assert "1/cm if atoms move by 0.02 instead of 0.005 Angstrom" in str(said[0].message)


def by_pyscf(structures: Sequence[ase.Atoms]) -> list[Values]:
    calculation = pytest.importorskip("neural_polarization.labelling.calculation")
    found: list[Values] = []
    for atoms in structures:
        labels = calculation.compute(atoms, hartree_fock(("forces", "polarizability")))
        found.append(Values(float(labels["energy"]), labels["forces"], labels["dipole"], labels["polarizability"]))
    return found


def hartree_fock(quantities: tuple[str, ...]) -> object:
    calculation = pytest.importorskip("neural_polarization.labelling.calculation")
    level = pytest.importorskip("neural_polarization.labelling.level")
    mean_field = pytest.importorskip("neural_polarization.labelling.mean_field")
    accuracy = mean_field.Accuracy(convergence=1e-12, gradient_convergence=1e-7, response_convergence=1e-8)
    return calculation.Request(level.Level.parse("HF/STO-3G"), accuracy, quantities)


def pyscf_hessian(atoms: ase.Atoms) -> tuple[np.ndarray, np.ndarray]:
    """PySCF's own analytic Hessian, eV/Angstrom^2, and the wavenumbers that its thermochemistry makes of it."""
    pytest.importorskip("pyscf")
    from pyscf import gto, scf
    from pyscf.hessian import thermo

    symbols = zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)
    mean_field = scf.RHF(gto.M(atom=list(symbols), basis="sto-3g", verbose=0)).run(conv_tol=1e-12)
    hessian = mean_field.Hessian().kernel()
    wavenumbers = thermo.harmonic_analysis(mean_field.mol, hessian)["freq_wavenumber"]
    flat = hessian.transpose(0, 2, 1, 3).reshape(3 * len(atoms), -1)
    return flat * units.Hartree / units.Bohr**2, np.real(wavenumbers)


@pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom:ResourceWarning")
def test_water_has_the_spectrum_of_pyscf() -> None:
    """Wavenumbers of an analytic Hessian, intensities of Born charges from forces in fields."""
    calculation = pytest.importorskip("neural_polarization.labelling.calculation")
    atoms = ase.Atoms("OHH", [[0.0, 0.0, 0.127], [0.0, 0.758, -0.509], [0.0, -0.758, -0.509]])  # its minimum
    by_dipoles = vibrations(by_pyscf, atoms)
    _, wavenumbers = pyscf_hessian(atoms)
    np.testing.assert_allclose(by_dipoles.wavenumbers, wavenumbers[-3:], atol=0.5)
    charges = calculation.compute(atoms, hartree_fock(("born_charges",)))["born_charges"]
    by_charges = vibrations(by_pyscf, atoms, lambda _: charges)
    assert by_dipoles.infrared is not None and by_charges.infrared is not None
    np.testing.assert_allclose(by_charges.infrared, by_dipoles.infrared, rtol=5e-3)
    assert by_dipoles.depolarization is not None
    assert by_dipoles.depolarization[2] == pytest.approx(0.75, abs=1e-4)  # not totally symmetric
    assert (by_dipoles.depolarization[:2] < 0.74).all()
    names = mode_names(atoms, by_dipoles.modes)
    assert names == ["H-O-H bend", "H-O stretch", "H-O stretch"]


@pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom:ResourceWarning")
def test_modes_are_named_by_what_moves() -> None:
    from neural_polarization.interfaces.spectra.vibrations import normal_modes

    atoms = molecule("H2CO")
    hessian, wavenumbers = pyscf_hessian(atoms)
    found, modes = normal_modes(atoms, hessian)
    np.testing.assert_allclose(found[1:], wavenumbers[-5:], atol=5.0)  # PySCF leaves the rotations in
    names = mode_names(atoms, modes)
    assert [name for name in names if "C-O stretch" in name] and names[4:] == ["C-H stretch", "C-H stretch"]
    assert "C out of plane" in names[:3]


def make_model(response: Response = Response.PUSH_DUAL) -> Model:
    torch.manual_seed(0)
    heads = {
        "energy": HeadConfig("extensive", forces=True),
        "dipole": HeadConfig("dipole_flow"),
        "alpha": HeadConfig("polarizability_bonds"),
    }
    config = ModelConfig(("H", "C", "O"), heads, BackboneConfig("painn", 8, 2, 4.0, 6), response=response)
    return Model(config).double().eval()


def spectrum_of(model: Model, atoms: ase.Atoms) -> Vibrations:
    return vibrations(surface_of(model, Names.of(model)), atoms, polar_tensors_of(model))


@pytest.mark.filterwarnings("ignore:spectrum. the mode at")  # weights are random, and the molecule symmetric
@pytest.mark.parametrize("field", [None, [0.0, 0.1, 0.3]])
def test_ase_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: list[float] | None) -> None:
    """ASE keeps rotations in; where all wavenumbers are compared, its modes and ours agree in what vibrates."""
    monkeypatch.chdir(tmp_path)
    model = make_model()
    atoms = molecule("CH4")
    if field is not None:
        atoms.info["external_field"] = field
    found = spectrum_of(model, atoms)
    atoms.calc = NeuralPolarizationCalculator(model, double=True)
    infrared = Infrared(atoms, delta=5e-3)
    infrared.run()
    slopes = np.array([infrared.get_mode(k).ravel() for k in range(15)])
    assert slopes.shape == (15, 15)
    hessian = infrared.H
    from neural_polarization.interfaces.spectra.vibrations import normal_modes

    wavenumbers, _ = normal_modes(atoms, hessian)
    np.testing.assert_allclose(found.wavenumbers, wavenumbers, rtol=1e-5, atol=1e-2)
    # The sum of all intensities does not depend on the choice of modes, so that rotations cannot hide: add them.
    assert found.infrared is not None and found.raman is not None
    total = infrared.intensities.sum() * 42.2561
    charges = polar_tensors_of(model)
    assert charges is not None
    masses = atoms.get_masses()
    expected = INFRARED * ((charges(atoms) ** 2).sum((1, 2)) / masses).sum()
    assert total == pytest.approx(expected, rel=2e-3)
    assert found.infrared.sum() <= expected * (1.0 + 1e-9)


@pytest.mark.parametrize("charge", [0, 1])
@pytest.mark.filterwarnings("ignore:structures with a charge")
def test_without_a_response_slopes_are_differences(charge: int) -> None:
    """Born charges of a quadratic response without a field are the slopes of its dipole head, also of an ion."""
    quadratic, atoms = make_model(Response.QUADRATIC), molecule("H2CO")
    atoms.info["charge"] = charge
    assert polar_tensors_of(make_model(Response.NONE)) is None
    by_charges = spectrum_of(quadratic, atoms)
    by_dipoles = vibrations(surface_of(quadratic, Names.of(quadratic)), atoms)
    assert by_charges.infrared is not None and by_dipoles.infrared is not None
    np.testing.assert_allclose(by_dipoles.infrared, by_charges.infrared, rtol=1e-3, atol=1e-3)


def test_linear_molecules_have_one_mode_more() -> None:
    found = spectrum_of(make_model(), molecule("CO2"))
    assert len(found.wavenumbers) == 4
    assert found.wavenumbers[0] == pytest.approx(found.wavenumbers[1], rel=1e-3) or found.wavenumbers[
        2
    ] == pytest.approx(found.wavenumbers[3], rel=1e-3)  # the two bends


def test_names_of_a_linear_molecule() -> None:
    """A straight angle bends in two directions, to which its value is blind."""
    axis, across = np.array([0.0, 0.0, 1.0]), np.array([0.6, 0.8, 0.0])
    bend = np.outer([2.0, -1.0, -1.0], across)  # carbon against both oxygens
    stretch = np.outer([0.0, 1.0, -1.0], axis)
    assert mode_names(molecule("CO2"), np.stack([bend, stretch])) == ["O-C-O bend", "C-O stretch"]


def test_a_molecule_that_is_nearly_linear_counts_as_linear() -> None:
    """As one is whose positions are rounded, or that a relaxation has left a thousandth of an Angstrom bent."""
    atoms = ase.Atoms("OCO", [[0.0, 0.0, -1.17], [2e-3, 0.0, 0.0], [0.0, 1e-3, 1.17]])
    assert internal_displacements(atoms).shape == (9, 4)
    assert internal_displacements(molecule("H2O")).shape == (9, 3)
    assert internal_displacements(molecule("C2H2")).shape == (12, 7)


def test_frozen_atoms_are_refused() -> None:
    atoms = diatomic()
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="all atoms vibrate; remove the constraints"):
        vibrations(springs, atoms)


def test_what_has_no_spectrum_is_refused() -> None:
    periodic = molecule("H2O", cell=[9.0, 9.0, 9.0], pbc=True)
    with pytest.raises(ValueError, match="spectrum: only spectra of molecules"):
        vibrations(springs, periodic)
    with pytest.raises(ValueError, match="a single atom does not vibrate"):
        vibrations(springs, ase.Atoms("C"))
    energy = {"energy": HeadConfig("extensive", forces=True)}
    with pytest.raises(ValueError, match="neither a dipole"):
        Names.of(Model(ModelConfig(("H",), energy)))
    with pytest.raises(ValueError, match="this model has no forces"):
        Names.of(Model(ModelConfig(("H",), {"dipole": HeadConfig("dipole")})))


def test_names_in_the_figure_do_not_cover_each_other() -> None:
    """The highest lines have names; a line beside a higher one, a small one and an imaginary one have none."""
    wavenumbers = np.array([-100.0, 345.0, 1101.0, 1130.0, 2970.0, 3033.0, 3106.0])
    heights = np.array([9.0, 7.0, 6.0, 1.0, 4.5, 1.5, 2.0])
    assert named_modes(wavenumbers, heights) == [1, 2, 4, 6]
    heights[4] = 0.2
    assert named_modes(wavenumbers, heights) == [1, 2, 6, 5]
