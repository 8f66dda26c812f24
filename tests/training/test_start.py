"""Starting from a checkpoint: the same predictions where nothing is new, and what is new is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import load_model, save_model
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.separate import joined
from neural_polarization.interfaces.prediction import predict
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.references import FITTED, GIVEN
from neural_polarization.settings import Source, build
from neural_polarization.training import start as start_module
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from neural_polarization.training.start import start_from
from neural_polarization.training.task import prepare
from waters import experiment, waters

ENERGY = {"energy": HeadConfig("extensive", forces=True)}
REFERENCES = torch.tensor([-13.6, -2043.0], dtype=torch.float64)


def config(name: str = "painn", messages: str = "moving_view", elements: tuple[str, ...] = ("H", "O")) -> ModelConfig:
    return ModelConfig(elements, ENERGY, BackboneConfig(name, preset="small"), PolarizationConfig(Messages(messages)))


def checkpoint(path: Path, of: ModelConfig, seed: int = 0) -> Model:
    """A random model with references and a scale, as a file."""
    torch.manual_seed(seed)
    model = Model(of)
    model.head("energy").baseline.references.copy_(REFERENCES)
    model.head("energy").baseline.scale.fill_(0.5)
    model.force_scale.fill_(0.5)
    save_model(model, path)
    return model


def labelled(model: Model, shift: tuple[float, float] = (0.0, 0.0)) -> Dataset:
    """Molecules whose energies are those of a model, of a level of theory that is shifted by element."""
    data = waters(20)
    found = predict(model, [data.structure(k) for k in range(len(data))])
    energy = np.array([float(of.properties["energy"]) for of in found]) + data.composition(("H", "O")) @ shift
    return Dataset("own", data.molecules, {"energy": data.properties["energy"]}, {"energy": energy})


def prepared(model: Model, shift: tuple[float, float] = (0.0, 0.0)) -> PreparedDataset:
    return labelled(model, shift).prepare(model.cutoff)


def assert_same(one: Model, other: Model) -> None:
    frames = [molecule("H2O"), molecule("OH")]
    frames[0].rattle(0.1, seed=1)
    for first, second in zip(predict(one, frames), predict(other, frames), strict=True):
        assert float(first.properties["energy"]) == pytest.approx(float(second.properties["energy"]), abs=2e-4)
        assert first.forces is not None and second.forces is not None
        np.testing.assert_allclose(first.forces, second.forces, atol=1e-5)
        np.testing.assert_allclose(first.displacement, second.displacement, atol=1e-6)


@pytest.mark.parametrize("name", ["painn", "torchmd_et", "nequip", "mace"])
@pytest.mark.parametrize("messages", ["riding", "moving_view"])
def test_other_elements_leave_the_known_ones_as_they_are(tmp_path: Path, name: str, messages: str) -> None:
    if name in ("nequip", "mace"):
        pytest.importorskip("e3nn")
    old = checkpoint(tmp_path / "old.safetensors", config(name, messages))
    torch.manual_seed(7)
    new = Model(config(name, messages, ("O", "C", "H")))
    before = {key: value.clone() for key, value in new.state_dict().items()}
    lines = start_from(new, tmp_path / "old.safetensors", prepared(old))
    assert lines[1:] == (
        "  elements: C new, the others taken over", "  network: taken over", "  moves: taken over",
        "  couplings: taken over", "  head energy: taken over",
    )  # fmt: skip
    assert_same(new, old)
    table = "representation.backbone.embedding.weight"
    if table in before:  # the row of carbon is the random one
        assert new.state_dict()[table][1].equal(before[table][1])


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    """Here a readout that reads features of two points instead of one."""
    old = checkpoint(tmp_path / "old.safetensors", config(messages="plain"))
    new = Model(config(messages="both_views"))
    lines = start_from(new, tmp_path / "old.safetensors", prepared(old))
    assert lines[1:5] == (
        "  network: taken over",
        "  moves: new, all displacements start at zero",
        "  couplings: new",
        "  head energy: taken over, except heads.energy.readout.0.weight, which are new",
    )
    rows = new.state_dict()["representation.backbone.embedding.weight"]
    assert rows[:2].equal(rows[2:]), "moving points start like fixed ones"


def test_a_plain_network_starts_riding_from_the_same_predictions(tmp_path: Path) -> None:
    old = checkpoint(tmp_path / "old.safetensors", config(messages="plain"))
    new = Model(config(messages="riding"))
    lines = start_from(new, tmp_path / "old.safetensors", prepared(old))
    assert "  moves: new, all displacements start at zero" in lines
    assert_same(new, old)
    assert any(weight.abs().max() > 0 for weight in new.representation.moves.parameters()), "they can learn"


def test_heads_that_come_and_go(tmp_path: Path) -> None:
    heads = {**ENERGY, "gap": HeadConfig("intensive")}
    torch.manual_seed(0)
    old = Model(replace(config(), heads=heads))
    save_model(old, tmp_path / "old.safetensors")
    new = Model(replace(config(), heads={"energy": HeadConfig("intensive"), "dipole": HeadConfig("dipole")}))
    before = {name: value.clone() for name, value in new.heads.state_dict().items()}
    lines = start_from(new, tmp_path / "old.safetensors", prepared(old))
    assert lines[-3:] == ("  head energy: new", "  head dipole: new", "  head gap of the checkpoint: not used")
    for name, value in new.heads.state_dict().items():
        assert value.equal(before[name]), name


def test_another_network_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "old.safetensors", config())
    other = replace(config(), backbone=BackboneConfig("painn", channels=12, preset="small"))
    with pytest.raises(
        ValueError, match=r"start_from: the network of .*old\.safetensors is another .*channels: 8 -> 12"
    ):
        start_from(Model(other), tmp_path / "old.safetensors", prepared(Model(config())))
    with pytest.raises(FileNotFoundError, match="there is no such checkpoint"):
        start_from(Model(other), tmp_path / "nowhere.safetensors", prepared(Model(config())))


def test_labels_of_another_level_of_theory_shift_the_references(tmp_path: Path) -> None:
    old = checkpoint(tmp_path / "old.safetensors", config())
    new = Model(config())
    lines = start_from(new, tmp_path / "old.safetensors", prepared(old, (3.0, -40.0)))
    assert "references of energy: shifted, which takes the error from " in lines[-1]
    expected = REFERENCES + torch.tensor([3.0, -40.0], dtype=torch.float64)
    torch.testing.assert_close(new.head("energy").baseline.references, expected, atol=1e-3, rtol=0)
    # Noise of the labels is no other level: then the references stay the checkpoint's.
    data = labelled(old)
    data.labels["energy"] += np.random.default_rng(0).normal(scale=0.01, size=len(data))
    start_from(new, tmp_path / "old.safetensors", data.prepare(old.cutoff))
    assert new.head("energy").baseline.references.equal(REFERENCES)


def oxides() -> Dataset:
    """Carbon monoxide and dioxide whose energies are references alone; a network adds what it adds."""
    sizes, numbers = np.array([2, 3]), np.array([6, 8, 6, 8, 8])
    places = np.array([[0.0, 0, 0], [1.13, 0, 0], [0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]])
    energy = np.array([-1035.0 - 2043.0, -1035.0 - 2 * 2043.0])
    return Dataset(
        "oxides",
        FlatMolecules.checked("oxides", sizes, numbers, places),
        {"energy": waters().properties["energy"]},
        {"energy": energy},
    )


def test_the_reference_of_a_new_element_is_fitted_to_what_is_left(tmp_path: Path) -> None:
    old, data = checkpoint(tmp_path / "old.safetensors", config()), oxides()
    new = Model(config(elements=("H", "C", "O")))
    new.fit_scales(data.labels_of(np.arange(2)), torch.from_numpy(data.composition(("H", "C", "O"))))
    lines = start_from(new, tmp_path / "old.safetensors", data.prepare(old.cutoff))
    assert "  references of energy: fitted for C" in lines
    references = new.head("energy").baseline.references
    assert references[[0, 2]].equal(REFERENCES) or "shifted" in lines[-1]
    assert float(references[1]) == pytest.approx(-1035.0, abs=5.0)


def test_references_that_are_given_stay(tmp_path: Path) -> None:
    old, data = checkpoint(tmp_path / "old.safetensors", config()), oxides()
    new = Model(config(elements=("H", "C", "O")))
    new.fit_scales(data.labels_of(np.arange(2)), torch.from_numpy(data.composition(("H", "C", "O"))))
    given = {"energy": {"C": -1030.0, "O": -2040.0, "H": -13.0}}
    lines = start_from(new, tmp_path / "old.safetensors", data.prepare(old.cutoff), given)
    assert lines[-1] == "  references of energy: as given for C, O, H"
    assert new.head("energy").baseline.references.tolist() == [-13.0, -1030.0, -2040.0]


def test_a_new_element_that_is_rare_is_fitted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many molecules only some are looked at, and among them none with the new element."""
    monkeypatch.setattr(start_module, "_SAMPLE", 4)
    old, rare = checkpoint(tmp_path / "old.safetensors", config()), oxides()
    many = labelled(old)
    data = joined([many.subset(np.arange(11)), rare, many.subset(np.arange(11, 20))])
    new = Model(config(elements=("H", "C", "O")))
    new.fit_scales(data.labels_of(np.arange(22)), torch.from_numpy(data.composition(("H", "C", "O"))))
    new.head("energy").baseline.references[1] = 7.0  # of a fit with other terms
    lines = start_from(new, tmp_path / "old.safetensors", data.prepare(old.cutoff))
    assert "  references of energy: fitted for C" in lines
    assert float(new.head("energy").baseline.references[1]) == pytest.approx(-1035.0, abs=5.0)


