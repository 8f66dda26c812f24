"""Densities of water monomers and trimers, two public sets, from functions on moving points and on nuclei.

    python experiments/density/water.py FOLDER runs/water --set trimers --seeds 0 1 2

FOLDER holds `water_monomers_1000.npz` (B3LYP/cc-pVQZ, expanded in cc-pVQZ-JKFIT; A. Grisafi et al., ACS Cent. Sci. 5,
57 (2019)) and `water_trimers_100.npz` (J. A. Rackers et al., Mach. Learn.: Sci. Technol. 4, 015027 (2023)); they are
not in the repository. The trimers have their published split, 80 to train and 20 to test. The monomers came without
one: the first 500 train and the next 200 are the test.
Points are drawn from the expansions, 1,000 for each structure, and the error is the mean normalized absolute error of
the test structures; free atoms are those of the package, of another level.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pyscf import gto
from sources import Data
from train import build, parser, train

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.density_points import DensityPoints, draw_points
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.density import Density, FlatShells, Nuclei
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.gaussians import normalization
from neural_polarization.training.densities import density_errors
from neural_polarization.units import BOHR

FILES = {"monomers": "water_monomers_1000.npz", "trimers": "water_trimers_100.npz"}
POINTS = 1000
TRAINED, TESTED = 500, 200  # of the monomers


def nuclei(numbers: np.ndarray, positions: np.ndarray) -> Nuclei:
    """One molecule."""
    of_atoms = torch.from_numpy(numbers.astype(np.int64))
    return Nuclei(of_atoms, torch.from_numpy(positions.astype(np.float64)), torch.zeros_like(of_atoms), 1)


def monomers(file: dict[str, np.ndarray]) -> Callable[[int], Density]:
    """The density of a monomer: functions of cc-pVQZ-JKFIT, normalized, in the order of PySCF but for l = 1."""
    molecule = gto.M(atom=[("O", (0, 0, 0)), ("H", (0, 0, 1)), ("H", (0, 1, 0))], basis="cc-pvqz-jkfit", verbose=0)
    shells = range(molecule.nbas)
    if any(molecule.bas_nprim(shell) != 1 or molecule.bas_nctr(shell) != 1 for shell in shells):
        raise ValueError("cc-pVQZ-JKFIT: a shell has more than one exponent; the coefficients are of single ones")
    owners = torch.tensor([molecule.bas_atom(shell) for shell in shells])
    degrees = torch.tensor([molecule.bas_angular(shell) for shell in shells])
    exponents = torch.tensor([molecule.bas_exp(shell)[0] for shell in shells]) / BOHR**2

    def density(row: int) -> Density:
        coefficients = torch.from_numpy(file["coefficients"][row]) / BOHR**1.5
        flat = FlatShells(owners, degrees, exponents, coefficients)
        return Density.from_shells(nuclei(file["atomic_numbers"], file["positions"][row]), flat)

    return density


def trimers(file: dict[str, np.ndarray]) -> Callable[[int], Density]:
    """The density of a trimer: c * norm * S_lm(r / bohr) * exp(-a r^2), shells in the order of the file."""
    atoms = len(file["atomic_numbers"])
    degrees = np.concatenate([np.full(number, degree) for number, degree in file["irreps_mul_l"].tolist()])
    first = np.cumsum(2 * degrees + 1) - (2 * degrees + 1)
    of_functions = torch.from_numpy(np.repeat(degrees, 2 * degrees + 1))
    exponents = torch.from_numpy(file["exponents"].astype(np.float64)) / BOHR**2
    used = exponents[:, first] > 0.0

    def density(row: int) -> Density:
        raw = torch.from_numpy(file["coefficients"][row].astype(np.float64) * file["norms"])
        norms = torch.stack([normalization(int(degree), exponents[:, k]) for k, degree in enumerate(of_functions)], 1)
        coefficients = raw / BOHR ** (3.0 + of_functions) / norms
        owners, shells = used.nonzero(as_tuple=True)
        kept = used[:, torch.from_numpy(np.repeat(np.arange(len(degrees)), 2 * degrees + 1))]
        flat = FlatShells(owners, torch.from_numpy(degrees)[shells], exponents[:, first][used], coefficients[kept])
        assert int(owners.max()) < atoms
        return Density.from_shells(nuclei(file["atomic_numbers"], file["positions"][row]), flat)

    return density


def check(density: Density, file: dict[str, np.ndarray], row: int) -> None:
    """Raises where the expansion does not give the values that the file has."""
    wanted = file["density"][row] / BOHR**3
    found = density.evaluate(torch.from_numpy(file["points"][row].astype(np.float64)), threshold=0.0).numpy()
    if np.abs(found - wanted).sum() > 1e-3 * np.abs(wanted).sum():
        raise ValueError(f"structure {row}: its expansion does not give the values of the file")


def read_water(folder: Path, name: str, cutoff: float) -> Data:
    """A set with its split.

    Raises:
        ValueError: where the expansion is read wrongly.
    """
    with np.load(folder / FILES[name]) as archive:
        file = {key: archive[key] for key in archive}
    density = (monomers if name == "monomers" else trimers)(file)
    number, numbers = min(len(file["positions"]), TRAINED + TESTED), file["atomic_numbers"]
    for row in (0, number - 1):
        check(density(row), file, row)
    generator = np.random.default_rng(0)
    points = np.zeros((number, POINTS, 3))
    weights, deformation, electrons = np.zeros((number, POINTS)), np.zeros((number, POINTS)), np.zeros(number)
    for row in range(number):
        at, weight = draw_points(numbers, file["positions"][row].astype(np.float64), POINTS, generator)
        reference, places = density(row), torch.from_numpy(at)
        values = reference.evaluate(places).numpy()
        electrons[row] = reference.electrons.item()
        points[row], weights[row] = at, weight * electrons[row] / (weight * values).sum()
        deformation[row] = values - free_atom_density(reference.nuclei).evaluate(places).numpy()
    molecules = FlatMolecules.checked(
        FILES[name], np.full(number, len(numbers)), np.tile(numbers, number), file["positions"][:number].reshape(-1, 3)
    )
    dataset = Dataset(name, molecules, {}, {})
    single = [array.astype(np.float32) for array in (points, weights, deformation)]
    anchors = file["positions"][:number, 0].astype(np.float64)
    drawn = DensityPoints(np.arange(number), *single, electrons, anchors)
    trained = file["split"] == 0 if name == "trimers" else np.arange(number) < TRAINED
    parts = {"train": np.flatnonzero(trained), "test": np.flatnonzero(~trained)}
    return Data(dataset, dataset.prepare(cutoff), drawn, parts)


def main() -> None:
    """Trains what is missing, and prints a row for each choice of centres."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("data", type=Path)
    own.add_argument("folder", type=Path)
    own.add_argument("--set", choices=list(FILES), default="trimers")
    own.add_argument("--centres", nargs="*", default=["nuclei", "moving"])
    own.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    arguments, rest = own.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data: Data | None = None
    errors: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        for centres in arguments.centres:
            path = arguments.folder / f"{arguments.set}-{centres}-{seed}.json"
            if not path.exists():
                names = ["--centres", centres, "--seed", str(seed), "--steps", "800", "--points", "250", "-o", ""]
                settings = parser().parse_args([*names, *rest])
                data = data or read_water(arguments.data, arguments.set, settings.cutoff)
                started = time.process_time()
                model = train(build(settings, data), data, settings)
                test = data.points.of_structures(data.parts["test"])
                result = {
                    "error_percent": 100 * float(density_errors(model, data.prepared, test).mean()),
                    "free_atoms_percent": 100 * float(test.free_atoms.mean()),
                    "processor_seconds": time.process_time() - started,
                    "settings": vars(settings),
                }
                path.write_text(json.dumps(result, indent=1), encoding="utf-8")
            result = json.loads(path.read_text(encoding="utf-8"))
            errors.setdefault(centres, []).append(result["error_percent"])
            print(path.stem, f"{result['error_percent']:.3f} %", flush=True)
    for centres, values in errors.items():
        print(f"| {arguments.set} | {centres} | {len(values)} | {np.mean(values):.3f} ± {np.std(values):.3f} % |")


if __name__ == "__main__":
    main()
