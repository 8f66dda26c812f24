"""Time of one training step on energies and forces, as it is and compiled.

    python benchmarks/compiled.py --messages plain both_views --molecules ethanol --batch 16

Prints one line per case: milliseconds of forward and backward (medians, taken in turn), their ratio, and the seconds
that the compilation took. On a CPU the milliseconds are those of the process, which other load does not lengthen by
waiting. Compiled kernels are cached on disk, for each number of threads: a second run compiles in a fraction of the
time (set a fresh TORCHINDUCTOR_CACHE_DIR to measure the first).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
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


def step(model: Model, forward: Callable[[Molecules], dict[str, Tensor]], molecules: Molecules) -> float:
    """Seconds of forward and backward."""
    cuda = molecules.positions.is_cuda
    clock = time.perf_counter if cuda else time.process_time
    model.zero_grad()
    start = clock()
    outputs = forward(molecules)
    (outputs["energy"].square().mean().float() + outputs["forces"].square().mean()).backward()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    """Runs every case asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", nargs="+", choices=list(SHEETS), default=list(SHEETS))
    parser.add_argument("--messages", nargs="+", default=["plain", "riding", "both_views"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for molecule in arguments.molecules:
        for messages in arguments.messages:
            torch.manual_seed(0)
            config = ModelConfig(
                ("H", "C", "O"),
                {"energy": HeadConfig("extensive", forces=True)},
                BackboneConfig("painn", arguments.channels, arguments.layers),
                PolarizationConfig(messages),
            )
            model = Model(config).to(arguments.device)
            molecules = make_batch(molecule, arguments.batch, model.cutoff, arguments.device)
            start = time.perf_counter()
            compiled = compile_training(model, molecules)
            took = time.perf_counter() - start
            times = [
                (step(model, model, molecules), step(model, compiled, molecules)) for _ in range(arguments.repeats + 3)
            ]
            eager, fast = (1e3 * statistics.median(column) for column in zip(*times[3:], strict=True))
            print(
                f"{molecule:8} x {arguments.batch}  {molecules.edge_index.shape[1]:6} edges  {messages:12} "
                f"eager {eager:7.1f} ms  compiled {fast:7.1f} ms  ratio {eager / fast:4.2f}  "
                f"compilation {took:5.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
