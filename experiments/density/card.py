"""The card of a model with a density: its data, its errors by size and element, and what it is not for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from sources import Data

from neural_polarization.interfaces.prediction import internal_unit
from neural_polarization.models import Model
from neural_polarization.predictor import predicted_names
from neural_polarization.properties import FORCES
from neural_polarization.training.densities import by_molecule, density_errors
from neural_polarization.units import DEBYE, factor

TEMPLATE = Path(__file__).with_suffix(".md")
SHOWN = {"energy": "meV", FORCES: "meV/Angstrom", "dipole": "D"}
"""Units of the table, where they are not those of the labels."""

PLACES = {
    "moving": "moving point",
    "nuclei": "nucleus",
    "both": "pair of a nucleus and its moving point",
    "shifted": "shifted nucleus",
    "both_shifted": "pair of a nucleus and its shifted place",
    "moving_bonds": "moving point and on each bond between two",
    "nuclei_bonds": "nucleus and on each bond",
}
"""Where the functions sit, in words."""

DYNAMICS = "- Dynamics and relaxation: its forces are as wrong as the table says.\n"

BATCH = 16


def write_card(path: Path, model: Model, data: Data, arguments: dict[str, Any], command: str) -> None:
    """Measures a model on unseen molecules and writes its card.

    Args:
        path: of the card, with the ending ".md".
        model: with a density.
        data: that it was trained on.
        arguments: settings of the training.
        command: that made it.
    """
    config = model.config
    assert config.density is not None and model.density_head is not None
    train, unseen = data.parts["train"], np.concatenate([data.parts["validation"], data.parts["test"]])
    of_training = data.points.of_structures(train)
    heavy = _heavy_atoms(data)
    sizes = np.unique(heavy[of_training.structures]).tolist()
    learned = [name for name in predicted_names(model) if name in data.dataset.labels]
    counts = data.dataset.label_counts(train)
    text = TEMPLATE.read_text(encoding="utf-8").format(
        name=path.stem,
        predicts=_listed(["electron density", *map(_words, learned)]),
        labels=", ".join(f"{_words(name)} of {counts[name]}" for name in learned) or "none",
        elements=", ".join(config.elements),
        backbone=config.backbone.name,
        channels=config.backbone.size.channels,
        layers=config.backbone.size.num_layers,
        cutoff=config.backbone.size.cutoff,
        messages=config.polarization.messages.value,
        functions=model.density_head.on_atoms.size.num_functions,
        centres=PLACES[config.density.centres],
        parameters=sum(weight.numel() for weight in model.parameters()),
        files=", ".join(f"`{file}`" for file in arguments["data"]),
        densities=len(of_training),
        molecules=len(np.unique(data.dataset.groups[of_training.structures])),
        structures=len(train),
        sizes=f"{sizes[0]} to {sizes[-1]}",
        command=command,
        rows="\n".join(_rows(model, data, data.points.of_structures(unseen).structures, heavy)),
        largest=sizes[-1],
        measured=int(heavy[unseen].max()),
        properties=_properties(model, data, learned, unseen, heavy),
        without="" if FORCES in learned else "- Energies and forces: it has none.\n",
        dynamics=DYNAMICS if FORCES in learned else "",
    )
    path.write_text(text, encoding="utf-8")


def _rows(model: Model, data: Data, structures: np.ndarray[Any, Any], heavy: np.ndarray[Any, Any]) -> list[str]:
    """Rows of the table: all unseen molecules, those of each size, and those with each element."""
    points = data.points.of_structures(structures)
    errors, free, groups = density_errors(model, data.prepared, points), points.free_atoms, data.dataset.groups
    dipoles = _dipole_errors(model, data, points.structures)
    composition = data.dataset.composition(model.config.elements, points.structures)

    def row(name: str, chosen: np.ndarray[Any, Any]) -> str:
        which = groups[points.structures[chosen]]
        of = [np.array(list(by_molecule(value[chosen], which).values())) for value in (free, errors, dipoles)]
        return (
            f"| {name} | {len(of[0])} | {100 * of[0].mean():.1f} % | {100 * of[1].mean():.2f} % | "
            f"{100 * of[1].max():.2f} % | {of[2].mean():.3f} D |"
        )

    rows = [row("all", np.ones(len(points), bool))]
    sizes = np.unique(heavy[points.structures]).tolist()
    rows += [row(f"{size} atoms other than hydrogen", heavy[points.structures] == size) for size in sizes]
    counts = zip(model.config.elements, composition.T, strict=True)
    return rows + [row(f"with {symbol}", count > 0) for symbol, count in counts if symbol != "H" and count.any()]


def _dipole_errors(model: Model, data: Data, structures: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Length of the difference of the density's dipole and the label, D."""
    differences: list[np.ndarray[Any, Any]] = []
    with torch.no_grad():
        for start in range(0, len(structures), 16):
            batch = data.prepared.batch(structures[start : start + 16])
            difference = model.density(batch.molecules).dipole - batch.labels["dipole"].double()
            differences.append(difference.norm(dim=-1).numpy() / DEBYE)
    return np.concatenate(differences)


