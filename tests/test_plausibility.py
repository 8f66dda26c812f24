"""Positions and cells that cannot be are refused before anything is searched, within a second."""

import time
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.geometry import get_distances

from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.errors import DataError
from neural_polarization.molecules import Molecules
from neural_polarization.plausibility import CLOSEST, check_cell, close_pair
from neural_polarization.structures import read_structures

CELLS = {
    "infinite": ("inf 0 0 0 5 0 0 0 5", "expected nine finite numbers"),
    "NaN": ("nan 0 0 0 5 0 0 0 5", "expected nine finite numbers"),
    "tiny": ("0.1 0 0 0 0.1 0 0 0 0.1", "only 0.1 Angstrom thick"),
    "of a PDB file without one": ("1 0 0 0 1 0 0 0 1", "is a cube of one Angstrom, .*; set `pbc` to none"),
    "flat": ("5 0 0 4.999 0.001 0 0 0 5", "Angstrom thick; are the lattice vectors in Angstrom"),
    "without volume": ("5 0 0 5 0 0 0 0 5", "has no volume; give its Lattice"),
    "astronomic": ("1e30 0 0 0 1e30 0 0 0 1e30", "expected nine finite numbers"),
}


@pytest.mark.parametrize(("cell", "message"), CELLS.values(), ids=CELLS)
def test_fault_1_16_and_2_cells_that_cannot_be(tmp_path: Path, cell: str, message: str) -> None:
    path = tmp_path / "cell.xyz"
    path.write_text(f'2\nLattice="{cell}" pbc="T T T" Properties=species:S:1:pos:R:3 energy=-1\nH 0 0 0\nH 0 0 0.74\n')
    start = time.monotonic()
    with pytest.raises(DataError, match=rf"cell\.xyz: structure 0 \(line 1\): .*{message}"):
        read_structures(path)
    with pytest.raises(DataError, match=rf"cell\.xyz: structure 0 \(line 1\): .*{message}"):
        open_dataset(DataConfig("extxyz", str(path), cache=False))
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=np.array(cell.split(), float).reshape(3, 3), pbc=True)
    with pytest.raises(ValueError, match=f"structure 0: .*{message}"):
        Molecules.from_ase(atoms, 5.0)
    arrays = {"n_atoms": np.array([2]), "atomic_numbers": np.array([1, 1]), "positions": atoms.positions}
    np.savez(tmp_path / "cell.npz", energy=np.array([-1.0]), cell=atoms.cell.array[None], **arrays)
    with pytest.raises(DataError, match=rf"cell\.npz: molecule 0: .*{message}"):
        open_dataset(DataConfig("packed", str(tmp_path / "cell.npz"), cache=False))
    assert time.monotonic() - start < 5.0


def test_fault_1_14_one_limit_for_all_readers(tmp_path: Path) -> None:
    """A training set in nm; H2 at 0.30 Angstrom."""
    for name, atoms in (("nm", molecule("CH4")), ("h2", ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.3]]))):
        if name == "nm":
            atoms.positions *= 0.1
        atoms.info["energy"] = -1.0
        ase.io.write(tmp_path / f"{name}.extxyz", atoms)
        np.savez(tmp_path / f"{name}.npz", n_atoms=np.array([len(atoms)]), atomic_numbers=atoms.numbers,
                 positions=atoms.positions, energy=np.array([-1.0]))  # fmt: skip
        for format, ending in (("extxyz", "extxyz"), ("packed", "npz")):
            config = DataConfig(format, str(tmp_path / f"{name}.{ending}"), cache=False)
            with pytest.raises(DataError, match=rf"{name}\.{ending}: molecule 0: .*in Angstrom \(not nm\)"):
                open_dataset(config).prepare(5.0)
        with pytest.raises(DataError, match=rf"{name}\.extxyz: structure 0 .*in Angstrom \(not nm\)"):
            read_structures(tmp_path / f"{name}.extxyz")
        with pytest.raises(DataError, match=r"structure 0: .*in Angstrom \(not nm\)"):
            Molecules.from_ase(atoms, 5.0)


def test_fault_2_many_atoms_at_one_place(tmp_path: Path) -> None:
    crowd = ase.Atoms("H20000", np.full((20_000, 3), 0.5))
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"atoms 0 and 1 are 0.000 Angstrom apart"):
        Molecules.from_ase(crowd, 5.0)
    with pytest.raises(ValueError, match="molecule 0: atoms 0 and 1 are at one place"):
        Molecules.from_arrays(torch.as_tensor(crowd.numbers), torch.as_tensor(crowd.positions), 5.0)
    np.savez(tmp_path / "crowd.npz", n_atoms=np.array([20_000]), atomic_numbers=crowd.numbers,
             positions=crowd.positions, energy=np.array([-1.0]))  # fmt: skip
    with pytest.raises(DataError, match=r"crowd\.npz: molecule 0: atoms 0 and 1"):
        open_dataset(DataConfig("packed", str(tmp_path / "crowd.npz"), cache=False)).prepare(5.0)
    assert time.monotonic() - start < 5.0


