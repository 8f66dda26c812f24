"""Iterations of PySCF from the density of a model and from PySCF's own guesses, on unseen molecules of growing size.

    python experiments/density/initial_guess.py runs/initial_guess.jsonl --number 30

The molecules of the test parts of `data/ordinary_molecules.npz` and `data/small_molecules.npz`, which no training has
seen, of all sizes and in an order that has all of them early. 6-31G(2df,p) with density fitting. Every calculation of a
molecule ends at the same energy, or the script stops. The energy of a guess is that of its density matrix in the
functional: for the model that of the orbitals in the potential of the predicted density, one step that is not
self-consistent. `next` is the energy after one more diagonalization. Both are less the final energy. Results are kept
in the file and not computed again.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from pyscf import dft, gto

from neural_polarization.checkpoints import load_model
from neural_polarization.data.packed import read_packed
from neural_polarization.density.initial_guess import initial_guess
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.models import Model
from neural_polarization.units import HARTREE

FUNCTIONALS = ("pbe", "b3lyp")
MODEL = "model"
SAME = 1e-5
"""Largest difference between final energies of a molecule, hartree."""


def calculation(molecule: Any, functional: str, guess: Callable[[Any], Any]) -> dict[str, float]:
    """Iterations, energies (hartree) and seconds; `guess` makes the density matrix that a calculation starts from."""
    scf = dft.RKS(molecule, xc=functional).density_fit()
    scf.grids.level = 1
    energies: list[float] = []
    scf.callback = lambda state: energies.append(float(state["e_tot"]))
    started = time.process_time()
    matrix = guess(scf)
    seconds = time.process_time() - started
    scf.kernel(dm0=matrix)
    total = time.process_time() - started
    if not scf.converged:
        raise RuntimeError(f"{functional}: not converged")
    return {
        "iterations": len(energies),
        "guess_energy": float(scf.energy_tot(matrix)),
        "one_step_energy": energies[0],
        "energy": float(scf.e_tot),
        "guess_seconds": seconds,
        "seconds": total,
    }


def unseen(number: int) -> list[ase.Atoms]:
    """Molecules of the test parts, of all sizes."""
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
    order = np.argsort([np.count_nonzero(atoms.numbers > 1) for atoms in found], kind="stable")
    chosen = order[np.unique(np.linspace(0, len(found) - 1, number).astype(int))]
    return [found[index] for index in np.random.default_rng(0).permutation(chosen)]


def of_molecule(model: Model, atoms: ase.Atoms, basis: str, own: list[str]) -> dict[str, Any]:
    """All calculations of a molecule.

    Raises:
        RuntimeError: where guesses end at different energies.
    """
    places = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    molecule = gto.M(atom=places, basis=basis, verbose=0)
    result: dict[str, Any] = {"formula": atoms.get_chemical_formula(), "heavy": int((atoms.numbers > 1).sum())}
    for functional in FUNCTIONALS:
        guesses: dict[str, Callable[[Any], Any]] = {
            name: lambda scf, name=name: scf.get_init_guess(key=name) for name in own
        }
        guesses[MODEL] = lambda scf: initial_guess(predict_density(model, atoms), scf.mol)
        found = {name: calculation(molecule, functional, guess) for name, guess in guesses.items()}
        if np.ptp([values["energy"] for values in found.values()]) > SAME:
            raise RuntimeError(f"{result['formula']}: guesses end at different energies: {found}")
        result[functional] = found
    return result


def table(results: list[dict[str, Any]]) -> list[str]:
    """Means over all molecules, and over the larger half."""
    middle = float(np.median([result["heavy"] for result in results]))
    larger = [result for result in results if result["heavy"] > middle] or results
    rows = [
        f"| functional | guess | iterations ({len(results)} molecules) | of more than {middle:g} heavy atoms | "
        "energy of the guess, eV | next, eV | guess, s | all, s |",
        "|---" * 8 + "|",
    ]
    for functional in FUNCTIONALS:
        for name in results[0][functional]:
            values = [result[functional][name] for result in results]
            final = np.array([value["energy"] for value in values])
            first = HARTREE * (np.array([value["guess_energy"] for value in values]) - final)
            step = HARTREE * (np.array([value["one_step_energy"] for value in values]) - final)
            large = [result[functional][name]["iterations"] for result in larger]
            rows.append(
                f"| {functional} | {name} | {np.mean([value['iterations'] for value in values]):.2f} | "
                f"{np.mean(large):.2f} | {first.mean():.3f} ± {first.std():.3f} | "
                f"{step.mean():.4f} ± {step.std():.4f} | {np.mean([value['guess_seconds'] for value in values]):.2f} | "
                f"{np.mean([value['seconds'] for value in values]):.2f} |"
            )
    return rows


def main() -> None:
    """Computes what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="src/neural_polarization/pretrained/small.safetensors")
    parser.add_argument("--number", type=int, default=30, help="of molecules")
    parser.add_argument("--basis", default="6-31g(2df,p)")
    parser.add_argument("--own", nargs="*", default=["minao", "atom"], help="PySCF's guesses")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = load_model(arguments.model)
    assert isinstance(model, Model)
    results: list[dict[str, Any]] = []
    if arguments.output.exists():
        results = [json.loads(line) for line in arguments.output.read_text(encoding="utf-8").splitlines()]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for atoms in unseen(arguments.number)[len(results) :]:
        results.append(of_molecule(model, atoms, arguments.basis, arguments.own))
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(results[-1]) + "\n")
        counts = {f: {name: int(v["iterations"]) for name, v in results[-1][f].items()} for f in FUNCTIONALS}
        print(results[-1]["formula"], counts, flush=True)
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
