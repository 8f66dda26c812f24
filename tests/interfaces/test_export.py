"""Exported models: every network as one graph for any number of atoms, and what the compiled file says and refuses."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

import neural_polarization as npol
from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.cli import main
from neural_polarization.electronic import ElectronicInput
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.export import record_of
from neural_polarization.interfaces.exported import RECORD, EngineInputs, Exported, load_exported, read_record
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.molecules import Molecules
from neural_polarization.settings import plain
from neural_polarization.training.compilers import CompilationError

ELEMENTS = ("H", "C", "O")

QUICK = ("schnet", "painn")
"""Networks that are traced in every run of the tests; `make test-compiler` traces all."""

UNTRACED: dict[str, str] = {}
"""Networks that cannot be traced, and why."""


def model_of(name: str = "painn", **electronic: Any) -> Model:
    heads = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
    return Model(ModelConfig(ELEMENTS, heads, BackboneConfig(name, channels=4, num_layers=2), **electronic)).eval()


def as_it_is(model: Model) -> Exported:
    """An exported model whose program is the model itself, without the compiler."""

    def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
        values, displacement = model.with_displacement(
            EngineInputs(*tensors).molecules(), properties=["energy"], stress=True
        )
        return [values["energy"], values["forces"], values["stress"], displacement]

    return Exported(record_of(model), run, Path("model.pt2")).eval()


# Checks of shapes at run time would look at sizes that a trace leaves open, so each trace is a process of its own.
TRACE = """
import sys
import torch
from neural_polarization.architectures import BackboneConfig
from neural_polarization.interfaces.export import check, record_of, traced
from neural_polarization.interfaces.exported import Exported
from neural_polarization.models import HeadConfig, Model, ModelConfig
torch.set_num_threads(1)
backbone = BackboneConfig(sys.argv[1], channels=4, num_layers=2)
model = Model(ModelConfig(("H", "C", "O"), {"energy": HeadConfig("extensive", forces=True)}, backbone)).double()
program = traced(model).module()
check(model, Exported(record_of(model), lambda *inputs: list(program(*inputs)), "traced"))
"""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_is_one_graph_for_any_number_of_atoms(name: str) -> None:
    """The traced graph gives the model's energies, forces and stresses of clusters, a crystal and a single atom."""
    if name not in QUICK and not os.environ.get("NPOL_TEST_COMPILER"):
        pytest.skip("traces for a minute; `make test-compiler` runs it")
    done = subprocess.run([sys.executable, "-c", TRACE, name], capture_output=True, text=True, check=False)
    if name in UNTRACED:
        assert done.returncode != 0, f"{name} can be traced now; take it off the list"
        return
    assert done.returncode == 0, done.stderr[-3000:]


def test_batches_and_everything_that_is_asked_for() -> None:
    """Through the calculator and `predict`, molecules and crystals among each other are as with the model."""
    model = model_of()
    exported = as_it_is(model)
    crystal = bulk("CO", "rocksalt", a=4.3, cubic=True)
    crystal.rattle(0.1, seed=0)
    frames = [molecule("CH3CH2OH"), crystal, molecule("H2O"), molecule("O")]
    for frame, found, expected in zip(frames, npol.predict(exported, frames), npol.predict(model, frames), strict=True):
        assert found.keys() == expected.keys() - {"dipole"}
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], atol=2e-6)
        frame.calc = NeuralPolarizationCalculator(exported)
        np.testing.assert_allclose(frame.get_forces(), expected["forces"], atol=2e-6)
    assert crystal.get_stress() == pytest.approx(npol.predict(model, crystal)["stress"], abs=1e-7)
    batch = Molecules.from_ase(frames, model.cutoff)
    assert exported(batch, forces=False).keys() == {"energy"}
    assert exported(batch, properties=[]) == {}


def test_charges_and_spins_are_inputs() -> None:
    model = model_of(electronic=ElectronicInput.CHARGE_AND_SPIN)
    exported = as_it_is(model)
    assert exported.predictions["energy"].sees_charge and exported.predictions["energy"].sees_spin
    for info in ({}, {"charge": 1}, {"charge": -1, "spin": 3}):
        water = molecule("H2O")
        water.info |= info
        batch = Molecules.from_ase(water, model.cutoff)
        assert float(exported(batch)["energy"]) == pytest.approx(float(model(batch)["energy"].detach()), abs=1e-6)


def test_what_an_exported_model_refuses() -> None:
    exported = as_it_is(model_of())
    with pytest.raises(ValueError, match=r"model\.pt2: was exported in single precision.*--double"):
        NeuralPolarizationCalculator(exported, double=True)
    with pytest.raises(ValueError, match=r"was exported for the CPU, not for cuda"):
        exported.require(False, torch.device("cuda"))
    water = Molecules.from_ase(molecule("H2O"), exported.cutoff)
    with pytest.raises(ValueError, match=r"computes in float32, the molecules are in torch\.float64"):
        exported(water.to(dtype=torch.float64))
    with pytest.raises(ValueError, match=r"external_field: .*was exported without fields"):
        exported(dataclasses.replace(water, external_field=torch.ones(1, 3)))
    with pytest.raises(ValueError, match=r"other elements than H, C, O"):
        exported(Molecules.from_ase(molecule("N2"), exported.cutoff))
    with pytest.raises(ValueError, match="dipole"):
        exported(water, properties=["dipole"])


