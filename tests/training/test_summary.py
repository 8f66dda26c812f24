"""The printout before a training: what is in it for good data, and that faults in the data stand out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.data.packed import write_packed
from neural_polarization.errors import DataError
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from neural_polarization.training.summary import summary
from neural_polarization.training.task import prepare
from waters import experiment, waters


def lines_of(folder: Path, **training: object) -> list[str]:
    config = build(ExperimentConfig, experiment(folder, **training), Source("test"))
    return summary(prepare(config), config, "cpu").split("\n")


def test_good_data(tmp_path: Path) -> None:
    config = build(ExperimentConfig, experiment(tmp_path), Source("test"))
    task = prepare(config)
    lines = summary(task, config, "cpu").split("\n")
    dataset, train = task.dataset, task.split.train
    energies = dataset.labels["energy"][train]
    forces = dataset.labels["forces"][dataset.molecules.atoms_of(train)]
    largest = np.nanmax(np.linalg.norm(forces, axis=1))
    composition = dataset.composition(("H", "O"), train)
    values = np.linalg.lstsq(composition, energies, rcond=None)[0]
    spread = 1000 * np.sqrt(((energies - composition @ values) ** 2).mean())
    heads = [line[:12].strip() for line in lines if not line.startswith("no label")]
    assert heads == [
        "data", "parts", "labels", "", "", "", "elements", "molecules", "references", "energy", "forces", "model",
        "device",
    ]  # fmt: skip
    by_head = {line[:12].strip(): line[13:] for line in lines if line[:12].strip()}
    assert by_head["data"].startswith(f"{tmp_path / 'waters.npz'}: 40 structures read, contents ")
    assert by_head["parts"] == "train 24, validation 8, test 8 (by structure)"
    assert lines[3].split() == ["energy", "24", "8", "8"]
    assert "(not predicted)" in lines[5]
    h = int(composition[:, 0].sum())
    assert by_head["elements"] == f"H {h}, O 24 (atoms of the training part)"
    assert by_head["references"] == f"energy: H {values[0]:.6g}, O {values[1]:.6g} eV; by least squares"
    assert by_head["energy"] == (
        f"{energies.min():.8g} to {energies.max():.8g} eV; root mean square {spread:.4g} meV about the references"
    )
    assert f"largest {largest:.4g} eV/Angstrom in structure" in by_head["forces"]
    assert by_head["model"].startswith("painn, moving_view, ")
    assert by_head["device"].startswith("CPU, ")


def test_labels_are_counted_part_by_part(tmp_path: Path) -> None:
    """FAULTS 1.4: twenty frames, ten of them with another key, trained on ten without a word."""
    dataset = waters()
    dataset.labels["energy"][::2] = np.nan
    write_packed(dataset, tmp_path / "waters.npz")
    config = build(ExperimentConfig, experiment(tmp_path), Source("test"))
    task = prepare(config)
    without = int((task.split.train % 2 == 0).sum())
    text = summary(task, config, "cpu")
    assert f"energy                  {24 - without} ({without} without)" in text
    assert task.dataset.label_counts(task.split.train)["energy"] == 24 - without
    assert task.dataset.label_counts(task.split.train)["forces"] == 24 - int(0 in task.split.train)


def test_what_stands_far_outside_is_named(tmp_path: Path) -> None:
    """FAULTS 6: forces a thousand times too large and energies in another unit did not stand out."""
    dataset = waters()
    dataset.labels["forces"][dataset.molecules.starts[13] + 1] *= 1000.0
    dataset.labels["energy"][25] /= 27.211386
    write_packed(dataset, tmp_path / "waters.npz")
    found = [line for line in lines_of(tmp_path) if line.startswith("far outside")]
    assert len(found) == 2
    assert any("structure 25 (H2O" in line and "energy -76." in line for line in found)
    assert any("structure 13 (H2O" in line and "largest force" in line for line in found)


def test_doubts_are_errors_where_it_is_strict(tmp_path: Path) -> None:
    config = build(ExperimentConfig, experiment(tmp_path, epochs=1), Source("test"))
    good = replace(config, output=str(tmp_path / "good"))
    assert fit(good, quiet=True, strict=True)["epochs"] == 1
    dataset = waters()
    dataset.labels["energy"][25] /= 27.211386
    write_packed(dataset, tmp_path / "waters.npz")
    with pytest.raises(DataError, match=r"structure 25 .H2O.*energy -76.* is it right\? \(with --strict"):
        fit(config, quiet=True, strict=True)
    assert not (tmp_path / "run" / "config.yaml").exists()
    # A warning that is given before a training, too.
    dataset = waters()
    dataset.labels["forces"][dataset.molecules.atoms_of(prepare(config).split.validation)] = np.nan
    write_packed(dataset, tmp_path / "waters.npz")
    with pytest.raises(DataError, match=r"^data\.split: the validation part has no label of forces; .*with --strict"):
        fit(config, quiet=True, strict=True)


def test_references_of_another_unit_stand_out(tmp_path: Path) -> None:
    references = {"energy": {"atoms": {"H": -0.5, "O": -75.08}}}  # in hartree, without saying so
    found = [line for line in lines_of(tmp_path, references=references) if line.startswith("far outside")]
    assert any("against the references, which none is" in line for line in found)
    good = {"energy": {"atoms": {"H": -0.5, "O": -75.08}, "unit": "hartree"}}
    assert not [line for line in lines_of(tmp_path, references=good) if "which none is" in line]


def test_references_that_are_not_determined_are_said(tmp_path: Path) -> None:
    dataset = waters()
    write_packed(dataset.subset(np.flatnonzero(dataset.molecules.n_atoms == 3)), tmp_path / "waters.npz")
    tree = experiment(tmp_path)
    tree["data"]["split"] = {"train": 16, "validation": 4, "test": 4}
    config = build(ExperimentConfig, tree, Source("test"))
    text = summary(prepare(config), config, "cpu")
    assert "least squares of rank 1 of 2: other compositions than these are not determined" in text


def test_the_printout_comes_before_the_first_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = build(ExperimentConfig, experiment(tmp_path, epochs=1), Source("test"))
    fit(config)
    shown = capsys.readouterr().err
    assert 0 <= shown.index("data  ") < shown.index("device  ") < shown.index("epoch 1/1")
    fit(replace(config, output=str(tmp_path / "quiet")), quiet=True)
    assert capsys.readouterr().err == ""
