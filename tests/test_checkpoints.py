"""Checkpoints: same numbers, atomic, versioned, and clear about damage."""

import json
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from safetensors.torch import load_file, save_file

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import FORMAT, load_model, save_model
from neural_polarization.messages import Lengths, Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

RIDING = PolarizationConfig(Messages.RIDING)


def make_model(polarization: PolarizationConfig = RIDING) -> Model:
    torch.manual_seed(0)
    heads = {"energy": HeadConfig("extensive", forces=True), "alpha": HeadConfig("polarizability")}
    return Model(ModelConfig(("H", "O"), heads, BackboneConfig("painn", 8, 2), polarization)).eval()


@pytest.mark.parametrize(
    "polarization", [RIDING, PolarizationConfig(Messages.BOTH_VIEWS, 0.3, "edges", Lengths.NUCLEAR)]
)
def test_what_is_loaded_predicts_the_same(tmp_path: Path, polarization: PolarizationConfig) -> None:
    model = make_model(polarization)
    model.head("energy").baseline.references.copy_(torch.tensor([-13.123456789012, -2043.210987654321]))
    molecules = Molecules.from_ase(molecule("H2O"), model.cutoff)
    path = tmp_path / "model.safetensors"
    split = torch.tensor([3, 1, 2])
    save_model(model, path, {"units": {"energy": "eV"}, "errors": [1.5, None]}, {"split.train": split})
    loaded, checkpoint = load_model(path)
    assert loaded.config == model.config
    assert not loaded.training
    for name, value in model(molecules).items():
        assert torch.equal(loaded(molecules)[name], value)
    assert checkpoint.metadata == {"units": {"energy": "eV"}, "errors": [1.5, None]}
    assert torch.equal(checkpoint.tensors["split.train"], split)
    assert set(checkpoint.versions) == {"neural-polarization", "torch"}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(make_model(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_file(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(ValueError, match=r"model.safetensors: not a complete safetensors file .*copy it again"):
        load_model(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such checkpoint"):
        load_model(tmp_path / "none.safetensors")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_model(path)


def test_somebody_elses_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a model of neural-polarization"):
        load_model(path)


def header_of(path: Path) -> dict[str, object]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["neural_polarization"])


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (FORMAT + 1, f"format {FORMAT + 1}, newer than this library's {FORMAT}; update neural-polarization"),
        (FORMAT - 1, f"format {FORMAT - 1}, before the first release, when .*; train the model again"),
        (1, "format 1, before the first release, when .*; train the model again"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, version: int, message: str) -> None:
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    header = header_of(path) | {"format": version}
    save_file(load_file(path), path, {"neural_polarization": json.dumps(header)})
    with pytest.raises(ValueError, match=f"model.safetensors: written in checkpoint {message}"):
        load_model(path)


@pytest.mark.parametrize("tensor", ["force_scale", "heads.energy.baseline.references", "heads.alpha.gates.2.bias"])
def test_a_tensor_too_few_or_too_many(tmp_path: Path, tensor: str) -> None:
    """Weights that were left as they are made would predict nonsense."""
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    header, contents = {"neural_polarization": json.dumps(header_of(path))}, load_file(path)
    value = contents.pop(f"model.{tensor}")
    save_file(contents, path, header)
    with pytest.raises(ValueError, match=rf"(?s)do not fit together .*Missing key.*{tensor}"):
        load_model(path)
    save_file(contents | {f"model.{tensor}": value, f"model.{tensor}s": value.clone()}, path, header)
    with pytest.raises(ValueError, match=rf"(?s)do not fit together .*Unexpected key.*{tensor}s"):
        load_model(path)


def test_a_header_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    save_file({}, path, {"neural_polarization": json.dumps(header_of(path))})
    with pytest.raises(ValueError, match="do not fit together"):
        load_model(path)
