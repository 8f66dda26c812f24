"""Reference values of elements: isolated atoms among the data, values of the user, and elements that are missing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import load_model
from neural_polarization.data.config import SplitConfig
from neural_polarization.data.sources import open_dataset
from neural_polarization.data.splits import Split, save_split
from neural_polarization.errors import DataError
from neural_polarization.interfaces.prediction import predict
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.references import FITTED, GIVEN, ISOLATED
from neural_polarization.settings import ConfigError, Source, build
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from neural_polarization.training.references import isolated_atoms
from neural_polarization.training.summary import summary
from neural_polarization.training.task import Task, prepare
from waters import EQUILIBRIUM, REFERENCE, energies_and_forces

ATOMS = {"H": -13.2, "O": -2041.5}  # eV: not what a fit to waters would give


def frame(energy: float, forces: np.ndarray, numbers: np.ndarray, positions: np.ndarray, **info: Any) -> ase.Atoms:
    atoms = ase.Atoms(numbers, positions, info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def frames_of_water(count: int = 20) -> list[ase.Atoms]:
    """Water alone, so that a fit leaves the references of H and O undetermined."""
    rng = np.random.default_rng(0)
    numbers, frames = np.array([8, 1, 1]), list[ase.Atoms]()
    for _ in range(count):
        positions = EQUILIBRIUM + rng.normal(scale=0.05, size=(3, 3))
        energy, forces = energies_and_forces(numbers, positions, np.array([3]))
        shift = ATOMS["O"] + 2 * ATOMS["H"] - REFERENCE[8] - 2 * REFERENCE[1]
        frames.append(frame(float(energy[0]) + shift, forces, numbers, positions))
    return frames


def isolated(symbol: str, energy: float) -> ase.Atoms:
    return frame(
        energy, np.zeros((1, 3)), np.array([ase.Atom(symbol).number]), np.zeros((1, 3)), config_type="Isolated"
    )


def config_of(
    folder: Path, frames: list[ase.Atoms], elements: list[str] | None = None, **training: Any
) -> ExperimentConfig:
    ase.io.write(folder / "set.extxyz", frames, format="extxyz")
    backbone = {"name": "painn", "channels": 8, "num_layers": 1, "cutoff": 3.0, "num_basis": 8}
    model: dict[str, Any] = {"heads": {"energy": {"kind": "extensive", "forces": True}}, "backbone": backbone}
    if elements:
        model["elements"] = elements
    split = {"train": 10, "validation": 4, "test": 4}
    tree = {
        "name": "waters",
        "output": str(folder / "run"),
        "data": {"format": "extxyz", "path": str(folder / "set.extxyz"), "cache": False, "split": split},
        "model": model,
        "training": {"epochs": 1, "machine": {"accelerator": "cpu"}, **training},
    }
    return build(ExperimentConfig, tree, Source("test"))


def references_of(task: Task) -> dict[str, float]:
    values = task.model.head("energy").baseline.references
    return dict(zip(task.model.config.elements, values.tolist(), strict=True))


def with_atoms() -> list[ase.Atoms]:
    frames = frames_of_water()
    return [isolated("H", ATOMS["H"]), *frames[:7], isolated("O", ATOMS["O"]), *frames[7:]]


@pytest.mark.filterwarnings("ignore:outside of what the model was trained on")  # nothing has trained yet
def test_isolated_atoms_set_the_references_and_do_not_train(tmp_path: Path) -> None:
    """FAULTS 1.3: they were molecules like any other, and H was predicted 7 eV off."""
    config = config_of(tmp_path, with_atoms())
    task = prepare(config)
    assert references_of(task) == pytest.approx(ATOMS, abs=1e-9)
    sizes = task.dataset.molecules.n_atoms
    assert all((sizes[part] == 3).all() for part in task.split.parts.values())
    assert [len(part) for part in task.split.parts.values()] == [10, 4, 4]
    assert task.model.knowledge is not None
    assert task.model.knowledge.references["energy"].sources == {"H": ISOLATED, "O": ISOLATED}
    assert task.model.knowledge.references["energy"].rank == 2
    assert "left out     2 isolated atoms (H, O), which set reference values" in summary(task, config, "cpu")
    # One atom has no neighbour, and the network adds the same to every such atom of an element.
    single = predict(task.model, [ase.Atoms("H"), ase.Atoms("O")])
    network = [float(p.properties["energy"]) - ATOMS[s] for p, s in zip(single, "HO", strict=True)]
    assert np.abs(network).max() < 20 * task.model.scale_of("energy")


@pytest.mark.parametrize(("choice", "trained"), [("both", True), ("train", True), ("references", False)])
def test_isolated_atoms_train_where_that_is_asked_for(tmp_path: Path, choice: str, trained: bool) -> None:
    config = config_of(tmp_path, with_atoms(), isolated_atoms=choice)
    config = replace(config, data=replace(config.data, split=SplitConfig(validation=4, test=4)))  # the rest trains
    task = prepare(config)
    parts = np.concatenate(list(task.split.parts.values())).tolist()
    assert sorted(parts) == [k for k in range(22) if trained or k not in (0, 8)]
    expected = {"H": ISOLATED, "O": ISOLATED} if choice != "train" else {"H": FITTED, "O": FITTED}
    assert task.model.knowledge is not None
    assert task.model.knowledge.references["energy"].sources == expected


def test_only_neutral_atoms_among_molecules_are_isolated(tmp_path: Path) -> None:
    ion = isolated("H", 0.0)
    ion.info["charge"] = 1
    crystal = isolated("O", -1.0)
    crystal.set_cell([4.0, 4.0, 4.0])
    crystal.pbc = True
    ase.io.write(tmp_path / "set.extxyz", [*frames_of_water(4), ion, crystal, isolated("H", -1.0)], format="extxyz")
    task_data = config_of(tmp_path, [*frames_of_water(4), ion, crystal, isolated("H", -1.0)]).data
    assert isolated_atoms(open_dataset(task_data)).tolist() == [False] * 6 + [True]
    alone = config_of(tmp_path, [isolated("H", -1.0), isolated("H", -2.0)]).data
    assert not isolated_atoms(open_dataset(alone)).any()  # nothing but atoms: they are what is to be learned


def test_isolated_atoms_that_contradict_each_other(tmp_path: Path) -> None:
    frames = [*with_atoms(), isolated("H", ATOMS["H"] + 0.5)]
    with pytest.raises(
        DataError, match=r"energy of the isolated atom H is -12.7 in structure 22, but -13.2 in another"
    ):
        prepare(config_of(tmp_path, frames))


def test_references_of_the_user(tmp_path: Path) -> None:
    """FAULTS 1.1: given in any unit, they are taken before isolated atoms, and the rest is fitted."""
    given = {"energy": {"atoms": {"H": ATOMS["H"] / 27.211386245988}, "unit": "hartree"}}
    config = config_of(tmp_path, frames_of_water(), references=given)
    task = prepare(config)
    found = references_of(task)
    assert found["H"] == pytest.approx(ATOMS["H"], abs=1e-9)
    assert found["O"] == pytest.approx(ATOMS["O"], abs=0.5)  # mean of the springs' energies is left to it
    assert task.model.knowledge is not None
    assert task.model.knowledge.references["energy"].sources == {"H": GIVEN, "O": FITTED}
    both = prepare(config_of(tmp_path, with_atoms(), references={"energy": {"atoms": {"H": -10.0}}}))
    assert references_of(both) == pytest.approx({"H": -10.0, "O": ATOMS["O"]})


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (
            {"energy": {"atoms": {"H": -1.0}, "unit": "Angstrom"}},
            "training.references.energy.unit: 'Angstrom' is no unit",
        ),
        ({"energy": {"atoms": {"C": -1.0}}}, "references.energy: C is not among the elements of the model"),
        ({"dipole": {"atoms": {"H": -1.0}}}, "'dipole' is no property of this model that is a sum over atoms"),
    ],
)
def test_references_that_do_not_fit(tmp_path: Path, references: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(config_of(tmp_path, frames_of_water(), references=references))


@pytest.mark.parametrize("atoms", [{"Xx": 1.0}, {"H": float("nan")}])
def test_references_of_no_element_or_no_number(tmp_path: Path, atoms: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"training\.references\.energy"):
        config_of(tmp_path, frames_of_water(), references={"energy": {"atoms": atoms}})


def test_an_element_that_is_named_and_never_seen(tmp_path: Path) -> None:
    """FAULTS 1.2: it trained, and HF was off by 2,000 eV."""
    with pytest.raises(DataError, match=r"model.elements: no training structure contains F"):
        prepare(config_of(tmp_path, frames_of_water(), elements=["H", "O", "F"]))


def test_an_element_of_the_test_part_alone(tmp_path: Path) -> None:
    """FAULTS 1.2: a warning, and a checkpoint that refuses the element."""
    numbers, positions = np.array([9, 1]), np.array([[0.0, 0.0, 0.0], [0.92, 0.0, 0.0]])
    frames = [*frames_of_water(20), frame(-2727.0, np.zeros((2, 3)), numbers, positions)]
    config = config_of(tmp_path, frames)
    split = {"kind": "stored", "path": str(tmp_path / "split.json")}
    parts = Split(np.arange(10), np.arange(10, 16), np.arange(16, 21))
    save_split(parts, split["path"])
    config = replace(config, data=replace(config.data, split=SplitConfig(kind="stored", path=split["path"])))
    with pytest.warns(UserWarning, match="F occurs in the validation or test part only"):
        fit(config, quiet=True)
    model, _ = load_model(tmp_path / "run")
    assert model.knowledge is not None and model.knowledge.missing_elements == ("F",)
    with pytest.raises(ValueError, match=r"structure 1 \(HF\) contains F, which the model names, but no training"):
        predict(model, [ase.Atoms("H2O", EQUILIBRIUM[[1, 2, 0]]), ase.Atoms("FH", positions)])


def test_infinite_labels_are_named(tmp_path: Path) -> None:
    """FAULTS 5: they were blamed on the learning rate."""
    frames = frames_of_water()
    frames[3].calc.results["energy"] = float("inf")
    with pytest.raises(DataError, match=r"set.extxyz: energy of molecule 3 is infinite"):
        prepare(config_of(tmp_path, frames))


def test_scales_of_a_model_with_given_references() -> None:
    """The fit of the other elements leaves the given ones alone."""
    model = Model(ModelConfig(("H", "C", "O"), {"energy": HeadConfig("extensive")}, BackboneConfig("painn", 8, 1)))
    composition = torch.tensor([[2.0, 0.0, 1.0], [4.0, 1.0, 0.0], [2.0, 6.0, 0.0]])
    exact = torch.tensor([-0.6, -38.0, -75.0], dtype=torch.float64)
    model.fit_scales({"energy": composition.double() @ exact}, composition, {"energy": {"H": -0.6}})
    torch.testing.assert_close(model.head("energy").baseline.references, exact, rtol=1e-10, atol=1e-10)
    assert model.knowledge is not None and model.knowledge.references["energy"].rank == 3
