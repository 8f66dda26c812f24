"""Time to prepare a data set of the size of QM9's molecules, and to make batches of it.

    python benchmarks/batching.py                     # molecules made here, about half a minute
    python benchmarks/batching.py --qm9 qm9.npz       # a packed QM9 file

A batch is gathered from neighbour lists that were made once; beside it stands a batch whose neighbours are found
anew from ASE structures, as a training loop without preparation would do it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.qm9 import read_packed_qm9
from neural_polarization.molecules import Molecules
from neural_polarization.properties import Property


def made_here(number: int) -> Dataset:
    """Random molecules of 9 to 27 atoms at the density of organic molecules, with twelve labels."""
    rng = np.random.default_rng(0)
    lattice = 1.4 * np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)
    sizes = rng.integers(9, 28, number)
    places = np.concatenate([lattice[rng.permutation(27)[:size]] for size in sizes])
    molecules = FlatMolecules.checked(
        "made here", sizes, rng.choice([1, 6, 7, 8], sizes.sum()), places + rng.uniform(-0.1, 0.1, places.shape)
    )
    names = [f"target_{k}" for k in range(12)]
    return Dataset(
        "made here",
        molecules,
        {name: Property(name, "eV") for name in names},
        {name: rng.normal(size=number) for name in names},
    )


def milliseconds(work: Callable[[int], object], rounds: int) -> float:
    """Median time of one call; the round's number is the argument."""
    times: list[float] = []
    for k in range(rounds):
        begin = time.perf_counter()
        work(k)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qm9", type=Path, help="a packed QM9 file; random molecules if left out")
    parser.add_argument("--molecules", type=int, default=20_000, help="number of random molecules (%(default)s)")
    parser.add_argument("--cutoff", type=float, default=5.0, help="Angstrom (%(default)s)")
    parser.add_argument("--rounds", type=int, default=50, help="batches of each kind (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

    begin = time.perf_counter()
    data = read_packed_qm9(options.qm9) if options.qm9 else made_here(options.molecules)
    read = time.perf_counter()
    prepared = data.prepare(options.cutoff)
    done = time.perf_counter()
    data.identities()
    print(f"{data!r}, cutoff {options.cutoff} Angstrom, {int(prepared.num_edges.sum()):,} edges")
    print(f"read or made {read - begin:8.2f} s")
    print(f"prepared     {done - read:8.2f} s, once")
    print(f"identities   {time.perf_counter() - done:8.2f} s, once, for splits without leakage\n")
    print("molecules   prepared batch     from ASE structures")
    rng = np.random.default_rng(1)
    for size in (1, 32, 128, 512):
        chosen = rng.integers(0, len(data), (options.rounds, size))
        gathered = milliseconds(lambda k, chosen=chosen: prepared.batch(chosen[k]), options.rounds)
        frames = [[data.structure(int(i)) for i in row] for row in chosen[:5]]
        anew = milliseconds(lambda k, frames=frames: Molecules.from_ase(frames[k], options.cutoff), 5)
        print(f"{size:9d}   {gathered:11.2f} ms   {anew:17.2f} ms")


if __name__ == "__main__":
    main()
