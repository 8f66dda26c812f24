"""Makes the table of free atoms: spherically averaged densities as sums of s functions.

    python experiments/density/free_atoms.py -o src/neural_polarization/density/free_atoms.json

The atoms are those of Hirshfeld's charges (`labelling.properties.charges`): B3LYP/6-31G(2df,p), fractional occupation.
For given exponents the electrons of the functions follow from least squares, whose weights favour the region between
core and tail, with the number of electrons exact; the exponents are those of the smallest error. Products of p orbitals
are r^2 times a spherical function; s functions of neighbouring exponents and of either sign describe them as well, with
one kind of function less. A minute on one processor.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import scipy.optimize
from ase.data import atomic_numbers

from neural_polarization.files import replacing
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.properties.charges import radial_density
from neural_polarization.units import BOHR

FUNCTIONS = {"H": 8, "C": 16, "N": 16, "O": 17, "F": 17, "S": 20, "Cl": 20}
"""Number of s functions of each element."""

LEAST_RATIO, LARGEST_RATIO = 1.3, 4.0
"""Of two neighbouring exponents. Were they free to meet, two functions would make a derivative of one, with
coefficients of thousands of electrons that cancel."""

LEVEL = "B3LYP/6-31G(2df,p)"


class Fit:
    """Least squares of one atom.

    Args:
        element: chemical symbol.
        level: of the calculation.
    """

    def __init__(self, element: str, level: Level) -> None:
        radii, logarithms = radial_density(element, level)
        radii, density = radii[::4], np.exp(logarithms[::4])
        self.electrons = float(atomic_numbers[element])
        self.radii, self.density = radii, density
        self.shells = 4 * np.pi * radii**2 * np.gradient(radii)
        # Between squared and absolute errors: neither the nucleus nor the tail decides alone.
        self.weights = np.sqrt(self.shells / (density + 1e-4))

    def solve(self, exponents: np.ndarray) -> np.ndarray:
        """Electrons of each function, which add up exactly."""
        functions = (exponents / np.pi) ** 1.5 * np.exp(-exponents * self.radii[:, None] ** 2)
        # The last function takes what the others leave of the electrons.
        design = (functions[:, :-1] - functions[:, -1:]) * self.weights[:, None]
        target = (self.density - self.electrons * functions[:, -1]) * self.weights
        others = np.linalg.lstsq(design, target, rcond=1e-13)[0]
        return np.append(others, self.electrons - others.sum())

    def residual(self, gaps: np.ndarray) -> np.ndarray:
        """Weighted difference at all radii, for exponents given by the gaps between their logarithms."""
        exponents = np.exp(np.cumsum(gaps))
        return (self.values(exponents, self.solve(exponents)) - self.density) * self.weights

    def values(self, exponents: np.ndarray, electrons: np.ndarray) -> np.ndarray:
        """The density of the sum of functions, e/bohr^3."""
        return np.exp(-exponents * self.radii[:, None] ** 2) @ (electrons * (exponents / np.pi) ** 1.5)

    def error(self, exponents: np.ndarray, electrons: np.ndarray) -> float:
        """Integral of the absolute difference over the number of electrons."""
        return float(np.abs(self.values(exponents, electrons) - self.density) @ self.shells / self.electrons)


def fit_atom(element: str, level: Level) -> tuple[np.ndarray, np.ndarray, float]:
    """Exponents (1/bohr^2), electrons and error of one atom."""
    fit = Fit(element, level)
    of_basis = [
        function[0]
        for degree, *functions in level.shells([element])[element]
        if degree in (0, 1)
        for function in functions
        if isinstance(function, list)
    ]
    start = np.geomspace(1.8 * min(of_basis), 1.5 * max(of_basis), FUNCTIONS[element])
    gaps = np.diff(np.log(start), prepend=0.0)
    lower, upper = np.full(len(gaps), np.log(LEAST_RATIO)), np.full(len(gaps), np.log(LARGEST_RATIO))
    lower[0], upper[0] = -np.inf, np.inf  # the smallest exponent is free
    found = scipy.optimize.least_squares(fit.residual, gaps, bounds=(lower, upper), x_scale="jac", max_nfev=300)
    exponents = np.exp(np.cumsum(found.x))
    electrons = fit.solve(exponents)
    return exponents, electrons, fit.error(exponents, electrons)


def main() -> None:
    """Fits every element, prints the errors, writes the table."""
    parser = argparse.ArgumentParser(description="Makes the table of free atoms.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    level = Level.parse(LEVEL)
    atoms: dict[str, dict[str, list[float]]] = {}
    for element in FUNCTIONS:
        exponents, electrons, error = fit_atom(element, level)
        print(
            f"{element:2s} {len(exponents)} functions, error {100 * error:.4f} %, largest {abs(electrons).max():.2f} e"
        )
        atoms[element] = {
            "exponents": [float(f"{value:.10g}") for value in exponents / BOHR**2],
            "electrons": [round(float(value), 10) for value in electrons],
        }
    table = {
        "level": LEVEL,
        "units": "exponents 1/Angstrom^2; electrons of each normalized s function",
        "made_by": "experiments/density/free_atoms.py",
        "atoms": atoms,
    }
    with replacing(output) as file:
        file.write((json.dumps(table, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
