"""Lines of progress: when they come, and what they say."""

from pathlib import Path

import pytest

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.config import DataConfig
from neural_polarization.evaluation import progress
from neural_polarization.evaluation.grid import Cell
from neural_polarization.models import HeadConfig
from neural_polarization.training.config import ExperimentConfig, ModelSection, TrainingConfig


class Clock:
    """Seconds that the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def cell(output: str, seed: int = 0, **training: int) -> Cell:
    model = ModelSection({"energy": HeadConfig("extensive")}, BackboneConfig("schnet"))
    config = ExperimentConfig(model, DataConfig(path="x.npz"), TrainingConfig(**training), output=output)
    return Cell("plain", seed, config)


def with_rows(of: Cell, rows: int) -> Cell:
    of.directory.path.mkdir(parents=True)
    of.directory.metrics.write_text("epoch,loss\n" + "1,0.5\n" * rows)
    return of


def test_epochs_are_rows_of_the_history(tmp_path: Path) -> None:
    assert progress.finished_epochs(cell(str(tmp_path / "new"), epochs=40)) == (0, 40)
    assert progress.finished_epochs(with_rows(cell(str(tmp_path / "some"), epochs=40), 10)) == (10, 40)
    assert progress.finished_epochs(with_rows(cell(str(tmp_path / "steps"), steps=500), 3)) == (3, None)


def test_a_line_says_what_runs_and_what_is_left(tmp_path: Path, clock: Clock) -> None:
    of = progress.Progress(4)
    running = [
        with_rows(cell(str(tmp_path / "a"), epochs=40), 10),
        with_rows(cell(str(tmp_path / "b"), seed=1, epochs=40), 30),
    ]
    clock.now += 60.0  # one of four is done and one more in halves: 2 of 4
    assert of.line(1, running) == (
        "  1 min 00 s: plain, seed 0: epoch 10/40; plain, seed 1: epoch 30/40; about 1 min 00 s left"
    )


def test_what_an_earlier_call_made_is_no_speed_of_this_one(tmp_path: Path, clock: Clock) -> None:
    of, goes_on = progress.Progress(1), with_rows(cell(str(tmp_path / "a"), epochs=40), 20)
    of.begin(goes_on)
    goes_on.directory.metrics.write_text("epoch,loss\n" + "1,0.5\n" * 25)
    clock.now += 60.0  # five epochs a minute
    assert of.line(0, [goes_on]) == "  1 min 00 s: plain, seed 0: epoch 25/40; about 3 min 00 s left"


def test_lines_come_early_and_then_seldom(tmp_path: Path, clock: Clock) -> None:
    of, running = progress.Progress(1), [cell(str(tmp_path / "a"), epochs=40)]
    times: list[float] = []
    for second in range(1, 3601):
        clock.now = 100.0 + second
        if of.line(0, running):
            times.append(second)
    assert times[0] <= 15.0
    assert times[-1] - times[-2] >= 0.05 * times[-2]
    assert 20 < len(times) < 100


def test_nothing_is_said_where_nothing_runs(clock: Clock) -> None:
    of = progress.Progress(1)
    clock.now += 1000.0
    assert of.line(1, []) is None
