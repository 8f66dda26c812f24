"""The directory of a run: when it may begin, go on or be deleted, without training anything."""

from pathlib import Path

import pytest

from neural_polarization.settings import ConfigError, Source, build, read_overrides, with_overrides
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.directory import RunDirectory
from waters import experiment


def read(folder: Path, *words: str) -> ExperimentConfig:
    return build(ExperimentConfig, with_overrides(experiment(folder), read_overrides(words)), Source("test.yaml"))


@pytest.fixture
def interrupted(tmp_path: Path) -> RunDirectory:
    """A run that has ended after some epochs."""
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    directory.begin(read(tmp_path), overwrite=False)
    for file in (directory.metrics, directory.resume, directory.model):
        file.write_text("epochs")
    return directory


FREE = (
    "--training.machine.accelerator=cpu",
    "--training.machine.devices=2",
    "--training.machine.nodes=2",
    "--training.machine.strategy=ddp",
    "--training.machine.threads=2",
    "--training.machine.num_workers=1",
    "--training.checkpoint_seconds=5",
    "--training.logger=tensorboard",
    "--output=elsewhere",
)
"""Settings that change no number."""


@pytest.mark.parametrize("word", FREE)
def test_a_run_goes_on_with_other_settings_that_change_no_number(
    word: str, interrupted: RunDirectory, tmp_path: Path
) -> None:
    config = read(tmp_path, word)
    assert interrupted.resumable(config, overwrite=False)
    assert interrupted.changes(config) == []
    before = interrupted.config.read_text()
    interrupted.begin(config, overwrite=False)
    assert interrupted.config.read_text() == before


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("--training.seed=7", "training.seed: 0 -> 7"),
        ("--training.machine.precision=64", "training.machine.precision: 32 -> 64"),
        ("--training.learning_rate=0.5", "training.learning_rate: .* -> 0.5"),
        ("--data.split.train=20", "data.split.train: 24 -> 20"),
        ("--model.backbone.channels=9", "model.backbone.channels: 8 -> 9"),
    ],
)
def test_a_run_does_not_go_on_with_other_numbers(
    word: str, change: str, interrupted: RunDirectory, tmp_path: Path
) -> None:
    config = read(tmp_path, word)
    with pytest.raises(ConfigError, match=rf"an unfinished run with another configuration is there \({change}\)"):
        interrupted.resumable(config, overwrite=False)
    assert not interrupted.resumable(config, overwrite=True)
    assert interrupted.resume.exists(), "asking deletes nothing"


def test_overwriting_deletes_all_of_a_run(interrupted: RunDirectory, tmp_path: Path) -> None:
    interrupted.result.write_text("{}")
    interrupted.begin(read(tmp_path, "--training.seed=7"), overwrite=True)
    assert [file.name for file in interrupted.path.iterdir()] == ["config.yaml"]
    assert "seed: 7" in interrupted.config.read_text()
    interrupted.clear()
    assert not list(interrupted.path.iterdir())


def test_a_finished_run_is_not_lost_by_accident(interrupted: RunDirectory, tmp_path: Path) -> None:
    interrupted.result.write_text("{}")
    with pytest.raises(FileExistsError, match=r"a finished run is there; train it on with more .* or --overwrite"):
        interrupted.resumable(read(tmp_path), overwrite=False)


def test_more_epochs_continue_a_run_and_nothing_else_does(interrupted: RunDirectory, tmp_path: Path) -> None:
    longer = read(tmp_path, "--training.epochs=8")
    assert interrupted.resumable(longer, overwrite=False)
    interrupted.result.write_text("{}")
    assert interrupted.resumable(longer, overwrite=False)
    assert interrupted.length_change(longer) == "training.epochs: 4 -> 8"
    for words in (["--training.epochs=3"], ["--training.epochs=8", "--training.seed=1"], ["--training.steps=99"]):
        assert interrupted.length_change(read(tmp_path, *words)) == ""
        with pytest.raises(FileExistsError, match=r"a finished run is there with another configuration \(training\."):
            interrupted.resumable(read(tmp_path, *words), overwrite=False)
    interrupted.begin(longer, overwrite=False)
    assert not interrupted.finished and "epochs: 8" in interrupted.config.read_text()
    assert interrupted.length_change(longer) == ""
    assert interrupted.resumable(longer, overwrite=False)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "photos")
    directory.path.mkdir()
    assert not directory.resumable(read(tmp_path), overwrite=False)
    (directory.path / "cat.png").write_text("cat")
    with pytest.raises(FileExistsError, match=r"the directory is not empty \(cat.png\) and holds no run"):
        directory.resumable(read(tmp_path), overwrite=False)
