"""Time and memory of one training step: PaiNN, its polarized forms, and SchNetPack's PaiNN, in one run.

    python benchmarks/step_time.py                 # about five minutes
    python benchmarks/step_time.py --rounds 10 --batches ethanol

Every network has the same channels, layers, cutoff and radial functions, and reads its energy from the scalars
by the same perceptron. The networks take turns, step by step, so that whatever else the machine does slows all of
them alike: a ratio is the median over the rounds of the ratio to plain in the same round. Memory is the peak of
what one step allocates in tensors. SchNetPack's row needs `pip install neural-polarization[schnetpack]`.

With glibc, set MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000, as `npol compare` and `make` do:
else the larger batches measure how memory is handed back and fetched again.
"""

import argparse
import contextlib
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.build import molecule
from torch import Tensor, nn

from neural_polarization.backbones import PaiNN
from neural_polarization.layers import mlp, sum_by_index
from neural_polarization.messages import Lengths, Messages
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization

ELEMENTS = ("H", "C", "N", "O", "F")
CHOICES = {
    "plain": (Messages.PLAIN, Lengths.MOVING),
    "riding": (Messages.RIDING, Lengths.MOVING),
    "riding, nuclear lengths": (Messages.RIDING, Lengths.NUCLEAR),
    "moving_view": (Messages.MOVING_VIEW, Lengths.MOVING),
    "moving_view, nuclear lengths": (Messages.MOVING_VIEW, Lengths.NUCLEAR),
    "both_views": (Messages.BOTH_VIEWS, Lengths.MOVING),
}
LIMITS = {
    "riding": 1.15,
    "riding, nuclear lengths": 1.15,
    "moving_view": 1.4,
    "moving_view, nuclear lengths": 1.4,
    "both_views": 2.2,
}
"""What a step may cost relative to plain; plain itself may cost no more than SchNetPack's."""

ASPIRIN = ase.Atoms(
    "CCOOCCCCCCCOOHHHHHHHH",
    [
        [3.08, 1.18, -0.84], [2.03, 0.46, -0.04], [2.10, 0.25, 1.16], [1.01, 0.07, -0.90], [-0.06, -0.53, -0.22],
        [-0.10, -1.93, -0.24], [-1.15, -2.59, 0.40], [-2.16, -1.86, 1.03], [-2.12, -0.46, 1.03], [-1.07, 0.22, 0.40],
        [-1.03, 1.71, 0.37], [-0.23, 2.41, -0.21], [-2.04, 2.26, 1.08], [2.63, 2.04, -1.35], [3.53, 0.50, -1.56],
        [3.86, 1.55, -0.17], [0.68, -2.50, -0.73], [-1.19, -3.68, 0.40], [-2.97, -2.38, 1.53], [-2.92, 0.08, 1.53],
        [-1.88, 3.22, 0.98],
    ],
)  # fmt: skip

# Somewhat smaller than most molecules of QM9, of the elements that it has.
QM9_LIKE = ("isobutane", "trans-butane", "C5H8", "C3H9N", "CH3CH2OCH3", "C6H6", "C5H5N", "cyclobutane")


@dataclass(frozen=True)
class Batch:
    """What a step is timed on.

    Attributes:
        title: shown above the table.
        structures: the molecules.
        forces: whether the loss has forces.
    """

    title: str
    structures: list[ase.Atoms]
    forces: bool


def _shaken(atoms: ase.Atoms, copies: int) -> list[ase.Atoms]:
    random = np.random.default_rng(0)
    return [
        ase.Atoms(atoms.numbers, atoms.positions + random.normal(0.0, 0.1, atoms.positions.shape))
        for _ in range(copies)
    ]


def _qm9_like(size: int) -> list[ase.Atoms]:
    return [frame for k in range(size) for frame in _shaken(molecule(QM9_LIKE[k % len(QM9_LIKE)]), 1)]


BATCHES = {
    "ethanol": Batch("16 x ethanol, energy and forces", _shaken(molecule("CH3CH2OH"), 16), True),
    "aspirin": Batch("10 x aspirin, energy and forces", _shaken(ASPIRIN, 10), True),
    "qm9": Batch("64 molecules like QM9's, energy alone", _qm9_like(64), False),
}


