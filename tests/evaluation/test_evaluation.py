"""Evaluation of a checkpoint on its own split and on other data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.cli import main
from neural_polarization.data.packed import write_packed
from neural_polarization.errors import DataError
from neural_polarization.evaluation.evaluation import evaluate, write_evaluation
from neural_polarization.evaluation.reports import errors_table
from neural_polarization.knowledge import OutsideTrainingWarning, Watch
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from waters import experiment, waters


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a trained model and its data."""
    folder = tmp_path_factory.mktemp("trained")
    tree = experiment(folder, epochs=3)
    tree["model"]["heads"]["dipole"] = {"kind": "dipole"}
    fit(build(ExperimentConfig, tree, Source("test")), quiet=True)
    return folder


def test_the_same_errors_as_after_training(run: Path) -> None:
    stored = json.loads((run / "run" / "result.json").read_text())
    evaluation = evaluate(run / "run" / "model.safetensors")
    assert evaluation.units == {"energy": "meV", "dipole": "mD", "forces": "meV/Angstrom"}
    for part in ("validation", "test"):
        for name, error in evaluation.errors[part].items():
            assert error["mae"] == pytest.approx(stored[part][name]["mae"], rel=1e-9)
    parity = evaluation.parities["test"]["energy"]
    assert np.abs(parity.predicted - parity.label).mean() == pytest.approx(stored["test"]["energy"]["mae"], rel=1e-9)
    text = errors_table(evaluation.plain())
    assert "validation MAE" in text
    assert "meV/Angstrom" in text


def test_the_parts_that_judge_are_evaluated(run: Path) -> None:
    evaluation = evaluate(run / "run" / "model.safetensors", batch_size=3)
    _, stored = load_model(run / "run" / "model.safetensors")
    assert list(evaluation.errors) == list(evaluation.parities) == ["validation", "test"]
    for part, parities in evaluation.parities.items():
        labels = waters().labels["energy"][stored.tensors[f"split.{part}"].numpy()]
        np.testing.assert_allclose(parities["energy"].label, 1000.0 * labels)


def test_files_and_no_accidental_overwriting(run: Path, tmp_path: Path) -> None:
    evaluation = evaluate(run / "run" / "model.safetensors")
    files = write_evaluation(evaluation, tmp_path)
    assert [file.name for file in files] == [
        "evaluation.json", "parity_energy.png", "parity_dipole.png", "parity_forces.png", "displacements.png",
        "learning_curve.png",
    ]  # fmt: skip
    assert all(file.stat().st_size for file in files)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_evaluation(evaluation, tmp_path)
    write_evaluation(evaluation, tmp_path, overwrite=True)


def test_files_that_cannot_be_written_are_told_before_the_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_polarization.evaluation.evaluation.evaluate", None)  # it is not called
    (tmp_path / "evaluation.json").touch()
    (tmp_path / "file").touch()
    for output, message in ((tmp_path, "--overwrite"), (tmp_path / "file" / "results", "its folder cannot be written")):
        assert main(["evaluate", str(run / "run"), "-o", str(output)]) == 2
        assert message in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "misspelt" / "model.safetensors")]) != 0
    assert not (tmp_path / "misspelt").exists()


def test_energies_are_drawn_without_their_references(run: Path) -> None:
    """FAULTS 6: the parity of energies showed totals of -4.2187e6 meV."""
    parity = evaluate(run / "run").parities["test"]["energy"]
    model, _ = load_model(run / "run")
    references = model.head("energy").baseline.references.numpy()
    counts = waters().composition(("H", "O"))[load_model(run / "run")[1].tensors["split.test"].numpy()]
    np.testing.assert_allclose(parity.baseline, 1000.0 * counts @ references, rtol=1e-12)
    assert np.abs(parity.label - parity.baseline).max() < 5_000  # meV
    assert not evaluate(run / "run").parities["test"]["forces"].baseline.any()


