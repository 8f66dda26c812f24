"""How well each response is learned from as many SCF calculations: the table of docs/results/fields.md.

    python experiments/response/table.py train LABELS.npz RUNS --backbones painn --views riding --seeds 0 1 2
    python experiments/response/table.py show LABELS.npz RUNS

LABELS.npz holds every geometry without a field, with polarizabilities, and in one random field; some of the test part
have Born charges (data/README.md says how it was made). Every training has the same number of calculations: `heads` has
GEOMETRIES geometries without fields, with forces, dipole and polarizability, which count as two; all others have the
same geometries without a field and in one, with forces and dipoles, and no polarizability. Where the labels have no
polarizabilities, `heads` has as many calculations without fields. A training that is there is
not repeated.
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_polarization.checkpoints import load_model
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.packed import read_packed, write_packed
from neural_polarization.data.splits import Split
from neural_polarization.field_derivatives import born_charges
from neural_polarization.models import Model
from neural_polarization.settings import Source, build
from neural_polarization.text import markdown_table
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.experiment import fit
from neural_polarization.units import factor

GEOMETRIES = 80
"""Geometries of a training; each costs two calculations."""

VALIDATION = 20

VARIANTS = {
    "heads": "quadratic",
    "quadratic": "quadratic",
    "push": "push",
    "push_dual": "push_dual",
}
"""Every row of the table, and its `model.response`; `heads` alone is trained without fields."""

BACKBONES = ("painn", "nequip", "schnet")
"""A network of vectors, one of irreducible representations, one of distances alone."""

VIEWS = ("plain", "riding", "moving_view")


def geometries(dataset: Dataset) -> np.ndarray:
    """The same number for structures that differ in their field only."""
    offsets = np.cumsum([0, *dataset.molecules.n_atoms])
    places = [dataset.molecules.positions[a:b].round(6).tobytes() for a, b in itertools.pairwise(offsets)]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    return np.array([numbers[place] for place in places])


def training_data(dataset: Dataset, variant: str) -> tuple[Dataset, Split]:
    """What a variant learns from: as many calculations for each."""
    which, fields = geometries(dataset), np.nan_to_num(dataset.labels["external_field"]).any(-1)
    stored = dataset.splits["stored"]
    chosen = {
        "train": np.isin(which, np.unique(which[stored.train])[:GEOMETRIES]),
        "validation": np.isin(which, np.unique(which[stored.validation])[:VALIDATION]),
    }
    if variant == "heads":
        chosen = {part: mask & ~fields for part, mask in chosen.items()}
    kept = np.flatnonzero(chosen["train"] | chosen["validation"])
    names = ("energy", "forces", "dipole", "polarizability" if variant == "heads" else "external_field")
    some = dataset.subset(kept)
    part = Dataset(
        dataset.name,
        some.molecules,
        {name: some.properties[name] for name in names},
        {name: some.labels[name] for name in names},
        groups=which[kept],
    )
    places = {part_name: np.flatnonzero(mask[kept]) for part_name, mask in chosen.items()}
    return part, Split.from_arrays({**places, "test": np.zeros(0, np.int64)}, "group")


@dataclass(frozen=True)
class Row:
    """One row of the table: what learns, and from what."""

    backbone: str
    view: str
    variant: str

    @property
    def exists(self) -> bool:
        """Whether there is such a model: a field can push moving points only."""
        return self.view != "plain" or not self.variant.startswith("push")

    @property
    def name(self) -> str:
        """Of its runs, which `of` reads."""
        return f"{self.backbone}-{self.view}-{self.variant}"

    @classmethod
    def of(cls, name: str) -> "Row":
        """The row of a run."""
        return cls(*name.split("-")[:3])


def experiment(data: Path, output: Path, row: Row, seed: int, epochs: int) -> ExperimentConfig:
    """The training of one model."""
    variant = row.variant
    names = ("polarizability",) if variant == "heads" else ("external_field",)
    losses: dict[str, Any] = {
        "energy": {"weight": 0.05, "kind": "mse"},
        "forces": {"weight": 0.95, "kind": "mse"},
        "dipole": {"weight": 0.1, "kind": "mse"},
    }
    if variant == "heads":
        losses["polarizability"] = {"weight": 0.1, "kind": "mse"}
    values = {
        "name": f"{row.name}-{seed}",
        "output": str(output),
        "data": {
            "format": "packed",
            "path": str(data),
            "properties": {name: {} for name in ("energy", "forces", "dipole", *names)},
            "split": {"kind": "stored"},
        },
        "model": {
            "backbone": {"name": row.backbone, "channels": 32, "num_layers": 2, "cutoff": 5.0, "num_basis": 20},
            "polarization": {"messages": row.view},
            "response": VARIANTS[variant],
            "heads": {
                "energy": {"kind": "extensive", "forces": True},
                "dipole": {"kind": "dipole_flow"},
                "polarizability": {"kind": "polarizability_bonds"},
            },
        },
        "training": {
            # As many steps for all: in fields there are twice as many structures.
            "epochs": 2 * epochs if variant == "heads" else epochs,
            "batch_size": 10,
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "validate_every": 10,
            "seed": seed,
            "losses": losses,
        },
    }
    return build(ExperimentConfig, values, Source("experiments/response/table.py"))


def errors(model: Model, dataset: Dataset) -> dict[str, float]:
    """Errors on the test part: without a field, and in one."""
    test = dataset.splits["stored"].test
    fields = np.nan_to_num(dataset.labels["external_field"]).any(-1)
    found: dict[str, float] = {}
    for suffix, indices in (("", test[~fields[test]]), (" in a field", test[fields[test]])):
        part = dataset.subset(indices)
        batch = part.prepare(model.cutoff).batch(np.arange(len(part)), torch.float32)
        with torch.no_grad():
            predicted = model.eval()(batch.molecules)
        labels = {name: torch.from_numpy(part.labels[name]) for name in part.labels}
        for name in ("energy", "forces", "dipole"):
            unit = factor({"energy": "meV", "forces": "meV/Angstrom", "dipole": "mD"}[name])
            found[name + suffix] = float((predicted[name] - labels[name]).abs().nanmean()) / unit
        if not suffix:
            found["polarizability"] = _percent(predicted["polarizability"], labels["polarizability"])
            found["born_charges"] = _percent(born_charges(model, batch.molecules), labels["born_charges"])
    return found


def _percent(predicted: torch.Tensor, label: torch.Tensor) -> float:
    """Root mean squared error over root mean square, percent, where there are labels."""
    known = ~label.isnan()
    return 100.0 * float((predicted - label)[known].square().mean().sqrt() / label[known].square().mean().sqrt())


def train(labels: Path, runs: Path, rows: list[Row], seeds: list[int], epochs: int) -> None:
    """Trains what is not there yet."""
    dataset = read_packed(labels)
    for seed, row in itertools.product(seeds, rows):
        output = runs / f"{row.name}-{seed}"
        if (output / "result.json").exists() or not row.exists:
            continue
        data = runs / f"{row.variant}.npz"
        part, split = training_data(dataset, row.variant)
        write_packed(part, data, split)
        start = time.process_time()
        fit(experiment(data, output, row, seed, epochs), overwrite=True, quiet=True)
        print(f"{output.name}: {time.process_time() - start:.0f} s of processor time", flush=True)


def show(labels: Path, runs: Path) -> str:
    """The table: mean over seeds, and half of the range."""
    dataset = read_packed(labels)
    by_row: dict[Row, list[dict[str, float]]] = {}
    for file in sorted(runs.glob("*/result.json")):
        found = errors(load_model(file.parent)[0], dataset)
        by_row.setdefault(Row.of(file.parent.name), []).append(found)
    columns = [
        *("energy", "forces", "dipole", "polarizability", "born_charges"),
        *(f"{name} in a field" for name in ("energy", "forces", "dipole")),
    ]
    lines = [["backbone", "view", "variant", "seeds", *columns]]
    for row in sorted(
        by_row, key=lambda row: (BACKBONES.index(row.backbone), row.view, list(VARIANTS).index(row.variant))
    ):
        found = by_row[row]
        values = [np.array([one[column] for one in found]) for column in columns]
        cells = [f"{value.mean():.3g}" + (f" ± {np.ptp(value) / 2:.2g}" if len(value) > 1 else "") for value in values]
        lines.append([row.backbone, row.view, row.variant, str(len(found)), *cells])
    return markdown_table(lines)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "show"))
    parser.add_argument("labels", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--backbones", nargs="+", default=["painn"], choices=BACKBONES)
    parser.add_argument("--views", nargs="+", default=["riding"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    known = parser.parse_args()
    if known.what == "train":
        known.runs.mkdir(parents=True, exist_ok=True)
        rows = [Row(*each) for each in itertools.product(known.backbones, known.views, known.variants)]
        train(known.labels, known.runs, rows, known.seeds, known.epochs)
    print(show(known.labels, known.runs))


if __name__ == "__main__":
    main()
