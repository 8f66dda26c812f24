"""`fit` on densities: the loss, the error in validation, table and checkpoint, and configurations that cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_polarization.checkpoints import load_model
from neural_polarization.data.batching import Batch
from neural_polarization.data.density_points import read_density_points
from neural_polarization.data.packed import read_packed
from neural_polarization.evaluation.densities import ELECTRONS
from neural_polarization.evaluation.evaluation import evaluate, write_evaluation
from neural_polarization.evaluation.matching import parameters, step_seconds
from neural_polarization.models import Model
from neural_polarization.properties import DENSITY
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.densities import DensityErrors, density_errors
from neural_polarization.training.experiment import fit
from neural_polarization.training.task import Task, prepare
from neural_polarization.units import DEBYE

DATA = Path(__file__).parent.parent.parent / "data"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Structures of methane and water with their densities, and one without: two packed files."""
    folder = tmp_path_factory.mktemp("data")
    with np.load(DATA / "small_molecules.npz") as file:
        structures = dict(file)
    with np.load(DATA / "small_molecules_densities.npz") as file:
        densities = dict(file)
    wanted = np.flatnonzero(np.isin(structures["smiles"], ["C", "O"]))
    rows = np.concatenate([wanted[np.isin(wanted, densities["density_structure"])], [0]])
    starts = np.cumsum(structures["n_atoms"]) - structures["n_atoms"]
    atoms = np.concatenate([np.arange(starts[k], starts[k] + structures["n_atoms"][k]) for k in rows])
    np.savez(
        folder / "some.npz",
        n_atoms=structures["n_atoms"][rows],
        atomic_numbers=structures["atomic_numbers"][atoms],
        positions=structures["positions"][atoms],
        energy=structures["energy"][rows],
        dipole=structures["dipole"][rows],
        split=np.array([k % 3 == 0 for k in range(len(rows))], np.int8),
    )
    _write_some(folder / "densities.npz", densities, rows)
    return str(folder / "some.npz"), str(folder / "densities.npz")


def _write_some(path: Path, densities: dict[str, Any], rows: np.ndarray[Any, Any]) -> None:
    """The densities of some structures, numbered anew, in the layout of the file."""
    mine = [k for k, row in enumerate(densities["density_structure"]) if row in rows]
    of_row = {int(row): number for number, row in enumerate(rows)}
    counted, flat = (
        ("n_coefficients", ("coefficients",))
        if "coefficients" in densities
        else (
            "n_points",
            ("points", "weights", "density"),
        )
    )
    ends = np.cumsum(densities[counted])
    pieces = [np.arange(ends[k] - densities[counted][k], ends[k]) for k in mine]
    kept = {name: densities[name] for name in densities if name.startswith("basis_")}
    np.savez(
        path,
        density_structure=np.array([of_row[int(densities["density_structure"][k])] for k in mine]),
        **{counted: densities[counted][mine]},
        **{name: densities[name][np.concatenate(pieces)] for name in flat},
        **kept,
    )