def test_displacements_by_element(run: Path) -> None:
    moved = evaluate(run / "run").displacements
    sizes = waters().molecules.n_atoms
    split = load_model(run / "run")[1].tensors
    judged = np.concatenate([split["split.validation"].numpy(), split["split.test"].numpy()])
    assert {symbol: len(lengths) for symbol, lengths in moved.items()} == {
        "H": int(sizes[judged].sum()) - len(judged), "O": len(judged),
    }  # fmt: skip
    assert 0.0 < moved["O"].max() <= 0.5


def test_compositions_outside_of_the_training_are_counted(run: Path, tmp_path: Path) -> None:
    """FAULTS 1.1 in an evaluation: of other data than the training's, here with peroxide only in the new file."""
    model, stored = load_model(run / "run")
    assert model.knowledge is not None and model.knowledge.references["energy"].rank == 2
    rank_one = replace(model.knowledge.references["energy"], compositions=((2, 1),))
    model.knowledge = replace(model.knowledge, references={"energy": rank_one})
    save_model(model, tmp_path / "model.safetensors", stored.metadata, stored.tensors)
    with pytest.warns(OutsideTrainingWarning, match="composition HO: the training determines 1 of 2"):
        evaluation = evaluate(tmp_path / "model.safetensors")
    assert evaluation.plain()["outside_training"] == evaluation.outside
    sizes = waters().molecules.n_atoms[stored.tensors["split.test"].numpy()]
    assert evaluation.outside["test"] == int((sizes == 2).sum())
    with pytest.raises(DataError, match="strict"):
        evaluate(tmp_path / "model.safetensors", watch=Watch(strict=True))


def test_other_data_are_evaluated_as_a_whole(run: Path, tmp_path: Path) -> None:
    write_packed(waters(count=9, seed=5).select(["energy"]), tmp_path / "new.npz")
    evaluation = evaluate(run / "run" / "model.safetensors", {"path": str(tmp_path / "new.npz"), "properties": None})
    assert list(evaluation.errors) == ["all"]
    assert evaluation.errors["all"]["energy"]["count"] == 9
    assert list(evaluation.units) == ["energy"]


def test_data_that_are_gone_or_do_not_fit(run: Path, tmp_path: Path) -> None:
    model = run / "run" / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"say where the data are now with --data\.path"):
        evaluate(model, {"path": str(tmp_path / "gone.npz")})
    with pytest.raises(ValueError, match="did you mean 'path'"):
        evaluate(model, {"pth": "x"})
    loaded, _ = load_model(model)
    save_model(loaded, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="says nothing about its data"):
        evaluate(tmp_path / "bare.safetensors")


def test_data_that_have_changed(run: Path) -> None:
    """Frames were added to the file: the split does not apply any more, and most of what is evaluated has trained."""
    data = run / "waters.npz"
    before = data.read_bytes()
    write_packed(waters(44), data)
    try:
        with pytest.warns(UserWarning, match=r"waters\.npz: has other structures .* among them those that trained"):
            assert list(evaluate(run / "run").errors) == ["all"]
    finally:
        data.write_bytes(before)


def test_a_model_that_says_nothing_about_its_data(run: Path, tmp_path: Path) -> None:
    """As `save_model` writes it in a script."""
    model, _ = load_model(run / "run")
    save_model(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"says nothing about its data .*; give --data\.path and --data\.format"):
        evaluate(tmp_path / "model.safetensors")
    named = {"path": str(run / "waters.npz"), "format": "packed"}
    assert evaluate(tmp_path / "model.safetensors", named).errors["all"]["energy"]["count"] == 40


def test_settings_of_the_former_file_alone(run: Path, tmp_path: Path) -> None:
    """Groups, which an evaluation does not need, and settings of QM9 do not hinder that of another file."""
    model, stored = load_model(run / "run")
    data = {**stored.metadata["data"], "format": "qm9", "group": "molecule", "label_source": 2, "exclude": "list.txt"}
    save_model(model, tmp_path / "model.safetensors", {**stored.metadata, "data": data}, stored.tensors)
    named = {"path": str(run / "waters.npz"), "format": "packed"}
    assert list(evaluate(tmp_path / "model.safetensors", named).errors) == ["validation", "test"]
