"""Speed and memory of evaluating a density on a grid, beside PySCF's functions on the same grid.

    python benchmarks/density.py                     # about two minutes
    python benchmarks/density.py --points 10000000 --atoms 100 --repeats 1 --single --pyscf-points 100000

Both have the same functions, 96 on every atom (six shells each of s, p, d and f), on the same points, in one thread,
and every second is processor time. PySCF gives the values of all functions (`eval_gto`, float64, blocks of 20,000
points) and a product with the coefficients makes them a density. A point-function is one function at one point, whether
it was computed or is too far away to matter; both leave out what is. `--pyscf-points 0` leaves PySCF out, so that the
memory is that of this library alone.
"""

import argparse
import math
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from pyscf import gto
from torch import Tensor

from neural_polarization.density import Density, Gaussians, Nuclei
from neural_polarization.density.gaussians import even_tempered
from neural_polarization.density.grids import grid_around
from neural_polarization.units import BOHR

SHELLS, LMAX = 6, 3
SMALLEST, LARGEST = 0.15, 10.0  # 1/bohr^2


def chain(atoms: int) -> np.ndarray:
    """Positions of a zigzag of carbon atoms, Angstrom."""
    number = np.arange(atoms)
    return np.stack([1.26 * number, 0.4 * (-1.0) ** number, np.zeros(atoms)], 1)


def both(atoms: int) -> tuple[Density, gto.Mole, np.ndarray]:
    """The same functions and coefficients here and in PySCF."""
    positions = torch.from_numpy(chain(atoms))
    exponents = even_tempered(SMALLEST, LARGEST, SHELLS) / BOHR**2
    generator = torch.Generator().manual_seed(0)
    coefficients = [
        0.02 * torch.randn(atoms, SHELLS, 2 * degree + 1, dtype=torch.float64, generator=generator)
        for degree in range(LMAX + 1)
    ]
    index = torch.zeros(atoms, dtype=torch.long)
    part = Gaussians(positions, index, (exponents.expand(atoms, -1),) * (LMAX + 1), tuple(coefficients))
    density = Density((part,), Nuclei(torch.full((atoms,), 6), positions, index, 1))
    basis = [
        [degree, [float(exponent) * BOHR**2, 1.0]] for degree in range(LMAX + 1) for exponent in exponents.tolist()
    ]
    molecule = gto.M(atom=[("C", p) for p in positions.tolist()], basis={"C": basis}, verbose=0, spin=None)
    rows = []
    for values in coefficients:
        ordered = values[..., [2, 0, 1]] if values.shape[-1] == 3 else values  # PySCF has x, y, z
        rows.append(ordered.flatten(1).numpy())
    return density, molecule, np.concatenate(rows, 1).ravel() * BOHR**1.5


def timed(action: Callable[[], Tensor], repeats: int) -> tuple[Tensor, float]:
    """Result and processor time (s) of the fastest of some calls."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        result = action()
        best = min(best, time.process_time() - start)
    return result, best


def in_pyscf(molecule: gto.Mole, coefficients: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Density by PySCF's functions, e/Angstrom^3."""
    blocks = [points[start : start + 20000] / BOHR for start in range(0, len(points), 20000)]
    return np.concatenate([molecule.eval_gto("GTOval_sph", block) @ coefficients for block in blocks]) / BOHR**3


def line(atoms: int, number: int, options: argparse.Namespace) -> str:
    """One row of the table."""
    density, molecule, coefficients = both(atoms)
    box = grid_around(density, 0.5, margin=4.0)
    points = grid_around(density, 0.5 * (box.num_points / number) ** (1 / 3), margin=4.0).points()
    work = density.num_functions / 1e6
    singles = points.float()
    if options.single:
        points = points[:0]
    values, of_single = timed(lambda: density.evaluate(singles), options.repeats)
    columns = [(work * len(singles) / of_single, of_single)]
    error = math.nan
    if not options.single:
        _, of_double = timed(lambda: density.evaluate(points), options.repeats)
        columns.append((work * len(points) / of_double, of_double))
    if options.pyscf_points:
        # A whole plane of neighbours at a time, as in a block of the whole grid.
        some = torch.arange(len(singles))[: options.pyscf_points] + (len(singles) - options.pyscf_points) // 2
        some = some.clamp(min=0)
        exact, of_pyscf = timed(
            lambda: torch.from_numpy(in_pyscf(molecule, coefficients, singles[some].double().numpy())), options.repeats
        )
        columns.append((work * len(some) / of_pyscf, of_pyscf * len(singles) / len(some)))
        error = float((values[some] - exact).abs().max() / exact.abs().max())
    return (
        f"{atoms:6d} {density.num_functions:10d} {len(singles):10d} | "
        f"{' '.join(f'{speed:10.0f}' for speed, _ in columns)} | "
        f"{' '.join(f'{seconds:7.2f}' for _, seconds in columns)} | {error:.1e}"
    )


def main() -> None:
    """Prints one line per molecule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="*", default=[5, 10, 20, 40, 80])
    parser.add_argument("--points", type=int, default=200000)
    parser.add_argument("--repeats", type=int, default=2, help="calls, the fastest of which counts")
    parser.add_argument("--single", action="store_true", help="this library in float32 only")
    parser.add_argument(
        "--pyscf-points", type=int, default=200000, help="points for PySCF; its seconds are scaled to all points"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = "float32, PySCF" if options.single else "float32, float64, PySCF"
    print(f"Million point-functions a second and seconds: {columns}; error of float32 over the largest density")
    for atoms in options.atoms:
        print(line(atoms, options.points, options), flush=True)
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
