"""Pictures of an evaluation: what is drawn, by the data of the axes."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.evaluation import plots
from neural_polarization.evaluation.outcome import Evaluation, Parity


def parity(count: int, seed: int = 0) -> Parity:
    rng = np.random.default_rng(seed)
    baseline = np.full(count, -4.2e6)
    label = baseline + rng.normal(scale=200.0, size=count)
    return Parity(label + rng.normal(scale=30.0, size=count), label, baseline)


@pytest.mark.parametrize(("count", "expected"), [(50, 5), (400, 10), (10_000, 50), (1_000_000, 60)])
def test_bins_suit_the_number_of_values(count: int, expected: int) -> None:
    values = np.linspace(-1.0, 1.0, count)
    edges = plots.bins([values])
    assert len(edges) - 1 == expected
    assert edges[0] == pytest.approx(-1.0, abs=0.01) and edges[-1] == pytest.approx(1.0, abs=0.01)


def test_equal_values_have_bins() -> None:
    edges = plots.bins([np.zeros(60)])
    assert edges[0] == -0.5 and edges[-1] == 0.5


def test_references_are_taken_off() -> None:
    one = parity(300)
    figure = plots._parity("energy", "meV", {"test": one}, {"test": 30.0})
    x, y = figure.axes[0].lines[0].get_data()
    np.testing.assert_allclose(x, one.label + 4.2e6)
    np.testing.assert_allclose(y, one.predicted + 4.2e6)
    assert figure.axes[0].get_xlabel() == "energy less the references of the elements: label [meV]"
    figure.canvas.draw()
    boxes = [
        tick.label1.get_window_extent() for tick in figure.axes[0].xaxis.get_major_ticks() if tick.label1.get_text()
    ]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))  # labels do not run together


def test_few_errors_are_marks_and_many_a_histogram() -> None:
    figure = plots._parity(
        "energy", "meV", {"validation": parity(20), "test": parity(400, 1)}, {"validation": 1.0, "test": 2.0}
    )
    right = figure.axes[1]
    (marks,) = right.lines
    assert len(marks.get_xdata()) == 20
    (outline,) = right.patches  # of the 400 alone
    assert len(plots.bins([np.zeros(400)])) - 1 == 10
    assert right.get_ylabel() == "fraction of labels"
    assert outline.get_path().vertices[:, 1].max() <= 1.0


def test_the_learning_curve(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(
        "epoch,step,training_loss,validation_loss,validation_mae_energy [meV]\n"
        "1,5,2.0,3.0,90.0\n2,10,1.0,,\n3,15,0.5,1.5,45.0\n"
    )
    figure = plots._learning_curve(file)
    training, validation = figure.axes[0].lines
    assert list(training.get_ydata()) == [2.0, 1.0, 0.5]
    assert list(validation.get_xdata()) == [1, 3]
    (error,) = figure.axes[1].lines
    assert error.get_label() == "energy [meV]" and list(error.get_ydata()) == [90.0, 45.0]
    file.write_text("epoch,training_loss\n1,2.0\n")
    assert plots._learning_curve(file) is None


def test_what_is_written(tmp_path: Path) -> None:
    moved = {"H": np.array([0.1, 0.2]), "O": np.zeros(3)}
    errors = {"test": {"energy": {"mae": 30.0, "rmse": 40.0}}}
    evaluation = Evaluation({"energy": "meV"}, errors, {"test": {"energy": parity(80)}}, moved)
    files = plots.write_plots(evaluation, tmp_path)
    assert [file.name for file in files] == ["parity_energy.png", "displacements.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    still = Evaluation({"energy": "meV"}, errors, {"test": {"energy": parity(80)}}, {"H": np.zeros(4)})
    assert [file.name for file in plots.write_plots(still, tmp_path)] == ["parity_energy.png"]
