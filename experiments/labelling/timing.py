"""Processor time per structure against size: `python experiments/labelling/timing.py labels.h5 ...`."""

import sys
from pathlib import Path

import numpy as np

from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy, build_molecule
from neural_polarization.labelling.store import read_description, read_labels


def main() -> None:
    rows: list[tuple[int, int, bool, float]] = []
    sizes: dict[str, int] = {}
    for name in sys.argv[1:]:
        level = Level.parse(read_description(Path(name))["level"])
        for record in read_labels(Path(name)):
            if record.reason:
                continue
            formula = record.atoms.get_chemical_formula()
            if formula not in sizes:
                sizes[formula] = build_molecule(record.atoms, level, Accuracy()).nao
            heavy = int(np.count_nonzero(record.atoms.numbers > 1))
            rows.append((heavy, sizes[formula], "polarizability" in record.labels, record.seconds))
    print("| heavy atoms | functions | without polarizability, s | with, s |")
    print("|---|---|---|---|")
    table = np.array(rows, dtype=float)
    for heavy in np.unique(table[:, 0]):
        group = table[table[:, 0] == heavy]
        means = [group[group[:, 2] == flag, 3].mean() for flag in (0, 1)]
        low, high = group[:, 1].min(), group[:, 1].max()
        print(f"| {heavy:.0f} | {low:.0f} to {high:.0f} | {means[0]:.1f} | {means[1]:.1f} |")
    for flag, word in ((0, "without"), (1, "with")):
        part = table[table[:, 2] == flag]
        power = np.polyfit(np.log(part[:, 1]), np.log(part[:, 3]), 1)[0]
        print(f"{word} polarizability the time grows as the number of functions to the power {power:.1f}")


if __name__ == "__main__":
    main()