def test_a_close_pair_is_found_wherever_it_is() -> None:
    rng = np.random.default_rng(0)
    grid = 1.0 * np.stack(np.meshgrid(*[np.arange(8.0)] * 3), -1).reshape(-1, 3)
    assert close_pair(grid) is None
    for _ in range(50):
        points = grid.copy()
        one, other = sorted(rng.choice(len(points), 2, replace=False).tolist())
        direction = rng.normal(size=3)
        points[other] = points[one] + rng.uniform(0.0, 0.99) * CLOSEST * direction / np.linalg.norm(direction)
        found = close_pair(points)
        assert found is not None and found[:2] == (one, other)
        assert found[2] == pytest.approx(np.linalg.norm(points[one] - points[other]))


def test_atoms_at_one_place_by_a_lattice_vector() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64)
    check_cell(salt.cell.array, "salt")
    salt.positions[1] = salt.cell[0] + 2 * salt.cell[2]
    with pytest.raises(DataError, match=r"structure 0: atoms 0 and 1 are 0.000 Angstrom apart"):
        Molecules.from_ase(salt, 5.0)
    salt.positions[1] = salt.cell[0] - [0.1, 0, 0]  # across the side of the cell
    with pytest.raises(DataError, match=r"structure 0: atoms 0 and 1 are 0.100 Angstrom apart"):
        Molecules.from_ase(salt, 5.0)


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_fault_1_13_molecules_far_from_the_origin(tmp_path: Path, far: float) -> None:
    """Positions about the centre of each structure are the same in single precision, wherever it is."""
    near, away = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    away.positions += [far, -far, far / 3]
    expected = near.positions - near.positions.mean(0)
    by_hand = Molecules.from_ase(away, 5.0, torch.float32)
    assert np.abs(by_hand.positions.numpy() - expected).max() < 1e-6
    double = Molecules.from_ase(away, 5.0, torch.float64)
    assert np.abs(double.to(dtype=torch.float32).positions.numpy() - expected).max() < 1e-6
    assert (double.positions.numpy() == away.positions).all()
    np.savez(tmp_path / "set.npz", n_atoms=np.array([9, 9]), atomic_numbers=np.tile(near.numbers, 2),
             positions=np.concatenate([near.positions, away.positions]), energy=np.zeros(2))  # fmt: skip
    batch = open_dataset(DataConfig("packed", str(tmp_path / "set.npz"), cache=False)).prepare(5.0).batch([1, 0])
    for positions in batch.molecules.positions.split(9):
        assert np.abs(positions.numpy() - expected).max() < 1e-6


def test_positions_beyond_a_millimetre() -> None:
    with pytest.raises(ValueError, match=r"position of atom 1 is \[1e\+200, 0\.0, 0\.0\]"):
        Molecules.from_ase(ase.Atoms("H2", [[0, 0, 0], [1e200, 0, 0]]), 5.0)


def test_close_pairs_across_the_sides_of_any_cell() -> None:
    """The same verdict and distance as ASE's minimum image, in skewed cells too."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        cell = 3.0 * rng.normal(size=(3, 3)) + 4.0 * np.eye(3)
        if 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0).max() < 0.45:
            continue
        points = rng.uniform(-5.0, 10.0, size=(4, 3))
        points[3] = points[0] + rng.integers(-2, 3, size=3) @ cell + 0.2 * rng.normal(size=3)
        distances = get_distances(points, cell=cell, pbc=True)[1] + 9.0 * np.eye(4)
        pair = close_pair(points, cell)
        assert (pair is not None) == (distances.min() < CLOSEST)
        if pair is not None:
            assert pair[2] == pytest.approx(distances[pair[0], pair[1]], abs=1e-8)
            found += 1
    assert found > 20


def test_the_cell_of_a_molecule_in_pdb_that_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ethanol.pdb"
    ase.io.write(path, molecule("CH3CH2OH"))
    path.write_text(f"CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n{path.read_text()}")
    with pytest.raises(
        DataError, match=r"its cell is a cube of one Angstrom, .*CRYST1 of a PDB file.; set `pbc` to none"
    ):
        read_structures(path)
