"""Checkpoints: same numbers, atomic, versioned, and clear about damage."""

import json
import re
import time
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
    with pytest.raises(ValueError, match="not a model, but a file of another kind"):
        load_model(path)


def test_somebody_elses_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a model of neural-polarization"):
        load_model(path)


def header_of(path: Path) -> dict[str, object]:
    """The header as release 0.1.0 wrote it: without what was learned from, which comes with a checksum."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["neural_polarization"])
    return {key: value for key, value in header.items() if key != "knowledge"}


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


def scaled_model() -> Model:
    """A model that has learned from ethanol alone, so that its references have rank one."""
    model = make_model()
    labels = {"energy": torch.tensor([-76.0, -76.25]).double(), "alpha": torch.eye(3).double().repeat(2, 1, 1)}
    model.fit_scales(labels, torch.tensor([[2.0, 1.0], [2.0, 1.0]]))
    return model


def test_what_was_learned_from_is_in_the_file(tmp_path: Path) -> None:
    model = scaled_model()
    assert model.knowledge is not None
    assert model.knowledge.elements == {"H": 4, "O": 2}
    assert model.knowledge.references["energy"].compositions == ((2, 1),)
    assert model.knowledge.ranges == {"energy": (-76.25, -76.0)}
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors")[0].knowledge == model.knowledge


def test_a_file_of_release_0_1_0_knows_nothing() -> None:
    model, _ = load_model(Path(__file__).parent / "released" / "0.1.0.safetensors")
    assert model.knowledge is None


def test_the_directory_of_a_run_is_its_best_model(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "model.safetensors")
    assert load_model(tmp_path)[1].path == tmp_path / "model.safetensors"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a directory without model\.safetensors"):
        load_model(tmp_path / "empty")


def test_no_bit_flips_unnoticed(tmp_path: Path) -> None:
    """FAULTS 1.15: 17 of 25 flipped bits went unnoticed; of 200 none does."""
    path = tmp_path / "model.safetensors"
    save_model(scaled_model(), path, {"name": "test"}, {"split.train": torch.arange(5)})
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place, bit in zip(
        torch.randint(len(whole), (200,), generator=generator).tolist(),
        torch.randint(8, (200,), generator=generator).tolist(),
        strict=True,
    ):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_model(path)


def test_a_weight_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = make_model()
    save_model(model, path)
    contents = load_file(path)
    contents["model.heads.alpha.gates.2.bias"][0] = float("nan")
    save_file(contents, path, {"neural_polarization": json.dumps(header_of(path))})
    with pytest.raises(ValueError, match=r"1 of \d+ numbers of heads.alpha.gates.2.bias are not finite"):
        load_model(path)
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    with pytest.raises(ValueError, match="are not finite; the training diverged"):
        save_model(model, tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("backbone", "num_layers"), 10_000_000, "num_layers is 10000000, more than the"),
        (("backbone", "channels"), 1_000_000, "channels is 1000000"),
        (
            ("heads",),
            {f"e{k}": {"kind": "extensive", "forces": False} for k in range(20_000)},
            "number of heads is 20000",
        ),
        (("heads",), ["energy"], "heads are list, not a mapping"),
        (("backbone",), None, "do not fit together"),
        (("backbone", "cutoff"), 1e12, r"model\.safetensors: .*cutoff: expected a positive length of at most 1000"),
        (("polarization", "limit"), 1e12, r"model\.safetensors: .*limit must be a positive length"),
        (
            ("heads",),
            {"Charge=1": {"kind": "extensive", "forces": False}},
            r"model\.safetensors: .* cannot be the name",
        ),
    ],
)
def test_sizes_that_the_weights_do_not_have(
    tmp_path: Path, where: tuple[str, ...], value: object, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    header = header_of(path)
    inner = header["model"]
    for key in where[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[where[-1]] = value  # type: ignore[index]
    save_file(load_file(path), path, {"neural_polarization": json.dumps(header)})
    started = time.monotonic()
    with pytest.raises(ValueError, match=message):
        load_model(path)
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"dataset": 5}, "'dataset' should be a mapping, and is 5"),
        ({"properties": "energy"}, "'properties' should be a mapping"),
    ],
)
def test_metadata_that_no_command_could_read(tmp_path: Path, metadata: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_model(make_model(), tmp_path / "model.safetensors", metadata)  # type: ignore[arg-type]


def test_units_that_are_none(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "model.safetensors", {"properties": {"energy": "meV"}})
    _, checkpoint = load_model(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="should give a 'unit' for every name"):
        _ = checkpoint.units


def test_a_model_that_is_loaded_in_inference_mode_can_be_trained(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "model.safetensors")
    with torch.inference_mode():
        model, _ = load_model(tmp_path / "model.safetensors")
    molecules = Molecules.from_ase(molecule("H2O"), model.cutoff)
    model.train()(molecules)["energy"].sum().backward()
    assert any(weight.grad is not None for weight in model.parameters())
    with torch.inference_mode():
        assert torch.isfinite(model.eval()(molecules, forces=False)["energy"]).all()


def test_a_tensor_with_one_number_and_no_stride(tmp_path: Path) -> None:
    """A part of a split with one structure, as NumPy's views can give it."""
    one = torch.zeros(3, dtype=torch.long).expand(3)[1:2].as_strided((1,), (0,))
    save_model(make_model(), tmp_path / "model.safetensors", tensors={"split.test": one})
    _, stored = load_model(tmp_path / "model.safetensors")
    assert stored.tensors["split.test"].tolist() == [0]
