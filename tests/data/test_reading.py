"""What a data set says of its file: counts, names, isolated atoms, origins of dipoles; and labels that are none."""

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from neural_polarization.data.ase_formats import read_extxyz
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.config import DataConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.origins import Origin
from neural_polarization.data.packed import read_packed, write_packed
from neural_polarization.data.sources import open_dataset
from neural_polarization.errors import DataError
from neural_polarization.properties import Property
from neural_polarization.units import factor

FRAME = "2\nProperties=species:S:1:pos:R:3{columns} {pair}\nH 0 0 0{one}\nH 0 0 0.{digits}{two}\n"


def frames(path: Path, pairs: list[str]) -> Path:
    text = [FRAME.format(pair=pair, digits=740 + k, columns="", one="", two="") for k, pair in enumerate(pairs)]
    path.write_text("".join(text))
    return path


def opened(path: Path, properties: dict[str, PropertyConfig] | None = None, format: str = "extxyz") -> Dataset:
    return open_dataset(DataConfig(format, str(path), properties=properties, cache=False))


def test_fault_1_4_half_of_the_frames_under_another_name(tmp_path: Path) -> None:
    path = frames(tmp_path / "set.xyz", ["energy=-31.0"] * 10 + ["REF_energy=-31.0"] * 9 + ["energy=nan"])
    data = opened(path)
    assert len(data) == 10
    assert data.reading.structures == 20
    count = data.reading.labels["energy"]
    assert (count.source, count.labelled, count.unlabelled) == ("energy", 10, 10)
    assert count.reason == "no energy, first in structure 10 (line 41)"
    assert data.reading.left_out == {"no label of energy": 10}
    text = str(data.reading)
    assert "20 structures read" in text and "left out: 10 (no label of energy)" in text
    assert "REF_energy is not used: it stands in 9 structures without energy (first: " in text
    assert data.label_counts(np.array([0, 1, 2])) == {"energy": 3}


def test_fault_1_4_one_name_that_everybody_understands(tmp_path: Path) -> None:
    data = opened(frames(tmp_path / "set.xyz", ["REF_energy=-31.0", "REF_energy=-32.0"]))
    np.testing.assert_array_equal(data.labels["energy"], [-31.0, -32.0])
    assert "energy is read from REF_energy" in str(data.reading)
    with pytest.raises(DataError, match=r"neither energy .*energy: \{source: dft_energy, unit: eV\}"):
        opened(frames(tmp_path / "other.xyz", ["dft_energy=-31.0"]))


def test_counts_of_other_formats(tmp_path: Path) -> None:
    arrays = {"n_atoms": np.array([1, 1]), "atomic_numbers": np.array([1, 8]), "positions": np.eye(3)[:2]}
    np.savez(tmp_path / "set.npz", **arrays, energy=np.array([1.0, np.nan]), dipole=np.zeros((2, 3)))
    data = opened(tmp_path / "set.npz", format="packed")
    count = data.reading.labels["energy"]
    assert (count.labelled, count.unlabelled, count.reason) == (1, 1, "NaN in the file")
    assert data.reading.isolated_atoms == 2


def test_fault_1_3_isolated_atoms_are_recognized(tmp_path: Path) -> None:
    hydrogen = ase.Atoms("H", info={"config_type": "IsolatedAtom", "REF_energy": -13.6})
    oxygen = ase.Atoms("O", cell=[20] * 3, pbc=True, info={"config_type": "IsolatedAtom", "REF_energy": -2040.0})
    ion = ase.Atoms("O", info={"charge": 1, "REF_energy": -2026.0})
    crystal = ase.Atoms("Fe", cell=[[-1.4, 1.4, 1.4], [1.4, -1.4, 1.4], [1.4, 1.4, -1.4]], pbc=True)
    water = molecule("H2O")
    for atoms in (crystal, water):
        atoms.info["REF_energy"] = -2079.0
    ase.io.write(tmp_path / "set.extxyz", [hydrogen, water, oxygen, ion, crystal])
    data = opened(tmp_path / "set.extxyz")
    assert data.isolated.tolist() == [True, False, True, False, False]
    assert data.reading.isolated_atoms == 2
    assert data.subset(np.array([1, 2])).isolated.tolist() == [False, True]
    assert data.select(["energy"]).isolated.tolist() == data.isolated.tolist()
    write_packed(data, tmp_path / "set.npz")
    assert read_packed(tmp_path / "set.npz").isolated.tolist() == data.isolated.tolist()
    water.info["config_type"] = "isolated_atom"
    ase.io.write(tmp_path / "set.extxyz", water)
    assert not opened(tmp_path / "set.extxyz").isolated.any()
    water.info["config_type"] = "IsolatedAtom"
    ase.io.write(tmp_path / "set.extxyz", water)
    with pytest.raises(DataError, match=r"structure 0 .*config_type=IsolatedAtom, but has 3 atoms"):
        opened(tmp_path / "set.extxyz")


