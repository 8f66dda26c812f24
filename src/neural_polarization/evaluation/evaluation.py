"""`npol evaluate`: errors and parity plots of a checkpoint on the held-out parts of its data, or on other data."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from neural_polarization.checkpoints import Checkpoint, load_model
from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.config import DataConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.density_points import DensityPoints, read_density_points
from neural_polarization.data.sources import open_dataset
from neural_polarization.data.splits import PARTS as SPLIT_PARTS
from neural_polarization.data.splits import Split
from neural_polarization.evaluation.densities import density_evaluation, density_units
from neural_polarization.evaluation.outcome import Evaluation, Parity
from neural_polarization.evaluation.plots import write_plots
from neural_polarization.evaluation.reports import PARTS
from neural_polarization.field_derivatives import born_charges
from neural_polarization.files import refuse_existing, write_json
from neural_polarization.knowledge import Outside, Watch
from neural_polarization.layers import sum_by_index
from neural_polarization.metrics import ErrorSums, in_units
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import predicted_names
from neural_polarization.properties import BORN_CHARGES, STRESS, Property
from neural_polarization.settings import Source, build, with_overrides
from neural_polarization.training.batches import BatchOrder
from neural_polarization.training.references import isolated_atoms
from neural_polarization.units import factor

ALL = PARTS[-1]
"""Name of the only part if the data are not those that the model was trained on."""

REPORT = "evaluation.json"
"""Name of the file with all errors."""


def evaluate(
    checkpoint: str | Path,
    data: Mapping[str, Any] | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    trust: Collection[str] = (),
    watch: Watch | None = None,
) -> Evaluation:
    """Errors of a checkpoint on the validation and test parts of its split.

    Args:
        checkpoint: File of the checkpoint, or directory of its run.
        data: Settings of the data by dotted key that replace the stored ones, for instance where the file is now;
            if the molecules are not those that the split belongs to, all of them are evaluated.
        batch_size: Number of molecules per batch.
        device: Device to compute on.
        trust: Modules of the user's networks that may be imported (see `load_model`).
        watch: Reports structures outside of the training data; by default a new one.

    Raises:
        ValueError: for a checkpoint without data, data without labels of what the model predicts, or predictions that
            are not finite.
    """
    model, stored = load_model(checkpoint, trust)
    config = evaluation_config(stored, data or {})
    dataset = open_configured(config)
    predicted = (*predicted_names(model), *([BORN_CHARGES] if model.sees_field else []))
    names = [name for name in predicted if name in dataset.properties]
    densities = _densities(model, config, dataset)
    if not names and densities is None:
        what = ", ".join([*predicted_names(model), *([] if model.density_head is None else ["a density"])])
        also = "" if model.density_head is None else "; reference densities are given as --data.densities FILE"
        raise ValueError(
            f"{dataset.name}: has labels of {', '.join(dataset.properties)}, but the model predicts {what}; name the "
            f"labels under data.properties as the model does{also}"
        )
    model.to(device)
    chosen = evaluated_parts(stored, dataset)
    same_file = config.path == stored.metadata.get("data", {}).get("path")
    if ALL in chosen and same_file and "dataset" in stored.metadata:
        warnings.warn(
            f"{dataset.name}: has other structures than when the model was trained, so that its split does not apply: "
            "all of them are evaluated, among them those that trained; put the former file and settings back, or give "
            "other data (--data.path)",
            stacklevel=2,
        )
    parts: dict[str, _Part] = {}
    for part, indices in chosen.items():
        prepared = dataset.subset(indices).prepare(model.cutoff)
        parts[part] = _evaluate_part(model, prepared, dataset.properties, names, batch_size)
        if densities is not None:
            of_part = density_evaluation(model, prepared, densities.of_part(indices), dataset.properties)
            parts[part].errors.update(of_part)
    if model.knowledge is not None:
        blind = [name for name, kind in model.predictions.items() if not kind.sees_charge]
        (watch or Watch()).tell(model.knowledge, [one for part in parts.values() for one in part.outside], blind)
    history = stored.path.parent / "metrics.csv"
    return Evaluation(
        units={name: dataset.properties[name].unit for name in names}
        | ({} if densities is None else density_units(dataset.properties)),
        errors={name: part.errors for name, part in parts.items()},
        parities={name: part.parities for name, part in parts.items()},
        displacements=_by_element([part.displacements for part in parts.values()]),
        outside={name: len(part.outside) for name, part in parts.items()},
        history=history if history.is_file() else None,
    )


def evaluation_config(checkpoint: Checkpoint, changed: Mapping[str, Any]) -> DataConfig:
    """Where the data of a checkpoint are, with some settings changed.

    Raises:
        ValueError: if the checkpoint does not name its data.
    """
    stored = checkpoint.metadata.get("data", {})
    if not stored and "path" not in changed:
        raise ValueError(
            f"{checkpoint.path}: says nothing about its data (it was not written by `npol train`); give --data.path "
            "and --data.format"
        )
    if "path" in changed:  # the former files for validation and test do not belong to other data, nor do groups
        changed = {"validation": None, "test": None, "densities": None, "group": None, **changed}
    if "format" in changed and changed["format"] != stored.get("format"):
        changed = {"label_source": None, "exclude": None, **changed}
    source = Source(f"data of {checkpoint.path}").replacing(changed, "--data.")
    return build(DataConfig, with_overrides(stored, changed), source)


def open_configured(config: DataConfig) -> Dataset:
    """The data set of a configuration.

    Raises:
        FileNotFoundError: if the data are no longer at their path.
    """
    try:
        return open_dataset(config)
    except FileNotFoundError as error:
        also = " --data.densities FILE" if config.densities is not None else ""
        raise FileNotFoundError(f"{error}; say where the data are now with --data.path FILE{also}") from None


def _densities(model: Model, config: DataConfig, dataset: Dataset) -> DensityPoints | None:
    """Reference densities of the data, where there are some and the model predicts a density."""
    if model.density_head is None or config.densities is None:
        return None
    return read_density_points(config.densities, dataset.molecules)


def evaluated_parts(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """Indices of the validation and test part, or of everything where the data are not those of the split.

    Isolated atoms among molecules set reference values and are not evaluated.
    """
    stored = {name: checkpoint.tensors.get(f"split.{name}") for name in SPLIT_PARTS}
    known = checkpoint.metadata.get("dataset", {}).get("content_hash")
    if known != dataset.content_hash or any(part is None for part in stored.values()):
        return {ALL: np.flatnonzero(~isolated_atoms(dataset))}
    arrays = {name: part.numpy() for name, part in stored.items() if part is not None}
    split = Split.from_arrays(arrays, checkpoint.metadata["split_by"])
    return {name: part for name, part in split.parts.items() if name != "train" and len(part)}


def write_evaluation(evaluation: Evaluation, directory: Path, overwrite: bool = False) -> list[Path]:
    """Writes evaluation.json, a parity plot per property, and what else is worth a picture; returns the files.

    Raises:
        FileExistsError: if the files exist and `overwrite` is false.
    """
    report = directory / REPORT
    refuse_existing(report, overwrite)
    write_json(report, evaluation.plain())
    return [report, *write_plots(evaluation, directory)]


@dataclass(frozen=True)
class _Part:
    """What comes of the evaluation of a part of the data."""

    errors: dict[str, dict[str, float | None]]
    parities: dict[str, Parity]
    displacements: tuple[NDArray[np.int64], NDArray[np.float64]]
    outside: list[Outside]


def _evaluate_part(
    model: Model, prepared: PreparedDataset, properties: Mapping[str, Property], names: list[str], batch_size: int
) -> _Part:
    sums = ErrorSums()
    pairs: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    outside: list[Outside] = []
    numbers: list[NDArray[np.int64]] = []
    lengths: list[NDArray[np.float64]] = []
    weight = next(model.parameters())
    for indices in BatchOrder(len(prepared), batch_size):
        batch = prepared.batch(indices, weight.dtype).to(weight.device)
        molecules = batch.molecules
        with torch.no_grad():
            predictions, displacement = model.with_displacement(molecules, stress=batch.has_stress)
            if STRESS in names and not batch.has_stress:
                predictions[STRESS] = torch.full_like(batch.labels[STRESS], float("nan"))
        if BORN_CHARGES in names:
            predictions[BORN_CHARGES] = born_charges(model, molecules)
        if model.knowledge is not None:
            outside += model.knowledge.outside(molecules, predictions).values()
        numbers.append(molecules.atomic_numbers.cpu().numpy())
        lengths.append(displacement.norm(dim=-1).double().cpu().numpy())
        sizes = torch.bincount(molecules.molecule_index, minlength=molecules.num_molecules)
        sums.add({name: predictions[name] for name in names}, batch.labels, sizes)
        for name in names:
            baseline = _baseline(model, name, batch.labels[name], molecules)
            columns = torch.stack(
                [v.detach().double().flatten() for v in (predictions[name], batch.labels[name], baseline)]
            )
            known = columns[:, ~columns[1].isnan()]
            if not bool((columns if name != STRESS else known)[0].isfinite().all()):  # a molecule has no stress
                raise ValueError(
                    f"{prepared.name}: the model predicts {name} that are not finite; its training diverged"
                )
            pairs[name].append((known / factor(properties[name].unit)).cpu().numpy())
    parities = {name: Parity(*np.concatenate(of, 1)) for name, of in pairs.items()}
    moved = (np.concatenate(numbers), np.concatenate(lengths))
    return _Part(in_units(sums.errors(), properties), parities, moved, outside)


def _baseline(model: Model, name: str, label: torch.Tensor, molecules: Molecules) -> torch.Tensor:
    """What the references of the elements alone predict: what a plot of total energies has to leave out."""
    if name not in model.config.heads or not model.head(name).of_atoms:
        return torch.zeros_like(label)
    of_atoms = model.head(name).baseline.of_atoms(molecules.atomic_numbers)
    return sum_by_index(of_atoms, molecules.molecule_index, molecules.num_molecules)


def _by_element(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    numbers = np.concatenate([part[0] for part in parts])
    lengths = np.concatenate([part[1] for part in parts])
    return {chemical_symbols[number]: lengths[numbers == number] for number in np.unique(numbers).tolist()}
