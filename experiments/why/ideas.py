"""Ideas to make moving points better, one small class each, beside plain and polarized PaiNN on ethanol (rMD17).

    python experiments/why/ideas.py train PATH/rmd17/ethanol.npz runs/why/ideas --seeds 0 1 2
    python experiments/why/ideas.py time PATH/rmd17/ethanol.npz
    python experiments/why/ideas.py table runs/why/ideas

500 frames to train, 1,000 for the test, 32 channels, 20 epochs of batches of 8, averaged weights of the last step: no
validation chooses anything. Each training leaves FOLDER/NAME_SEED.json; those that are there are not repeated. Times
are of the processor; networks take turns, and a ratio is the median of the ratios to plain within one round.
"""

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from ase.data import covalent_radii
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from neural_polarization.architectures import BackboneConfig
from neural_polarization.backbones import PaiNN
from neural_polarization.backbones.painn import PaiNNMessage
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.data.batching import Batch
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.files import write_json
from neural_polarization.geometry import Edges, bound
from neural_polarization.messages import Connection, Messages, MovingLengths
from neural_polarization.metrics import in_units
from neural_polarization.models import HeadConfig, Model, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Move
from neural_polarization.polarization import NeuralPolarization, Polarized, Step
from neural_polarization.training.batches import BatchOrder
from neural_polarization.training.config import ExperimentConfig, LossConfig, ModelSection, TrainingConfig
from neural_polarization.training.experiment import errors_of
from neural_polarization.training.losses import Losses
from neural_polarization.training.task import Task, prepare

BATCH, RATE, WARMUP, AVERAGE = 8, 1e-3, 100, 0.99
LOSSES = {"energy": LossConfig(0.05), "forces": LossConfig(0.95)}
NOISE, NOISE_WEIGHT = 0.05, 0.05
"""Standard deviation of the noise on positions, Angstrom, and the weight of its loss."""


class Momentum(NeuralPolarization[PointFeatures]):
    """Displacements with a memory: each layer goes on in the direction of the step before, by a learned share."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.share = nn.Parameter(torch.zeros(len(self.moves)))

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements, as without the memory while `share` is zero."""
        last = [torch.zeros_like(molecules.positions)]

        def remember(move: Step, share: Tensor, points: PointFeatures, edges: Edges) -> Tensor:
            last[0] = move(points, edges) + share * last[0]
            return last[0]

        steps = [partial(remember, move, share) for move, share in zip(moves or self.moves, self.share, strict=True)]
        return super().forward(molecules, start, cast("Sequence[Step]", steps))


class SecondSweep(NeuralPolarization[PointFeatures]):
    """Two sweeps with one set of weights: the second one starts where the points of the first one are."""

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements of the second sweep."""
        first = super().forward(molecules, start, moves)
        return super().forward(molecules, first.displacement, moves)


class TrustedLengths(MovingLengths):
    """Lengths between those of the nuclei (trust 0) and those of the moving points (trust 1)."""

    def __init__(self, molecules: Molecules, cutoff: float, trust: Tensor) -> None:
        super().__init__(molecules, cutoff)
        self.trust = trust[self.nuclear.senders] + trust[self.nuclear.receivers]

    def __call__(self, displacement: Tensor) -> Edges:
        """Edges with the direction between the moving points and a length that the two elements trust."""
        moved = super().__call__(displacement)
        lengths = self.nuclear.lengths + self.trust * (moved.lengths - self.nuclear.lengths)
        return replace(moved, vectors=moved.vectors * (lengths / moved.lengths).unsqueeze(-1), lengths=lengths)


class Trust(NeuralPolarization[PointFeatures]):
    """Lengths that move by as much as a learned number for each element says."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.trust = nn.Parameter(torch.full((len(self.elements),), 0.5))

    def connection(self, molecules: Molecules) -> Connection:
        """Edges whose lengths move by the sum of the trust of both elements, which is 1 at first."""
        return TrustedLengths(molecules, self.backbone.cutoff, self.trust[self.species(molecules.atomic_numbers)])


