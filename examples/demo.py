"""The demo, in four minutes: does a moving point for every atom lower the errors of a network on DFT labels?

Trains PaiNN, a wider one with as many parameters as the polarized one, and polarized PaiNN on the repository's own DFT
labels of ethanol, twice each. Compares their errors on frames that none of them has seen. Predicts a molecule given as
SMILES, and makes a page of it. Every step is a command that works the same way on data of your own. `make demo-full`
trains longer, with three seeds and a deeper network.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = "runs/demo/ethanol.html"
MODEL = "runs/demo/moving_view/seed_0/model.safetensors"


def step(title: str, *arguments: str) -> None:
    """Shows a command of `npol`, and runs it; the demo ends where one fails."""
    print(f"\n=== {title}\n$ npol {' '.join(arguments)}\n", flush=True)
    try:
        code = subprocess.call([sys.executable, "-m", "neural_polarization.cli", *arguments], cwd=ROOT)
    except KeyboardInterrupt:
        sys.exit("stopped; `make demo` goes on where it was")
    if code:
        sys.exit(f"this step failed (exit code {code}); the message above says why")


def main() -> None:
    """All steps, in order."""
    started = time.monotonic()
    print("Six trainings of PaiNN on 240 frames of ethanol (B3LYP): about four minutes on two cores.", flush=True)
    jobs = str(min(6, os.cpu_count() or 1))
    step("Train plain, wider and polarized PaiNN side by side", "compare", "configs/demo.yaml", "--jobs", jobs)
    step("Predict a molecule from its SMILES", "predict", MODEL, "--smiles", "CCO")
    step("Show it, with its moving points", "view", MODEL, "--smiles", "CCO", "-o", PAGE, "--overwrite")
    print(
        f"""
Done in {(time.monotonic() - started) / 60:.1f} minutes.
In the table, brackets are errors relative to the plain network: below 1 is better.
Two seeds and short trainings prove little: docs/results.md has longer comparisons, with three seeds.

What is where:
  runs/demo/table.md     the comparison
  runs/demo/ratios.png   the same as a chart
  {MODEL}   the polarized model
  {PAGE}   a page of ethanol for the browser: where its moving points are

What to do next:
  npol evaluate {MODEL}   # errors, parity plots
  npol predict {MODEL} --smiles CCO -o ethanol.extxyz   # `displacement`: the electron clouds
  python examples/dynamics.py {MODEL}   # molecular dynamics
  npol train configs/own_data.yaml --data.path YOUR/frames.extxyz   # your own molecules, names and units
  make demo-full   # the same comparison for longer, with three seeds and a deeper network
Put `{Path(sys.executable).parent}` on your PATH, or write {Path(sys.executable).parent}/npol, to run them."""
    )


if __name__ == "__main__":
    main()