def test_where_references_come_from_is_known(tmp_path: Path) -> None:
    """`npol info` calls a value given if it is the one that was given."""
    tree = experiment(tmp_path, epochs=1)
    fit(build(ExperimentConfig, tree, Source("test")), quiet=True)
    again = {**tree, "output": str(tmp_path / "again"), "start_from": str(tmp_path / "run" / "model.safetensors")}
    again["training"] = {**tree["training"], "references": {"energy": {"atoms": {"O": -2000.0}}}}
    model = prepare(build(ExperimentConfig, again, Source("test"))).model
    assert model.knowledge is not None
    known = model.knowledge.references["energy"]
    assert known.values["O"] == -2000.0
    assert dict(known.sources) == {"H": FITTED, "O": GIVEN}
    assert list(known.values.values()) == model.head("energy").baseline.references.tolist()


def test_a_training_starts_there_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = experiment(tmp_path, epochs=2)
    first = fit(build(ExperimentConfig, tree, Source("test")), quiet=True)
    model = tmp_path / "run" / "model.safetensors"
    again = {**tree, "output": str(tmp_path / "again"), "start_from": str(model)}
    again["training"] = {**tree["training"], "epochs": 1, "learning_rate": 1e-9}
    config_again = build(ExperimentConfig, again, Source("test"))
    task = prepare(config_again)
    weights = load_model(model)[0].state_dict()
    for name, value in task.model.representation.state_dict().items():
        assert value.equal(weights[f"representation.{name}"]), name
    second = fit(config_again)
    assert f"starting from {model}:\n  network: taken over\n" in capsys.readouterr().err
    if not any("shifted" in line for line in task.taken_over):
        assert second["test"]["energy"]["mae"] == pytest.approx(first["test"]["energy"]["mae"], rel=1e-3)
    assert second["test"]["forces"]["mae"] == pytest.approx(first["test"]["forces"]["mae"], rel=1e-3)
