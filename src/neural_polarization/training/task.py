"""What an experiment learns: its data, their split, and the untrained model."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool

from neural_polarization.charges import STRONGEST_FIELD
from neural_polarization.data.batching import PreparedDataset, is_total_energy
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.density_points import DensityPoints, read_density_points
from neural_polarization.data.sources import open_dataset
from neural_polarization.data.splits import Split
from neural_polarization.models import Model
from neural_polarization.predictor import predicted_names
from neural_polarization.properties import DENSITY, FIELD, FORCES, STRESS
from neural_polarization.text import counted
from neural_polarization.training.config import ExperimentConfig, TrainingConfig
from neural_polarization.training.densities import PERCENT
from neural_polarization.training.learned import check_elements, completed, inherited, with_ranges_per_atom
from neural_polarization.training.losses import Losses
from neural_polarization.training.references import given_references, isolated_atoms, split_without, values_of_atoms
from neural_polarization.training.start import start_from
from neural_polarization.units import factor


@dataclass(frozen=True)
class Task:
    """What an experiment learns, and the untrained model that learns it.

    Attributes:
        dataset: all of it.
        split: which part of it is for what.
        model: with references and scales from the training part.
        parts: "train", "validation" and "test", prepared for batches.
        left_out: what is in the data and not in the parts, and why, in a sentence each.
        densities: reference densities of each part, their structures counted in it; empty where none are learned.
        taken_over: what the model has from the checkpoint that it starts from, and what is new, as lines.
    """

    dataset: Dataset
    split: Split
    model: Model
    parts: Mapping[str, PreparedDataset]
    left_out: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    densities: Mapping[str, DensityPoints] = field(default_factory=dict[str, DensityPoints])

    @property
    def units(self) -> dict[str, tuple[float, str]]:
        """Per predicted property, the factor from the customary unit to the internal one, and the former's name."""
        properties = self.dataset.properties
        units = {
            name: (factor(properties[name].unit), properties[name].unit)
            for name in predicted_names(self.model)
            if name in properties
        }
        return {**units, DENSITY: (PERCENT, "%")} if self.densities else units


def prepare(config: ExperimentConfig) -> Task:
    """Opens the data and builds the model.

    Warns of what trains, but probably not as it was meant: charges that a network does not see, losses whose labels
    do not enter the choice of the best epoch.

    Raises:
        ValueError: for data that do not have what the heads and losses need.
    """
    dataset = open_dataset(config.data)
    training = config.training
    isolated = isolated_atoms(dataset) & (training.isolated_atoms != "train")
    left_out = isolated & (training.isolated_atoms == "references")
    split = split_without(dataset, config.data.split, left_out)
    for name, part in split.parts.items():
        if name != "test" and len(part) == 0:
            raise ValueError(
                f"data.split: the {name} part is empty; give it at least one molecule, for instance with "
                f"data.split.{name}: 1"
            )
    elements = dataset.subset(np.flatnonzero(~left_out)).elements
    torch.manual_seed(training.seed)
    model = Model(config.model.config(elements))
    _check_fields(model, dataset, training)
    densities = _densities(config, dataset, split)
    _check_shapes(model, dataset)
    given = given_references(training.references, dataset)
    model.fit_scales(
        dataset.labels_of(split.train),
        torch.from_numpy(dataset.composition(model.config.elements, split.train)),
        given,
        values_of_atoms(model, dataset, isolated),
    )
    trained = tuple(Losses(training.losses, model).settings)
    _check_labels(config, trained, dataset, split)
    _warn_of_charges(model, trained, dataset)
    _warn_of_spins(model, trained, dataset)
    unlearned = check_elements(model, named=config.model.elements is not None)
    if unlearned:
        warnings.warn(f"{dataset.name}: {unlearned}", stacklevel=2)
    if training.machine.precision == "64":
        model.double()
    parts = {name: dataset.subset(part).prepare(model.cutoff) for name, part in split.parts.items() if len(part)}
    if not parts["train"].num_edges.any() and parts["train"].num_atoms.max() > 1:
        raise ValueError(
            f"model.backbone.cutoff: no two atoms of the training part are nearer than {model.cutoff:g} Angstrom, so "
            "that nothing could be learned of their geometry; give a longer cutoff, in Angstrom"
        )
    assert model.knowledge is not None
    model.knowledge = completed(model.knowledge, model, dataset, parts["train"])
    taken_over: tuple[str, ...] = ()
    if config.start_from is not None:
        taken_over = start_from(model, config.start_from, parts["train"], given)
        model.knowledge = inherited(model.knowledge, model, config.start_from)
    model.knowledge = with_ranges_per_atom(model.knowledge, model, dataset, split.train)
    return Task(dataset, split, model, parts, tuple(_left_out(dataset, split, left_out)), taken_over, densities)