CENTRES = {
    "mass": lambda atoms: atoms.get_center_of_mass(),
    "coordinates": lambda atoms: np.zeros(3),
    "nuclear_charge": lambda atoms: atoms.numbers @ atoms.positions / atoms.numbers.sum(),
}


@pytest.mark.parametrize("origin", CENTRES)
def test_fault_1_9_dipoles_of_ions_from_any_origin(tmp_path: Path, origin: Origin) -> None:
    """Point charges: their dipole about the file's origin becomes the one about the centre of nuclear charge."""
    rng = np.random.default_rng(0)
    written: list[ase.Atoms] = []
    expected: list[np.ndarray] = []
    for k, charge in enumerate([1, -1, 0]):
        atoms = molecule("CH3OH")
        atoms.positions += rng.normal(size=3)
        charges = rng.normal(size=len(atoms))
        charges += (charge - charges.sum()) / len(atoms)
        about = CENTRES[origin](atoms)
        atoms.info |= {"charge": charge, "dipole": charges @ (atoms.positions - about), "E": float(k)}
        expected.append(charges @ (atoms.positions - CENTRES["nuclear_charge"](atoms)))
        written.append(atoms)
    ase.io.write(tmp_path / "set.extxyz", written, format="extxyz")
    data = opened(tmp_path / "set.extxyz", {"dipole": PropertyConfig(origin=origin)})
    np.testing.assert_allclose(data.labels["dipole"], expected, atol=1e-6)
    if origin == "nuclear_charge":
        with pytest.warns(UserWarning, match="dipoles of 2 ions are taken about the centre of nuclear charge; if"):
            np.testing.assert_allclose(opened(tmp_path / "set.extxyz").labels["dipole"], expected, atol=1e-6)
    with pytest.raises(DataError, match=r"data\.properties\.E\.origin: E is no dipole"):
        opened(tmp_path / "set.extxyz", {"E": PropertyConfig(unit="eV", origin="mass")})


def test_stress_and_virial(tmp_path: Path) -> None:
    """ASE's order and sign; a virial is minus the stress times the volume."""
    stress = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) / 100
    full = stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    crystals = [ase.Atoms("Cu", cell=[2.0, 3.0, 4.0], pbc=True) for _ in range(3)]
    for atoms in crystals:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    crystals[0].calc = SinglePointCalculator(crystals[0], energy=-1.0, stress=stress)
    wanted = {"stress": PropertyConfig()}
    ase.io.write(tmp_path / "stress.extxyz", crystals[:1])
    np.testing.assert_allclose(opened(tmp_path / "stress.extxyz", wanted).labels["stress"], [stress])
    for key, value in (("virial", -24.0 * full), ("REF_virials", -24.0 * full.reshape(9)), ("REF_stress", full)):
        atoms = crystals[1].copy()
        atoms.info[key] = value
        ase.io.write(tmp_path / "set.extxyz", atoms)
        data = opened(tmp_path / "set.extxyz", wanted)
        np.testing.assert_allclose(data.labels["stress"], [stress], atol=1e-7)


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("Virial", PropertyConfig()),
        ("REF-virial", PropertyConfig()),
        ("Virial", PropertyConfig("Virial")),
        ("virial", PropertyConfig("virial", "eV")),
        ("virial", PropertyConfig("virial", "hartree", shown_in="hartree/bohr^3")),
        ("W", PropertyConfig("W", "kcal/mol")),
    ],
)
def test_virials_by_other_names_and_units(tmp_path: Path, key: str, config: PropertyConfig) -> None:
    """A virial is an energy: it is told by its name, however that is spelled, or by its unit."""
    atoms = ase.Atoms("Cu", cell=[2.0, 3.0, 4.0], pbc=True, info={key: -24.0 * np.diag([1.0, 2.0, 3.0])})
    ase.io.write(tmp_path / "set.extxyz", atoms)
    found = opened(tmp_path / "set.extxyz", {"stress": config}).labels["stress"]
    np.testing.assert_allclose(found, [np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]) * factor(config.unit or "eV")])


