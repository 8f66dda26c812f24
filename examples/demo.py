"""The main job in a few minutes: does a moving point for every atom make a network better, on real labels?

Trains PaiNN, a wider one with as many parameters as the polarized one, a deeper one that costs at least as much, and
polarized PaiNN on the repository's own DFT labels of ethanol, three times each, compares their errors on frames that
none of them has seen, and predicts a molecule given as SMILES. Every step is a command that works the same way on
data of your own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = "runs/demo/moving_view/seed_0/model.safetensors"
SMILES = "CCO"


def step(title: str, *arguments: str) -> None:
    """Shows a command of `npol`, and runs it; the demo ends where one fails."""
    print(f"\n=== {title}\n$ npol {' '.join(arguments)}\n", flush=True)
    code = subprocess.call([sys.executable, "-m", "neural_polarization.cli", *arguments], cwd=ROOT)
    if code:
        sys.exit(f"this step failed (exit code {code}); the message above says why")


def main() -> None:
    """All steps, in order."""
    started = time.monotonic()
    jobs = str(min(3, os.cpu_count() or 1))
    step("Train plain, wider, deeper and polarized PaiNN side by side", "compare", "configs/demo.yaml", "--jobs", jobs)
    step("What the polarized model is", "info", MODEL)
    step("Its errors, with parity plots", "evaluate", MODEL, "--overwrite")
    output = "runs/demo/ethanol.extxyz"
    step("A molecule from its SMILES", "predict", MODEL, "--smiles", SMILES, "--output", output, "--overwrite")
    step("The same on the screen", "predict", MODEL, "--smiles", SMILES)
    print(
        f"""
Done in {(time.monotonic() - started) / 60:.1f} minutes. What is where:
  runs/demo/table.md          the comparison; ratios.png beside it is its plot
  {MODEL}   the polarized model
  runs/demo/ethanol.extxyz    the prediction; `displacement` is where the electron clouds sit, in Angstrom

What to do next:
  npol compare configs/demo.yaml --base.training.epochs 120 --output runs/longer   # the same, trained longer
  npol train configs/own_data.yaml --data.path YOUR/frames.extxyz   # your own molecules, names and units
  npol train configs/rmd17.yaml --data.path YOUR/rmd17/ethanol.npz   # energies and forces of one molecule
  npol sample CCN -o frames.extxyz && npol label frames.extxyz -o labels.h5   # geometries and DFT labels of your own
Put `{Path(sys.executable).parent}` on your PATH, or write {Path(sys.executable).parent}/npol, to run them."""
    )


if __name__ == "__main__":
    main()
