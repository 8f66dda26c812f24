"""Checkpoints: one safetensors file with plain JSON in its header. Loading one runs no code of the file's.

A model around a network of one's own names the module of that network; it is imported where the caller trusts it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import safetensors
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

import neural_polarization
from neural_polarization.architectures import BackboneConfig
from neural_polarization.electronic import ElectronicInput
from neural_polarization.errors import UNREADABLE, TrustError, reason
from neural_polarization.files import replacing
from neural_polarization.heads.density import DensityConfig
from neural_polarization.knowledge import TrainingKnowledge, by_pairs
from neural_polarization.messages import Lengths, Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.response import Response
from neural_polarization.settings import Source, build, plain
from neural_polarization.user_networks import check_trusted

FORMAT = 4
"""Version of the layout and of what weights mean; files of other ones are refused with a clear error.

Before the first release: 1, moves in Angstrom instead of tenths of it; 2, heads of the spatial extent with all
electrons at the moving points; 3, perceptrons in moves and couplings.
"""

_HEADER = "neural_polarization"
_CHECKSUM = "neural_polarization.checksum"
_KNOWLEDGE = "knowledge"
_MODEL_FILE = "model.safetensors"
_SECTIONS = ("data", "dataset", "properties", "training", "metrics")  # entries of the metadata that commands read
_WEIGHTS, _EXTRA = "model.", "extra."

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True)
class Checkpoint:
    """What stands in a checkpoint beside the model.

    Attributes:
        path: the file.
        versions: versions of the libraries that wrote it.
        metadata: whatever the writer recorded: data, units, training, metrics.
        tensors: further arrays, such as the indices of the split.
    """

    path: Path
    versions: dict[str, str]
    metadata: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def units(self) -> dict[str, str]:
        """Customary unit of each property that the file knows of.

        Raises:
            ValueError: if what the file says about properties is something else.
        """
        try:
            return {name: str(kind["unit"]) for name, kind in self.metadata.get("properties", {}).items()}
        except (KeyError, TypeError):
            raise ValueError(
                f"{self.path}: its metadata 'properties' should give a 'unit' for every name, and are "
                f"{self.metadata['properties']!r}; save the model with other metadata"
            ) from None


def save_model(
    model: Model,
    path: str | Path,
    metadata: Mapping[str, Json] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a model with what belongs to it; an existing file is replaced only when the new one is complete.

    The file has a checksum over everything in it, and what the model was trained on (`model.knowledge`).

    Args:
        model: on any device.
        path: customary ending `.safetensors`.
        metadata: plain JSON values to keep beside the model.
        tensors: further tensors to keep beside the model.

    Raises:
        TypeError: for anything else than a `Model`.
        ValueError: for metadata that are no plain values, or a weight that is not finite.
    """
    path = Path(path)
    if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"model: a {type(model).__name__} has no checkpoint; give an npol.Model, or save its state_dict"
        )
    _check_metadata(metadata or {}, "metadata")
    header = {
        "format": FORMAT,
        "versions": {"neural-polarization": neural_polarization.__version__, "torch": torch.__version__},
        "model": asdict(model.config),
        "metadata": dict(metadata or {}),
        _KNOWLEDGE: None if model.knowledge is None else plain(model.knowledge),
    }
    try:
        text = json.dumps(header, allow_nan=True)
    except TypeError as error:
        raise ValueError(f"metadata: expected numbers, text, lists and mappings only ({error})") from None
    contents = {_WEIGHTS + name: value for name, value in model.state_dict().items()}
    _check_finite(contents, str(path))
    contents |= {_EXTRA + name: value for name, value in (tensors or {}).items()}
    contents = {name: value.detach().cpu().contiguous().clone() for name, value in contents.items()}
    data = to_bytes(contents, metadata={_HEADER: text, _CHECKSUM: _checksum(text, contents)})
    with replacing(path) as file:
        file.write(data)


