"""The functions of the front door: open data, train and predict from Python, each in one line."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import ase
import numpy as np
from numpy.typing import NDArray

from neural_polarization.checkpoints import load_model
from neural_polarization.data import sources
from neural_polarization.data.config import DataConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.interfaces.exported import load_predictor
from neural_polarization.interfaces.prediction import predict as predict_structures
from neural_polarization.models import Model
from neural_polarization.predictor import Predictor
from neural_polarization.properties import DISPLACEMENT, FORCES, STRESS
from neural_polarization.settings import ConfigError, Source, build, read_yaml, with_overrides
from neural_polarization.structures import read_structures
from neural_polarization.training import experiment
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.user_networks import is_users, look_beside, module_of

_FORMATS = {".npz": "packed", ".extxyz": "extxyz", ".xyz": "extxyz", ".db": "ase", ".json": "ase"}


@dataclass(frozen=True)
class Trained:
    """What a training has made.

    Attributes:
        model: The best model, in evaluation mode on the CPU.
        directory: Directory with model.safetensors, metrics.csv, result.json and config.yaml.
        errors: Errors per part ("validation", "test"), property and measure ("mae", "rmse"), in `units`.
        units: Unit of the errors of each property.
        costs: Numbers beside the errors: parameters, epochs, steps, seconds and so on, as in result.json.
    """

    model: Model
    directory: Path
    errors: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    units: Mapping[str, str]
    costs: Mapping[str, Any]


def fit(
    config: str | Path | Mapping[str, Any] | ExperimentConfig,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    strict: bool = False,
) -> Trained:
    """Trains a model as its configuration says, or goes on where an interrupted run of it ended.

    Args:
        config: a YAML file, the same as nested mappings, or an `ExperimentConfig`.
        settings: values by dotted key that replace those of a file or mapping, for instance `{"training.epochs": 10}`.
        overwrite: whether a run in the same directory may be deleted.
        quiet: whether to show no progress.
        strict: whether doubts about the data, of which there are warnings otherwise, are errors.

    Raises:
        ConfigError: for a mistake in the configuration, or an interrupted run with another one in the same directory.
        FileExistsError: if a finished run is in the same directory, and no more epochs are asked for.
        FloatingPointError: if the training diverges.

    Example:
        trained = npol.fit("config.yaml", {"training.epochs": 10})
        print(trained.errors["test"]["forces"]["mae"], trained.units["forces"])
    """
    chosen = _experiment(config, settings or {})
    result = experiment.fit(chosen, overwrite, quiet, strict)
    directory = Path(chosen.output or Path("runs") / chosen.name)
    if not result:
        raise RuntimeError(
            "fit: this is a further process of a distributed training, which writes no result; use `npol train`"
        )
    model, _ = load_model(directory / "model.safetensors", [module_of(chosen.model.backbone.name)])
    parts = [part for part in ("validation", "test") if part in result]
    return Trained(
        model=model,
        directory=directory,
        errors={part: result[part] for part in parts},
        units=result["units"],
        costs={name: value for name, value in result.items() if name not in (*parts, "units")},
    )


def open_dataset(source: str | Path | DataConfig, **choices: Any) -> Dataset:
    """Reads a data set.

    Args:
        source: its file, or a whole configuration.
        choices: other settings of `DataConfig` for a file, as in YAML under `data`. The format follows from the ending
            where it is not given: .npz is "packed", .xyz and .extxyz are "extxyz", .db and .json are "ase".

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file that cannot be read or has no labels.
        ConfigError: for a setting that is not known, or an ending whose format is not.

    Example:
        data = npol.open_dataset("frames.extxyz", properties={"energy": {"source": "E", "unit": "kcal/mol"}})
        print(len(data), data.elements, data.labels["energy"].mean())
    """
    if isinstance(source, DataConfig):
        if choices:
            raise ConfigError(f"open_dataset: {', '.join(choices)} belong into the DataConfig; leave them out here")
        return sources.open_dataset(source)
    ending = Path(source).suffix.lower()
    if "format" not in choices:
        if ending not in _FORMATS:
            raise ConfigError(
                f"{source}: no format goes with the ending {ending!r}; give format= one of {', '.join(sources.FORMATS)}"
            )
        choices["format"] = _FORMATS[ending]
    return sources.open_dataset(build(DataConfig, {**choices, "path": str(source)}, Source("open_dataset")))


@overload
def predict(
    model: Predictor | str | Path, structures: ase.Atoms, *, batch_size: int = ..., trust: Collection[str] = ...
) -> dict[str, NDArray[np.float64]]: ...
@overload
def predict(
    model: Predictor | str | Path,
    structures: Sequence[ase.Atoms] | str | Path,
    *,
    batch_size: int = ...,
    trust: Collection[str] = ...,
) -> list[dict[str, NDArray[np.float64]]]: ...
def predict(
    model: Predictor | str | Path,
    structures: ase.Atoms | Sequence[ase.Atoms] | str | Path,
    *,
    batch_size: int = 64,
    trust: Collection[str] = (),
) -> dict[str, NDArray[np.float64]] | list[dict[str, NDArray[np.float64]]]:
    """Properties of a structure by name, "forces" and the "displacement" of the electron clouds among them.

    Periodic structures with a volume have a "stress" too: xx, yy, zz, yz, xz, xy as in ASE, eV/Angstrom^3.

    Args:
        model: a model on any device, its checkpoint, or an exported file (.pt2).
        structures: one structure, several, or a file of them; molecules or periodic systems.
        batch_size: structures at a time.
        trust: modules of networks of one's own that a checkpoint may import (see `load_model`).

    Returns:
        For one structure a dictionary of arrays in internal units (eV, Angstrom, e); for several, and for a file, a
        list of them. A number has no axes, forces and displacements are (atoms, 3), charges of atoms (atoms,). What is
        not defined for a structure is left out.

    Raises:
        FileNotFoundError: where there is no file.
        TypeError: for what is not a model or not a structure.
        ValueError: for an element that the model was not made for, a structure that cannot be, or a file of none.

    Example:
        prediction = npol.predict("model.safetensors", ase.build.molecule("CH3OH"))
        print(prediction["energy"], prediction["displacement"].round(3))
    """
    if not isinstance(model, Predictor | str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"model: a {type(model).__name__} predicts no properties; give an npol.Model, which has heads, a "
            "checkpoint or an exported file"
        )
    predictor = model if isinstance(model, Predictor) else load_predictor(model, trust)
    if isinstance(structures, str | Path):
        structures = read_structures(structures)
    frames = [structures] if isinstance(structures, ase.Atoms) else list(structures)
    for number, frame in enumerate(frames):
        if not isinstance(frame, ase.Atoms):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"structure {number} is a {type(frame).__name__}; expected ase.Atoms, a list of them, or one file"
            )
    found = [
        {
            **of.properties,
            **of.of_atoms,
            **({} if of.forces is None else {FORCES: of.forces}),
            **({} if of.stress is None else {STRESS: of.stress}),
            DISPLACEMENT: of.displacement,
        }
        for of in predict_structures(predictor, frames, batch_size)
    ]
    return found[0] if isinstance(structures, ase.Atoms) else found


def _experiment(
    config: str | Path | Mapping[str, Any] | ExperimentConfig, settings: Mapping[str, Any]
) -> ExperimentConfig:
    if isinstance(config, ExperimentConfig):
        if settings:
            raise ConfigError("fit: settings replace those of a file; change the ExperimentConfig itself instead")
        return config
    tree, source = (config, Source("fit")) if isinstance(config, Mapping) else read_yaml(config)
    chosen = build(ExperimentConfig, with_overrides(tree, settings), source.replacing(settings, "settings of fit, "))
    if not isinstance(config, Mapping) and is_users(chosen.model.backbone.name):
        look_beside(Path(config).parent)
    return chosen
