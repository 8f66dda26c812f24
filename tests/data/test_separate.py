"""Training, validation and test in files of their own."""

from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

import neural_polarization as npol
from neural_polarization.checkpoints import load_model
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.packed import write_packed
from neural_polarization.data.separate import joined
from neural_polarization.data.sources import make_split, open_dataset
from neural_polarization.errors import DataError
from neural_polarization.evaluation.evaluation import evaluate
from neural_polarization.settings import Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.task import prepare
from waters import experiment, waters

PARTS = {"train": np.arange(0, 24), "validation": np.arange(24, 32), "test": np.arange(32, 40)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The same molecules as in `waters()`, a file per part."""
    for part, rows in PARTS.items():
        write_packed(waters().subset(rows), tmp_path / f"{part}.npz")
    return {part: str(tmp_path / f"{part}.npz") for part in PARTS}


def config(files: dict[str, str], *parts: str, **split: object) -> DataConfig:
    named = {part: files[part] for part in parts}
    return DataConfig(path=files["train"], cache=False, split=SplitConfig(**split), **named)  # type: ignore[arg-type]


def test_the_files_are_the_parts(files: dict[str, str]) -> None:
    chosen = config(files, "validation", "test")
    data, whole = open_dataset(chosen), waters()
    split = make_split(data, chosen.split)
    for part, rows in PARTS.items():
        np.testing.assert_array_equal(split.parts[part], rows)
    np.testing.assert_array_equal(data.molecules.positions, whole.molecules.positions)
    for name, values in whole.labels.items():
        np.testing.assert_array_equal(data.labels[name], values)
    np.testing.assert_array_equal(data.molecules.file_rows, [*range(24), *[-1] * 16])
    assert data.name == ", ".join(files.values())
    assert len(np.unique(data.groups)) == 40


def test_fields_of_a_later_file_alone(tmp_path: Path) -> None:
    """The properties are those of the training file, so that labels in fields would pass for those without a field."""
    for name, field in (("train", None), ("test", [0.0, 0.0, 0.5])):
        frames = [ase.Atoms("HF", [[0, 0, 0], [0, 0, 0.9 + 0.01 * k]], info={"energy": -k}) for k in range(1, 5)]
        for frame in frames:
            frame.positions *= 1.0 if field is None else 1.1
            frame.info |= {} if field is None else {"external_field": field}
        ase.io.write(tmp_path / f"{name}.xyz", frames, format="extxyz")
    chosen = DataConfig("extxyz", str(tmp_path / "train.xyz"), test=str(tmp_path / "test.xyz"), cache=False)
    with pytest.warns(UserWarning, match=r"test\.xyz: 4 of 4 structures are in electric fields .*, which are not read"):
        assert open_dataset(chosen).properties.keys() == {"energy"}


FRACTIONS = {"kind": "group", "train": 0.8, "validation": 0.1, "test": 0.1}
"""As in configs/own_data.yaml; they do not apply to a part that has a file of its own."""


@pytest.mark.parametrize(
    ("parts", "split", "sizes"),
    [
        (("validation", "test"), {"train": 10, "test": 4}, (10, 8, 4)),
        (("validation", "test"), FRACTIONS, (24, 8, 8)),
        (("validation",), FRACTIONS, (22, 8, 2)),
        (("test",), FRACTIONS, (22, 2, 8)),
        (("validation",), {}, (24, 8, 0)),
        (("validation",), {"test": 4}, (20, 8, 4)),
        (("test",), {}, (22, 2, 8)),
        (("test",), {"validation": 6, "kind": "group", "test": 3}, (18, 6, 3)),
    ],
)
def test_parts_without_a_file_come_from_the_training_file(
    files: dict[str, str], parts: tuple[str, ...], split: dict[str, object], sizes: tuple[int, int, int]
) -> None:
    chosen = config(files, *parts, **split)
    made = make_split(open_dataset(chosen), chosen.split)
    assert tuple(len(part) for part in made.parts.values()) == sizes
    start = 24
    for part in parts:
        rows = made.parts[part]
        assert len(rows) == 0 or (rows.min() >= start and rows.max() < start + 8)
        start += 8
    for part in set(PARTS) - set(parts):
        assert (made.parts[part] < 24).all()
    assert len(np.unique(np.concatenate(list(made.parts.values())))) == sum(sizes)


def test_a_structure_in_two_files_is_refused_whatever_its_orientation(tmp_path: Path, files: dict[str, str]) -> None:
    part = waters().subset(np.array([33, 5]))
    turned = replace(part.molecules, positions=part.molecules.positions[:, [1, 2, 0]] + 1.0)
    copied = Dataset("copied", turned, part.properties, part.labels)
    write_packed(copied, tmp_path / "test.npz")
    with pytest.raises(
        DataError,
        match=r"train\.npz: .*test\.npz, the test part, also has 1 structure of .* structure 5 is structure 1",
    ):
        open_dataset(config(files, "validation", "test"))


@pytest.mark.parametrize(("choice", "shared"), [("references", True), ("both", False)])
def test_isolated_atoms_in_several_files(tmp_path: Path, choice: str, shared: bool) -> None:
    """They set references and are in no part; where they train, one atom cannot be in two parts."""
    oxygen = ase.Atoms("O", info={"energy": -2000.0, "config_type": "IsolatedAtom"})
    files = {part: str(tmp_path / f"{part}.extxyz") for part in PARTS}
    for part, rows in PARTS.items():
        frames = [waters().structure(int(row)) for row in rows]
        for row, frame in zip(rows, frames, strict=True):
            frame.info["energy"] = float(waters().labels["energy"][row])
        ase.io.write(files[part], [oxygen, *frames])
    tree = experiment(tmp_path, epochs=1, isolated_atoms=choice)
    tree["model"]["heads"] = {"energy": {"kind": "extensive"}}
    tree["data"] = {"format": "extxyz", "path": files["train"], "validation": files["validation"],
                    "test": files["test"], "cache": False}  # fmt: skip
    chosen = build(ExperimentConfig, tree, Source("test"))
    if not shared:
        with pytest.raises(DataError, match="the validation part also has 1 structure of the train part by content"):
            prepare(chosen)
        return
    task = prepare(chosen)
    assert [len(part) for part in task.split.parts.values()] == [24, 8, 8]
    assert "3 isolated atoms (O 3 times)" in task.left_out[0]
    assert task.model.head("energy").baseline.references[1] == -2000.0


def test_charges_cells_and_labels_that_only_one_file_has() -> None:
    numbers, places = np.array([1, 2]), np.eye(3)[:2] * 3
    neutral = Dataset(
        "neutral",
        FlatMolecules.checked("a", np.array([2]), numbers, places),
        {name: waters().properties[name] for name in ("energy", "forces")},
        {"energy": np.array([1.0]), "forces": np.ones((2, 3))},
    )
    charged = Dataset(
        "charged",
        FlatMolecules.checked("b", np.array([2]), numbers, places, np.array([1.0]), np.eye(3)[None] * 5),
        {"energy": waters().properties["energy"]},
        {"energy": np.array([2.0])},
    )
    both = joined([neutral, charged])
    assert both.molecules.charges is not None and both.molecules.charges.tolist() == [0.0, 1.0]
    assert both.molecules.periodic.tolist() == [False, True]
    assert both.labels["energy"].tolist() == [1.0, 2.0]
    assert np.isnan(both.labels["forces"][2:]).all() and (both.labels["forces"][:2] == 1).all()
    wrong = Dataset("wrong", charged.molecules, {"energy": replace(waters().properties["dipole"], name="energy")},
                    {"energy": np.ones((1, 3))})  # fmt: skip
    with pytest.raises(DataError, match=r"wrong: 'energy' has one value of shape \(3,\) per molecule, in the training"):
        joined([neutral, wrong])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": ""}, r"data\.test: is empty; give the file of the test part"),
        ({"split": SplitConfig(kind="published")}, r'data\.split\.kind: is "published", but data\.validation or'),
    ],
)
def test_what_does_not_go_together(files: dict[str, str], change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(replace(config(files, "validation"), **change))  # type: ignore[arg-type]


def test_a_training_and_its_evaluation(files: dict[str, str], tmp_path: Path) -> None:
    tree = experiment(tmp_path, epochs=1)
    tree["data"] = {"format": "packed", "path": files["train"], "validation": files["validation"],
                    "test": files["test"], "cache": False}  # fmt: skip
    trained = npol.fit(tree, quiet=True)
    checkpoint = trained.directory / "model.safetensors"
    again = evaluate(checkpoint)
    assert {part: errors["energy"]["mae"] for part, errors in again.errors.items()} == {
        part: pytest.approx(errors["energy"]["mae"], rel=1e-5) for part, errors in trained.errors.items()
    }
    other = evaluate(checkpoint, {"path": files["test"]})
    assert list(other.errors) == ["all"]
    assert other.errors["all"]["energy"]["mae"] == pytest.approx(trained.errors["test"]["energy"]["mae"], rel=1e-5)
    assert load_model(checkpoint)[1].tensors["split.test"].tolist() == list(range(32, 40))
