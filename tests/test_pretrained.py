"""The model of the package: it is small, it is as good as its card says, and every command takes it."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest

from neural_polarization.cli import main
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.density_points import DensityPoints, read_density_points
from neural_polarization.data.packed import read_packed
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.models import Model
from neural_polarization.pretrained import PRETRAINED, card, load_pretrained, pretrained_path
from neural_polarization.training.densities import by_molecule, density_errors
from neural_polarization.units import DEBYE

DATA = Path(__file__).parent.parent / "data"
WATER = "3\n\nO 0.0 0.0 0.1173\nH 0.0 0.7572 -0.4692\nH 0.0 -0.7572 -0.4692\n"


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_model_is_small_and_has_a_card(name: str) -> None:
    assert pretrained_path(name).stat().st_size < 5e6
    assert "What it is not for" in card(name)


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="pretrained model 'huge' is not known; there is small, small_bonds"):
        load_pretrained("huge")


@pytest.fixture(scope="module")
def unseen() -> list[tuple[Dataset, DensityPoints]]:
    """The densities of the repository's data that no training has seen."""
    found: list[tuple[Dataset, DensityPoints]] = []
    for data in ("small_molecules", "ordinary_molecules"):
        dataset = read_packed(DATA / f"{data}.npz")
        parts = dataset.splits["stored"].parts
        points = read_density_points(DATA / f"{data}_densities.npz", dataset.molecules)
        found.append((dataset, points.of_structures(np.concatenate([parts["validation"], parts["test"]]))))
    return found


@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_card_says_what_the_model_does(size: int, name: str, unseen: list[tuple[Dataset, DensityPoints]]) -> None:
    """Error on the unseen molecules of a size, measured again."""
    model, _ = load_pretrained(name)
    assert isinstance(model, Model)
    of_molecules: list[float] = []
    for dataset, points in unseen:
        heavy = np.add.reduceat(dataset.molecules.atomic_numbers > 1, np.cumsum([0, *dataset.molecules.n_atoms[:-1]]))
        of_size = points.of_structures(np.flatnonzero(heavy == size))
        if len(of_size):
            errors = density_errors(model, dataset.prepare(model.cutoff), of_size)
            of_molecules += by_molecule(errors, dataset.groups[of_size.structures]).values()
    mean = 100 * np.mean(of_molecules)
    said = re.search(rf"^\| {size} atoms [^|]*\|[^|]*\|[^|]*\| ([\d.]+) % ", card(name), re.MULTILINE)
    assert said is not None
    assert mean == pytest.approx(float(said[1]), rel=0.02)
    assert mean < 2.0


def test_water_is_what_it_is(tmp_path: Path) -> None:

    (tmp_path / "water.xyz").write_text(WATER, encoding="utf-8")
    model, _ = load_pretrained("small")
    density = predict_density(model, ase.io.read(tmp_path / "water.xyz"))
    assert density.electrons.item() == pytest.approx(10.0, abs=1e-6)
    dipole = density.dipole[0] / DEBYE
    assert dipole[2].item() == pytest.approx(-2.1, abs=0.4), "B3LYP: 2.1 D, from the oxygen to the hydrogens"
    assert dipole[:2].abs().max() < 1e-3


def test_every_command_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    water = tmp_path / "water.xyz"
    water.write_text(WATER, encoding="utf-8")
    assert main(["predict", "--pretrained", "small", str(water)]) == 0
    assert "dipole_z [D]" in capsys.readouterr().out
    cube, page = tmp_path / "rho.cube", tmp_path / "water.html"
    assert main(["density", "--pretrained", "small", str(water), "-o", str(cube), "--spacing", "0.3"]) == 0
    assert main(["view", "--pretrained", "small", str(water), "-o", str(page), "--spacing", "0.3"]) == 0
    assert cube.is_file() and page.is_file()
