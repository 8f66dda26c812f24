"""Checkpoints: one safetensors file with plain JSON in its header. Loading one runs no code of the file's.

A model around a network of one's own names the module of that network; it is imported where the caller trusts it.
"""

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
from neural_polarization.files import replacing
from neural_polarization.messages import Lengths, Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.response import Response
from neural_polarization.user_networks import check_trusted

FORMAT = 4
"""Version of the layout and of what weights mean; files of other ones are refused with a clear error.

Before the first release: 1, moves in Angstrom instead of tenths of it; 2, heads of the spatial extent with all
electrons at the moving points; 3, perceptrons in moves and couplings.
"""

_HEADER = "neural_polarization"
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


def save_model(
    model: Model,
    path: str | Path,
    metadata: Mapping[str, Json] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a model with what belongs to it; an existing file is replaced only when the new one is complete.

    Args:
        model: on any device.
        path: customary ending `.safetensors`.
        metadata: plain JSON values to keep beside the model.
        tensors: further tensors to keep beside the model.
    """
    path = Path(path)
    header = {
        "format": FORMAT,
        "versions": {"neural-polarization": neural_polarization.__version__, "torch": torch.__version__},
        "model": asdict(model.config),
        "metadata": dict(metadata or {}),
    }
    contents = {_WEIGHTS + name: value for name, value in model.state_dict().items()}
    contents |= {_EXTRA + name: value for name, value in (tensors or {}).items()}
    contents = {name: value.detach().cpu().contiguous().clone() for name, value in contents.items()}
    data = to_bytes(contents, metadata={_HEADER: json.dumps(header, allow_nan=True)})
    with replacing(path) as file:
        file.write(data)


def load_model(path: str | Path, trust: Collection[str] = ()) -> tuple[Model, Checkpoint]:
    """Reads a model, in evaluation mode on the CPU, and what was stored beside it.

    Args:
        path: the file.
        trust: modules that may be imported, for a network of one's own (`backbone.name: "package.module:Class"`), or
            packages that they are in. Importing a module runs its code, and a checkpoint alone never does that.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, is no checkpoint of this library, or is of another format.
        TrustError: if it needs a module that is not trusted.
    """
    header, contents = read_checkpoint(path)
    path = Path(path)
    try:
        config = model_config(header["model"])
        check_trusted(config.backbone.name, trust, str(path))
        model = Model(config)
        weights = {name.removeprefix(_WEIGHTS): v for name, v in contents.items() if name.startswith(_WEIGHTS)}
        # The floating-point type that the model was trained in: loading alone would round to the default one.
        model.to(weights[next(name for name, _ in model.named_parameters())].dtype)
        model.load_state_dict(weights)
        checkpoint = Checkpoint(
            path=path,
            versions=dict(header["versions"]),
            metadata=dict(header["metadata"]),
            tensors={name.removeprefix(_EXTRA): v for name, v in contents.items() if name.startswith(_EXTRA)},
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: its header and its weights do not fit together ({error})") from error
    return model.eval(), checkpoint


def read_weights(path: str | Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A model's configuration and weights, without making it: so no module is imported.

    Raises:
        FileNotFoundError: as `load_model`.
        ValueError: as `load_model`.
    """
    header, contents = read_checkpoint(path)
    try:
        config = model_config(header["model"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: its header describes no model ({error})") from error
    return config, {name.removeprefix(_WEIGHTS): v for name, v in contents.items() if name.startswith(_WEIGHTS)}


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and all arrays of a checkpoint of the present format.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, is no checkpoint of this library, or is of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such checkpoint; give the .safetensors file of a model")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(_HEADER)
            contents: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: not a complete safetensors file ({error}); it was cut short or damaged: copy it again, or "
            "take an earlier checkpoint"
        ) from None
    if raw is None:
        raise ValueError(
            f"{path}: a safetensors file, but not a model of neural-polarization (its header has no entry "
            f"{_HEADER!r}); give a file that `npol train` or `save_model` wrote"
        )
    try:
        header = cast("dict[str, Any]", json.loads(raw))
        version = int(header["format"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its header is damaged ({error}); copy it again") from error
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
    return header, contents


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """A model's configuration from the plain JSON values of `dataclasses.asdict`."""
    polarization = dict(values["polarization"])
    polarization |= {"messages": Messages(polarization["messages"]), "lengths": Lengths(polarization["lengths"])}
    return ModelConfig(
        elements=tuple(values["elements"]),
        heads={name: HeadConfig(**head) for name, head in values["heads"].items()},
        backbone=BackboneConfig(**values["backbone"]),
        polarization=PolarizationConfig(**polarization),
        response=Response(values.get("response", Response.NONE)),  # checkpoints of 0.1 know of none
    )
