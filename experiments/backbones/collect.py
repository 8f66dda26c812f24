"""One table of what polarization gives to every backbone.

    python experiments/backbones/collect.py runs/backbones/ethanol

Reads the table.json that `npol compare` wrote for each backbone below the directory.
"""

import json
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Prints a markdown table: force errors, their ratio to plain seed by seed, and costs."""
    print("| backbone | plain meV/A | riding meV/A | ratio of forces | ratio of energies | parameters | step time |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(directory.glob("*/table.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        plain, riding = rows["plain"], rows["riding"]
        errors = [sum(row["mae"]["forces"]) / len(row["mae"]["forces"]) for row in (plain, riding)]
        ratios = ["{:.2f}".format(riding["ratio"][key][0]) for key in ("forces", "energy")]
        spread = [riding["ratio"][key][1] for key in ("forces", "energy")]
        shown = [
            f"{ratio} ± {deviation:.2f}" if deviation is not None else ratio
            for ratio, deviation in zip(ratios, spread, strict=True)
        ]
        print(
            f"| {path.parent.name} | {errors[0]:.1f} | {errors[1]:.1f} | {shown[0]} | {shown[1]} | "
            f"{plain['parameters']:,} -> {riding['parameters']:,} | {riding['relative_step']:.2f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