class TwoPointMessage(PaiNNMessage):
    """Messages of PaiNN in which half of the channels see one geometry, and half another."""

    def forward(self, features: PointFeatures, edges: Any) -> PointFeatures:
        """Features after the messages along a pair of `Edges`."""
        scalars, vectors = features.scalars, features.vectors
        assert vectors is not None
        parts = [self._filters(one, number) for number, one in enumerate(cast("tuple[Edges, Edges]", edges))]
        of_scalars, along, of_vectors = torch.cat([filters for filters, _ in parts], -1)
        direction = torch.cat([directions for _, directions in parts], -1)
        nuclear: Edges = edges[0]
        to_scalars, to_edge, to_vectors = self.context(scalars).split(self.channels, -1)
        for_scalars = to_scalars.index_select(0, nuclear.senders) * of_scalars
        along = (to_edge.index_select(0, nuclear.senders) * along).unsqueeze(1)
        sent = (to_vectors.unsqueeze(1) * vectors).index_select(0, nuclear.senders)
        for_vectors = of_vectors.unsqueeze(1) * sent + along * direction
        return PointFeatures(
            scalars.index_add(0, nuclear.receivers, for_scalars), vectors.index_add(0, nuclear.receivers, for_vectors)
        )

    def _filters(self, edges: Edges, number: int) -> tuple[Tensor, Tensor]:
        """Filters (3, edges, half) and directions (edges, 3, half) of the channels that see these edges."""
        half = self.channels // 2
        rows = torch.arange(3).unsqueeze(1) * self.channels + number * half + torch.arange(half)
        radial = torch.cat([self.basis.rows(edges.lengths, edges.envelope), edges.envelope.unsqueeze(0)])
        weight = torch.cat([self.filter.weight, self.filter.bias.unsqueeze(1)], 1)[rows.flatten()]
        filters = (radial.t() @ weight.t()).unflatten(-1, (3, half)).movedim(1, 0)
        directions = edges.vectors / edges.lengths.unsqueeze(-1)
        return filters, directions.unsqueeze(-1).expand(-1, -1, half)


class TwoPoints(NeuralPolarization[PointFeatures]):
    """Riding with two moving points for each atom, each of which half of the channels see."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        kind = cast("type[Move]", type(self.moves[0]))
        sizes = self.backbone.scalar_channels, self.backbone.vector_channels
        self.others = nn.ModuleList(kind(*sizes) for _ in self.moves)
        for layer in cast("Iterable[Any]", self.backbone.layers):
            layer.message.__class__ = TwoPointMessage  # the same weights, another sum

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features, and the mean displacement of the two points."""
        connect = self.connection(molecules)
        features = self._embed(self.species(molecules.atomic_numbers), molecules)
        places = [torch.zeros_like(molecules.positions)] * 2
        trajectory = [places[0]]
        layers = cast("Iterable[Any]", self.backbone.layers)
        for layer, couple, *pair in zip(layers, self.couples, self.moves, self.others, strict=True):
            edges = connect(places[0]), connect(places[1])
            features = layer(features, edges)
            places = [
                bound(place + move(features, one), self.limit)
                for place, move, one in zip(places, pair, edges, strict=True)
            ]
            for place in places:
                features, _ = self._coupled(couple, features, features, place)
            trajectory.append(0.5 * (places[0] + places[1]))
        return self._polarized(features, features, trajectory, connect.nuclear)


