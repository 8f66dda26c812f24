"""Time of one training step on energies and forces, as it is and compiled.

    python benchmarks/compiled.py --messages plain riding --molecules ethanol --batch 16

All networks take turns, eager and compiled. Prints, for each, milliseconds of forward and backward (medians), in
brackets their ratio to the first network's (median of the rounds), and how much faster the compiled step is. On a CPU
the milliseconds are those of the process, which other load does not lengthen by waiting. Compiled kernels are cached
on disk, for each number of threads: a second run compiles in a fraction of the time (set a fresh
TORCHINDUCTOR_CACHE_DIR to measure the first).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
from neural_polarization.messages import Lengths, Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.training.compiled import compile_training

SHEETS = {"ethanol": (3, 3, 1.3), "aspirin": (7, 3, 1.45)}
"""Stand-ins with as many atoms, and about as many neighbours: rows, columns and spacing (Angstrom) of a sheet."""


def make_batch(molecule: str, count: int, cutoff: float, device: str) -> Molecules:
    """Shaken copies of a sheet of hydrogen, carbon and oxygen."""
    rows, columns, spacing = SHEETS[molecule]
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns), torch.arange(1)) * spacing
    positions = grid.repeat(count, 1) + 0.1 * torch.randn(count * len(grid), 3)
    numbers = torch.tensor([1, 6, 8, 1, 6, 1])[torch.arange(len(grid)) % 6].repeat(count)
    return Molecules.from_arrays(numbers.to(device), positions.to(device), cutoff, [len(grid)] * count)


def step(model: Model, forward: Callable[[Molecules], dict[str, Tensor]], molecules: Molecules, forces: bool) -> float:
    """Milliseconds of forward and backward."""
    cuda = molecules.positions.is_cuda
    clock = time.perf_counter if cuda else time.process_time
    model.zero_grad()
    start = clock()
    outputs = forward(molecules)
    loss = outputs["energy"].square().mean().float()
    if forces:
        loss = loss + outputs["forces"].square().mean()
    loss.backward()
    if cuda:
        torch.cuda.synchronize()
    return 1e3 * (clock() - start)


def make_model(messages: str, arguments: argparse.Namespace) -> Model:
    """PaiNN with an energy, and forces where they are asked for."""
    torch.manual_seed(0)
    config = ModelConfig(
        ("H", "C", "O"),
        {"energy": HeadConfig("extensive", forces=not arguments.energies)},
        BackboneConfig("painn", arguments.channels, arguments.layers),
        PolarizationConfig(Messages(messages), lengths=Lengths(arguments.lengths)),
    )
    return Model(config).to(arguments.device).train()


def main() -> None:
    """Runs every case asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", nargs="+", choices=list(SHEETS), default=list(SHEETS))
    parser.add_argument("--messages", nargs="+", default=["plain", "riding", "moving_view", "both_views"])
    parser.add_argument("--lengths", default="moving", choices=["moving", "nuclear"])
    parser.add_argument("--energies", action="store_true", help="without forces")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for molecule in arguments.molecules:
        models = {messages: make_model(messages, arguments) for messages in arguments.messages}
        cutoff = next(iter(models.values())).cutoff
        molecules = make_batch(molecule, arguments.batch, cutoff, arguments.device)
        print(f"{arguments.batch} x {molecule}, {molecules.edge_index.shape[1]} edges, torch {torch.__version__}")
        forwards: dict[str, tuple[Callable[[Molecules], dict[str, Tensor]], ...]] = {}
        for messages, model in models.items():
            start = time.perf_counter()
            forwards[messages] = model, compile_training(model, molecules)
            print(f"{messages:12} compiled in {time.perf_counter() - start:.0f} s", flush=True)
        rounds = [
            {
                messages: [step(model, forward, molecules, not arguments.energies) for forward in forwards[messages]]
                for messages, model in models.items()
            }
            for _ in range(arguments.rounds + 3)
        ][3:]
        for messages in models:
            eager, fast = (statistics.median(times[messages][k] for times in rounds) for k in (0, 1))
            to_first = [
                statistics.median(times[messages][k] / times[arguments.messages[0]][k] for times in rounds)
                for k in (0, 1)
            ]
            print(
                f"{messages:12} eager {eager:7.1f} ms ({to_first[0]:.2f})  "
                f"compiled {fast:7.1f} ms ({to_first[1]:.2f})  eager / compiled {eager / fast:4.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