def file_of(path: Path, **changed: Any) -> Path:
    """A file with a record and no program."""
    record = plain(record_of(model_of())) | changed
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/model_metadata.json", json.dumps({RECORD: json.dumps(record)}))
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 7, "version": "9.0"}, r"was exported in format 7 by version 9\.0; this library reads format 1"),
        ({"torch": "1.0"}, r"was exported for PyTorch 1\.0, and here is .*export the model again"),
        ({"machine": "vax"}, r"was exported for the processor vax, and here is"),
        ({"elements": 3}, r"its record.*elements"),
    ],
)
def test_files_of_another_version_or_machine(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """They are refused by what they say of themselves, before anything of them runs."""
    with pytest.raises(ValueError, match=message):
        NeuralPolarizationCalculator(file_of(tmp_path / "model.pt2", **changed))


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_record(file_of(tmp_path / "good.pt2")).elements == ELEMENTS
    (tmp_path / "text.pt2").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("model/data/model_metadata.json", "{}")
    for name in ("text.pt2", "other.pt2"):
        with pytest.raises(ValueError, match=rf"{name}: is no model that `npol export` wrote, or it is damaged"):
            load_exported(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt2: there is no such exported model"):
        load_exported(tmp_path / "nothing.pt2")
    assert main(["info", str(tmp_path / "good.pt2")]) == 2
    assert "good.pt2: is an exported model, for the ASE calculator and" in capsys.readouterr().err
    save_model(model_of(), tmp_path / "model.safetensors")
    assert main(["export", str(tmp_path / "model.safetensors"), "-o", str(tmp_path / "model.so")]) == 2
    assert "the name of an exported model ends with .pt2" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "model.safetensors"), "-o", str(tmp_path / "good.pt2")]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_pickled_calculator_loads_its_file_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another directory too; the program itself stands in no pickle."""
    file, program, loaded = file_of(tmp_path / "model.pt2"), as_it_is(model_of())._run, list[str]()

    def load(path: str) -> Callable[..., list[torch.Tensor]]:
        loaded.append(path)
        return lambda *tensors: program(*tensors)

    monkeypatch.setattr("torch._inductor.aoti_load_package", load)
    monkeypatch.chdir(tmp_path)
    water = molecule("H2O", calculator=NeuralPolarizationCalculator("model.pt2"))
    energy = water.get_potential_energy()
    pickled = pickle.dumps(water)
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert loaded == ["model.pt2", str(file)] and not again.calc.model.training
    again.calc.reset()
    assert again.get_potential_energy() == energy
    file.unlink()
    with pytest.raises(FileNotFoundError, match="there is no such exported model"):
        pickle.loads(pickled)


@pytest.mark.skipif(find_spec("metatomic") is not None, reason="metatomic is installed: make test-adapters tests it")
def test_metatomic_is_an_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(model_of(), tmp_path / "model.safetensors")
    command = ["export", str(tmp_path / "model.safetensors"), "--to", "metatomic", "-o", str(tmp_path / "model.pt")]
    assert main(command) == 2
    assert "pip install 'neural-polarization[metatomic]'" in capsys.readouterr().err


def test_a_wrong_program_is_found() -> None:
    from neural_polarization.interfaces.export import check

    model = model_of()
    check(model, as_it_is(model))
    other = as_it_is(model)
    original: Callable[..., list[torch.Tensor]] = other._run

    def wrong(*tensors: torch.Tensor) -> list[torch.Tensor]:
        energy, forces, stress, displacement = original(*tensors)
        return [energy, forces, 1.1 * stress, displacement]

    other._run = wrong
    with pytest.raises(CompilationError, match="the exported model is wrong: stress of 12 atoms differs"):
        check(model, other)


@pytest.mark.skipif(
    not os.environ.get("NPOL_TEST_COMPILER"), reason="compiles for minutes; `make test-compiler` runs it"
)
def test_a_compiled_file_is_the_model(tmp_path: Path) -> None:
    """From the command line to a crystal that the calculator runs."""
    model = model_of()
    save_model(model, tmp_path / "model.safetensors")
    command = [sys.executable, "-m", "neural_polarization.cli", "export", "model.safetensors", "-o", "model.pt2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "written: model.pt2: painn, float32, checked against model.safetensors" in done.stdout
    crystal = bulk("CO", "rocksalt", a=4.3, cubic=True)
    crystal.rattle(0.1, seed=0)
    crystal.calc = NeuralPolarizationCalculator(tmp_path / "model.pt2")
    expected = npol.predict(model, crystal)
    np.testing.assert_allclose(crystal.get_forces(), expected["forces"], atol=1e-5)
    np.testing.assert_allclose(crystal.get_stress(), expected["stress"], atol=1e-6)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        elsewhere = pool.submit(_energy, crystal).result()
    assert elsewhere == crystal.get_potential_energy()


def _energy(atoms: ase.Atoms) -> float:
    """In another process, by a calculator without results."""
    atoms.calc.reset()
    return float(atoms.get_potential_energy())
