"""How well functions can describe densities at best, and where hydrogen's functions would have to sit.

    python experiments/density/floors.py

No network: the coefficients of every structure are fitted to its own deformation density, hydrogen's functions shifted
along the bond. Exponents are those that an untrained `DensityHead` begins with. Iterated least squares approach the
smallest normalized absolute error. Eight structures of `data/small_molecules.npz`; error in percent.
"""

import numpy as np
import torch
from ase.data import chemical_symbols

from neural_polarization.data.densities import Densities
from neural_polarization.data.density_points import draw_points
from neural_polarization.data.packed import read_packed
from neural_polarization.density.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.gaussians import solid_harmonics
from neural_polarization.heads.density import BasisSize, Exponents, exponent_range

ELEMENTS = ("H", "C", "N", "O", "F")
BASES = {"s": (6,), "sp": (6, 6), "s6 p5 d3": (6, 5, 3), "spd": (6, 6, 6), "small": (6, 5, 3, 2), "full": (6, 6, 6, 6)}
SHIFTS = (0.0, 0.1, 0.2, 0.3, 0.4)
POINTS = 6000


def shifted(numbers: np.ndarray, positions: np.ndarray, shift: float) -> np.ndarray:
    """The nuclei, hydrogens moved towards their nearest atom, Angstrom."""
    places = positions.copy()
    for hydrogen in np.flatnonzero(numbers == 1):
        distances = np.linalg.norm(positions - positions[hydrogen], axis=1)
        distances[hydrogen] = np.inf
        nearest = int(np.argmin(distances))
        places[hydrogen] += shift * (positions[nearest] - positions[hydrogen]) / distances[nearest]
    return places


def design(points: np.ndarray, numbers: np.ndarray, places: np.ndarray, size: BasisSize) -> np.ndarray:
    """Values of all functions at the points, one function a column."""
    kinds = torch.tensor([ELEMENTS.index(chemical_symbols[number]) for number in numbers])
    with torch.no_grad():
        exponents = Exponents([exponent_range(element) for element in ELEMENTS], size)(kinds)
    columns: list[np.ndarray] = []
    for atom, place in enumerate(places):
        vectors = torch.from_numpy(points - place)
        squared = vectors.square().sum(-1)
        harmonics = solid_harmonics(*vectors.unbind(-1), len(size.shells) - 1)
        for degree, of_degree in enumerate(harmonics):
            for exponent in exponents[degree][atom].tolist():
                radial = torch.exp(-exponent * squared) * exponent ** ((degree + 1.5) / 2)
                columns += [(radial * harmonic).numpy() for harmonic in of_degree]
    return np.stack(columns, 1)


def best_error(columns: np.ndarray, wanted: np.ndarray, weights: np.ndarray, density: np.ndarray) -> float:
    """Integral of the absolute difference after three fits, each weighted by the residuals of the one before."""
    scale = np.sqrt(weights / (density + 0.05))
    residuals = np.abs(wanted)
    for _ in range(3):
        coefficients = np.linalg.lstsq(columns * scale[:, None], wanted * scale, rcond=1e-8)[0]
        residuals = np.abs(columns @ coefficients - wanted)
        scale = np.sqrt(weights / (residuals + 3e-4))
    return float(weights @ residuals)


def main() -> None:
    """Prints a row for every basis."""
    molecules = read_packed("data/small_molecules.npz").molecules
    densities = Densities("data/small_molecules_densities.npz", molecules)
    chosen = np.random.default_rng(0).choice(len(densities), 8, replace=False)
    print("| functions | " + " | ".join(f"hydrogen shifted {shift} A" for shift in SHIFTS) + " |")
    print("|---" * (len(SHIFTS) + 1) + "|")
    for name, shells in BASES.items():
        errors = np.zeros((len(chosen), len(SHIFTS)))
        for row, k in enumerate(chosen.tolist()):
            atoms = molecules.atoms_of(densities.structures[[k]])
            numbers, positions = molecules.atomic_numbers[atoms], molecules.positions[atoms]
            points, weights = draw_points(numbers, positions, POINTS, np.random.default_rng(1))
            at = torch.from_numpy(points)
            of_atoms = torch.from_numpy(numbers).long()
            nuclei = Nuclei(of_atoms, torch.from_numpy(positions), torch.zeros_like(of_atoms), 1)
            density = densities[k].evaluate(at).numpy()
            wanted = density - free_atom_density(nuclei).evaluate(at, threshold=0.0).numpy()
            for column, shift in enumerate(SHIFTS):
                columns = design(points, numbers, shifted(numbers, positions, shift), BasisSize(shells))
                errors[row, column] = best_error(columns, wanted, weights, np.abs(density)) / numbers.sum()
        print(f"| {name} | " + " | ".join(f"{100 * error:.2f}" for error in errors.mean(0)) + " |", flush=True)


if __name__ == "__main__":
    main()
