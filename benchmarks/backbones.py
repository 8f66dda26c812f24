"""Parameters and time of one training step of every backbone, plain and polarized.

    python benchmarks/backbones.py                       # all, some minutes
    python benchmarks/backbones.py --names painn mace --preset paper --rounds 5

The step is on energies and forces of a batch of shaken ethanol. The forms of one backbone take turns, so that whatever
else the machine does slows all of them alike: a ratio is the median of the ratios to plain within one round.
"""

import argparse
import statistics
import time
from dataclasses import dataclass

import torch
from ase.build import molecule

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

CHOICES = ("plain", "riding", "both_views")


@dataclass(frozen=True)
class Cost:
    """Of one form of a backbone."""

    parameters: int
    seconds: float
    ratio: float


def make_batch(count: int, cutoff: float, device: str) -> Molecules:
    """Ethanol, every copy shaken in its own way."""
    frames = []
    for seed in range(count):
        frame = molecule("CH3CH2OH")
        frame.rattle(0.1, seed=seed)
        frames.append(frame)
    return Molecules.from_ase(frames, cutoff, torch.float32).to(device)


def make_model(name: str, preset: str, messages: str, device: str) -> Model:
    """An energy with forces."""
    backbone, heads = BackboneConfig(name, preset=preset), {"energy": HeadConfig("extensive", forces=True)}
    return (
        Model(ModelConfig(("H", "C", "O"), heads, backbone, PolarizationConfig(Messages(messages)))).to(device).train()
    )


def step(model: Model, molecules: Molecules) -> float:
    """Seconds of forward, forces and backward; processor time on a CPU."""
    cuda = molecules.positions.is_cuda
    clock = time.perf_counter if cuda else time.process_time
    model.zero_grad()
    if cuda:
        torch.cuda.synchronize()
    started = clock()
    out = model(molecules)
    (out["energy"].square().mean() + out["forces"].square().mean()).backward()
    if cuda:
        torch.cuda.synchronize()
    return clock() - started


def measure(name: str, preset: str, batch: int, rounds: int, device: str) -> dict[str, Cost]:
    """Costs by form."""
    models = {messages: make_model(name, preset, messages, device) for messages in CHOICES}
    molecules = make_batch(batch, models["plain"].cutoff, device)
    times: dict[str, list[float]] = {messages: [] for messages in CHOICES}
    for number in range(rounds + 1):
        for messages, model in models.items():
            seconds = step(model, molecules)
            if number:  # the first of each is not counted
                times[messages].append(seconds)
    return {
        messages: Cost(
            sum(weight.numel() for weight in model.parameters()),
            statistics.median(times[messages]),
            statistics.median(a / b for a, b in zip(times[messages], times["plain"], strict=True)),
        )
        for messages, model in models.items()
    }


def main() -> None:
    """Prints a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--preset", default="standard", choices=["standard", "paper", "small"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.preset} size, {options.batch} ethanol, {options.device}, torch {torch.__version__}\n")
    print("| backbone | parameters | riding | both views | step ms | riding | both views |")
    print("|---|---|---|---|---|---|---|")
    for name in options.names:
        costs = measure(name, options.preset, options.batch, options.rounds, options.device)
        plain, riding, both = (costs[messages] for messages in CHOICES)
        print(
            f"| {name} | {plain.parameters:,} | {riding.parameters:,} | {both.parameters:,} | "
            f"{1e3 * plain.seconds:.0f} | {riding.ratio:.2f} | {both.ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
