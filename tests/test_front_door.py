"""`import neural_polarization`: its names, what it costs, and training and predicting in a few lines."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

import neural_polarization as npol
from neural_polarization.data.config import DataConfig
from neural_polarization.settings import ConfigError, Source, build
from neural_polarization.training.config import ExperimentConfig
from waters import experiment, waters, write_experiment


def test_the_import_takes_no_time() -> None:
    """It imports no module of the library and a few of Python's own; `npol --help` is tested in test_cli."""
    code = (
        "import sys; before = set(sys.modules); import neural_polarization as npol; new = set(sys.modules) - before;"
        "assert len(new) < 30, sorted(new); assert not {'numpy', 'torch', 'ase'} & new;"
        "assert [name for name in new if name.startswith('neural_polarization.')] == [];"
        "assert 'Model' in dir(npol) and 'Model' not in vars(npol)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", npol.__all__)
def test_every_name_is_that_of_its_module(name: str) -> None:
    value = getattr(npol, name)
    module = importlib.import_module(f"neural_polarization.{npol._MODULES[name]}")
    assert value is getattr(module, name)
    assert f" {name}" in (Path(npol.__file__).read_text().partition("if TYPE_CHECKING")[2].partition("__version__")[0])


def test_the_table_and_the_list_are_the_same() -> None:
    assert sorted(npol.__all__) == sorted(npol._MODULES) and set(npol.__all__) <= set(dir(npol))
    with pytest.raises(AttributeError, match="module 'neural_polarization' has no attribute 'Modell'"):
        _ = npol.Modell


def test_five_lines(tmp_path: Path) -> None:
    trained = npol.fit(write_experiment(tmp_path, epochs=1), {"training.batch_size": 12}, quiet=True)
    assert trained.directory == tmp_path / "run"
    assert trained.units == {"energy": "meV", "forces": "meV/Angstrom"}
    assert trained.costs["steps"] == 2 and "test" not in trained.costs
    mae = trained.errors["test"]["energy"]["mae"]
    water = molecule("H2O")
    one = npol.predict(trained.model, water)
    assert {name: value.shape for name, value in one.items()} == {
        "energy": (), "forces": (3, 3), "displacement": (3, 3),
    }  # fmt: skip
    several = npol.predict(tmp_path / "run" / "model.safetensors", [molecule("OH"), water])
    np.testing.assert_allclose(several[1]["forces"], one["forces"], atol=1e-5)
    assert several[0]["forces"].shape == (2, 3)
    # The error that was reported is that of these predictions.
    data = npol.open_dataset(tmp_path / "waters.npz", cache=False)
    part = npol.load_model(trained.directory / "model.safetensors")[1].tensors["split.test"].tolist()
    found = npol.predict(trained.model, [data.structure(k) for k in part])
    errors = [abs(float(of["energy"]) - data.labels["energy"][k]) for of, k in zip(found, part, strict=True)]
    assert 1000 * np.mean(errors) == pytest.approx(mae, rel=1e-4)


def test_charges_of_atoms_are_predicted_too() -> None:
    model = npol.Model(npol.ModelConfig(("H", "O"), {"hirshfeld_charges": npol.HeadConfig("atomic_charges")}))
    assert npol.predict(model, molecule("H2O"))["hirshfeld_charges"].shape == (3,)


def test_a_file_of_structures_is_predicted_and_other_things_are_errors(tmp_path: Path) -> None:
    model = npol.Model(npol.ModelConfig(("H", "O"), {"energy": npol.HeadConfig("extensive", forces=True)}))
    waters = [molecule("H2O"), molecule("H2O")]
    waters[1].rotate(40, "x")
    ase.io.write(tmp_path / "waters.xyz", waters)
    of_file = npol.predict(model, tmp_path / "waters.xyz")
    for found, expected in zip(of_file, npol.predict(model, waters), strict=True):
        np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"none\.xyz: there is no such file"):
        npol.predict(model, str(tmp_path / "none.xyz"))
    wrong: Any = [waters[0], "waters.xyz"]
    unchecked = inspect.unwrap(npol.predict)  # in tests the annotations are checked, too, with another message
    with pytest.raises(TypeError, match=r"structure 1 is a str; expected ase\.Atoms"):
        unchecked(model, wrong)


def test_a_configuration_in_python(tmp_path: Path) -> None:
    tree = experiment(tmp_path, epochs=1)
    first = npol.fit(tree, {"output": str(tmp_path / "mapping")}, quiet=True)
    config = build(ExperimentConfig, {**tree, "output": str(tmp_path / "object")}, Source("test"))
    second = npol.fit(config, quiet=True)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert one.equal(other)
    with pytest.raises(ConfigError, match="change the ExperimentConfig itself"):
        npol.fit(config, {"training.epochs": 3})
    with pytest.raises(ConfigError, match=r"^settings of fit, training\.epoch: unknown key .*'training\.epochs'"):
        npol.fit(tree, {"training.epoch": 3})


def test_data_by_the_ending_of_the_file(tmp_path: Path) -> None:
    experiment(tmp_path)
    data = npol.open_dataset(tmp_path / "waters.npz", properties={"energy": {}})
    np.testing.assert_array_equal(data.labels["energy"], waters().labels["energy"])
    assert list(data.properties) == ["energy"]
    frame = molecule("H2O")
    frame.info["E"] = 1.0
    frame.write(tmp_path / "frames.extxyz")
    choice = {"energy": {"source": "E", "unit": "hartree"}}
    assert npol.open_dataset(tmp_path / "frames.extxyz", properties=choice).labels["energy"] == pytest.approx(27.2114)
    with pytest.raises(ConfigError, match=r"frames\.cif: no format goes with the ending '\.cif'; give format= one of"):
        npol.open_dataset(tmp_path / "frames.cif")
    with pytest.raises(ConfigError, match="cache belong into the DataConfig"):
        npol.open_dataset(DataConfig(path="x.npz"), cache=False)
