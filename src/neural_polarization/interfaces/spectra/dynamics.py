"""The dynamics of a molecule whose dipole and polarizability give a spectrum."""

from collections.abc import Callable
from dataclasses import dataclass

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from jaxtyping import Float

from neural_polarization.interfaces.spectra.surface import Surface, Values
from neural_polarization.interfaces.spectra.vibrations import internal_displacements

_DRIFT = 0.05  # of the kinetic energy, in the total energy: more is an unstable dynamics


@dataclass(frozen=True)
class DynamicsConfig:
    """A dynamics for a spectrum.

    Attributes:
        picoseconds: Length of the part that is recorded, ps.
        temperature: Temperature, K.
        timestep: Time step, fs.
        equilibration: Length of the Langevin dynamics before, ps.
        friction: Friction of that dynamics, 1/fs.
        every: Number of steps between two records.
        seed: Seed of velocities and random forces.

    Raises:
        ValueError: for a length, temperature or step that is not positive, or an equilibration below zero.
    """

    picoseconds: float = 20.0
    temperature: float = 300.0
    timestep: float = 0.5
    equilibration: float = 2.0
    friction: float = 0.01
    every: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("picoseconds", "temperature", "timestep", "friction", "every"):
            value = float(vars(self)[name])
            if not value > 0.0:
                raise ValueError(f"dynamics: expected {name} above zero, got {value:g}")
        if not self.equilibration >= 0.0:
            raise ValueError(f"dynamics: expected an equilibration of zero or more, got {self.equilibration:g}")

    @property
    def records(self) -> int:
        """Number of records."""
        return round(1000.0 * self.picoseconds / self.interval)

    @property
    def interval(self) -> float:
        """Time between two records, fs."""
        return self.every * self.timestep


@dataclass(frozen=True)
class Course:
    """The course of a dynamics at constant energy.

    Attributes:
        interval: Time between two records, fs.
        temperature: Mean temperature of the vibrations and rotations, K.
        energies: Total energy of each record, eV; its drift says whether the time step was short enough.
        dipoles: Dipole of each record (records, 3), e*Angstrom, or None.
        polarizabilities: Polarizability of each record (records, 3, 3), Angstrom^3, or None.
    """

    interval: float
    temperature: float
    energies: Float[np.ndarray, " records"]
    dipoles: Float[np.ndarray, "records 3"] | None
    polarizabilities: Float[np.ndarray, "records 3 3"] | None


def run_dynamics(
    surface: Surface,
    atoms: ase.Atoms,
    config: DynamicsConfig,
    report: Callable[[int, int], None] | None = None,
    forces: Surface | None = None,
) -> Course:
    """Equilibrates with a Langevin thermostat and records a dynamics at constant energy.

    Args:
        surface: Forces, dipoles and polarizabilities.
        atoms: Where the dynamics starts; left as it is.
        config: Length, temperature and steps.
        report: Function that is called with the number of steps done and of all steps.
        forces: The same surface without dipoles and polarizabilities, where that is cheaper, for the steps themselves.
    """
    rng = np.random.default_rng(config.seed)
    atoms = atoms.copy()
    atoms.calc = _SurfaceCalculator(forces or surface)
    widths = np.sqrt(atoms.get_masses() * config.temperature * units.kB)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * widths[:, None])
    before = round(1000.0 * config.equilibration / config.timestep)
    if before:
        thermostat = Langevin(
            atoms,
            timestep=config.timestep * units.fs,
            temperature_K=config.temperature,
            friction=config.friction / units.fs,
            fixcm=False,
            rng=rng,
        )
        thermostat.run(before)
    _stop_turning(atoms)
    free = VelocityVerlet(atoms, timestep=config.timestep * units.fs)
    found: list[Values] = []
    energies: list[float] = []
    kinetic: list[float] = []
    for record in range(config.records):
        free.run(config.every)
        found += surface([atoms])
        kinetic.append(float(atoms.get_kinetic_energy()))
        energies.append(found[-1].energy + kinetic[-1])
        if report is not None:
            report(before + (record + 1) * config.every, before + config.records * config.every)
    moving = internal_displacements(atoms).shape[1]
    return Course(
        interval=config.interval,
        temperature=2.0 * float(np.mean(kinetic)) / (moving * units.kB),
        energies=np.array(energies),
        dipoles=_series([values.dipole for values in found]),
        polarizabilities=_series([values.polarizability for values in found]),
    )


def check_conserved(course: Course, atoms: int) -> None:
    """Makes sure that the total energy of a dynamics was conserved.

    Args:
        course: The dynamics.
        atoms: Number of its atoms.

    Raises:
        ValueError: if it moved by more than 5 % of the kinetic energy.
    """
    kinetic = 1.5 * atoms * course.temperature * units.kB
    drift = float(np.abs(course.energies - course.energies[0]).max())
    if not drift < _DRIFT * kinetic:
        raise ValueError(
            f"spectrum: the total energy of the dynamics moved by {drift:.3g} eV, more than {100 * _DRIFT:g} % of the "
            f"kinetic energy ({kinetic:.3g} eV); take a shorter --timestep, or a better model"
        )


def _stop_turning(atoms: ase.Atoms) -> None:
    """Leaves the momenta of vibrations; the rotation of the whole molecule would broaden every line."""
    roots = np.sqrt(atoms.get_masses())[:, None]
    inside = internal_displacements(atoms)
    atoms.set_momenta(roots * (inside @ (inside.T @ (atoms.get_momenta() / roots).ravel())).reshape(-1, 3))


class _SurfaceCalculator(Calculator):
    """A surface behind ASE's interface."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE wants it)

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self._surface = surface

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: object = None, system_changes: object = None
    ) -> None:
        """Called by ASE when the atoms have moved."""
        assert atoms is not None
        self.atoms = atoms.copy()
        (values,) = self._surface([atoms])
        self.results = {"energy": values.energy, "forces": values.forces}


def _series(values: list[np.ndarray | None]) -> np.ndarray | None:
    known = [value for value in values if value is not None]
    return np.array(known) if known else None