class Ours(nn.Module):
    """PaiNN of this library, polarized or not, with an energy."""

    def __init__(
        self, messages: Messages, lengths: Lengths, channels: int, num_layers: int, cutoff: float, num_basis: int
    ) -> None:
        super().__init__()
        points = messages.points
        backbone = PaiNN(points * len(ELEMENTS), channels, num_layers, cutoff, num_basis)
        self.network: NeuralPolarization[Any] = NeuralPolarization(backbone, ELEMENTS, messages, lengths=lengths)
        self.readout = mlp([points * channels, channels // 2, 1])

    def forward(self, molecules: Molecules) -> Tensor:
        """Energy of each molecule."""
        atoms = self.readout(self.network(molecules).scalars).squeeze(-1)
        return sum_by_index(atoms, molecules.molecule_index, molecules.num_molecules)


class SchNetPacks(nn.Module):
    """PaiNN of SchNetPack with the same energy."""

    def __init__(self, channels: int, num_layers: int, cutoff: float, num_basis: int) -> None:
        super().__init__()
        import torch.utils.data.dataloader as loader

        # SchNetPack 2.0 imports a name that torch has made private since.
        loader.T_co = getattr(loader, "T_co", None) or loader._T_co
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import schnetpack.nn as spk_nn
            from schnetpack import properties
            from schnetpack.representation import PaiNN as Original

        self.names = properties
        basis, envelope = spk_nn.BesselRBF(num_basis, cutoff), spk_nn.CosineCutoff(cutoff)
        self.network = Original(channels, num_layers, basis, envelope, max_z=10)
        self.readout = mlp([channels, channels // 2, 1])

    def forward(self, molecules: Molecules) -> Tensor:
        """Energy of each molecule."""
        senders, receivers = molecules.edge_index
        out = self.network(
            {
                self.names.Z: molecules.atomic_numbers,
                self.names.Rij: molecules.positions[senders] - molecules.positions[receivers],
                self.names.idx_i: receivers,
                self.names.idx_j: senders,
            }
        )
        atoms = self.readout(out["scalar_representation"]).squeeze(-1)
        return sum_by_index(atoms, molecules.molecule_index, molecules.num_molecules)


def _step(network: nn.Module, molecules: Molecules, forces: bool) -> None:
    """Forward, forces where asked for, and the gradient of a loss; no optimizer."""
    network.zero_grad()
    positions = molecules.positions.detach().requires_grad_(forces)
    energy = network(molecules.with_positions(positions))
    loss = energy.square().mean()
    if forces:
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        loss = loss + gradient.square().mean()
    loss.backward()


def _clock(device: torch.device) -> float:
    """Seconds; on one thread of a CPU those that this process was given, whatever else the machine does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's profiler from writing its log to the terminal."""
    terminal = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _peak_megabytes(step: Callable[[], None], device: torch.device) -> float:
    """Largest sum of tensors alive at one time within a step, beyond those before it."""
    step()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _quiet(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return float(alive.max()) / 1e6


def measure(
    batch: Batch, networks: dict[str, nn.Module], cutoff: float, rounds: int, device: torch.device
) -> dict[str, tuple[list[float], float]]:
    """Times of every round in ms, and peak memory in MB, of each network."""
    molecules = Molecules.from_ase(batch.structures, cutoff).to(device)
    results = {
        name: ([], _peak_megabytes(lambda network=network: _step(network, molecules, batch.forces), device))
        for name, network in networks.items()
    }
    for round_number in range(rounds + 3):
        for name, network in networks.items():
            start = _clock(device)
            _step(network, molecules, batch.forces)
            if round_number >= 3:  # the first ones warm up
                results[name][0].append((_clock(device) - start) * 1e3)
    return results


def table(results: dict[str, tuple[list[float], float]]) -> str:
    """Medians and ratios as Markdown."""
    lines = [
        "| PaiNN | ms | ratio to plain (quartiles) | allowed | peak MB | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    plain_times, plain_memory = results["plain"]
    for name, (times, memory) in results.items():
        ratios = [one / plain for one, plain in zip(times, plain_times, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        limit = LIMITS.get(name)
        lines.append(
            f"| {name} | {statistics.median(times):.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) | "
            f"{'' if limit is None else limit} | {memory:.0f} | {memory / plain_memory:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints one table per batch."""
    parser = argparse.ArgumentParser(description="Time and memory of one training step.")
    parser.add_argument("--batches", nargs="+", choices=list(BATCHES), default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each network")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--cutoff", type=float, default=5.0, help="Angstrom")
    parser.add_argument("--num-basis", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    sizes = (arguments.channels, arguments.num_layers, arguments.cutoff, arguments.num_basis)
    networks: dict[str, nn.Module] = {name: Ours(*choice, *sizes).to(device) for name, choice in CHOICES.items()}
    try:
        networks["SchNetPack"] = SchNetPacks(*sizes).to(device)
    except ModuleNotFoundError as error:
        print(f"SchNetPack's row is left out ({error}): pip install neural-polarization[schnetpack]\n")
    print(f"{sizes[0]} channels, {sizes[1]} layers, {sizes[2]} Angstrom, {sizes[3]} radial functions; float32,")
    print(f"{device}, {arguments.threads} thread(s), {arguments.rounds} rounds, torch {torch.__version__}\n")
    for name in arguments.batches:
        print(f"### {BATCHES[name].title}\n")
        print(table(measure(BATCHES[name], networks, sizes[2], arguments.rounds, device)), flush=True)
        print()


if __name__ == "__main__":
    main()