def test_a_stress_needs_a_volume(tmp_path: Path) -> None:
    """A molecule has no stress, whatever its file says; a slab has that of its cell with the vacuum."""
    slab = ase.Atoms("Cu", cell=[2.0, 3.0, 10.0], pbc=[True, True, False])
    slab.info["virial"] = -60.0 * np.eye(3)
    box = ase.Atoms("Cu", cell=[9.0, 9.0, 9.0], info={"virial": np.eye(3)})
    thin = ase.Atoms("Cu", cell=[2.0, 3.0, 0.0], pbc=[True, True, False], info={"virial": np.eye(3)})
    ase.io.write(tmp_path / "set.extxyz", [slab, box, thin])
    data = read_extxyz(tmp_path / "set.extxyz", {"stress": PropertyConfig()})
    np.testing.assert_allclose(data.labels["stress"], [[1, 1, 1, 0, 0, 0], [np.nan] * 6, [np.nan] * 6])
    assert data.reading.labels["stress"].reason == "no periodic cell for virial, first in structure 1 (line 4)"
    np.testing.assert_allclose(data.molecules.volumes, [60.0, 0.0, 0.0])
    with pytest.raises(DataError, match="set: structure 0 has a stress, but no periodic cell"):
        Dataset(
            "set",
            FlatMolecules.checked("set", np.array([1]), np.array([1]), np.zeros((1, 3))),
            {"stress": Property("stress", "eV/Angstrom^3", (6,))},
            {"stress": np.ones((1, 6))},
        )


@pytest.mark.parametrize("value", [1j, np.array([1j]), True, "low", np.datetime64("2024-01-01"), np.inf, -np.inf])
def test_fault_1_18_energies_that_are_no_numbers(tmp_path: Path, value: object) -> None:
    arrays = {"n_atoms": np.array([1]), "atomic_numbers": np.array([1]), "positions": np.zeros((1, 3))}
    np.savez(tmp_path / "set.npz", **arrays, energy=np.array(value).reshape(1))
    with pytest.raises(DataError, match=r"set\.npz: .*(energy' has type|infinite)"):
        opened(tmp_path / "set.npz", format="packed")


def test_fault_4_formats_that_ase_reads(tmp_path: Path) -> None:
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=-14.0, forces=np.ones((3, 3)))
    ase.io.write(tmp_path / "set.traj", [water, water])
    for format in ("ase", "extxyz"):
        data = opened(tmp_path / "set.traj", format=format)
        np.testing.assert_array_equal(data.labels["energy"], -14.0)
        np.testing.assert_array_equal(data.labels["forces"], 1.0)


def test_fault_5_infinite_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set\.xyz: energy of molecule 1 is infinite"):
        opened(frames(tmp_path / "set.xyz", ["energy=1", "energy=inf"]))
    with pytest.raises(DataError, match=r"data\.properties\.energy\.unit: unknown unit 'ev'.*did you mean 'eV'\?"):
        opened(frames(tmp_path / "set.xyz", ["E=1"]), {"energy": PropertyConfig("E", "ev")})
    with pytest.raises(DataError, match=r"unit 'eV/atom': energies are totals .* multiply them by the number of atoms"):
        opened(frames(tmp_path / "set.xyz", ["E=1"]), {"energy": PropertyConfig("E", "eV/atom")})
