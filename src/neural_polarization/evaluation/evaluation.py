"""`npol evaluate`: errors and parity plots of a checkpoint on the held-out parts of its data, or on other data."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neural_polarization.checkpoints import Checkpoint, load_model
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.config import DataConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.sources import open_dataset
from neural_polarization.data.splits import PARTS as SPLIT_PARTS
from neural_polarization.data.splits import Split
from neural_polarization.evaluation.reports import PARTS
from neural_polarization.files import write_json
from neural_polarization.metrics import ErrorSums, in_units
from neural_polarization.models import Model, predicted_names
from neural_polarization.properties import Property
from neural_polarization.settings import Source, build, with_overrides
from neural_polarization.training.batches import BatchOrder
from neural_polarization.units import factor

ALL = PARTS[-1]
"""Name of the only part if the data are not those that the model was trained on."""


@dataclass(frozen=True)
class Parity:
    """Predictions and labels of a property as flat arrays, without missing labels, in its customary unit."""

    predicted: NDArray[np.float64]
    label: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model.

    Attributes:
        units: Customary unit of each property.
        errors: Errors of each part and property, as in `result.json`.
        parities: Predictions and labels of each part and property.
    """

    units: Mapping[str, str]
    errors: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    parities: Mapping[str, Mapping[str, Parity]]

    def plain(self) -> dict[str, Any]:
        """Units and errors as plain values."""
        return {"units": dict(self.units), **{part: dict(errors) for part, errors in self.errors.items()}}


def evaluate(
    checkpoint: str | Path,
    data: Mapping[str, Any] | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    trust: Collection[str] = (),
) -> Evaluation:
    """Errors of a checkpoint on the validation and test parts of its split.

    Args:
        checkpoint: File of the checkpoint.
        data: Settings of the data by dotted key that replace the stored ones, for instance the new path of the file.
            If the molecules are not those of the split, all of them are evaluated.
        batch_size: Number of molecules per batch.
        device: Device to compute on.
        trust: Modules of the user's networks that may be imported (see `load_model`).

    Raises:
        ValueError: for a checkpoint without data, or data without labels of what the model predicts.
    """
    model, stored = load_model(checkpoint, trust)
    dataset = open_evaluation_data(stored, data or {})
    names = [name for name in predicted_names(model) if name in dataset.properties]
    if not names:
        raise ValueError(
            f"{dataset.name}: has labels of {', '.join(dataset.properties)}, but the model predicts "
            f"{', '.join(predicted_names(model))}; name the labels under data.properties as the model does"
        )
    model.to(device)
    errors: dict[str, dict[str, dict[str, float | None]]] = {}
    parities: dict[str, dict[str, Parity]] = {}
    for part, indices in evaluated_parts(stored, dataset).items():
        prepared = dataset.subset(indices).prepare(model.cutoff)
        errors[part], parities[part] = _evaluate_part(model, prepared, dataset.properties, names, batch_size)
    return Evaluation({name: dataset.properties[name].unit for name in names}, errors, parities)


def open_evaluation_data(checkpoint: Checkpoint, changed: Mapping[str, Any]) -> Dataset:
    """The data that a checkpoint was trained on, with some settings changed.

    Raises:
        ValueError: if the checkpoint does not name its data.
        FileNotFoundError: if the data are no longer at their path.
    """
    if "data" not in checkpoint.metadata:
        raise ValueError(
            f"{checkpoint.path}: says nothing about its data (it was not written by `npol train`); give --data.path "
            "and --data.format"
        )
    if "path" in changed:  # the former files for validation and test do not belong to other data
        changed = {"validation": None, "test": None, **changed}
    config = build(
        DataConfig, with_overrides(checkpoint.metadata["data"], changed), Source(f"data of {checkpoint.path}")
    )
    try:
        return open_dataset(config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; say where the data are now with --data.path FILE") from None


def evaluated_parts(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """Indices of the validation and test parts, or of everything if the data are not those of the split."""
    stored = {name: checkpoint.tensors.get(f"split.{name}") for name in SPLIT_PARTS}
    known = checkpoint.metadata.get("dataset", {}).get("content_hash")
    if known != dataset.content_hash or any(part is None for part in stored.values()):
        return {ALL: np.arange(len(dataset))}
    arrays = {name: part.numpy() for name, part in stored.items() if part is not None}
    split = Split.from_arrays(arrays, checkpoint.metadata["split_by"])
    return {name: part for name, part in split.parts.items() if name != "train" and len(part)}


def write_evaluation(evaluation: Evaluation, directory: Path, overwrite: bool = False) -> list[Path]:
    """Writes evaluation.json and a parity plot per property, and returns their paths.

    Raises:
        FileExistsError: if the files exist and `overwrite` is false.
    """
    report = directory / "evaluation.json"
    if report.exists() and not overwrite:
        raise FileExistsError(f"{report} exists; give another --output, or --overwrite to replace it")
    write_json(report, evaluation.plain())
    plots = [directory / f"parity_{name}.png" for name in evaluation.units]
    for name, path in zip(evaluation.units, plots, strict=True):
        _plot(evaluation, name, path)
    return [report, *plots]


def _evaluate_part(
    model: Model, prepared: PreparedDataset, properties: Mapping[str, Property], names: list[str], batch_size: int
) -> tuple[dict[str, dict[str, float | None]], dict[str, Parity]]:
    sums = ErrorSums()
    pairs: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {name: [] for name in names}
    weight = next(model.parameters())
    for indices in BatchOrder(len(prepared), batch_size):
        batch = prepared.batch(indices, weight.dtype).to(weight.device)
        with torch.no_grad():
            predictions = model(batch.molecules)
        sizes = torch.bincount(batch.molecules.molecule_index, minlength=batch.molecules.num_molecules)
        sums.add({name: predictions[name] for name in names}, batch.labels, sizes)
        for name in names:
            label = batch.labels[name].double().flatten()
            known = ~label.isnan()
            size = factor(properties[name].unit)
            predicted = predictions[name].detach().double().flatten()
            pairs[name].append(((predicted[known] / size).cpu().numpy(), (label[known] / size).cpu().numpy()))
    parities = {
        name: Parity(np.concatenate([p for p, _ in of]), np.concatenate([q for _, q in of]))
        for name, of in pairs.items()
    }
    return in_units(sums.errors(), properties), parities


def _plot(evaluation: Evaluation, name: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit = evaluation.units[name]
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for part, of_part in evaluation.parities.items():
        parity = of_part[name]
        if not len(parity.label):
            continue
        error = evaluation.errors[part][name]
        text = f"{part}: MAE {error['mae']:.4g} {unit}"
        # A vector graphic of thousands of points would be large, so the points are drawn as pixels, without edges.
        left.plot(parity.label, parity.predicted, ".", markersize=2, label=text, rasterized=True)
        right.hist(parity.predicted - parity.label, bins=80, histtype="step", density=True, label=part)
    low, high = left.get_xlim()
    left.plot([low, high], [low, high], color="black", linewidth=0.8)
    left.set_xlabel(f"{name}, reference [{unit}]")
    left.set_ylabel(f"{name}, predicted [{unit}]")
    left.legend(fontsize="small")
    right.set_xlabel(f"error of {name} [{unit}]")
    right.set_ylabel("density")
    right.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new.png")
    figure.savefig(temporary, dpi=130)
    temporary.replace(path)
