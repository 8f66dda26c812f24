"""Pages of what a model predicts, with a density and without one."""

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch

from density_models import density_model, shaken
from neural_polarization.checkpoints import save_model
from neural_polarization.cli import main
from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.density import Density, FlatShells, Nuclei
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.knowledge import OutsideTrainingWarning
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig
from neural_polarization.molecules import Molecules
from neural_polarization.units import BOHR
from neural_polarization.view.prediction import scene_of_density, scenes_of

DATA = Path(__file__).parents[2] / "data"
HEADS = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
UNITS = {"energy": "meV", "dipole": "D"}


def test_a_scene_of_a_model_with_a_density() -> None:
    model, water = density_model(**HEADS), shaken("H2O")
    water.info["name"] = "water"
    [scene] = scenes_of(model, [water], UNITS, spacing=0.25)
    assert scene.title == "water"
    assert scene.density is not None and scene.deformation is not None and scene.potential is not None
    electrons = scene.density.values.sum() * scene.density.cell_volume
    assert electrons == pytest.approx(10.0, rel=0.1)
    assert scene.density.values[[0, -1]].max() < 0.002 / BOHR**3
    assert scene.moving_points is not None and scene.moving_points.shape == (2, 3, 3)
    assert np.abs(scene.moving_points[-1] - water.positions).max() > 1e-3
    assert scene.properties["electrons"] == "10.000000"
    assert scene.properties["energy"].endswith(" eV")
    assert "dipole of the density, length" in scene.properties
    assert scene.dipole is not None and scene.dipole.shape == (3,)


def test_a_scene_of_a_model_without_a_density() -> None:
    [scene] = scenes_of(density_model(density=None, **HEADS), [shaken("CH3OH")], UNITS)
    assert scene.density is None and scene.potential is None
    assert scene.moving_points is not None
    assert scene.dipole is not None and scene.charges is None
    [charged] = scenes_of(density_model(density=None, q=HeadConfig("atomic_charges")), [shaken("CH3OH")], UNITS)
    assert charged.charges is not None and charged.charges.shape == (6,)
    assert abs(charged.charges.sum()) < 1e-9
    [plain] = scenes_of(density_model(Messages.PLAIN, None, **HEADS), [shaken("CH3OH")], UNITS)
    assert plain.moving_points is None


def test_the_charge_by_any_of_its_names() -> None:
    water, hydroxide = shaken("H2O"), shaken("OH")
    water.info["total_charge"] = 1
    hydroxide.set_initial_charges([-1.0, 0.0])
    with pytest.warns(OutsideTrainingWarning, match="structures with a charge: 2 of 2"):
        scenes = scenes_of(density_model(density=None, **HEADS), [water, hydroxide], UNITS)
    assert [scene.charge for scene in scenes] == [1, -1]


def test_a_scene_of_a_stored_density() -> None:
    """Charge, electrons and dipole are the label's; there are no moving points."""
    data = read_packed(DATA / "small_molecules.npz")
    densities = Densities(DATA / "small_molecules_densities.npz", data.molecules)
    atoms = data.molecules.atoms_of(densities.structures[:1])
    water = ase.Atoms(data.molecules.atomic_numbers[atoms], data.molecules.positions[atoms], info={"name": "first"})
    scene = scene_of_density(water, densities[0], spacing=0.25)
    assert (scene.title, scene.charge, scene.moving_points) == ("first", 0, None)
    assert scene.density is not None and scene.deformation is not None and scene.dipole is not None
    electrons = scene.density.values.sum() * scene.density.cell_volume
    assert electrons == pytest.approx(water.numbers.sum(), rel=0.1)
    labelled = data.labels["dipole"][densities.structures[0]]
    np.testing.assert_allclose(scene.dipole, labelled, atol=1e-3)


def test_a_scene_of_another_density_is_refused() -> None:
    """Other atoms, other positions, and a batch in single precision, whose molecules are about their own centres."""
    model, methane = density_model(), shaken("CH4")
    methane.positions += 5.0
    density = predict_density(model, methane)
    for atoms, message in (
        (shaken("H2O"), "its atoms are not those of the structure"),
        (shaken("CH4"), r"8\.660 Angstrom .* all atoms are moved alike"),
        (ase.Atoms(methane.numbers, 1.1 * methane.positions), "give the density of these positions"),
    ):
        with pytest.raises(ValueError, match=message):
            scene_of_density(atoms, density)
    moved = model.density(Molecules.from_ase(methane, model.cutoff, torch.float32)).detach()
    with pytest.raises(ValueError, match=r"take the density that `interfaces\.electrons\.predict_density`"):
        scene_of_density(methane, moved)


def test_a_scene_of_an_element_without_a_free_atom() -> None:
    """Density and potential are shown; there is no deformation density."""
    atoms = ase.Atoms("XeF", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.1]])
    nuclei = Nuclei(torch.tensor([54, 9]), torch.tensor(atoms.positions), torch.tensor([0, 0]), 1)
    one = torch.ones(2, dtype=torch.float64)
    density = Density.from_shells(nuclei, FlatShells(torch.tensor([0, 1]), torch.tensor([0, 0]), one, one))
    scene = scene_of_density(atoms, density, spacing=0.5)
    assert scene.deformation is None
    assert scene.density is not None and scene.potential is not None
    with pytest.raises(ValueError, match="Xe: there is no free atom"):
        free_atoms(nuclei)


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, frames, page = tmp_path / "model.safetensors", tmp_path / "two.extxyz", tmp_path / "page.html"
    save_model(density_model(**HEADS), model)
    ase.io.write(frames, [shaken("H2O"), shaken("CH4")])
    words = ["view", str(model), str(frames), "-o", str(page), "--spacing", "0.4", "--title", "Two molecules"]
    assert main(words) == 0
    assert "(2 structures)" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "<title>Two molecules" in text and "CH4" in text
    assert main(words) == 2
    assert "exists; give another path" in capsys.readouterr().err
    assert main(["view", str(model), "-o", str(tmp_path / "other.html")]) == 2
    assert "no structure" in capsys.readouterr().err


def test_the_command_writes_a_figure_of_one_structure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, frames, figure = tmp_path / "model.safetensors", tmp_path / "two.extxyz", tmp_path / "figure.svg"
    save_model(density_model(**HEADS), model)
    ase.io.write(frames, [shaken("H2O"), shaken("CH4")])
    words = ["view", str(model), str(frames), "-o", str(figure), "--spacing", "0.4", "--title", "Water, shaken"]
    assert main(words) == 2
    assert "a figure shows one structure, and there are 2" in capsys.readouterr().err
    ase.io.write(frames, shaken("H2O"))
    assert main(words) == 0
    assert "Water, shaken" in figure.read_text(encoding="utf-8")  # matplotlib leaves titles as comments
    assert main(words) == 2
    assert "exists; give another path" in capsys.readouterr().err
    assert main(["view", str(model), str(frames), "-o", str(tmp_path / "figure.gif")]) == 2
    assert "a figure with .png, .svg or .pdf" in capsys.readouterr().err