class BondPoints(NeuralPolarization[PointFeatures]):
    """Points in the middle of bonds that exchange messages and move as atoms do, and have no energy of their own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.of_pair = nn.Linear(self.backbone.scalar_channels, self.backbone.scalar_channels)

    def forward(
        self, molecules: Molecules, start: Tensor | None = None, moves: Sequence[Step] | None = None
    ) -> Polarized:
        """Features and displacements of the atoms."""
        atoms, place = molecules.num_atoms, molecules.positions
        radii = torch.tensor(covalent_radii, dtype=place.dtype)[molecules.atomic_numbers]
        first, second = molecules.edge_index
        bonded = (place[first] - place[second]).norm(dim=-1) < 1.3 * (radii[first] + radii[second])
        self.bonds = molecules.edge_index[:, bonded & (first < second)]
        first, second = self.bonds
        places = torch.cat([place, 0.5 * (place[first] + place[second])])
        owner = torch.cat([molecules.molecule_index, molecules.molecule_index[first]])
        near = (owner.unsqueeze(1) == owner) & (torch.cdist(places, places) < self.backbone.cutoff)
        near.fill_diagonal_(False)
        whole = replace(
            molecules,
            positions=places,
            edge_index=near.nonzero().t(),
            atomic_numbers=torch.cat([molecules.atomic_numbers, molecules.atomic_numbers[first]]),
            molecule_index=owner,
        )
        found = super().forward(whole, start, moves)
        fixed = moving = self._of_atoms(found.fixed, atoms)
        if found.moving is not found.fixed:
            moving = self._of_atoms(found.moving, atoms)
        return Polarized(fixed, moving, found.trajectory[:, :atoms], found.edges)

    @staticmethod
    def _of_atoms(points: PointFeatures, atoms: int) -> PointFeatures:
        vectors = points.vectors
        return PointFeatures(points.scalars[:atoms], None if vectors is None else vectors[:atoms])

    def _embed(self, species: Tensor, molecules: Molecules) -> PointFeatures:
        points = self.backbone.split(super()._embed(species, molecules))
        atoms = len(species) - self.bonds.shape[1]
        of_ends = points.scalars[self.bonds].sum(0)
        return replace(points, scalars=torch.cat([points.scalars[:atoms], self.of_pair(of_ends)]))


class Denoising(nn.Module):
    """An auxiliary loss: vectors of the features point from noisy positions to those without the noise."""

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__()
        channels = model.representation.backbone.vector_channels * model.representation.messages.points
        self.to_noise = nn.Linear(channels, 1, bias=False)
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, model: Model, batch: Batch) -> Tensor:
        """Mean squared error of the noise, in units of its variance."""
        positions = batch.molecules.positions
        noise = torch.randn(positions.shape, generator=self.generator)
        vectors = model.represent(batch.molecules.with_positions(positions + NOISE * noise)).vectors
        return NOISE_WEIGHT * (self.to_noise(vectors).squeeze(-1) + noise).square().mean()


@dataclass(frozen=True)
class Idea:
    """One network of the table.

    Attributes:
        messages: which points exchange messages.
        network: the class of the polarized network.
        denoises: whether the loss has the term of `Denoising`.
        channels: of the network.
    """

    messages: Messages
    network: type[NeuralPolarization[PointFeatures]] = NeuralPolarization
    denoises: bool = False
    channels: int = 32


IDEAS = {
    "plain": Idea(Messages.PLAIN),
    "wider": Idea(Messages.PLAIN, channels=36),
    "wide": Idea(Messages.PLAIN, channels=64),
    "wide_moving_view": Idea(Messages.MOVING_VIEW, channels=64),
    "riding": Idea(Messages.RIDING),
    "moving_view": Idea(Messages.MOVING_VIEW),
    "momentum": Idea(Messages.MOVING_VIEW, Momentum),
    "trust": Idea(Messages.MOVING_VIEW, Trust),
    "two_points": Idea(Messages.RIDING, TwoPoints),
    "bond_points": Idea(Messages.MOVING_VIEW, BondPoints),
    "plain_bond_points": Idea(Messages.PLAIN, BondPoints),
    "denoising": Idea(Messages.MOVING_VIEW, denoises=True),
    "plain_denoising": Idea(Messages.PLAIN, denoises=True),
    "second_sweep": Idea(Messages.MOVING_VIEW, SecondSweep),
}


def task_of(idea: Idea, data: Path, seed: int, train: int = 500) -> Task:
    """The data and the untrained model."""
    section = ModelSection(
        {"energy": HeadConfig("extensive", forces=True)},
        BackboneConfig("painn", idea.channels, 3, 5.0, num_basis=20),
        PolarizationConfig(idea.messages),
    )
    split = SplitConfig(train=train, validation=100, test=1000, seed=0)
    config = ExperimentConfig(
        section, DataConfig("rmd17", str(data), split=split), TrainingConfig(losses=LOSSES, seed=seed)
    )
    task = prepare(config)
    former = task.model.representation
    if idea.network is not NeuralPolarization:
        assert isinstance(former.backbone, PaiNN)
        torch.manual_seed(seed)
        task.model.representation = idea.network(former.backbone, former.elements, former.messages)
    return task


def loss_of(model: Model, losses: Losses, batch: Batch, more: Callable[[Model, Batch], Tensor] | None) -> Tensor:
    """The loss of one step."""
    sums = losses.sums(model(batch.molecules), batch.labels)
    loss = sum((total / count for total, count in sums.values()), torch.zeros(()))
    return loss if more is None else loss + more(model, batch)


def train(
    task: Task,
    seed: int,
    epochs: int,
    denoises: bool = False,
    settings: Mapping[str, LossConfig] = LOSSES,
    batch_size: int = BATCH,
) -> Model:
    """The model with the average of its weights over the last steps."""
    model, prepared = task.model.train(), task.parts["train"]
    losses = Losses(settings, model)
    denoising = Denoising(model, seed) if denoises else None
    weights = [*model.parameters(), *([] if denoising is None else denoising.parameters())]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01, fused=True)
    averaged = copy.deepcopy(model)
    order = BatchOrder(len(prepared), batch_size, seed)
    steps, step = epochs * len(order), 0
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for rows in order:
            done = max(0, step - WARMUP) / (steps - WARMUP)
            decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
            optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * decay
            loss = loss_of(model, losses, prepared.batch(rows), denoising)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 10.0)
            optimizer.step()
            share = min(AVERAGE, (1 + step) / (10 + step))
            get_ema_multi_avg_fn(share)(list(averaged.parameters()), list(model.parameters()), step)
            step += 1
    return averaged.eval()


def train_all(arguments: argparse.Namespace) -> None:
    """Trains what is not there yet."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.only:
            path = arguments.folder / f"{name}_{seed}.json"
            if path.is_file():
                continue
            task, started = task_of(IDEAS[name], arguments.data, seed), time.process_time()
            model = train(task, seed, arguments.epochs, IDEAS[name].denoises)
            errors = in_units(errors_of(model, task.parts["test"], 50), task.dataset.properties)
            result: dict[str, Any] = {key: value["mae"] for key, value in errors.items()}
            result |= {"epochs": arguments.epochs, "seconds": time.process_time() - started}
            result["parameters"] = sum(weight.numel() for weight in model.parameters())
            network = model.representation
            result["learned"] = [
                value.tolist() for key, value in network.named_parameters() if key in ("share", "trust")
            ]
            write_json(path, result)
            print(name, seed, json.dumps(result), flush=True)


