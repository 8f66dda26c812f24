"""Charges, moments and potentials of predicted densities against those of the reference densities.

    python experiments/density/properties.py -o runs/density/properties.jsonl
    python experiments/density/properties.py --model runs/mine.safetensors -o runs/density/mine.jsonl --most 40

The molecules are those of the validation and test parts that have a reference density, in an order that a seed
shuffles, one structure of each. Free atoms stand beside the model. Every molecule adds a line to the output; those that
are there are not computed again. The table has means over molecules.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_polarization.checkpoints import load_model
from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.density import Density
from neural_polarization.density.free_atoms import free_atom_density
from neural_polarization.density.partition import hirshfeld, mbis
from neural_polarization.density.quadrature import quadrature_around
from neural_polarization.density.surface import surface_points
from neural_polarization.interfaces.electrons import predict_density
from neural_polarization.interfaces.prediction import predict
from neural_polarization.models import Model
from neural_polarization.predictor import Predictor
from neural_polarization.pretrained import pretrained_path
from neural_polarization.units import BOHR, DEBYE

ROWS = {
    "density": "normalized absolute error of the density, %",
    "hirshfeld": "Hirshfeld charges, mean absolute error, e",
    "hirshfeld_head": "Hirshfeld charges of the head, mean absolute error, e",
    "hirshfeld_dipoles": "Hirshfeld's atomic dipoles, mean absolute error of a component, e*Angstrom",
    "mbis": "MBIS charges, mean absolute error, e",
    "dipole": "dipole, length of the difference, D",
    "quadrupole": "quadrupole, mean absolute error of a component, e*Angstrom^2",
    "potential": "potential at 1.4 to 2.0 van der Waals radii, root mean square error, V",
    "potential_relative": "the same over the root mean square of the reference, %",
    "electrons": "number of electrons, absolute error, e",
    "lowest": "most negative density, e/bohr^3",
    "negative": "integral of what is negative, e",
}
"""Every quantity and its line of the table."""


def measured(density: Density, reference: Density, expected: dict[str, Any], points: Any) -> dict[str, float]:
    """Errors of a density against the reference's charges and potential in `expected`."""
    values = density.evaluate(points.points)
    surface = expected["surface"]
    potential = density.potential(surface) - expected["potential"]
    root = float(potential.square().mean().sqrt())
    of_hirshfeld = hirshfeld(density, points)
    return {
        "density": 100 * float((points.weights * (values - expected["values"]).abs()).sum() / reference.electrons),
        "hirshfeld": float((of_hirshfeld.charges - expected["hirshfeld"].charges).abs().mean()),
        "hirshfeld_dipoles": float((of_hirshfeld.dipoles - expected["hirshfeld"].dipoles).abs().mean()),
        "mbis": float((mbis(density, points).charges - expected["mbis"].charges).abs().mean()),
        "dipole": float((density.dipole - reference.dipole).norm()) / DEBYE,
        "quadrupole": float((density.quadrupole - reference.quadrupole).abs().mean()),
        "potential": root,
        "potential_relative": 100 * root / float(expected["potential"].square().mean().sqrt()),
        "electrons": float((density.electrons - density.nuclei.charges).abs()),
        "lowest": min(0.0, float(values.min())) * BOHR**3,
        "negative": float((points.weights * values.clamp(max=0.0)).sum()),
    }


def compared(model: Predictor, structure: Any, reference: Density, radial: int, degree: int) -> dict[str, Any]:
    """Errors of the model and of free atoms for one structure."""
    points = quadrature_around(reference.nuclei, radial, degree)
    surface = surface_points(reference.nuclei)
    expected = {
        "values": reference.evaluate(points.points),
        "hirshfeld": hirshfeld(reference, points),
        "mbis": mbis(reference, points),
        "surface": surface,
        "potential": reference.potential(surface),
    }
    own = measured(reference, reference, expected, points)
    found = measured(predict_density(model, structure), reference, expected, points)
    heads = predict(model, [structure])[0].of_atoms
    if "hirshfeld_charges" in heads:
        charges = torch.from_numpy(heads["hirshfeld_charges"])
        found["hirshfeld_head"] = float((charges - expected["hirshfeld"].charges).abs().mean())
    free = measured(free_atom_density(reference.nuclei), reference, expected, points)
    return {"model": found, "free atoms": free, "reference": {name: own[name] for name in ("lowest", "negative")}}


def unseen(names: list[str], seed: int) -> Iterator[tuple[str, Any, Density]]:
    """Name, structure and reference density of every unseen molecule, its first structure that has one, shuffled."""
    found: list[tuple[str, Any, Densities, int]] = []
    for name in names:
        dataset = read_packed(f"data/{name}.npz")
        densities = Densities(f"data/{name}_densities.npz", dataset.molecules)
        parts = dataset.splits["stored"].parts
        rows = np.concatenate([parts["validation"], parts["test"]])
        known = np.flatnonzero(np.isin(densities.structures, rows))
        _, first = np.unique(dataset.groups[densities.structures[known]], return_index=True)
        for k in known[first].tolist():
            row = int(densities.structures[k])
            found.append((f"{name} {row}", dataset.structure(row), densities, k))
    for number in np.random.default_rng(seed).permutation(len(found)).tolist():
        label, structure, densities, k = found[number]
        yield label, structure, densities[k]


def table(lines: list[dict[str, Any]]) -> str:
    """Means over molecules, as Markdown."""
    columns = ("free atoms", "model", "reference")
    rows = [f"| mean over {len(lines)} molecules | {' | '.join(columns)} |", "|---" * 4 + "|"]
    for name, words in ROWS.items():
        cells = [[line[column][name] for line in lines if name in line[column]] for column in columns]
        if any(cells):
            rows.append(f"| {words} | " + " | ".join(f"{np.mean(cell):.3g}" if cell else "" for cell in cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Measures what is not in the output yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(pretrained_path("small")), help="a checkpoint; default: the package's")
    parser.add_argument("--data", nargs="+", default=["small_molecules", "ordinary_molecules"])
    parser.add_argument("--most", type=int, help="molecules; default: all")
    parser.add_argument("--radial", type=int, default=40, help="spheres of an atom's quadrature")
    parser.add_argument("--degree", type=int, default=17, help="of the quadrature")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the molecules")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a line of JSON for every molecule")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = load_model(arguments.model)
    assert isinstance(model, Model)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    known = arguments.output.read_text(encoding="utf-8").splitlines() if arguments.output.exists() else []
    lines = [json.loads(line) for line in known]
    there = {line["molecule"] for line in lines}
    for label, structure, reference in unseen(arguments.data, arguments.seed):
        if arguments.most is not None and len(lines) >= arguments.most:
            break
        if label in there:
            continue
        found = compared(model, structure, reference, arguments.radial, arguments.degree)
        lines.append({"molecule": label, "formula": structure.get_chemical_formula(), **found})
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
