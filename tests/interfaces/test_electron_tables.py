"""`npol density --kind charges` and `--kind surface`: values, units, and what is refused."""

import csv
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from density_models import density_model, shaken
from neural_polarization.checkpoints import load_model
from neural_polarization.cli import main
from neural_polarization.density.partition import hirshfeld, mbis
from neural_polarization.density.surface import surface_points
from neural_polarization.interfaces.electron_tables import write_tables
from neural_polarization.interfaces.electrons import predict_density


def test_charges_in_a_table(model_file: str, water: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "q.csv"
    assert main(["density", model_file, water, "-o", str(output), "--kind", "charges"]) == 0
    assert f"written: {output}" in capsys.readouterr().out
    with output.open() as file:
        rows = list(csv.DictReader(file))
    density = predict_density(load_model(model_file)[0], ase.io.read(water))
    for name, found in (("hirshfeld", hirshfeld(density)), ("mbis", mbis(density))):
        charges = [float(row[f"{name}_charges [e]"]) for row in rows]
        np.testing.assert_allclose(charges, found.charges, atol=1e-6)
        assert sum(charges) == pytest.approx(0.0, abs=1e-6)
        dipoles = [float(row[f"{name}_dipoles_z [e*Angstrom]"]) for row in rows]
        np.testing.assert_allclose(dipoles, found.dipoles[:, 2], atol=1e-6)
    assert [row["atomic_numbers"] for row in rows] == ["8", "1", "1"]


def test_a_potential_on_surfaces(model_file: str, water: str, tmp_path: Path) -> None:
    output = tmp_path / "v.npz"
    assert main(["density", model_file, water, "-o", str(output), "--kind", "surface"]) == 0
    density = predict_density(load_model(model_file)[0], ase.io.read(water))
    with np.load(output) as file:
        points = torch.from_numpy(file["points"])
        torch.testing.assert_close(points, surface_points(density.nuclei))
        torch.testing.assert_close(torch.from_numpy(file["potential"]), density.potential(points))
        assert (str(file["points_unit"]), str(file["potential_unit"])) == ("Angstrom", "V")


def test_many_structures_make_numbered_files(tmp_path: Path) -> None:
    frames = [shaken("H2O"), shaken("CH4")]
    paths = write_tables(density_model(), frames, tmp_path / "v.csv", "surface")
    assert [path.name for path in paths] == ["v_0.csv", "v_1.csv"]
    lengths = [len(path.read_text().splitlines()) - 1 for path in paths]
    assert lengths == [len(surface_points(predict_density(density_model(), frame).nuclei)) for frame in frames]


@pytest.mark.parametrize(
    ("output", "words", "message"),
    [
        ("q.cube", ["--kind", "charges"], "the ending says which format is written; give .csv or .npz"),
        ("q.csv", [], "the ending says which format is written; give .cube or .npz"),
        ("q.csv", ["--kind", "charges", "--spacing", "0.2"], "--kind charges has no grid; leave out --spacing"),
        ("q.csv", ["--kind", "surface", "--margin", "2"], "--kind surface has no grid; leave out --spacing"),
    ],
)
def test_what_is_refused(
    model_file: str,
    water: str,
    tmp_path: Path,
    output: str,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["density", model_file, water, "-o", str(tmp_path / output), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / output).exists()


def test_files_and_models_that_do_not_fit(tmp_path: Path) -> None:
    there = tmp_path / "q.csv"
    there.write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="is there already"):
        write_tables(density_model(), [shaken("H2O")], there, "charges")
    assert there.read_text(encoding="utf-8") == "mine"
    write_tables(density_model(), [shaken("H2O")], there, "surface", overwrite=True)
    assert there.read_text(encoding="utf-8").startswith("points_x [Angstrom]")
    with pytest.raises(ValueError, match="kind: 'mulliken' is not known; choose one of charges, surface"):
        write_tables(density_model(), [shaken("H2O")], tmp_path / "x.csv", "mulliken")
    with pytest.raises(ValueError, match="predicts no electron density"):
        write_tables(density_model(density=None), [shaken("H2O")], tmp_path / "x.csv", "charges")
    with pytest.raises(ValueError, match="contains N, but the model was trained for H, C, O"):
        write_tables(density_model(), [shaken("NH3")], tmp_path / "x.csv", "charges")
