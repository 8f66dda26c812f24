"""The spectrum of one molecule from a model: relaxed, computed, written."""

import copy
from collections.abc import Callable
from pathlib import Path

import ase
from ase.optimize import BFGS

from neural_polarization.charges import frame_field, total_charge
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.spectra.dynamics import DynamicsConfig, check_conserved, run_dynamics
from neural_polarization.interfaces.spectra.mode_names import mode_names
from neural_polarization.interfaces.spectra.outputs import (
    broadened,
    check_spectrum,
    write_curve,
    write_figure,
    write_vibrations,
)
from neural_polarization.interfaces.spectra.surface import Names, polar_tensors_of, surface_of
from neural_polarization.interfaces.spectra.time_series import check_length, curve_of_dynamics
from neural_polarization.interfaces.spectra.vibrations import Vibrations, check_vibrating, vibrations
from neural_polarization.knowledge import Watch
from neural_polarization.predictor import Predictor
from neural_polarization.text import table

CONVERGED = 1e-3
"""eV/Angstrom: the largest force of a minimum."""

_RELAXATION_STEPS = 500


def write_spectrum(
    model: Predictor,
    atoms: ase.Atoms,
    path: Path,
    width: float = 10.0,
    relax: bool = True,
    dynamics: DynamicsConfig | None = None,
    overwrite: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> str:
    """Writes the spectrum of a molecule as a figure and a CSV beside it.

    Args:
        model: Model with forces and a dipole or a polarizability; it is used in double precision.
        atoms: A molecule, in its `info["external_field"]` if it has one.
        path: Figure: .png, .svg or .pdf.
        width: Full width of a harmonic line, or resolution of the spectrum of a dynamics, 1/cm.
        relax: Whether the structure is relaxed first.
        dynamics: Dynamics whose spectrum is computed; by default the spectrum is harmonic.
        overwrite: Whether files that are there may be replaced.
        report: Function that is called with the number of steps done and of all steps.

    Returns:
        A table of the vibrations.

    Raises:
        ValueError: for a model without forces or without both dipole and polarizability, a periodic system,
            constraints, an ion that a field accelerates, a relaxation that does not end, or a dynamics that is too
            short for the width, or whose energy is not conserved.
        FileExistsError: if a file is there and `overwrite` is not set.
    """
    if width <= 0.0:
        raise ValueError(f"width: expected more than 0 1/cm, got {width:g}")
    check_vibrating(atoms)
    if frame_field(atoms, "spectrum").any() and total_charge(atoms) and (relax or dynamics is not None):
        raise ValueError(
            "spectrum: a field accelerates an ion as a whole, so that it has neither a minimum nor a dynamics in one "
            "place; leave out the field, or take the harmonic spectrum of the structure as it is with --keep-geometry"
        )
    rows = check_spectrum(path, overwrite)
    if dynamics is not None:
        check_length(dynamics.records, dynamics.interval, width)
    model = copy.deepcopy(model).double().eval()
    names, watch = Names.of(model), Watch()
    surface = surface_of(model, names, watch=watch)
    atoms = relaxed(model, atoms, watch) if relax else atoms
    found = vibrations(surface, atoms, polar_tensors_of(model) if names.dipole else None)
    called = mode_names(found.atoms, found.modes)
    if dynamics is None:
        curve = broadened(found, width)
        title = f"{atoms.get_chemical_formula()}, harmonic"
        write_vibrations(rows, found, called)
    else:
        forces = surface_of(model, Names(names.energy, None, None), watch=watch)
        course = run_dynamics(surface, atoms, dynamics, report, forces)
        check_conserved(course, len(atoms))
        curve = curve_of_dynamics(course.dipoles, course.polarizabilities, course.interval, course.temperature, width)
        title = (
            f"{atoms.get_chemical_formula()}, {dynamics.picoseconds:g} ps at {course.temperature:.0f} K, harmonic "
            "quantum correction; lines: harmonic spectrum"
        )
        write_curve(rows, curve)
    write_figure(path, title, curve, found, called, width)
    return as_table(found, called)


def relaxed(model: Predictor, atoms: ase.Atoms, watch: Watch | None = None) -> ase.Atoms:
    """The nearest minimum of a model in double precision; `watch` says what lies outside of the training.

    Raises:
        ValueError: if it is not found.
    """
    atoms = atoms.copy()
    calculator = NeuralPolarizationCalculator(model, Names.of(model).energy, double=True)
    calculator.watch = watch or calculator.watch
    atoms.calc = calculator
    if not BFGS(atoms, logfile=None).run(fmax=CONVERGED, steps=_RELAXATION_STEPS):  # pyright: ignore[reportArgumentType]
        raise ValueError(
            f"spectrum: no minimum was found in {_RELAXATION_STEPS} steps; start from a structure nearer to one, or "
            "take the structure as it is with --keep-geometry"
        )
    atoms.calc = None
    return atoms


def as_table(found: Vibrations, names: list[str]) -> str:
    """Vibrations for people."""
    head = ["1/cm", *(["km/mol"] if found.infrared is not None else [])]
    head += ["A^4/amu", "depol."] if found.raman is not None else []
    lines = [[*head, "mode"]]
    for mode, name in enumerate(names):
        wavenumber = found.wavenumbers[mode]
        cells = [f"{wavenumber:.1f}" if wavenumber >= 0.0 else f"{-wavenumber:.1f}i"]
        if found.infrared is not None:
            cells.append(f"{found.infrared[mode]:.2f}")
        if found.raman is not None and found.depolarization is not None:
            cells += [f"{found.raman[mode]:.2f}", f"{found.depolarization[mode]:.3f}"]
        lines.append([*cells, name])
    return table(lines)