def _properties(
    model: Model, data: Data, names: Sequence[str], structures: np.ndarray[Any, Any], heavy: np.ndarray[Any, Any]
) -> str:
    """A table of the errors of everything but the density, by size; empty for a model of densities alone."""
    if not names:
        return ""
    units = {name: SHOWN.get(name) or internal_unit(data.dataset.properties[name].unit) for name in names}
    errors = _errors_of_structures(model, data, names, structures)
    groups = data.dataset.groups[structures]

    def cell(name: str, chosen: np.ndarray[Any, Any]) -> str:
        known = chosen & np.isfinite(errors[name])
        of_molecules = list(by_molecule(errors[name][known], groups[known]).values())
        if not of_molecules:
            return "-"
        mean = float(np.mean(of_molecules)) / factor(units[name])
        return f"{mean:.0f} ({len(of_molecules)})" if mean >= 100 else f"{mean:.3g} ({len(of_molecules)})"

    lines = [
        "Mean absolute errors of the other properties (of vectors, tensors and atoms: over components and atoms of a",
        "structure), mean over the structures of each unseen molecule that has a label, then over molecules, whose",
        "number stands in brackets. Structures are displaced as at 500 K, or relaxed.",
        "",
        "| unseen molecules | " + " | ".join(f"{_words(name)}, {units[name]}" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    rows = {"all": np.ones(len(structures), bool)}
    rows |= {f"{n} atoms other than hydrogen": heavy[structures] == n for n in np.unique(heavy[structures]).tolist()}
    lines += [f"| {of} | " + " | ".join(cell(name, chosen) for name in names) + " |" for of, chosen in rows.items()]
    return "\n".join(lines) + "\n"


def _errors_of_structures(
    model: Model, data: Data, names: Sequence[str], structures: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """Mean absolute error of every structure, internal units; NaN where it has no label."""
    errors: dict[str, list[float]] = {name: [] for name in names}
    for start in range(0, len(structures), BATCH):
        batch = data.prepared.batch(structures[start : start + BATCH])
        with torch.no_grad():
            predicted = model(batch.molecules)
        for name in names:
            error = (predicted[name].double() - batch.labels[name].double()).abs()
            if data.dataset.properties[name].per_atom:
                owner = batch.molecules.molecule_index
                errors[name] += [float(error[owner == k].mean()) for k in range(batch.molecules.num_molecules)]
            else:
                errors[name] += error.reshape(len(error), -1).mean(-1).tolist()
    return {name: np.array(values) for name, values in errors.items()}


def _words(name: str) -> str:
    """A property as people write it."""
    return name.replace("_", " ").replace("hirshfeld", "Hirshfeld")


def _listed(words: Sequence[str]) -> str:
    """Words as a part of a sentence, with a capital."""
    text = ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]
    return text[0].upper() + text[1:]


def _heavy_atoms(data: Data) -> np.ndarray[Any, Any]:
    """Atoms other than hydrogen of every structure."""
    molecules = data.dataset.molecules
    heavy = (molecules.atomic_numbers != atomic_numbers["H"]).astype(np.int64)
    return np.add.reduceat(heavy, molecules.starts)
