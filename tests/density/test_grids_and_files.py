"""Grids around molecules, and files that other programs read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io.cube import read_cube
from pyscf import gto
from pyscf.tools import cubegen

from neural_polarization.density import Density, Nuclei
from neural_polarization.density.cube import POTENTIAL, check_output, write_grid
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.grids import MOLECULAR_SURFACE, Grid, grid_around
from neural_polarization.units import BOHR, HARTREE


def methanol() -> Density:
    atoms = molecule("CH3OH")
    index = torch.zeros(6, dtype=torch.long)
    return free_atom_density(Nuclei(torch.tensor(atoms.numbers), torch.tensor(atoms.positions), index, 1))


def on_faces(grid: Grid, values: torch.Tensor) -> torch.Tensor:
    box = values.reshape(grid.shape)
    return torch.cat([face.flatten() for axis in range(3) for face in (box.select(axis, 0), box.select(axis, -1))])


def test_points_are_in_the_order_of_cube_files() -> None:
    grid = Grid((1.0, 2.0, 3.0), (2, 3, 4), 0.5)
    points = grid.points()
    assert points.shape == (24, 3)
    assert points[1].tolist() == [1.0, 2.0, 3.5]
    assert points[4].tolist() == [1.0, 2.5, 3.0]
    assert points[12].tolist() == [1.5, 2.0, 3.0]


def test_the_surface_is_inside_and_the_box_is_small() -> None:
    density = methanol()
    grid = grid_around(density, 0.2)
    values = density.evaluate(grid.points())
    assert on_faces(grid, values).max() < MOLECULAR_SURFACE
    assert on_faces(grid, values).max() > MOLECULAR_SURFACE / 20, "no more than half an Angstrom too far out"
    assert (values > MOLECULAR_SURFACE).any()


def test_margin() -> None:
    density = methanol()
    points = grid_around(density, 0.3, margin=2.0).points()
    nuclei = density.nuclei.positions
    for end, nearest in ((points.amin(0), nuclei.amin(0) - 2.0), (points.amax(0), nuclei.amax(0) + 2.0)):
        assert ((end - nearest).abs() < 0.3).all()


def test_a_sum_over_a_grid_is_the_number_of_electrons() -> None:
    """Of functions that are wide compared with the spacing: those of hydrogen, but for the steepest."""
    nuclei = Nuclei(torch.tensor([1]), torch.tensor([[0.03, 0.01, 0.02]], dtype=torch.float64), torch.tensor([0]), 1)
    density = free_atom_density(nuclei)
    grid = grid_around(density, 0.1, margin=4.5)
    total = density.evaluate(grid.points()).sum() * grid.volume_of_point
    assert total.item() == pytest.approx(1.0, abs=1e-4)


def test_grids_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"makes a grid of 1e\+09 points.*give 0.16 Angstrom or more"):
        Grid((0.0, 0.0, 0.0), (1000, 1000, 1000), 0.1)
    with pytest.raises(ValueError, match="spacing: it must be a positive length"):
        grid_around(methanol(), 0.0)
    with pytest.raises(ValueError, match=r"spacing: 50.0 Angstrom misses atoms; give 1.0 Angstrom or less"):
        grid_around(methanol(), 50.0)
    with pytest.raises(ValueError, match="margin: it must be a length"):
        grid_around(methanol(), 0.2, margin=-1.0)
    two = Nuclei(torch.tensor([1, 1]), torch.eye(3, dtype=torch.float64)[:2], torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="they are of 2 molecules"):
        grid_around(free_atom_density(two))


def test_cube_files_are_read_by_ase_and_pyscf(tmp_path: Path) -> None:
    density = methanol()
    grid = grid_around(density, 0.4)
    assert grid.shape[2] % 6, "the last line of a column is not full"
    values = density.evaluate(grid.points())
    path = tmp_path / "new" / "methanol.cube"
    write_grid(path, grid, values, density.nuclei, electrons=density.electrons.item())
    with path.open() as file:
        content = read_cube(file)
    assert content["atoms"].get_chemical_formula() == "CH4O"
    np.testing.assert_allclose(content["atoms"].positions, density.nuclei.positions, atol=1e-6)
    np.testing.assert_allclose(content["origin"], grid.origin, atol=1e-6)
    expected = values.reshape(grid.shape).numpy() * BOHR**3
    np.testing.assert_allclose(content["data"], expected, rtol=1e-6, atol=1e-20)
    pyscf = cubegen.Cube(gto.M(atom="H 0 0 0; H 0 0 1", verbose=0))
    np.testing.assert_allclose(pyscf.read(str(path)), expected, rtol=1e-6, atol=1e-20)
    np.testing.assert_allclose(pyscf.boxorig * BOHR, grid.origin, atol=1e-6)
    lines = path.read_text().splitlines()
    assert "electron density" in lines[0]
    assert lines[1].startswith("electrons: 18.000000 exactly, ")
    assert max(len(line) for line in lines) < 120


def test_columns_of_large_numbers_stay_apart(tmp_path: Path) -> None:
    """A molecule 700 Angstrom from the origin, on either side."""
    nuclei = Nuclei(torch.tensor([1, 1]), torch.tensor([[-700.0, 0, 0], [9000.0, -700, -700]]), torch.tensor([0, 0]), 1)
    grid = Grid((-700.5, 9000.25, -701.0), (1, 1, 2), 2000.0)
    write_grid(tmp_path / "far.cube", grid, torch.tensor([1.0, 2.0]), nuclei)
    with (tmp_path / "far.cube").open() as file:
        content = read_cube(file)
    np.testing.assert_allclose(content["atoms"].positions, nuclei.positions, atol=1e-5)
    np.testing.assert_allclose(content["origin"], grid.origin, atol=1e-5)


def test_potentials_are_in_atomic_units(tmp_path: Path) -> None:
    density = methanol()
    grid = grid_around(density, 0.8)
    values = density.potential(grid.points())
    write_grid(tmp_path / "v.cube", grid, values, density.nuclei, POTENTIAL)
    with (tmp_path / "v.cube").open() as file:
        content = read_cube(file)
    np.testing.assert_allclose(content["data"].ravel() * HARTREE, values, rtol=1e-6)


def test_archives(tmp_path: Path) -> None:
    density = methanol()
    grid = grid_around(density, 0.5)
    values = density.evaluate(grid.points().float())
    write_grid(tmp_path / "rho.npz", grid, values, density.nuclei, electrons=18.0)
    with np.load(tmp_path / "rho.npz") as content:
        np.testing.assert_array_equal(content["values"], values.reshape(grid.shape))
        assert content["electrons"] == 18.0
        assert str(content["unit"]) == "e/Angstrom^3"
        np.testing.assert_allclose(content["origin"], grid.origin)
        np.testing.assert_array_equal(content["atomic_numbers"], density.nuclei.atomic_numbers)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    density, grid = methanol(), Grid((0.0, 0.0, 0.0), (1, 1, 2), 1.0)
    values = torch.tensor([1.0, 2.0])
    path = tmp_path / "rho.cube"
    write_grid(path, grid, values, density.nuclei)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"rho.cube is there already"):
        write_grid(path, grid, 2 * values, density.nuclei)
    assert path.read_bytes() == before
    write_grid(path, grid, 2 * values, density.nuclei, overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(ValueError, match=r"give .cube or .npz"):
        check_output(tmp_path / "rho.txt")
    with pytest.raises(OSError, match="its folder cannot be written"):
        check_output(path / "inside" / "rho.cube")
    with pytest.raises(IsADirectoryError):
        (tmp_path / "folder.cube").mkdir()
        check_output(tmp_path / "folder.cube")
    with pytest.raises(ValueError, match="3 numbers, but the grid has 2 points"):
        write_grid(tmp_path / "other.cube", grid, torch.ones(3), density.nuclei)
    assert not list(tmp_path.glob(".*")), "nothing is left over"
