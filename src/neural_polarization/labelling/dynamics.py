"""Frames of molecular dynamics in a force field: structures of a molecule at a temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import ase.units
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin

from ..errors import DataError
from ..structures.smiles import embedded_molecule
from .displacement import ForceField, Tolerance, same_molecule

_STEP = 0.5
"""Time step in femtoseconds, a twentieth of the period of an O-H bond."""

_FRICTION = 0.02
"""Friction per femtosecond. Velocities decay within 50 fs, so that frames further apart are nearly independent."""

_WHOLE = Tolerance(shortest=0.5, longest=2.0, contact=0.5)


@dataclass(frozen=True)
class Dynamics:
    """Settings of the dynamics.

    Attributes:
        frames: Number of structures of each molecule.
        temperature: Temperature, kelvin.
        interval: Time between frames, femtoseconds.
        warm_up: Time before the first frame, femtoseconds. The dynamics starts at rest at the minimum.
        seed: Seed of the embedding and of the thermostat.
    """

    frames: int
    temperature: float = 500.0
    interval: float = 50.0
    warm_up: float = 2000.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames: expected at least 1, got {self.frames}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected kelvin, more than 0, got {self.temperature}")
        if not self.interval >= _STEP:
            raise ValueError(f"interval: expected at least one time step ({_STEP} fs), got {self.interval} fs")
        if not self.warm_up >= 0:
            raise ValueError(f"warm_up: expected a time in fs, 0 or more, got {self.warm_up}")


class _InForceField(Calculator):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - ASE's interface

    def __init__(self, field: ForceField) -> None:
        super().__init__()
        self._field = field

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Computes energy and forces; ASE calls it."""
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms  # a copy that ASE keeps
        energy, forces = self._field.energy_and_forces(structure.positions)
        self.results = {"energy": energy, "forces": forces}


def sample(smiles: Sequence[str], dynamics: Dynamics) -> list[ase.Atoms]:
    """Frames of Langevin dynamics of each molecule in MMFF94, or in UFF if MMFF94 lacks parameters.

    Args:
        smiles: SMILES of the molecules.
        dynamics: Settings of the dynamics.

    Raises:
        DataError: for a SMILES that cannot be read or embedded, or a temperature at which bonds break.
    """
    everything: list[ase.Atoms] = []
    for molecule, name in enumerate(smiles):
        frames = _frames(ForceField(embedded_molecule(name, name, dynamics.seed + 1)), name, dynamics)
        for frame, atoms in enumerate(frames):
            atoms.info.update(smiles=name, molecule=molecule, frame=frame)
        everything.extend(frames)
    return everything


def _frames(field: ForceField, name: str, dynamics: Dynamics) -> list[ase.Atoms]:
    relaxed, bonds = field.atoms(), np.array(field.bonds())
    moving = relaxed.copy()
    moving.calc = _InForceField(field)
    generator = np.random.default_rng(dynamics.seed)
    integrator = Langevin(
        moving,
        _STEP * ase.units.fs,
        temperature_K=dynamics.temperature,
        friction=_FRICTION / ase.units.fs,
        rng=generator,
        fixcm=False,  # the molecule may drift, because frames are centred
    )
    frames: list[ase.Atoms] = []
    for frame in range(dynamics.frames):
        with np.errstate(over="ignore", invalid="ignore"):  # a molecule that flies apart is an error below
            integrator.run(round((dynamics.interval if frame else dynamics.warm_up) / _STEP))
        atoms = relaxed.copy()  # keeps the charge
        atoms.positions = moving.positions - moving.positions.mean(axis=0)
        if not (np.isfinite(atoms.positions).all() and same_molecule(relaxed, atoms, bonds, _WHOLE)):
            raise DataError(
                f"{name}, frame {frame}: at {dynamics.temperature} K the molecule does not stay whole; choose a lower "
                "temperature"
            )
        frames.append(atoms)
    return frames
