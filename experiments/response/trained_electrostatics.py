"""What learned charges and Thole's damping add to a network for molecules that are trained near and used far apart.

    python experiments/response/trained_electrostatics.py train dimers s66x8.npz RUNS --seeds 0 1 2
    python experiments/response/trained_electrostatics.py train water water_dimers_1000.npz RUNS --seeds 0 1 2
    python experiments/response/trained_electrostatics.py train zundel zundel_1000.npz RUNS --seeds 0 1 2
    python experiments/response/trained_electrostatics.py show RUNS

PaiNN, riding and with 32 channels unless a variant of VARIANTS says otherwise, 2 layers, as many steps for each of
them. `dimers` (S66x8) learns from separations 0.9 to 1.25 of all dimers and is asked for 1.5 and 2.0. Its molecules are
rigid, so that everything between them is in the change of the energy from 1.25, and in the force and the torque on each
molecule; that is what is learned, because energies and forces inside of 132 molecules would take most of a short
training. `water` and `zundel` (H2O...H2O and H5O2+) learn total energies where the oxygens are near each other, and are
asked for unseen structures, near and far. Where a variant learns dipoles, those are of its charges alone. A training
that is there is not repeated.

References:
    J. Rezac, K. E. Riley, P. Hobza, J. Chem. Theory Comput. 7, 2427 (2011): S66x8.
    A. Grisafi et al., Phys. Rev. Lett. 120, 036002 (2018): water dimers and Zundel cations.
    B. T. Thole, Chem. Phys. 59, 341 (1981); P. Ren, J. W. Ponder, J. Phys. Chem. B 107, 5933 (2003): the damping.
"""

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from electrostatics import POLARIZABILITIES, SEPARATIONS, Points, read
from numpy.typing import NDArray
from torch import Tensor, nn

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.batching import Batch
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.files import write_json
from neural_polarization.heads import AtomicCharges, Widths
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.messages import Messages
from neural_polarization.model_config import HeadConfig, ModelConfig, PolarizationConfig
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import PredictedProperty
from neural_polarization.properties import Property
from neural_polarization.text import markdown_table
from neural_polarization.units import BOHR, HARTREE

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

CHANNELS = 32
DIPOLE_WEIGHT = 0.1
"""Of the loss on dipoles, beside one of energies; both relative to the mean square of the labels."""

CHUNK = 66
"""Structures of a pass that measures."""


@dataclass(frozen=True)
class Variant:
    """Whether charges add their energy, moving points take part of them, and they learn from dipoles; the network."""

    charged: bool = False
    moving: bool = False
    dipoles: bool = False
    cutoff: float = 5.0
    num_basis: int = 20
    messages: Messages = Messages.RIDING
    channels: int = CHANNELS


VARIANTS = {
    "none": Variant(),
    "longer": Variant(cutoff=8.5, num_basis=34),
    "charges": Variant(charged=True),
    "charges_dipoles": Variant(charged=True, dipoles=True),
    "moving_dipoles": Variant(charged=True, moving=True, dipoles=True),
    "plain": Variant(messages=Messages.PLAIN),
    "wider": Variant(messages=Messages.PLAIN, channels=36),
    "moving_view": Variant(messages=Messages.MOVING_VIEW),
}