@torch.inference_mode(False)  # tensors that are made in inference mode can never be trained
def load_model(path: str | Path, trust: Collection[str] = ()) -> tuple[Model, Checkpoint]:
    """Reads a model, in evaluation mode on the CPU, and what was stored beside it.

    Args:
        path: the file, or the directory of a run, whose best model is taken.
        trust: modules that may be imported, for a network of one's own (`backbone.name: "package.module:Class"`), or
            packages that they are in. Importing a module runs its code, and a checkpoint alone never does that.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, is no checkpoint of this library, or is of another format.
        TrustError: if it needs a module that is not trusted.
    """
    path = _model_file(path)
    header, contents = read_checkpoint(path)
    try:
        weights = {name.removeprefix(_WEIGHTS): v for name, v in contents.items() if name.startswith(_WEIGHTS)}
        _check_sizes(header["model"], weights)
        config = model_config(header["model"])
        check_trusted(config.backbone.name, trust, str(path))
        model = Model(config)
        # The floating-point type that the model was trained in: loading alone would round to the default one.
        model.to(weights[next(name for name, _ in model.named_parameters())].dtype)
        model.load_state_dict(weights)
        checkpoint = Checkpoint(
            path=path,
            versions=dict(header["versions"]),
            metadata=dict(header["metadata"]),
            tensors={name.removeprefix(_EXTRA): v for name, v in contents.items() if name.startswith(_EXTRA)},
        )
    except TrustError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"{path}: its header and its weights do not fit together ({reason(error)})") from error
    _check_metadata(checkpoint.metadata, f"{path}: its metadata")
    _check_finite(contents, str(path))
    model.knowledge = _knowledge(path, header)
    return model.eval(), checkpoint


def read_knowledge(path: str | Path) -> TrainingKnowledge | None:
    """What a checkpoint says of its training, without making its model; None for one that knows nothing.

    Raises:
        FileNotFoundError: as `load_model`.
        ValueError: as `load_model`.
    """
    return _knowledge(_model_file(path), read_checkpoint(path)[0])


def _knowledge(path: Path, header: Mapping[str, Any]) -> TrainingKnowledge | None:
    known = header.get(_KNOWLEDGE)
    if known is None:
        return None
    return build(TrainingKnowledge, by_pairs(known), Source(f"{path}: what it knows of its training"))


