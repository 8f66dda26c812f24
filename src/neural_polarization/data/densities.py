"""Densities beside a packed data set, as sums of Gaussian functions on the nuclei.

The functions are those of `density.gaussians`. The arrays of the file:

- `density_structure` (densities,): row of each density's structure in the packed data set;
- `density_n_atoms` (densities,), `density_atomic_numbers` (atoms,), `density_positions` (atoms, 3): the structures
  themselves, Angstrom, which have to be those of the data set; files of version 0.1.0 do not have them;
- `basis_elements`, `basis_n_shells` (elements,): atomic numbers, and how many shells each has;
- `basis_degrees`, `basis_exponents` (shells,): l and 1/Angstrom^2 of the shells, one element after the other;
- `n_coefficients` (densities,), `coefficients` (all functions,): e/Angstrom^(3/2), atom by atom, in each atom shell
  by shell, in each shell from m = -l to l;
- `fit_error` (densities,): integral of |fitted - computed| over the number of electrons.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int

from neural_polarization.data.cache import Array
from neural_polarization.data.density_structures import REMEDY, check_electrons, molecules_of, open_densities
from neural_polarization.data.flat import FlatMolecules, ragged_rows, starts_of
from neural_polarization.data.npz import ArrayFile
from neural_polarization.density.density import Density, Nuclei
from neural_polarization.density.flat import FlatShells
from neural_polarization.errors import DataError


@final
class Densities:
    """The densities of a file that `npol pack --densities` wrote, those of the molecules at hand.

    Attributes:
        structures: the molecule of each density.

    Args:
        path: the file.
        molecules: of the packed data set that it belongs to, all of them or some.

    Raises:
        FileNotFoundError: where there is no file.
        DataError: for a file of another layout, or one that does not belong to these molecules.
    """

    def __init__(self, path: str | Path, molecules: FlatMolecules) -> None:
        file = open_densities(path)
        found = molecules_of(file, molecules)
        here = np.flatnonzero(found >= 0)
        counts = file.numbers("n_coefficients", (len(found),)).astype(np.int64)
        self.structures: Int[np.ndarray, " densities"] = found[here]
        self._coefficients = file.numbers("coefficients", (int(counts.sum()),))
        self._starts, self._counts = starts_of(counts)[here], counts[here]
        self._shells = _shells(file)
        self._molecules = molecules
        for density in range(len(self)):
            self._check(file.path, density)
        if len(self):
            check_electrons(file.path, self.batch(range(len(self))).electrons.numpy(), self.structures, molecules)

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, density: int) -> Density:
        """One density, in float64; `structures` has its molecule."""
        return self.batch([density])

    def batch(self, densities: Sequence[int]) -> Density:
        """Several densities as one batch in float64, in the order that is asked for."""
        nuclei = nuclei_of(self._molecules, self.structures[list(densities)])
        shells = [self._shells[number] for number in nuclei.atomic_numbers.tolist()]
        coefficients = self._coefficients[ragged_rows(self._starts[list(densities)], self._counts[list(densities)])]
        flat = FlatShells(
            owners=torch.arange(len(shells)).repeat_interleave(torch.tensor([len(degrees) for degrees, _ in shells])),
            degrees=torch.from_numpy(np.concatenate([degrees for degrees, _ in shells])),
            exponents=torch.from_numpy(np.concatenate([exponents for _, exponents in shells])),
            coefficients=torch.from_numpy(coefficients.astype(np.float64)),
        )
        return Density.from_shells(nuclei, flat)

    def _check(self, path: Path, density: int) -> None:
        count = int(self._counts[density])
        numbers = nuclei_of(self._molecules, self.structures[density : density + 1]).atomic_numbers.tolist()
        unknown = sorted({number for number in numbers if number not in self._shells})
        expected = sum(int(np.sum(2 * self._shells[n][0] + 1)) for n in numbers if n in self._shells)
        if unknown or count != expected:
            reason = (
                f"no functions for atomic number {unknown[0]}" if unknown else f"{count} coefficients, not {expected}"
            )
            raise DataError(
                f"{path}: density {density} does not fit structure {self.structures[density]} of the data set "
                f"({reason}); {REMEDY}"
            )


def nuclei_of(molecules: FlatMolecules, chosen: Int[np.ndarray, " chosen"]) -> Nuclei:
    """The nuclei of some molecules, float64."""
    rows = molecules.atoms_of(chosen)
    return Nuclei(
        torch.from_numpy(molecules.atomic_numbers[rows].astype(np.int64)),
        torch.from_numpy(molecules.positions[rows].astype(np.float64)),
        torch.from_numpy(np.repeat(np.arange(len(chosen)), molecules.n_atoms[chosen])),
        len(chosen),
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
