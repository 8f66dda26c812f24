"""Errors of the density of the package's model, its moments and its electrons on unseen molecules.

    python experiments/density/moments.py

Validation and test parts of both data sets, every structure counts once; dipoles in mD and quadrupoles in e*Angstrom^2
are mean absolute errors of components, beside the mean absolute component of the labels.
"""

import numpy as np

from neural_polarization.data.density_points import read_density_points
from neural_polarization.data.packed import read_packed
from neural_polarization.evaluation.densities import density_evaluation
from neural_polarization.models import Model
from neural_polarization.pretrained import load_pretrained
from neural_polarization.units import factor


def main() -> None:
    """Prints the errors on each data set."""
    model, _ = load_pretrained("small")
    assert isinstance(model, Model)
    for name in ("ordinary_molecules", "small_molecules"):
        dataset = read_packed(f"data/{name}.npz")
        parts = dataset.splits["stored"].parts
        rows = np.concatenate([parts["validation"], parts["test"]])
        points = read_density_points(f"data/{name}_densities.npz", dataset.molecules).of_part(rows)
        found = density_evaluation(model, dataset.subset(rows).prepare(model.cutoff), points, dataset.properties)
        sizes = {
            label: np.abs(dataset.labels[label][rows]).mean() / factor(dataset.properties[label].unit)
            for label in ("dipole", "quadrupole")
        }
        print(name, len(rows), {key: (error["mae"], error["count"]) for key, error in found.items()}, sizes)


if __name__ == "__main__":
    main()
