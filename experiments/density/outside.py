"""The packaged model beside densities from another source: QM9 molecules 1, 2 and 36784, valence, PBE.

    python experiments/density/outside.py FOLDER

FOLDER holds `qm9_000001_pbe.npz`, `qm9_000002_pbe.npz` and `qm9_036784_pbe.npz` (C. Li et al., arXiv 2402.12335): PBE
with pseudopotentials and GTH-TZV2P, on grids. The model has learned all-electron B3LYP/6-31G(2df,p). From its density
the cores of `neural_polarization.density.cores` are taken away, which leaves as many electrons as the grids have; near
heavy nuclei both are conventions, so that the error is given for all of space and outside 0.5 Angstrom around heavy
nuclei. Errors are integrals of |difference| over the number of valence electrons. `level` is the error of the DFT
density that the model is trained on (computed here with PySCF): a perfect model has this error. `guess` is the
superposition of atomic densities that came with the data, and `free atoms` that of the package.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import ase
import numpy as np
import torch
from pyscf import dft

from neural_polarization.checkpoints import load_model
from neural_polarization.density.cores import core_density
from neural_polarization.density.density import Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy, build_molecule, mean_field
from neural_polarization.models import Model
from neural_polarization.units import BOHR

NUMBERS = ("000001", "000002", "036784")
CORE = 0.5
"""Radius around heavy nuclei, Angstrom, inside which pseudopotentials change the density."""

LEVEL = Level("B3LYP", "6-31G(2df,p)")
"""What the model has learned."""


def grid_points(shape: tuple[int, ...], box: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Places of the grid, in the periodic image that is nearest to the middle of the molecule, Angstrom."""
    axes = [edge * np.arange(number) / number for edge, number in zip(box, shape, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    middle = 0.5 * (positions.min(0) + positions.max(0))
    return places - box * np.round((places - middle) / box)


def of_level(atoms: ase.Atoms) -> Callable[[np.ndarray], np.ndarray]:
    """The density of the model's level, e/Angstrom^3, at points in Angstrom."""
    accuracy = Accuracy(density_fitting=True)
    molecule = build_molecule(atoms, LEVEL, accuracy)
    scf = mean_field(molecule, LEVEL, accuracy)
    scf.kernel()
    matrix = scf.make_rdm1()

    def values(points: np.ndarray) -> np.ndarray:
        blocks = np.array_split(points / BOHR, max(1, len(points) // 20000))
        numerical = dft.numint.NumInt()
        return (
            np.concatenate(
                [numerical.eval_rho(molecule, numerical.eval_ao(molecule, block), matrix) for block in blocks]
            )
            / BOHR**3
        )

    return values


def rows(name: str, file: dict[str, np.ndarray], model: Model, with_level: bool) -> Iterator[str]:
    """The rows of one molecule."""
    reference = file["density"].ravel() / BOHR**3
    positions, numbers = file["positions"], file["atomic_numbers"].astype(int)
    points = grid_points(file["density"].shape, file["box"], positions)
    element = np.prod(file["box"]) / len(points)
    outside = np.all([np.linalg.norm(points - place, axis=1) > CORE for place in positions[numbers > 1]], axis=0)
    atoms, at, of_atoms = ase.Atoms(numbers, positions), torch.from_numpy(points), torch.from_numpy(numbers)
    nuclei = Nuclei(of_atoms, torch.from_numpy(positions), torch.zeros_like(of_atoms), 1)
    core = core_density(nuclei, at).numpy()

    def row(density: str, values: np.ndarray) -> str:
        errors = np.abs(values - reference) / reference.sum()
        return (
            f"| {name} {atoms.get_chemical_formula()} | {density} | {100 * errors.sum():.2f} | "
            f"{100 * errors[outside].sum():.2f} | {element * values.sum():.2f} |"
        )

    if "density_atomic_guess" in file:
        yield row("guess", file["density_atomic_guess"].ravel() / BOHR**3)
    yield row("free atoms", free_atom_density(nuclei).evaluate(at).numpy() - core)
    yield row("model", predict_density(model, atoms).evaluate(at).numpy() - core)
    if with_level:
        yield row("level", of_level(atoms)(points) - core)


def main() -> None:
    """Prints a row for each molecule and density."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="src/neural_polarization/pretrained/small.safetensors")
    parser.add_argument("--level-of", nargs="*", default=["000001", "000002"], help="molecules that PySCF computes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = load_model(arguments.model)
    assert isinstance(model, Model)
    print("| molecule | density | error, % | outside the cores, % | electrons on the grid |\n" + "|---" * 5 + "|")
    for number in NUMBERS:
        with np.load(arguments.folder / f"qm9_{number}_pbe.npz") as archive:
            file = {key: archive[key] for key in archive}
        for line in rows(number, file, model, number in arguments.level_of):
            print(line, flush=True)


if __name__ == "__main__":
    main()
