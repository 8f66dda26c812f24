"""Ten molecules of QM9, at QM9's geometries: our labels against the published ones.

    python experiments/labelling/qm9_agreement.py qm9.npz qm9_dipole_energy.npz

The first file has QM9's geometries and published properties, the second the energies without zero-point energy (flat
arrays; atomic units and debye).
"""

import sys

import ase
import numpy as np

from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy
from neural_polarization.units import BOHR, DEBYE, HARTREE

MOLECULES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)


def main() -> None:
    qm9, energies = np.load(sys.argv[1]), np.load(sys.argv[2])
    ends = np.cumsum(qm9["n_atoms"].astype(int))
    level = Level.parse("B3LYP/6-31G(2df,p)")
    request = Request(level, Accuracy(), ("polarizability",))
    print("| gdb | molecule | energy, uHa | dipole, D | alpha, bohr^3 | HOMO, mHa | LUMO, mHa | R2, bohr^2 |")
    print("|---|---|---|---|---|---|---|---|")
    for index in MOLECULES:
        row = int(np.flatnonzero(qm9["index"] == index)[0])
        atoms_of = slice(ends[row] - int(qm9["n_atoms"][row]), ends[row])
        atoms = ase.Atoms(qm9["atomic_numbers"][atoms_of], qm9["positions"][atoms_of].astype(float))
        labels = compute(atoms, request)
        ours = {
            "mu": np.linalg.norm(labels["dipole"]) / DEBYE,
            "alpha": np.trace(labels["polarizability"]) / 3 / BOHR**3,
            "homo": labels["homo"] / HARTREE,
            "lumo": labels["lumo"] / HARTREE,
            "r2": labels["spatial_extent"] / BOHR**2,
        }
        energy = (labels["energy"] / HARTREE - energies["energy_scf"][row]) * 1e6
        cells = [f"{ours[name]:.4f} ({ours[name] - qm9[name][row]:+.4f})" for name in ("mu", "alpha")]
        cells += [f"{1e3 * ours[name]:.2f} ({1e3 * (ours[name] - qm9[name][row]):+.2f})" for name in ("homo", "lumo")]
        cells.append(f"{ours['r2']:.4f} ({ours['r2'] - qm9['r2'][row]:+.4f})")
        print(f"| {index} | {atoms.get_chemical_formula()} | {energy:+.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
