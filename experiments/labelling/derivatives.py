"""Labels against finite differences and integrals: `python experiments/labelling/derivatives.py`."""

from dataclasses import replace

import numpy as np

from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.enumeration import Sampling, structures
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import FINE, Accuracy, build_grid, build_molecule
from neural_polarization.labelling.properties.density import density_on_points, unpack_matrix
from neural_polarization.units import BOHR

COULOMB = 14.399645478  # e^2 / (4 pi epsilon_0) in eV Angstrom


def main() -> None:
    level = Level.parse("B3LYP/6-31G(2df,p)")
    accuracy = Accuracy(convergence=1e-10, gradient_convergence=1e-6, response_convergence=1e-7)
    request = Request(level, accuracy, ("forces", "polarizability", "density"))
    atoms = structures(["C=O"], Sampling(frames=2, seed=1))[1]
    labels = compute(atoms, request)

    plain = replace(request, quantities=())
    step, differences = 2e-3, []
    for atom in range(len(atoms)):
        values = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, 0] += sign * step
            values.append(float(compute(moved, plain)["energy"]))
        differences.append(abs(labels["forces"][atom, 0] + (values[0] - values[1]) / (2 * step)))
    print(f"forces against energies: largest difference {max(differences):.1e} eV/Angstrom")

    strength, errors = 0.05, []
    for axis in range(3):
        dipoles = []
        for sign in (1, -1):
            field = [0.0, 0.0, 0.0]
            field[axis] = sign * strength
            dipoles.append(compute(atoms, replace(plain, field=(field[0], field[1], field[2])))["dipole"])
        derivative = (dipoles[0] - dipoles[1]) / (2 * strength) * COULOMB
        errors.append(np.abs(labels["polarizability"][axis] - derivative).max())
    print(f"polarizability against dipoles in fields: largest difference {max(errors):.1e} Angstrom^3")

    molecule = build_molecule(atoms, level, accuracy)
    grid = build_grid(molecule, FINE)
    grid.build()
    density = density_on_points(molecule, unpack_matrix(labels["density_matrix"]), grid.coords)
    electrons = grid.weights @ density
    dipole = atoms.numbers @ atoms.positions - (grid.weights * density) @ grid.coords * BOHR
    print(f"stored density matrix: {electrons - molecule.nelectron:+.1e} electrons")
    print(f"dipole of that density: largest difference {np.abs(dipole - labels['dipole']).max():.1e} e*Angstrom")


if __name__ == "__main__":
    main()