def experiment(files: tuple[str, str], output: Path, **changes: Any) -> ExperimentConfig:
    tree: dict[str, Any] = {
        "model": {
            "density": {"centres": "moving", "size": "small"},
            "backbone": {"name": "painn", "preset": "small"},
            "polarization": {"messages": "riding"},
        },
        "data": {"path": files[0], "densities": files[1], "split": {"kind": "stored"}},
        "training": {"epochs": 12, "batch_size": 4, "learning_rate": 0.01, "density_points": 200},
        "output": str(output),
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if value is None:
            tree[section].pop(name)
        else:
            tree[section][name] = value
    return build(ExperimentConfig, tree, Source("test"))


def test_a_density_alone_is_trained(files: tuple[str, str], tmp_path: Path) -> None:
    config = experiment(files, tmp_path / "run")
    before = prepare(config)
    first = density_errors(before.model, before.parts["validation"], before.densities["validation"]).mean()
    result = fit(config, quiet=True)
    error = result["validation"][DENSITY]["mae"]
    assert result["units"][DENSITY] == "%"
    assert error < 60 * first, "60 % of the error before, in percent"
    model, stored = load_model(tmp_path / "run" / "model.safetensors")
    assert isinstance(model, Model)
    again = density_errors(model, before.parts["validation"], before.densities["validation"])
    assert 100 * again.mean() == pytest.approx(error, rel=1e-4)
    assert stored.metadata["metrics"]["validation"][DENSITY]["mae"] == pytest.approx(error)
    assert "validation_mae_density [%]" in (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8")
    _check_evaluation(tmp_path / "run", error, model, before)


def _check_evaluation(run: Path, error: float, model: Model, task: Task) -> None:
    """`npol evaluate` finds the same error, the exact number of electrons, and the dipole of the density."""
    evaluation = evaluate(run)
    found = evaluation.errors["validation"]
    assert found[DENSITY]["mae"] == pytest.approx(error, rel=1e-4)
    assert evaluation.units == {DENSITY: "%", "density_dipole": "mD", ELECTRONS: "e"}
    assert found[ELECTRONS]["mae"] < 1e-6
    batch = task.parts["validation"].batch(np.arange(len(task.parts["validation"])))
    with torch.no_grad():
        difference = model.density(batch.molecules).dipole - batch.labels["dipole"]
    assert found["density_dipole"]["mae"] == pytest.approx(float(difference.abs().mean()) / (DEBYE / 1000), rel=1e-4)
    assert next(file.name for file in write_evaluation(evaluation, run)) == "evaluation.json"


def test_a_density_beside_an_energy(files: tuple[str, str], tmp_path: Path) -> None:
    heads = {"energy": {"kind": "extensive"}}
    config = experiment(files, tmp_path / "run", model__heads=heads, training__epochs=1)
    result = fit(config, quiet=True)
    assert set(result["validation"]) == {"energy", DENSITY}


def test_points_of_a_step_are_those_of_the_step(files: tuple[str, str], tmp_path: Path) -> None:
    """A resumed training sees the same points; structures without a density have no label."""
    task = prepare(experiment(files, tmp_path / "run"))
    part = task.parts["validation"]
    errors = DensityErrors(task.densities["validation"], len(part), number=100, seed=3)
    batch = part.batch(np.arange(len(part)))
    one, labels = errors(task.model, batch, step=5)
    other, _ = errors(task.model, batch, step=5)
    third, _ = errors(task.model, batch, step=6)
    torch.testing.assert_close(one[DENSITY], other[DENSITY], rtol=0, atol=0)
    known = ~labels[DENSITY].isnan()
    assert known.sum() == len(task.densities["validation"])
    assert not torch.allclose(one[DENSITY][known], third[DENSITY][known])
    whole = DensityErrors(task.densities["validation"], len(part))(task.model, batch)[0][DENSITY][known]
    expected = density_errors(task.model, part, task.densities["validation"])
    order = np.argsort(task.densities["validation"].structures)
    np.testing.assert_allclose(whole.detach().numpy(), expected[order], rtol=1e-4)


def test_rows_of_a_part(files: tuple[str, str]) -> None:
    dataset = read_packed(files[0])
    points = read_density_points(files[1], dataset.molecules)
    part = np.arange(len(dataset))[::-1].copy()
    mine = points.of_part(part)
    np.testing.assert_array_equal(part[mine.structures], points.structures)


def test_densities_belong_to_their_structures_where_rows_are_left_out(files: tuple[str, str], tmp_path: Path) -> None:
    """Rows without label and density are left out, one with a density alone is kept; all densities stay where they are.

    In training and in evaluation the points are around the molecule that they are the density of.
    """
    with np.load(files[0]) as file:
        arrays = dict(file)
    with np.load(files[1]) as file:
        densities = dict(file)
    # Rows without a density before all others, which have no energy, and no energy for one that has a density.
    atoms, total, number = int(arrays["n_atoms"][-1]), int(arrays["n_atoms"].sum()), 3
    assert len(arrays["n_atoms"]) - 1 not in densities["density_structure"]
    for name, values in arrays.items():
        last = values[-atoms:] if len(values) == total else values[-1:]
        arrays[name] = np.concatenate([*[last] * number, values])
    arrays["energy"][:number] = np.nan
    only = number + int(densities["density_structure"][4])
    arrays["energy"][only] = np.nan
    densities["density_structure"] = densities["density_structure"] + number
    np.savez(tmp_path / "more.npz", **arrays)
    np.savez(tmp_path / "densities.npz", **densities)
    moved = str(tmp_path / "more.npz"), str(tmp_path / "densities.npz")
    labels: dict[str, Any] = {"data__properties": {"energy": {}}, "training__epochs": 1}
    before, after = (prepare(experiment(some, tmp_path / "run", **labels)) for some in (files, moved))
    assert len(after.dataset) == len(before.dataset)
    for part in ("train", "validation"):
        assert after.densities[part].structures.tolist() == before.densities[part].structures.tolist()
        np.testing.assert_array_equal(after.densities[part].points, before.densities[part].points)
    fit(experiment(moved, tmp_path / "run", **labels), quiet=True)
    model, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert isinstance(model, Model)
    expected = density_errors(model, before.parts["validation"], before.densities["validation"])
    found = evaluate(tmp_path / "run").errors["validation"][DENSITY]["mae"]
    assert found == pytest.approx(100 * expected.mean(), rel=1e-4)


def test_an_evaluation_without_reference_densities(files: tuple[str, str], tmp_path: Path) -> None:
    fit(experiment(files, tmp_path / "run", training__epochs=1), quiet=True)
    with pytest.raises(ValueError, match=r"the model predicts a density; .* are given as --data\.densities FILE"):
        evaluate(tmp_path / "run", {"path": str(DATA / "ethanol.npz")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__density": None, "model__heads": {"energy": {"kind": "extensive"}}}, "the model has no density"),
        ({"data__densities": None}, "give their file as `data.densities`"),
        ({"training__compile": True}, "steps with densities are not compiled"),
        ({"training__losses": {"density": {"weight": 0.0}}}, "every weight is zero"),
        (
            {"training__density_points": 2001},
            r"training\.density_points: 2001 are asked for, .* gives 2000",
        ),
    ],
)
def test_configurations_that_cannot_be(
    files: tuple[str, str], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(experiment(files, tmp_path / "run", **changes))


def test_costs_of_a_comparison_include_the_density(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`npol compare` counts the head of the density, and times steps that look at points of densities."""
    config = experiment(files, tmp_path)
    task = prepare(config)
    elements, waters = task.model.elements, task.dataset.subset(task.split.train)
    assert parameters(config, elements) == sum(weight.numel() for weight in task.model.parameters())
    seen: list[int] = []
    look = DensityErrors.__call__

    def counted(self: DensityErrors, model: Model, batch: Batch, *rest: Any) -> Any:
        seen.append(batch.molecules.num_molecules)
        return look(self, model, batch, *rest)

    monkeypatch.setattr(DensityErrors, "__call__", counted)
    step_seconds({"riding": config}, waters, elements, task.densities["train"], rounds=2)
    assert len(seen) == 3 and all(number > 0 for number in seen)
