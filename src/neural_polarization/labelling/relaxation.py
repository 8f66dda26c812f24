"""Geometry relaxation at the level of the labels."""

from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS

from .calculation import NotConvergedError, Request, WarmStart, compute


class DensityFunctional(Calculator):
    """Energy, forces and dipole of a structure as an ASE calculator.

    Args:
        request: Level and accuracy. Forces are always computed.
    """

    implemented_properties = ["energy", "forces", "dipole"]  # noqa: RUF012 - ASE's interface

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = Request(request.level, request.accuracy, ("forces",), {}, request.field)
        self._warm = WarmStart()

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Computes all properties of `atoms`; ASE calls it."""
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms  # a copy that ASE keeps
        labels = compute(structure, self._request, warm=self._warm)
        self.results = {
            "energy": float(labels["energy"]),
            "forces": labels["forces"],
            "dipole": labels["dipole"],
        }


def relax(atoms: ase.Atoms, request: Request, force: float = 0.01, steps: int = 100) -> ase.Atoms:
    """The structure at the nearest minimum.

    Args:
        atoms: Structure to start from, which is not changed.
        request: Level and accuracy.
        force: Largest force component at the minimum, eV/Angstrom.
        steps: Largest number of steps.

    Raises:
        NotConvergedError: if the forces are still larger after the last step.
    """
    relaxed = ase.Atoms(atoms.numbers, np.array(atoms.positions), info=dict(atoms.info))
    relaxed.calc = DensityFunctional(request)
    if not BFGS(relaxed, logfile=None).run(fmax=force, steps=steps):
        raise NotConvergedError(f"{atoms.get_chemical_formula()}: not relaxed to {force} eV/Angstrom in {steps} steps")
    relaxed.calc = None
    return relaxed