class WithCharges(Model):
    """A network whose energy has that of charges on its points added; its dipole is that of the charges.

    Charges flow between neighbours, and those of a structure add up to its total charge.

    Args:
        config: What the network is made of.
        moving: Whether a learned part of each charge sits on the moving point.
    """

    def __init__(self, config: ModelConfig, moving: bool) -> None:
        super().__init__(config)
        backbone = self.representation.backbone
        widths = Widths(backbone.scalar_channels, backbone.vector_channels)
        self.charges = AtomicCharges(widths, self.elements, CHANNELS)
        self.charges.baseline.scale.fill_(0.1)  # e: what flows to a neighbour
        self.electrons = mlp([widths.scalars, CHANNELS, 1]) if moving else None
        self.register_buffer("polarizabilities", torch.zeros(119, dtype=torch.float64))
        for number, value in POLARIZABILITIES.items():
            self.polarizabilities[number] = value

    polarizabilities: Tensor

    @property
    def predictions(self) -> Mapping[str, PredictedProperty]:
        """The energy of both, and the dipole of the charges."""
        return {**super().predictions, "dipole": PredictedProperty((3,), dipole=True)}

    def compute(self, molecules: Molecules, names: Collection[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Both properties, and the displacements."""
        atoms = self.represent(molecules)
        places, index, count = molecules.positions.double(), molecules.molecule_index, molecules.num_molecules
        sizes, charges = self.polarizabilities[molecules.atomic_numbers], self.charges(atoms, molecules)
        if self.electrons is not None:
            electrons = self.electrons(atoms.scalars).squeeze(-1).double()
            places = torch.stack([places, places + atoms.displacement.double()], 1).flatten(0, 1)
            charges = torch.stack([charges + electrons, -electrons], 1).flatten()
            sizes, index = sizes.repeat_interleave(2), index.repeat_interleave(2)
        points = Points(places, charges, sizes, index, count)
        energy = self.head("energy")(atoms, molecules) + points.energy()
        return {"energy": energy, "dipole": points.dipole()}, atoms.displacement


def network(variant: Variant, dataset: Dataset, rows: Rows) -> Model:
    """An untrained network, whose scales are those of its training data."""
    backbone = BackboneConfig(
        "painn", channels=variant.channels, num_layers=2, cutoff=variant.cutoff, num_basis=variant.num_basis
    )
    heads = {"energy": HeadConfig("extensive", forces=True)}
    config = ModelConfig(dataset.elements, heads, backbone, PolarizationConfig(variant.messages))
    model = WithCharges(config, variant.moving) if variant.charged else Model(config)
    composition = torch.from_numpy(dataset.composition(dataset.elements, rows)).double()
    model.fit_scales({"energy": torch.from_numpy(dataset.labels["energy"][rows])}, composition)
    some = dataset.prepare(model.cutoff).batch(rows[:CHUNK], torch.float32)
    missed = some.labels["energy"] - predictions(model, some, ("energy",))["energy"]
    # The network need not learn the energy that untrained charges have, eV for an ion.
    model.head("energy").baseline.references += float(missed.mean() / (some.molecules.num_atoms / CHUNK))
    return model


def predictions(module: Model | None, batch: Batch, names: Collection[str]) -> dict[str, Tensor]:
    """What a network predicts, or zeros, whose errors are the sizes of the labels."""
    if module is None:
        return {name: torch.zeros_like(batch.labels[name]) for name in names}
    found = module(batch.molecules, forces="forces" in names, properties=["energy"])
    return {name: found[name].detach() for name in names}


class Task(ABC):
    """A set of structures: what a training sees of them, and what is measured."""

    dataset: Dataset
    train: Rows
    steps: int
    forces: bool  # whether they are predicted in training

    @abstractmethod
    def choose(self, generator: np.random.Generator) -> Rows:
        """The structures of a step."""

    @abstractmethod
    def loss(self, predicted: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Without dipoles."""

    @abstractmethod
    def errors(self, module: Model | None) -> dict[str, float]:
        """Root mean square errors, by name."""


class Dimers(Task):
    """S66x8; row 8 k + s of the data set is separation s of dimer k."""

    steps = 200
    forces = True
    near = 6
    """So many separations are learned from; the last of them is what energies are relative to."""
    together = 4
    """Dimers of a step, each at three separations."""

    def __init__(self, source: Path) -> None:
        found = read(source)
        dimers = [found[name] for name in sorted(found)]
        energies = np.array([dimer.energy for dimer in dimers]).reshape(-1, 8)
        labels = {
            "energy": (energies - energies[:, self.near - 1 : self.near]).reshape(-1),
            "forces": np.concatenate([dimer.forces for dimer in dimers]),
            "dipole": np.stack([one.hirshfeld @ one.positions + one.dipoles.sum(0) for one in dimers]),
            "side": np.concatenate([dimer.molecule for dimer in dimers]).astype(np.float64),
        }
        properties = {
            "energy": Property("energy", "meV"),
            "forces": Property("forces", "meV/Angstrom", (3,), per_atom=True),
            "dipole": Property("dipole", "e*Angstrom", (3,)),
            "side": Property("side", "1", per_atom=True),
        }
        self.dataset = Dataset("s66x8", flat([(one.numbers, one.positions) for one in dimers]), properties, labels)
        self.count = len(energies)
        self.train = (8 * np.arange(self.count)[:, None] + np.arange(self.near)).reshape(-1)
        batch = self.dataset.prepare(5.0).batch(self.train, torch.float64)
        between = self.between(batch.labels["forces"], batch).square()
        self.sizes = torch.stack([between[:, :3].mean(), between[:, 3:].mean()]).repeat_interleave(3).float()
        self.size = float(np.square(labels["energy"][self.train]).mean())

    def between(self, forces: Tensor, batch: Batch) -> Tensor:
        """Force (eV/Angstrom) and torque about the mean position (eV) of each molecule, (2 structures, 6)."""
        molecule = 2 * batch.molecules.molecule_index + batch.labels["side"].long()
        positions, count = batch.molecules.positions, 2 * batch.molecules.num_molecules
        centres = sum_by_index(positions, molecule, count) / torch.bincount(molecule).unsqueeze(-1)
        torques = torch.linalg.cross(positions - centres[molecule], forces)
        return sum_by_index(torch.cat([forces, torques], -1), molecule, count)

    def choose(self, generator: np.random.Generator) -> Rows:
        """Of each dimer the largest separation that is learned from, and two others."""
        dimers = generator.choice(self.count, self.together, replace=False)
        others = [generator.choice(self.near - 1, 2, replace=False) for _ in dimers]
        places = np.array([[self.near - 1, *other] for other in others])
        return (8 * dimers[:, None] + places).reshape(-1)

    def loss(self, predicted: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Of changes of the energy, of forces and of torques, each relative to the labels' mean square."""
        wrong = (predicted["energy"] - batch.labels["energy"]).view(-1, 3)
        changes = (wrong[:, 1:] - wrong[:, :1]).square().mean() / self.size
        missed = self.between(predicted["forces"] - batch.labels["forces"], batch).square() / self.sizes
        return changes + missed[:, :3].mean() + missed[:, 3:].mean()

    def errors(self, module: Model | None) -> dict[str, float]:
        """Of changes of the energy (meV), and of the force on a molecule (length, meV/Angstrom)."""
        everything = self.dataset.prepare(module.cutoff if module else 5.0)
        energies, forces = list[Tensor](), list[Tensor]()
        measured = 8 * np.arange(self.count)[:, None] + np.arange(4, 8)
        for rows in measured.reshape(-1, CHUNK):
            batch = everything.batch(rows, torch.float32)
            predicted = predictions(module, batch, ("energy", "forces"))
            energies.append(predicted["energy"] - batch.labels["energy"])
            forces.append(self.between(predicted["forces"] - batch.labels["forces"], batch)[:, :3])
        wrong = torch.cat(energies).view(-1, 4)
        missed = torch.cat(forces).view(-1, 4, 2, 3).norm(dim=-1)
        found = {
            f"{a} to {b}": milli(wrong[:, k + 1] - wrong[:, k]) for k, (a, b) in enumerate(pairwise(SEPARATIONS[4:]))
        }
        return found | {f"force at {SEPARATIONS[k + 4]}": milli(missed[:, k]) for k in (1, 2, 3)}


class Clusters(Task):
    """Structures of one cluster of two waters: total energies, learned where the oxygens are within `near` Angstrom.

    `parts` are distances that bound what is measured beyond.
    """

    steps = 400
    forces = False
    together = 16
    held = 100
    """Near structures that are not learned from."""

    def __init__(self, source: Path, charge: int, near: float, parts: tuple[float, ...]) -> None:
        raw = np.load(source)
        numbers, positions = raw["atomic_numbers"].astype(np.int64), raw["positions"].astype(np.float64)
        one, other = np.flatnonzero(numbers == 8)
        self.distances = np.linalg.norm(positions[:, one] - positions[:, other], axis=-1)
        energies = raw["energies"] * HARTREE
        dipoles = raw["dipole"].astype(np.float64) * BOHR  # about the origin; a batch is about its mean position
        labels = {"energy": energies - energies.mean(), "dipole": dipoles - charge * positions.mean(1)}
        properties = {"energy": Property("energy", "meV"), "dipole": Property("dipole", "e*Angstrom", (3,))}
        molecules = flat([(numbers, frame) for frame in positions], charge)
        self.dataset = Dataset(source.stem, molecules, properties, labels)
        order = np.random.default_rng(0).permutation(np.flatnonzero(self.distances <= near))
        self.test, self.train = order[: self.held], order[self.held :]
        self.bounds = list(pairwise((near, *parts, math.inf)))
        self.size = float(labels["energy"][self.train].var())

    def choose(self, generator: np.random.Generator) -> Rows:
        """Any that are learned from."""
        return generator.choice(self.train, self.together, replace=False)

    def loss(self, predicted: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Of energies, relative to their variance."""
        return (predicted["energy"] - batch.labels["energy"]).square().mean() / self.size

    def errors(self, module: Model | None) -> dict[str, float]:
        """Of energies, meV."""
        data = self.dataset.prepare(module.cutoff if module else 5.0)
        everything = data.batch(np.arange(len(data)), torch.float32)
        wrong = predictions(module, everything, ("energy",))["energy"] - everything.labels["energy"]
        found = {"near": milli(wrong[self.test])}
        for least, most in self.bounds:
            rows = np.flatnonzero((self.distances > least) & (self.distances <= most))
            found[f"{least:g} to {most:g} A ({len(rows)})"] = milli(wrong[rows])
        return found


TASKS = {
    "dimers": Dimers,
    "water": lambda source: Clusters(source, 0, 3.0, (4.0,)),
    "zundel": lambda source: Clusters(source, 1, 2.45, ()),
}


def flat(structures: list[tuple[Rows, Array]], charge: int = 0) -> FlatMolecules:
    """Structures as a data set holds them."""
    sizes = np.array([len(numbers) for numbers, _ in structures])
    numbers, positions = (np.concatenate(part) for part in zip(*structures, strict=True))
    charges = np.full(len(sizes), charge, np.float64) if charge else None
    return FlatMolecules.checked("structures", sizes, numbers, positions, charges)


def milli(errors: Tensor) -> float:
    """Root mean square, in thousandths."""
    return 1e3 * float(errors.double().square().mean().sqrt())


def train(task: Task, variant: Variant, seed: int, steps: int) -> dict[str, float]:
    """Trains one network and measures it."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    module = network(variant, task.dataset, task.train)
    data = task.dataset.prepare(variant.cutoff)
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    dipoles = float(np.square(task.dataset.labels["dipole"][task.train]).mean())
    start = time.process_time()
    for _ in range(steps):
        batch = data.batch(task.choose(generator), torch.float32)
        optimizer.zero_grad()
        predicted = module.train()(batch.molecules, forces=task.forces)
        loss = task.loss(predicted, batch)
        if variant.dipoles:
            wrong = predicted["dipole"] - batch.labels["dipole"]
            loss = loss + DIPOLE_WEIGHT * wrong.square().mean() / dipoles
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - start
    return {**task.errors(module.eval()), "step, ms": 1e3 * seconds / steps, "training, s": seconds}


def show(runs: Path) -> None:
    """Tables: mean over seeds, and half of the range."""
    for name in TASKS:
        title, lines = list[str](), list[list[str]]()
        for variant in ("nothing", *VARIANTS):
            found = [json.loads(file.read_text()) for file in sorted(runs.glob(f"{name}-{variant}-*.json"))]
            if not found:
                continue
            values = {key: np.array([one[key] for one in found]) for key in found[0]}
            cells = [f"{value.mean():.3g} ± {np.ptp(value) / 2:.2g}" for value in values.values()]
            lines.append([variant, str(len(found)), *cells])
            title = ["", "seeds", *values]
        if lines:
            print(f"{name}\n{markdown_table([title, *([*line, '', ''][: len(title)] for line in lines)])}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("task", choices=TASKS)
    training.add_argument("source", type=Path)
    training.add_argument("runs", type=Path)
    training.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    training.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    training.add_argument("--steps", type=int)
    commands.add_parser("show").add_argument("runs", type=Path)
    known = parser.parse_args()
    if known.command == "show":
        show(known.runs)
        return
    torch.set_num_threads(1)
    known.runs.mkdir(parents=True, exist_ok=True)
    task = TASKS[known.task](known.source)
    write_json(known.runs / f"{known.task}-nothing-0.json", task.errors(None))
    for seed, name in product(known.seeds, known.variants):
        file = known.runs / f"{known.task}-{name}-{seed}.json"
        if not file.exists():
            write_json(file, train(task, VARIANTS[name], seed, known.steps or task.steps))
            print(file.stem, file.read_text(), flush=True)


if __name__ == "__main__":
    main()