def _left_out(dataset: Dataset, split: Split, isolated: Bool[np.ndarray, " molecules"]) -> list[str]:
    """What is not in any part, in a sentence each."""
    lines: list[str] = []
    if isolated.any():
        atoms = Counter(dataset.structure(int(k)).get_chemical_formula() for k in np.flatnonzero(isolated))
        named = ", ".join(symbol if count == 1 else f"{symbol} {count} times" for symbol, count in atoms.items())
        lines.append(
            f"{counted(int(isolated.sum()), 'isolated atom')} ({named}), which set reference values "
            "(training.isolated_atoms: both trains on them too)"
        )
    rest = len(dataset) - int(isolated.sum()) - sum(len(part) for part in split.parts.values())
    if rest > 0:
        lines.append(f"{counted(rest, 'structure')} that the split does not use")
    return lines


def _densities(config: ExperimentConfig, dataset: Dataset, split: Split) -> dict[str, DensityPoints]:
    """Reference densities of every part, where the model has a density."""
    path = config.data.densities
    if config.model.density is None:
        if path is not None:
            raise ValueError("data.densities: the model has no density; give `model.density`, or leave the file out")
        return {}
    if path is None or config.data.format != "packed":
        raise ValueError(
            "model.density: it is trained on densities beside a packed data set; give their file as `data.densities`"
        )
    if config.training.compile:
        raise ValueError("training.compile: steps with densities are not compiled; set compile to false")
    points = read_density_points(path, dataset.molecules, seed=config.training.seed)
    if config.training.density_points > points.weights.shape[1]:
        raise ValueError(
            f"training.density_points: {config.training.density_points} are asked for, but {path} gives "
            f"{points.weights.shape[1]} of each density; take at most as many"
        )
    found = {name: points.of_part(part) for name, part in split.parts.items()}
    empty = [name for name in ("train", "validation") if not len(found[name])]
    if empty:
        raise ValueError(f"data.densities: {path} has no density of the {empty[0]} part; take another split")
    return found


def _check_shapes(model: Model, dataset: Dataset) -> None:
    for name, head in model.config.heads.items():
        kind = dataset.properties.get(name)
        if kind is None:
            continue
        if kind.per_atom != model.head(name).per_atom:
            one, other = ("atom", "molecule") if kind.per_atom else ("molecule", "atom")
            raise ValueError(
                f"model.heads.{name}.kind: {head.kind!r} predicts one value per {other}, but {name!r} has one label "
                f"per {one}; choose another kind ('atomic_charges' is one for atoms), or remove the head"
            )
        if kind.shape != model.head(name).shape:
            raise ValueError(
                f"model.heads.{name}.kind: {head.kind!r} predicts values of shape {model.head(name).shape}, but the "
                f"labels of {name!r} have shape {kind.shape}; choose another kind"
            )
    stress = dataset.properties.get(STRESS)
    if STRESS in predicted_names(model) and stress is not None and (stress.per_atom or stress.shape != (6,)):
        raise ValueError(
            f"data.properties.{STRESS}: expected six values per structure (xx, yy, zz, yz, xz, xy), found shape "
            f"{stress.shape}; give the key that holds the stress or the virial as its `source`"
        )
    forces = dataset.properties.get(FORCES)
    if FORCES in predicted_names(model) and forces is not None and not (forces.per_atom and forces.shape == (3,)):
        raise ValueError(
            f"data.properties.{FORCES}: expected one vector per atom, found one value of shape {forces.shape} per "
            f"{'atom' if forces.per_atom else 'molecule'}; give the key that holds the forces as its `source`"
        )


