"""Values on a grid in files: Gaussian's cube format and NumPy's archive.

References:
    Gaussian, "cubegen", https://gaussian.com/cubegen: lengths in bohr, values in atomic units, z running fastest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.density import Nuclei
from neural_polarization.density.grids import Grid
from neural_polarization.files import check_folder, replacing
from neural_polarization.units import BOHR, HARTREE


@dataclass(frozen=True)
class Quantity:
    """What a file holds.

    Attributes:
        name: as the file's first line says.
        unit: inside the library.
        atomic_unit: name of the unit in cube files.
        factor: one of `unit` in `atomic_unit`.
    """

    name: str
    unit: str
    atomic_unit: str
    factor: float


DENSITY = Quantity("electron density", "e/Angstrom^3", "e/bohr^3", BOHR**3)
DEFORMATION = Quantity("electron density less that of free atoms", "e/Angstrom^3", "e/bohr^3", BOHR**3)
POTENTIAL = Quantity("electrostatic potential", "V", "hartree/e", 1.0 / HARTREE)

SUFFIXES = (".cube", ".npz")
"""Endings of the files of grids."""


def check_output(path: Path, overwrite: bool = False, endings: Sequence[str] = SUFFIXES) -> None:
    """Makes sure that a file can be written, before anything is computed.

    Raises:
        ValueError: for an ending that is none of `endings`.
        FileExistsError: where there is a file already and `overwrite` is false.
        OSError: where the folder cannot be written.
    """
    if path.suffix not in endings:
        raise ValueError(f"{path}: the ending says which format is written; give {' or '.join(endings)}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; give another name, or ask to overwrite it (--overwrite)")
    check_folder(path)


def write_grid(
    path: Path,
    grid: Grid,
    values: Float[Tensor, " points"],
    nuclei: Nuclei,
    quantity: Quantity = DENSITY,
    electrons: float | None = None,
    overwrite: bool = False,
) -> None:
    """Writes values on a grid; the file is complete or not there at all.

    Args:
        path: ends on ".cube", a text in atomic units that ASE, PySCF and 3Dmol.js read, or on ".npz" with `values`
            (x, y, z), `origin`, `spacing`, `atomic_numbers`, `positions`, `quantity` and `unit` in the library's units.
        grid: where the values are.
        values: in the order of `Grid.points`, in the quantity's unit inside the library.
        nuclei: of one molecule.
        quantity: what the values are.
        electrons: exact number of electrons of the density, for the comment of the file.
        overwrite: whether a file that is there is replaced.

    Raises:
        ValueError: where values and grid do not fit, for several molecules, or as `check_output`.
        FileExistsError, OSError: as `check_output`.
    """
    nuclei.require_one()
    if len(values) != grid.num_points:
        raise ValueError(f"values: {len(values)} numbers, but the grid has {grid.num_points} points")
    check_output(path, overwrite)
    array = values.detach().cpu().numpy().reshape(grid.shape)
    with replacing(path) as file:
        if path.suffix == ".npz":
            _write_archive(file, grid, array, nuclei, quantity, electrons)
        else:
            _write_cube(file, grid, array, nuclei, quantity, electrons)


def _write_archive(
    file: IO[bytes],
    grid: Grid,
    values: Float[np.ndarray, "x y z"],
    nuclei: Nuclei,
    quantity: Quantity,
    electrons: float | None,
) -> None:
    np.savez_compressed(
        file,
        values=values,
        origin=np.array(grid.origin),
        spacing=np.array(grid.spacing),
        atomic_numbers=nuclei.atomic_numbers.cpu().numpy(),
        positions=nuclei.positions.detach().cpu().numpy(),
        quantity=np.array(quantity.name),
        unit=np.array(quantity.unit),
        electrons=np.array(math.nan if electrons is None else electrons),
    )


def _write_cube(
    file: IO[bytes],
    grid: Grid,
    values: Float[np.ndarray, "x y z"],
    nuclei: Nuclei,
    quantity: Quantity,
    electrons: float | None,
) -> None:
    of_grid = float(values.sum(dtype=np.float64)) * grid.volume_of_point
    comment = f"{quantity.atomic_unit}, lengths in bohr, z runs fastest"
    if electrons is not None:
        comment = f"electrons: {electrons:.6f} exactly, {of_grid:.4f} on this grid; {comment}"
    numbers = nuclei.atomic_numbers.tolist()
    positions = nuclei.positions.detach().double().cpu() / BOHR
    lines = [
        f"neural-polarization: {quantity.name}",
        comment,
        _row(len(numbers), [start / BOHR for start in grid.origin]),
    ]
    for axis, number in enumerate(grid.shape):
        lines.append(_row(number, [grid.spacing / BOHR if axis == k else 0.0 for k in range(3)]))
    for number, position in zip(numbers, positions.tolist(), strict=True):
        lines.append(_row(number, [float(number), *position]))
    file.write(("\n".join(lines) + "\n").encode())
    length = grid.shape[2]
    full, rest = divmod(length, 6)
    of_column = (" %.6E" * 6 + "\n") * full + (" %.6E" * rest + "\n" if rest else "")
    for plane in values:
        numbers_of_plane = (plane.astype(np.float64) * quantity.factor).ravel().tolist()
        file.write((of_column * len(plane) % tuple(numbers_of_plane)).encode())


def _row(number: int, values: list[float]) -> str:
    # The space stays where a number is wider: programs read words, not columns.
    return f"{number:5d}" + "".join(f" {value:13.8f}" for value in values)