def read_weights(path: str | Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A model's configuration and weights, without making it: so no module is imported.

    Raises:
        FileNotFoundError: as `load_model`.
        ValueError: as `load_model`.
    """
    header, contents = read_checkpoint(path)
    _check_finite(contents, str(path))
    try:
        config = model_config(header["model"])
    except UNREADABLE as error:
        raise ValueError(f"{path}: its header describes no model ({reason(error)})") from error
    return config, {name.removeprefix(_WEIGHTS): v for name, v in contents.items() if name.startswith(_WEIGHTS)}


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and all arrays of a checkpoint of the present format.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, is no checkpoint of this library, or is of another format.
    """
    path = _model_file(path)
    text, contents, confirmed = _read(path)
    try:
        header = cast("dict[str, Any]", json.loads(text))
        version = int(header["format"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its header is damaged ({error}); copy it again") from error
    if _KNOWLEDGE in header and not confirmed:  # files of 0.1.0 have neither
        raise ValueError(f"{path}: its checksum is missing: it was damaged or changed; copy it again")
    _check_format(path, version)
    return header, contents


def _model_file(path: str | Path) -> Path:
    """The file of a model: the path itself, or the best model of a run whose directory it is."""
    path = Path(path)
    if path.suffix == ".pt2":
        raise ValueError(
            f"{path}: is an exported model, for the ASE calculator and `neural_polarization.predict`; give the "
            ".safetensors file that it was made from"
        )
    if (path / _MODEL_FILE).is_file():
        return path / _MODEL_FILE
    if not path.is_file():
        what = f"a directory without {_MODEL_FILE}" if path.is_dir() else "there is no such checkpoint"
        raise FileNotFoundError(f"{path}: {what}; give the .safetensors file of a model")
    return path


def _read(path: Path) -> tuple[str, dict[str, Tensor], bool]:
    """Header and tensors of a file, as they were written, and whether a checksum has confirmed them."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stored = dict(file.metadata() or {})
            contents: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        with path.open("rb") as start:
            if start.read(2) == b"PK":  # torch's and NumPy's archives begin like this
                raise ValueError(
                    f"{path}: not a model, but a file of another kind, such as a data set or the state of a training "
                    f"(resume.ckpt); give the {_MODEL_FILE} of a run"
                ) from None
        raise ValueError(
            f"{path}: not a complete safetensors file ({error}); it was cut short or damaged: copy it again, or "
            "take an earlier checkpoint"
        ) from None
    text = stored.get(_HEADER)
    if text is None:
        raise ValueError(
            f"{path}: a safetensors file, but not a model of neural-polarization (its header has no entry "
            f"{_HEADER!r}); give a file that `npol train` or `save_model` wrote"
        )
    if _CHECKSUM in stored and stored[_CHECKSUM] != _checksum(text, contents):
        raise ValueError(
            f"{path}: its contents do not agree with its checksum: it was damaged or changed after it was written; "
            "copy it again, or take an earlier checkpoint"
        )
    return text, contents, _CHECKSUM in stored


def _checksum(text: str, contents: Mapping[str, Tensor]) -> str:
    """SHA-256 of the header and of every tensor with its name, type and shape."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(contents):
        value = contents[name]
        digest.update(f"|{name} {value.dtype} {tuple(value.shape)}|".encode())
        # A copy: a tensor with one number can have a stride of zero, and no other type can look at it then.
        flat = torch.empty(value.numel(), dtype=value.dtype).copy_(value.flatten())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_format(path: Path, version: int) -> None:
    if version > FORMAT:
        raise ValueError(
            f"{path}: written in checkpoint format {version}, newer than this library's {FORMAT}; update "
            "neural-polarization"
        )
    if version < FORMAT:
        raise ValueError(
            f"{path}: written in checkpoint format {version}, before the first release, when weights meant "
            "something else; train the model again"
        )


def _check_sizes(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Compares the sizes that a header claims with the weights that are there, before a network is built of them.

    Raises:
        KeyError: for a size that these weights cannot have.
    """
    if not isinstance(config["heads"], Mapping):
        raise TypeError(f"heads are {type(config['heads']).__name__}, not a mapping")
    tensors = len(weights)
    longest = max((max(value.shape, default=1) for value in weights.values()), default=0)
    backbone = cast("Mapping[str, Any]", config["backbone"])
    bounds = {"num_layers": tensors, "lmax": tensors, "channels": longest, "num_basis": longest}
    claimed = {key: (backbone.get(key), most) for key, most in bounds.items()}
    claimed["number of heads"] = (len(cast("Mapping[str, Any]", config["heads"])), tensors)
    claimed["number of elements"] = (len(config["elements"]), longest)
    for key, (size, most) in claimed.items():
        if size is not None and size > most:
            raise KeyError(f"{key} is {size}, more than the {tensors} stored weights allow ({most})")


def _check_metadata(metadata: object, where: str) -> None:
    if not isinstance(metadata, Mapping):
        raise ValueError(f"{where}: expected a mapping from names to values, got {metadata!r}")
    for name in _SECTIONS:
        section = cast("Mapping[str, object]", metadata).get(name, {})
        if not isinstance(section, Mapping):
            raise ValueError(f"{where}: {name!r} should be a mapping, and is {section!r}; choose another name for it")


def _check_finite(contents: Mapping[str, Tensor], where: str) -> None:
    for name, value in contents.items():
        if name.startswith(_WEIGHTS) and value.is_floating_point() and not bool(value.isfinite().all()):
            count = int((~value.isfinite()).sum())
            raise ValueError(
                f"{where}: {count} of {value.numel()} numbers of {name.removeprefix(_WEIGHTS)} are not finite; the "
                "training diverged or the file was damaged: take an earlier checkpoint"
            )


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """A model's configuration from the plain JSON values of `dataclasses.asdict`."""
    polarization = dict(values["polarization"])
    polarization |= {"messages": Messages(polarization["messages"]), "lengths": Lengths(polarization["lengths"])}
    return ModelConfig(
        elements=tuple(values["elements"]),
        heads={name: HeadConfig(**head) for name, head in values["heads"].items()},
        backbone=BackboneConfig(**values["backbone"]),
        polarization=PolarizationConfig(**polarization),
        density=None if values.get("density") is None else DensityConfig(**values["density"]),
        response=Response(values.get("response", Response.NONE)),  # checkpoints of 0.1 know of none
        electronic=ElectronicInput(values.get("electronic", ElectronicInput.NONE)),
    )