def _check_labels(config: ExperimentConfig, trained: tuple[str, ...], dataset: Dataset, split: Split) -> None:
    """Every loss that somebody asked for needs labels that train; what chooses the best epoch, labels that validate."""
    counts = {part: dataset.label_counts(split.parts[part]) for part in ("train", "validation")}
    has = {part: {name for name, count in of_part.items() if count} for part, of_part in counts.items()}
    if config.model.density is not None:
        has = {part: names | {DENSITY} for part, names in has.items()}
    for name in trained:
        if name in config.training.losses and name not in has["train"]:
            where = "the training part has no label of it" if name in dataset.properties else "it is not among the data"
            raise ValueError(
                f"training.losses.{name}: has weight {config.training.losses[name].weight}, but {where}; name its "
                f"labels under data.properties.{name}, or give it weight 0"
            )
    unseen = [name for name in trained if name in has["train"] and name not in has["validation"]]
    if not set(trained) & has["validation"]:
        raise ValueError(
            f"data.split: the validation part has no label of {', '.join(unseen)}, so nothing could choose the best "
            "epoch; take another split (kind random, or another seed), or give it molecules with labels"
        )
    if unseen:
        warnings.warn(
            f"data.split: the validation part has no label of {', '.join(unseen)}; the best epoch is chosen without",
            stacklevel=3,
        )


def _check_fields(model: Model, dataset: Dataset, training: TrainingConfig) -> None:
    if FIELD in dataset.properties and not model.sees_field:
        raise ValueError(
            f"data.properties.{FIELD}: the structures are in electric fields, which this model would not see; set "
            "model.response to 'quadratic' or 'push_dual', or leave out the structures in fields"
        )
    charges = dataset.molecules.charges
    if FIELD in dataset.properties:
        strengths = np.linalg.norm(np.nan_to_num(dataset.labels[FIELD]), axis=1)
        if strengths.max() > STRONGEST_FIELD:
            warnings.warn(
                f"{dataset.name}: structure {int(np.argmax(strengths))} is in a field of {strengths.max():.3g} "
                f"V/Angstrom; beyond {STRONGEST_FIELD:g} a small molecule is ionized. Is data.properties.{FIELD}.unit "
                "right?",
                stacklevel=3,
            )
    if FIELD in dataset.properties and charges is not None:
        inside = np.nan_to_num(dataset.labels[FIELD]).any(-1) & (charges != 0)
        energy = model.config.field_names.energy
        if inside.any() and not is_total_energy(energy):
            raise ValueError(
                f"model.heads.{energy}: {int(inside.sum())} ions are in fields, and their energies are moved from the "
                f"centre of nuclear charge to the origin of the coordinates; call this property 'energy' "
                f"(data.properties.energy.source: {energy}), so that it is among them"
            )
    if training.compile and any(loss.directions == "one" for loss in training.losses.values()):
        raise ValueError(
            "training.losses: a compiled step has no random directions; set directions to 'all', or training.compile "
            "to false"
        )


def _warn_of_charges(model: Model, trained: tuple[str, ...], dataset: Dataset) -> None:
    charges = dataset.molecules.charges
    if charges is None or charges.min() == charges.max():
        return
    blind = [name for name, kind in model.predictions.items() if name in trained and not kind.sees_charge]
    if blind:
        warnings.warn(
            f"{dataset.name}: total charges are from {charges.min():+g} to {charges.max():+g}, but the network and the "
            f"heads of {', '.join(blind)} do not see the charge: states of other charge in one geometry get one value. "
            "Set model.electronic to charge, or train each charge by itself, unless the elements of a molecule tell "
            "its charge",
            stacklevel=3,
        )


def _warn_of_spins(model: Model, trained: tuple[str, ...], dataset: Dataset) -> None:
    """Warns where molecules of the same atoms differ in their unpaired electrons, and the model does not see these."""
    spins = dataset.molecules.spins
    blind = [name for name, kind in model.predictions.items() if name in trained and not kind.sees_spin]
    if spins is None or not blind:
        return
    known = np.flatnonzero(np.isfinite(spins))
    atoms = np.asarray(dataset.composition(dataset.elements, known))
    states = np.concatenate([atoms, spins[known, None]], 1)
    if len(np.unique(states, axis=0)) > len(np.unique(atoms, axis=0)):
        warnings.warn(
            f"{dataset.name}: molecules of the same atoms have {spins[known].min():g} to {spins[known].max():g} "
            f"unpaired electrons, which {', '.join(blind)} of this model do not depend on: states of other spin in one "
            "geometry get one value. Set model.electronic to spin, or train each spin by itself",
            stacklevel=3,
        )
