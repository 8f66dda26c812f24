"""Densities beside a packed data set, as sums of Gaussian functions on the nuclei.

    rho(r) = sum over atoms A, shells k and m of c_Akm N_l(a_k) S_lm(r - A) exp(-a_k |r - A|^2)

S are real solid harmonics, in the order m = -l..l, which is y, z, x for l = 1. N makes the integral of every squared
function one. The arrays of the file:

- `density_structure` (densities,): row of each density's structure in the packed data set;
- `basis_elements`, `basis_n_shells` (elements,): atomic numbers, and how many shells each has;
- `basis_degrees`, `basis_exponents` (shells,): l and 1/Angstrom^2 of the shells, one element after the other;
- `n_coefficients` (densities,), `coefficients` (all functions,): e/Angstrom^(3/2), atom by atom, in each atom shell
  by shell, in each shell from m = -l to l;
- `fit_error` (densities,): integral of |fitted - computed| over the number of electrons.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from neural_polarization.data.cache import Array
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.data.npz import ArrayFile
from neural_polarization.errors import DataError


@dataclass(frozen=True)
class Expansion:
    """The density of one structure.

    Attributes:
        owners: atom of each shell.
        degrees: l of each shell.
        exponents: 1/Angstrom^2.
        coefficients: those of all shells one after the other, m = -l..l, e/Angstrom^(3/2).
    """

    owners: Int[np.ndarray, " shells"]
    degrees: Int[np.ndarray, " shells"]
    exponents: Float[np.ndarray, " shells"]
    coefficients: Float[np.ndarray, " functions"]

    @property
    def electrons(self) -> float:
        """Integral of the density over space, e."""
        starts = np.cumsum(2 * self.degrees + 1) - (2 * self.degrees + 1)
        spherical = self.degrees == 0
        of_one = (2.0 * np.pi / self.exponents[spherical]) ** 0.75
        return float(of_one @ self.coefficients[starts[spherical]])


class Densities:
    """The densities of a file that `npol pack --densities` wrote.

    Args:
        path: the file.
        molecules: of the packed data set that it belongs to.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout, or one that does not belong to these molecules.
    """

    def __init__(self, path: str | Path, molecules: FlatMolecules) -> None:
        file = ArrayFile(path, "densities beside a packed data set")
        self.structures = file.numbers("density_structure", (None,)).astype(np.int64)
        counts = file.numbers("n_coefficients", (len(self.structures),)).astype(np.int64)
        self._coefficients = file.numbers("coefficients", (int(counts.sum()),))
        self._ends = np.cumsum(counts)
        self._shells = _shells(file)
        self._molecules = molecules
        for density in range(len(self)):
            self._check(str(path), density, int(counts[density]))

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, density: int) -> Expansion:
        """One density, by its place in the file; `structures` has the row of its structure in the data set."""
        shells = [self._shells[number] for number in self._numbers(density).tolist()]
        functions = int(sum(np.sum(2 * degrees + 1) for degrees, _ in shells))
        end = int(self._ends[density])
        return Expansion(
            owners=np.repeat(np.arange(len(shells)), [len(degrees) for degrees, _ in shells]),
            degrees=np.concatenate([degrees for degrees, _ in shells]),
            exponents=np.concatenate([exponents for _, exponents in shells]),
            coefficients=self._coefficients[end - functions : end].astype(np.float64),
        )

    def _numbers(self, density: int) -> Array:
        structure = int(self.structures[density])
        start = int(self._molecules.starts[structure])
        return self._molecules.atomic_numbers[start : start + int(self._molecules.n_atoms[structure])]

    def _check(self, path: str, density: int, count: int) -> None:
        structure = int(self.structures[density])
        if not 0 <= structure < len(self._molecules):
            raise DataError(
                f"{path}: density {density} is of structure {structure}, but the data set has {len(self._molecules)}; "
                "give the data set that was packed with this file"
            )
        numbers = self._numbers(density).tolist()
        unknown = sorted({number for number in numbers if number not in self._shells})
        expected = sum(int(np.sum(2 * self._shells[n][0] + 1)) for n in numbers if n in self._shells)
        if unknown or count != expected:
            reason = (
                f"no functions for atomic number {unknown[0]}" if unknown else f"{count} coefficients, not {expected}"
            )
            raise DataError(
                f"{path}: density {density} does not fit structure {structure} of the data set ({reason}); give the "
                "data set that was packed with this file"
            )


def _shells(file: ArrayFile) -> dict[int, tuple[Array, Array]]:
    """Degrees and exponents of each element."""
    elements = file.numbers("basis_elements", (None,))
    counts = file.numbers("basis_n_shells", (len(elements),)).astype(np.int64)
    degrees = file.numbers("basis_degrees", (int(counts.sum()),)).astype(np.int64)
    exponents = file.numbers("basis_exponents", (int(counts.sum()),))
    ends = np.cumsum(counts)
    return {
        int(element): (degrees[end - count : end], exponents[end - count : end])
        for element, count, end in zip(elements, counts, ends, strict=True)
    }
