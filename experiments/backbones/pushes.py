"""Moves of networks without vectors, side by side: force errors on ethanol after a short training, and time of a step.

    python experiments/backbones/pushes.py train --name schnet --moves edges radial --seeds 0 1 2
    python experiments/backbones/pushes.py time --name schnet --moves edges radial

Riding with 32 channels, 400 of the repository's 600 frames of ethanol, batches of 10, errors on the other 200. Steps
are of energies and forces of 64 ethanols, standard size; the forms take turns, and a ratio is the median of the ratios
to plain within one round. Times are of the processor.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

DATA = Path(__file__).parents[2] / "data" / "ethanol.npz"


def model_of(name: str, move: str, seed: int, **size: int) -> Model:
    """A new model with a kind of move; `plain` moves nothing."""
    torch.manual_seed(seed)
    polarization = PolarizationConfig(Messages.RIDING, move=move)
    if move == "plain":
        polarization = PolarizationConfig(Messages.PLAIN)
    heads = {"energy": HeadConfig("extensive", forces=True)}
    return Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig(name, **size), polarization)).train()


def train(name: str, move: str, seed: int, steps: int) -> None:
    """Trains one model and prints its errors."""
    data = np.load(DATA)
    numbers, positions = data["atomic_numbers"].reshape(600, 9), data["positions"].reshape(600, 9, 3)
    energies, forces = data["energy"], data["forces"].reshape(600, 9, 3)
    order = np.random.default_rng(seed).permutation(600)
    known, unseen = order[:400], order[400:]
    model = model_of(name, move, seed, channels=32)

    def batch(rows: np.ndarray) -> tuple[Molecules, torch.Tensor, torch.Tensor]:
        frames = [ase.Atoms(numbers[row], positions[row]) for row in rows]
        labels = energies[rows] - energies[known].mean()
        return (
            Molecules.from_ase(frames, model.cutoff, torch.float32),
            torch.tensor(labels, dtype=torch.float32),
            torch.tensor(forces[rows].reshape(-1, 3), dtype=torch.float32),
        )

    optimizer = torch.optim.Adam(model.parameters())
    generator, rest = np.random.default_rng(seed + 100), list[int]()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        rest = rest if len(rest) >= 10 else generator.permutation(known).tolist()
        molecules, energy, force = batch(np.array([rest.pop() for _ in range(10)]))
        found = model(molecules)
        loss = ((found["energy"] - energy) / 9.0).square().mean() + (found["forces"] - force).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    molecules, energy, force = batch(unseen)
    found = model.eval()(molecules)
    pairs = ((found["forces"], force), (found["energy"], energy))
    errors = [1e3 * float((one - other).detach().abs().mean()) for one, other in pairs]
    count = sum(weights.numel() for weights in model.parameters())
    print(f"{name} {move} seed {seed}: {errors[0]:.1f} meV/A, {errors[1]:.1f} meV, {count:,} parameters", flush=True)


def compare_times(name: str, moves: list[str], rounds: int, batch: int) -> None:
    """Prints the ratio of each form's step to plain's."""
    frames = [molecule("CH3CH2OH") for _ in range(batch)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.1, seed=seed)
    models = {move: model_of(name, move, 0) for move in ("plain", *moves)}
    molecules = Molecules.from_ase(frames, models["plain"].cutoff, torch.float32)
    seconds: dict[str, list[float]] = {move: [] for move in models}
    for turn in range(rounds + 2):
        for move, model in models.items():
            model.zero_grad()
            started = time.process_time()
            found = model(molecules)
            (found["energy"].square().mean() + found["forces"].square().mean()).backward()
            if turn > 1:  # the first ones warm up
                seconds[move].append(time.process_time() - started)
    for move in moves:
        ratios = [one / plain for one, plain in zip(seconds[move], seconds["plain"], strict=True)]
        print(f"{name} {move}: {statistics.median(ratios):.2f} of a plain step", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["train", "time"])
    parser.add_argument("--name", default="schnet")
    parser.add_argument("--moves", nargs="+", default=["edges", "radial"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "time":
        compare_times(options.name, options.moves, options.rounds, options.batch)
        return
    for seed in options.seeds:
        for move in options.moves:
            train(options.name, move, seed, options.steps)


if __name__ == "__main__":
    main()
