"""`npol density`: files that other programs read, values that are those of the density, and what is refused."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.io.cube import read_cube

from density_models import density_model, shaken
from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.cli import main
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.grids import grid_around
from neural_polarization.interfaces.electrons import KINDS, predict_density, write_density
from neural_polarization.models import HeadConfig
from neural_polarization.units import BOHR, HARTREE


def test_a_cube_holds_the_density(model_file: str, water: str, tmp_path: Path) -> None:
    output = tmp_path / "rho.cube"
    assert main(["density", model_file, water, "-o", str(output), "--spacing", "0.2"]) == 0
    with output.open() as file:
        cube = read_cube(file)
    spacing = float(cube["spacing"][0, 0])
    assert spacing == pytest.approx(0.2, rel=1e-6)
    index = (10, 12, 9)
    place = torch.tensor(cube["origin"] + spacing * np.array(index), dtype=torch.float64).unsqueeze(0)
    density = predict_density(load_model(model_file)[0], ase.io.read(water))
    expected = density.evaluate(place).item()
    assert cube["data"][index] / BOHR**3 == pytest.approx(expected, rel=1e-4)
    assert "electrons: 10.000000 exactly" in output.read_text(encoding="utf-8").splitlines()[1]
    assert cube["data"][[0, -1]].max() < 0.002, "the surface of 0.002 e/bohr^3 is inside"


def test_kinds_are_what_they_say(tmp_path: Path) -> None:
    density = predict_density(density_model(), shaken("H2O"))
    points = 1.2 * torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    values = {name: kind.values(density, points) for name, kind in KINDS.items()}
    free = free_atom_density(density.nuclei).evaluate(points)
    torch.testing.assert_close(values["deformation"], values["total"].double() - free, rtol=1e-4, atol=1e-5)
    assert (values["total"] - values["valence"] > -1e-6).all(), "cores are positive"
    torch.testing.assert_close(values["potential"], density.potential(points))
    electrons = {name: kind.electrons(density) for name, kind in KINDS.items()}
    assert electrons["total"] == pytest.approx(10.0, abs=1e-6)
    assert electrons["deformation"] == pytest.approx(0.0, abs=1e-6)
    assert electrons["valence"] == pytest.approx(8.0, abs=1e-6)
    assert electrons["potential"] is None


def test_a_potential_in_atomic_units(tmp_path: Path) -> None:
    """Near a nucleus it is that of the nucleus."""
    model, atoms = density_model(), shaken("H2O")
    [path] = write_density(model, [atoms], tmp_path / "v.npz", "potential", 0.3, margin=1.0)
    [cube_path] = write_density(model, [atoms], tmp_path / "v.cube", "potential", 0.3, margin=1.0)
    with np.load(path) as file, cube_path.open() as text:
        assert str(file["unit"]) == "V"
        np.testing.assert_allclose(read_cube(text)["data"] * HARTREE, file["values"], rtol=1e-5, atol=1e-5)


def test_many_structures_make_numbered_files(model_file: str, tmp_path: Path) -> None:
    frames = tmp_path / "two.extxyz"
    ase.io.write(frames, [shaken("H2O"), shaken("CH4")])
    output = tmp_path / "out" / "rho.npz"
    assert main(["density", model_file, str(frames), "-o", str(output), "--spacing", "0.3", "--kind", "valence"]) == 0
    with np.load(tmp_path / "out" / "rho_1.npz") as file:
        assert file["atomic_numbers"].tolist() == [6, 1, 1, 1, 1]
        assert float(file["electrons"]) == pytest.approx(8.0, abs=1e-6)
    assert (tmp_path / "out" / "rho_0.npz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--spacing", "0.003"], "points; 2.7e+08 are the limit: give"),
        (["--spacing", "-1"], "spacing: it must be a positive length"),
        (["--margin", "nan"], "margin: it must be a length"),
        (["--pretrained", "small"], "are two models; give one of them"),
        (["--unknown"], "unknown argument '--unknown'"),
    ],
)
def test_what_is_refused(
    model_file: str, water: str, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rho.cube"
    assert main(["density", model_file, water, "-o", str(output), *words]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_files_that_cannot_be_written(
    model_file: str, water: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "rho.cube"
    there.write_text("mine", encoding="utf-8")
    blocked = tmp_path / "rho.cube" / "rho.cube"  # a file where a folder is needed
    for output, message in (
        (there, "is there already"),
        (blocked, "cannot be written"),
        (tmp_path / "rho.txt", "ending"),
    ):
        assert main(["density", model_file, water, "-o", str(output)]) == 2
        assert message in capsys.readouterr().err
    assert there.read_text(encoding="utf-8") == "mine"
    assert main(["density", model_file, water, "-o", str(there), "--overwrite", "--spacing", "0.4"]) == 0
    assert there.read_text(encoding="utf-8").startswith("neural-polarization")


def test_models_and_elements_that_do_not_fit(
    model_file: str, water: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = tmp_path / "without.safetensors"
    save_model(density_model(density=None, energy=HeadConfig("extensive")), without)
    output = str(tmp_path / "rho.cube")
    assert main(["density", str(without), water, "-o", output]) == 2
    assert "predicts no electron density" in capsys.readouterr().err
    ase.io.write(tmp_path / "ammonia.xyz", shaken("NH3"))
    assert main(["density", model_file, str(tmp_path / "ammonia.xyz"), "-o", output]) == 2
    assert "contains N" in capsys.readouterr().err
    assert main(["density", model_file, "-o", output]) == 2
    assert "no structure" in capsys.readouterr().err
    assert main(["density", "-o", output]) == 2
    assert "no model" in capsys.readouterr().err
    assert main(["density", water, "-o", output]) == 2
    assert f"no model: {water} is a file of structures; give the .safetensors" in capsys.readouterr().err
    crystal = shaken("H2O")
    crystal.set_cell([6.0, 6.0, 6.0])
    crystal.pbc = True
    with pytest.raises(ValueError, match="densities of periodic systems are not supported"):
        predict_density(density_model(), crystal)
    two = tmp_path / "two.extxyz"
    ase.io.write(two, [shaken("H2O"), crystal])
    for kind, ending in (("total", "cube"), ("charges", "csv")):
        assert main(["density", model_file, str(two), "-o", f"{tmp_path}/two.{ending}", "--kind", kind]) == 2
        assert f"{two}: structure 1 (H2O) is periodic" in capsys.readouterr().err
        assert not list(tmp_path.glob(f"*.{ending}")), "nothing is written of the first one"


def test_a_density_is_where_the_structure_is() -> None:
    """Far from the origin too, though networks see molecules about their centre."""
    model, near = density_model(), shaken("H2O")
    far = near.copy()
    far.positions += [30.0, -20.0, 10.0]
    one, other = predict_density(model, near), predict_density(model, far)
    points = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    away = points + torch.tensor([30.0, -20.0, 10.0], dtype=torch.float64)
    torch.testing.assert_close(other.evaluate(away), one.evaluate(points), rtol=1e-4, atol=1e-5)
    peak = one.evaluate(torch.from_numpy(near.positions))
    assert peak[0] > 1000.0, "the nucleus of oxygen"
    np.testing.assert_allclose(one.nuclei.positions.numpy(), near.positions)


def test_a_grid_far_from_the_origin_has_all_its_digits() -> None:
    model, near = density_model(), shaken("H2O")
    far = near.copy()
    far.positions += [3e4, -1e4, 2e4]
    tables = []
    for atoms in (near, far):
        density = predict_density(model, atoms)
        grid = grid_around(density, 0.25)
        tables.append(KINDS["total"].values(density, grid.points()).reshape(grid.shape))
    assert tables[0].shape == tables[1].shape
    assert abs(tables[0].sum() - tables[1].sum()) < 1e-3 * tables[0].sum()
