"""Iterations of PySCF from the density of a model and from PySCF's own guesses, on unseen molecules of growing size.

    python experiments/density/initial_guess.py src/neural_polarization/pretrained/small.safetensors --number 6

6-31G(2df,p) with density fitting, the molecules of the test part of `data/ordinary_molecules.npz` and then those of
`data/small_molecules.npz` that no training has seen, the largest first. The time is that of the guess alone, on one
processor; all calculations of a molecule end at the same energy, or the script stops.
"""

import argparse
import time
from typing import Any

import ase
import numpy as np
from pyscf import dft, gto

from neural_polarization.checkpoints import load_model
from neural_polarization.data.packed import read_packed
from neural_polarization.density.initial_guess import initial_guess
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.models import Model

FUNCTIONALS = ("pbe", "b3lyp")
OWN = ("minao", "atom", "huckel", "vsap")


def iterations(molecule: Any, functional: str, guess: Any) -> tuple[int, float, float]:
    """Iterations, energy (hartree), and seconds of the guess; `guess` makes a density matrix of a calculation."""
    scf = dft.RKS(molecule, xc=functional).density_fit()
    count: list[int] = []
    scf.callback = lambda state: count.append(1)
    started = time.process_time()
    matrix = guess(scf)
    seconds = time.process_time() - started
    scf.kernel(dm0=matrix)
    if not scf.converged:
        raise RuntimeError(f"{functional}: not converged")
    return len(count), scf.e_tot, seconds


def unseen(number: int) -> list[ase.Atoms]:
    """Molecules of the test parts, the largest first."""
    found: list[ase.Atoms] = []
    for name in ("ordinary_molecules", "small_molecules"):
        dataset = read_packed(f"data/{name}.npz")
        seen: set[int] = set()
        for row in dataset.splits["stored"].parts["test"].tolist():
            atoms = dataset.molecules.atoms_of(np.array([row]))
            if int(dataset.groups[row]) not in seen:
                seen.add(int(dataset.groups[row]))
                numbers = dataset.molecules.atomic_numbers[atoms]
                found.append(ase.Atoms(numbers, dataset.molecules.positions[atoms]))
    order = np.argsort([-np.count_nonzero(atoms.numbers > 1) for atoms in found], kind="stable")
    return [found[index] for index in order[np.linspace(0, len(found) - 1, number).astype(int)]]


def main() -> None:
    """Prints the iterations of every molecule and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--number", type=int, default=6, help="of molecules")
    arguments = parser.parse_args()
    model, _ = load_model(arguments.checkpoint)
    assert isinstance(model, Model)
    ours, own = f"{model.config.backbone.name}'s density", OWN
    table: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for atoms in unseen(arguments.number):
        places = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
        molecule = gto.M(atom=places, basis="6-31g(2df,p)", verbose=0)
        for functional in FUNCTIONALS:
            guesses = {name: lambda scf, name=name: scf.get_init_guess(key=name) for name in own}
            guesses[ours] = lambda scf, atoms=atoms: initial_guess(predict_density(model, atoms), scf.mol)
            energies: list[float] = []
            for name, guess in guesses.items():
                count, energy, seconds = iterations(molecule, functional, guess)
                energies.append(energy)
                table.setdefault((functional, name), []).append((count, seconds))
            if np.ptp(energies) > 1e-6:
                raise RuntimeError(f"{atoms.get_chemical_formula()}: guesses end at different energies: {energies}")
        counts = {f"{functional} {name}": values[-1][0] for (functional, name), values in table.items()}
        print(atoms.get_chemical_formula(), counts, flush=True)
    for (functional, name), values in table.items():
        count, seconds = np.mean(values, axis=0)
        print(f"| {functional} | {name} | {count:.1f} | {seconds:.2f} s |")


if __name__ == "__main__":
    main()