def time_all(arguments: argparse.Namespace) -> None:
    """Prints the ratio of each network's step to plain's."""
    tasks = {name: task_of(IDEAS[name], arguments.data, 0) for name in arguments.only}
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    extra = {name: Denoising(task.model, 0) if IDEAS[name].denoises else None for name, task in tasks.items()}
    for turn in range(arguments.rounds + 3):
        for name, task in tasks.items():
            model = task.model.train()
            batch, losses = task.parts["train"].batch(range(BATCH)), Losses(LOSSES, model)
            model.zero_grad()
            started = time.process_time()
            loss_of(model, losses, batch, extra[name]).backward()
            if turn > 2:  # the first ones warm up
                seconds[name].append(time.process_time() - started)
    for name, of_name in seconds.items():
        ratios = [one / plain for one, plain in zip(of_name, seconds["plain"], strict=True)]
        print(f"{name}: {statistics.median(ratios):.2f} of a plain step ({1e3 * statistics.median(of_name):.1f} ms)")


def table(arguments: argparse.Namespace) -> None:
    """Prints errors and their ratios to plain with the same seed."""
    found: dict[str, dict[str, dict[str, Any]]] = {
        name: {
            path.stem.rpartition("_")[2]: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(arguments.folder.glob(f"{name}_[0-9]*.json"))
        }
        for name in IDEAS
    }
    print(
        "| network | forces, meV/A | ratio | energy, meV | ratio | parameters | seeds |\n|---|---|---|---|---|---|---|"
    )
    for name, rows in found.items():
        if not rows:
            continue
        cells: list[str] = []
        for key in ("forces", "energy"):
            ratios = [row[key] / found["plain"][seed][key] for seed, row in rows.items() if seed in found["plain"]]
            spread = f" ± {statistics.stdev(ratios):.2f}" if len(ratios) > 1 else ""
            ratio = f"{statistics.mean(ratios):.2f}{spread}" if ratios else "-"
            cells += [f"{statistics.mean(row[key] for row in rows.values()):.1f}", ratio]
        parameters = next(iter(rows.values()))["parameters"]
        print(f"| {name} | {' | '.join(cells)} | {parameters:,} | {len(rows)} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for name in ("train", "time"):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path)
        command.add_argument("--only", nargs="+", default=list(IDEAS), choices=list(IDEAS))
    commands.choices["train"].add_argument("folder", type=Path)
    commands.choices["train"].add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    commands.choices["train"].add_argument("--epochs", type=int, default=20)
    commands.choices["time"].add_argument("--rounds", type=int, default=15)
    commands.add_parser("table").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    {"train": train_all, "time": time_all, "table": table}[arguments.what](arguments)


if __name__ == "__main__":
    main()
