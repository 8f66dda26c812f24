"""What a training is about to learn from, as text: printed before the first epoch."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch

from neural_polarization.facts import formula_of
from neural_polarization.predictor import predicted_names
from neural_polarization.properties import FORCES, Property
from neural_polarization.references import FITTED, References
from neural_polarization.text import counted, table
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.outliers import largest_forces, outliers
from neural_polarization.training.task import Task
from neural_polarization.units import factor

MANY = 5
"""At most so many structures, compositions or elements are named one by one."""

MOST_BOUND = 15.0
"""eV per atom: about twice the cohesive energy of diamond, the most strongly bound of what has atoms as references."""

_WIDTH = 12  # of the column of headings


def summary(task: Task, config: ExperimentConfig, device: torch.device | str) -> str:
    """Everything that tells whether the right thing is trained, in one block of lines.

    Args:
        task: data, split and model.
        config: the experiment.
        device: where it is trained.
    """
    lines = [
        *_data(task),
        *_labels(task),
        *(("left out", text) for text in task.left_out),
        *_elements(task),
        *_references(task),
        *_spreads(task),
        *_far_outside(task),
        *_model(task, config, device),
    ]
    return "\n".join(
        f"{heading:<{_WIDTH}} {line}"
        for head, text in lines
        for heading, line in zip([head, *[""] * text.count("\n")], text.split("\n"), strict=True)
    )


def doubts(task: Task) -> list[str]:
    """What of the summary asks whether it is right: names that are not used, labels far outside of the others."""
    lines = [*_data(task), *_spreads(task), *_far_outside(task)]
    return [text for heading, text in lines if heading in ("note", "far outside")]


def _data(task: Task) -> Iterator[tuple[str, str]]:
    dataset, knowledge, reading = task.dataset, task.model.knowledge, task.dataset.reading
    content = f", contents {knowledge.content_hash[:12]}" if knowledge else ""
    yield "data", f"{dataset.name}: {counted(reading.structures, 'structure')} read{content}"
    for reason, number in reading.left_out.items():
        yield "left out", f"{counted(number, 'structure')}: {reason}"
    for note in reading.notes:
        yield "note", note
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in task.split.parts.items())
    yield "parts", f"{sizes} (by {task.split.by})"


def _labels(task: Task) -> Iterator[tuple[str, str]]:
    parts = {name: part for name, part in task.split.parts.items() if len(part)}
    counts = {name: task.dataset.label_counts(part) for name, part in parts.items()}
    rows = [["property", *parts]]
    for name in task.dataset.properties:
        cells = [name if name in predicted_names(task.model) else f"{name} (not predicted)"]
        for part in parts:
            count = counts[part][name]
            without = f" ({len(parts[part]) - count:,} without)" if count < len(parts[part]) else ""
            cells.append(f"{count:,}{without}")
        rows.append(cells)
    yield "labels", "\n".join(line.rstrip() for line in table(rows).split("\n"))
    for name, count in task.dataset.reading.labels.items():
        if count.unlabelled and count.reason:
            yield "no label", f"{name}: {count.unlabelled:,} of {task.dataset.reading.structures:,}: {count.reason}"


def _elements(task: Task) -> Iterator[tuple[str, str]]:
    elements, train = task.model.config.elements, task.split.train
    composition = task.dataset.composition(elements, train)
    counts = ", ".join(f"{symbol} {int(n):,}" for symbol, n in zip(elements, composition.sum(0), strict=True))
    yield "elements", f"{counts} (atoms of the training part)"
    rows, frames = np.unique(composition.astype(int), axis=0, return_counts=True)
    order = np.argsort(-frames, kind="stable")
    named = ", ".join(
        f"{formula_of(dict(zip(elements, rows[k].tolist(), strict=True)))} {frames[k]:,}" for k in order[:MANY]
    )
    more = f", {len(rows) - MANY:,} more compositions" if len(rows) > MANY else ""
    sizes = composition.sum(1)
    span = f"{sizes.min():.0f}" if sizes.min() == sizes.max() else f"{sizes.min():.0f} to {sizes.max():.0f}"
    yield "molecules", f"{named}{more}; {span} atoms"
    charges = task.dataset.molecules.charges
    if charges is not None:
        found = Counter(charges[train].tolist())
        yield "charges", ", ".join(f"{charge:+g}: {n:,}" for charge, n in sorted(found.items()))


def _references(task: Task) -> Iterator[tuple[str, str]]:
    knowledge = task.model.knowledge
    for name, references in (knowledge.references if knowledge else {}).items():
        kind = task.dataset.properties[name]
        yield "references", f"{name}: {_described(references, kind)}"


def _described(references: References, kind: Property) -> str:
    size, unit = _customary(kind)
    values = ", ".join(
        f"{symbol} {value / size:.6g}"
        + ("" if references.sources[symbol] == FITTED else f" ({references.sources[symbol]})")
        for symbol, value in references.values.items()
    )
    count = len(references.values)
    if references.rank == count:
        kinds = set(references.sources.values())
        rest = "" if FITTED not in kinds else "; by least squares" if kinds == {FITTED} else "; others by least squares"
        return f"{values} {unit}{rest}"
    return (
        f"{values} {unit}; least squares of rank {references.rank} of {count}: other compositions than these are not "
        "determined (give training.references, or isolated atoms among the data)"
    )


def _spreads(task: Task) -> Iterator[tuple[str, str]]:
    dataset, train = task.dataset, task.split.train
    for name in task.model.config.heads:
        kind = dataset.properties.get(name)
        if kind is None or kind.shape or not dataset.label_counts(train)[name]:
            continue
        size, unit = _customary(kind)
        values = dataset.labels[name][dataset.molecules.atoms_of(train) if kind.per_atom else train]
        values = values[np.isfinite(values)]
        rest = values
        if task.model.knowledge and name in task.model.knowledge.references and task.model.head(name).of_atoms:
            known = np.isfinite(dataset.labels[name][train])
            composition = dataset.composition(task.model.config.elements, train)[known]
            rest = values - composition @ np.array(list(task.model.knowledge.references[name].values.values()))
        about = "the references" if rest is not values else "their mean"
        spread = float(np.sqrt((rest**2).mean()) if rest is not values else values.std()) / factor(kind.unit)
        span = f"{values.min() / size:.8g} to {values.max() / size:.8g} {unit}"
        yield name, f"{span}; root mean square {spread:.4g} {kind.unit} about {about}"
        if rest is not values and name == energy_of(task) and _known_by_themselves(task, name):
            bound = float(
                np.median(rest / task.dataset.molecules.n_atoms[train][np.isfinite(dataset.labels[name][train])])
            )
            if abs(bound) > MOST_BOUND:
                text = (
                    f"{name}: molecules are bound by {-bound:.4g} eV per atom against the references, which none is; "
                    "are the references of the same unit and level of theory as the labels?"
                )
                yield "far outside", text
    if FORCES in predicted_names(task.model) and FORCES in dataset.labels and dataset.label_counts(train)[FORCES]:
        largest = largest_forces(dataset)[train]
        most = int(train[int(np.nanargmax(largest))])
        forces = dataset.labels[FORCES][dataset.molecules.atoms_of(train)]
        root = float(np.sqrt(np.nanmean(forces**2)))
        of = f"structure {most} ({dataset.structure(most).get_chemical_formula()})"
        text = f"{1000 * root:.4g} meV/Angstrom root mean square, largest {np.nanmax(largest):.4g} eV/Angstrom in {of}"
        yield FORCES, text


def energy_of(task: Task) -> str | None:
    """The property that is the energy whose gradient forces are, if there is one."""
    return next((name for name, head in task.model.config.heads.items() if head.forces), None)


def _known_by_themselves(task: Task, name: str) -> bool:
    """Whether references come from elsewhere than a fit to these labels."""
    knowledge = task.model.knowledge
    return knowledge is not None and set(knowledge.references[name].sources.values()) != {FITTED}


def _far_outside(task: Task) -> Iterator[tuple[str, str]]:
    sums = [name for name in task.model.config.heads if task.model.head(name).of_atoms]
    found = outliers(task.dataset, np.concatenate(list(task.split.parts.values())), sums)
    for outlier in found[:MANY]:
        size, unit = _customary(task.dataset.properties[outlier.property])
        part = next(name for name, rows in task.split.parts.items() if outlier.structure in rows)
        what = "largest force" if outlier.property == FORCES else outlier.property
        formula = task.dataset.structure(outlier.structure).get_chemical_formula()
        values = f"{outlier.value / size:.8g}, usual {outlier.usual / size:.8g} {unit}"
        yield "far outside", f"structure {outlier.structure} ({formula}, {part}): {what} {values}; is it right?"
    if len(found) > MANY:
        yield "far outside", f"{len(found) - MANY:,} more labels"


def _model(task: Task, config: ExperimentConfig, device: torch.device | str) -> Iterator[tuple[str, str]]:
    model, machine = task.model, config.training.machine
    size = model.config.backbone
    parameters = sum(weight.numel() for weight in model.parameters())
    polarization = model.config.polarization
    predicted = ", ".join(predicted_names(model))
    yield "model", f"{size.name}, {polarization.messages}, {parameters:,} parameters; predicts {predicted}"
    where = "CPU" if str(device).startswith("cpu") else str(device)
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count > 1 else ''}" if where == "CPU" else ""
    compiled = ", compiled" if config.training.compile else ""
    yield "device", f"{where}{threads}, precision {machine.precision}{compiled}"


def _customary(kind: Property) -> tuple[float, str]:
    """Unit in which values themselves are read: eV where errors are shown in meV."""
    unit = {"meV": "eV", "meV/Angstrom": "eV/Angstrom", "mD": "D"}.get(kind.unit, kind.unit)
    return factor(unit), unit
