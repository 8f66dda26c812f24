"""Ideas to make moving points better (`networks.py`), beside plain and polarized networks on ethanol (rMD17).

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from networks import BondPoints, Momentum, SecondSweep, TensorMoves, Trust, TwoPoints
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.batching import Batch
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.files import write_json
from neural_polarization.messages import Messages
from neural_polarization.metrics import in_units
from neural_polarization.models import HeadConfig, Model, PolarizationConfig
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.training.batches import BatchOrder
from neural_polarization.training.config import ExperimentConfig, LossConfig, ModelSection, TrainingConfig
from neural_polarization.training.experiment import errors_of
from neural_polarization.training.losses import Losses
from neural_polarization.training.task import Task, prepare

BATCH, RATE, WARMUP, AVERAGE = 8, 1e-3, 100, 0.99
LOSSES = {"energy": LossConfig(0.05), "forces": LossConfig(0.95)}
NOISE, NOISE_WEIGHT = 0.05, 0.05
"""Standard deviation of the noise on positions, Angstrom, and the weight of its loss."""


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
        backbone: name of the network.
    """

    messages: Messages
    network: type[NeuralPolarization[Any]] = NeuralPolarization
    denoises: bool = False
    channels: int = 32
    backbone: str = "painn"

    @property
    def reference(self) -> str:
        """Name of the plain network that errors and times are compared with."""
        return {"painn": "plain", "nequip": "nequip"}[self.backbone]


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
    "nequip": Idea(Messages.PLAIN, backbone="nequip"),
    "nequip_riding": Idea(Messages.RIDING, backbone="nequip"),
    "nequip_tensor_moves": Idea(Messages.RIDING, TensorMoves, backbone="nequip"),
}


def task_of(idea: Idea, data: Path, seed: int, train: int = 500) -> Task:
    """The data and the untrained model."""
    section = ModelSection(
        {"energy": HeadConfig("extensive", forces=True)},
        BackboneConfig(idea.backbone, idea.channels, 3, 5.0, num_basis=20 if idea.backbone == "painn" else None),
        PolarizationConfig(idea.messages),
    )
    split = SplitConfig(train=train, validation=100, test=1000, seed=0)
    config = ExperimentConfig(
        section, DataConfig("rmd17", str(data), split=split), TrainingConfig(losses=LOSSES, seed=seed)
    )
    task = prepare(config)
    former = task.model.representation
    if idea.network is not NeuralPolarization:
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
    names = dict.fromkeys([*(IDEAS[name].reference for name in arguments.only), *arguments.only])
    tasks = {name: task_of(IDEAS[name], arguments.data, 0) for name in names}
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
        ratios = [one / plain for one, plain in zip(of_name, seconds[IDEAS[name].reference], strict=True)]
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
        reference = found[IDEAS[name].reference]
        cells: list[str] = []
        for key in ("forces", "energy"):
            ratios = [row[key] / reference[seed][key] for seed, row in rows.items() if seed in reference]
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
