"""The harmonic infrared spectrum of a molecule from density functional theory itself, to set beside a model's.

    python experiments/response/reference_spectrum.py CCO --level 'B3LYP/6-31G(2df,p)'
    npol spectrum model.safetensors --smiles CCO -o ethanol.png

The molecule is relaxed, and the second derivatives of its energy and the slopes of its dipole are differences, with the
steps that `npol spectrum` takes of a model.
"""

import argparse
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS

from neural_polarization.interfaces.prediction import from_smiles
from neural_polarization.interfaces.spectra.mode_names import mode_names
from neural_polarization.interfaces.spectra.spectrum import as_table
from neural_polarization.interfaces.spectra.surface import Values
from neural_polarization.interfaces.spectra.vibrations import vibrations
from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy

TIGHT = Accuracy(convergence=1e-10, gradient_convergence=1e-6, density_fitting=True)
"""Differences of forces need forces that are converged."""


class Labelled(Calculator):
    """Energies and forces of `npol label`, for ASE's optimizer."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's way to declare them)

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        """One calculation."""
        labels = compute(atoms, self.request)
        self.results = {"energy": float(labels["energy"]), "forces": labels["forces"]}


def main() -> None:
    """Prints a row for each vibration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("smiles")
    parser.add_argument("--level", default="B3LYP/6-31G(2df,p)")
    options = parser.parse_args()
    request = Request(Level.parse(options.level), TIGHT, ("forces",))
    atoms = from_smiles(options.smiles)
    atoms.calc = Labelled(request)
    BFGS(atoms, logfile=None).run(fmax=2e-3, steps=100)
    atoms.calc = None

    def surface(frames: Any) -> list[Values]:
        """Energies, forces and dipoles of structures."""
        found = (compute(frame, request) for frame in frames)
        return [Values(float(labels["energy"]), labels["forces"], np.asarray(labels["dipole"])) for labels in found]

    found = vibrations(surface, atoms)
    assert isinstance(found.atoms, ase.Atoms)
    print(as_table(found, mode_names(found.atoms, found.modes)))


if __name__ == "__main__":
    main()
