"""Harmonic vibrations of a molecule, their infrared intensities and Raman activities."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase import units
from jaxtyping import Float
from scipy import constants

from neural_polarization.interfaces.spectra.surface import PolarTensors, Surface, Values

INFRARED = constants.N_A / (12.0 * constants.epsilon_0 * constants.c**2) * constants.e**2 / constants.atomic_mass * 1e-3
"""Integrated absorption, km/mol, of one e^2/amu of the squared slope of the dipole by a normal coordinate (974.9)."""

WAVENUMBER = constants.hbar * 1e10 / (constants.e * constants.atomic_mass) ** 0.5 / units.invcm
"""Wavenumber, 1/cm, of a mode whose force constant over mass is one eV/(Angstrom^2 amu) (521.5)."""

_LINEAR = 1e-2
"""Size of the third rotation of a molecule, of that of the first, below which the molecule counts as linear."""

_STEP = 0.005  # Angstrom: cubic terms change second derivatives by some 1e-5 of them

_LARGER_STEP = 0.02  # Angstrom: of the atom that moves most; anharmonic bonds change by a few 1/cm

_UNCERTAIN = (20.0, 0.02)  # 1/cm, and of the wavenumber: a change of more than both is a kink of the energy


@dataclass(frozen=True)
class Vibrations:
    """Harmonic vibrations of one molecule, by rising wavenumber, without translations and rotations.

    Attributes:
        atoms: The structure.
        wavenumbers: Wavenumber of each mode, 1/cm; negative for imaginary ones, along which the structure is no
            minimum.
        modes: Displacement of the atoms along a normal coordinate, 1/sqrt(amu): (modes, atoms, 3).
        infrared: Infrared intensity of each mode, km/mol, or None without a dipole.
        raman: Raman activity of each mode, Angstrom^4/amu, or None without a polarizability.
        depolarization: Depolarization ratio of each mode for polarized light, 0 to 3/4, or None.
    """

    atoms: ase.Atoms
    wavenumbers: Float[np.ndarray, " modes"]
    modes: Float[np.ndarray, "modes atoms 3"]
    infrared: Float[np.ndarray, " modes"] | None = None
    raman: Float[np.ndarray, " modes"] | None = None
    depolarization: Float[np.ndarray, " modes"] | None = None


def vibrations(
    surface: Surface, atoms: ase.Atoms, polar_tensors: PolarTensors | None = None, step: float = _STEP
) -> Vibrations:
    """Harmonic vibrations, by central differences of forces and polarizabilities.

    Args:
        surface: Forces, dipoles and polarizabilities of structures.
        atoms: A minimum of the energy.
        polar_tensors: Born charges; where there are none, slopes of the dipole are differences too.
        step: Displacement of each coordinate to either side, Angstrom.

    Warns:
        UserWarning: if a mode has another wavenumber at a larger step: the energy is not smooth in this geometry.

    Raises:
        ValueError: for a periodic system, a single atom, or constraints.

    References:
        E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations (1955); for the activities D. A. Long, The Raman
        Effect (2002), chapter 5.
    """
    check_vibrating(atoms)
    more, less = _displaced(surface, atoms, step)
    hessian = np.array(
        [(low.forces - high.forces).ravel() / (2.0 * step) for high, low in zip(more, less, strict=True)]
    )
    wavenumbers, modes = normal_modes(atoms, 0.5 * (hessian + hessian.T))
    _warn_of_kinks(surface, atoms, wavenumbers, modes, step)
    slopes = None
    if polar_tensors is not None:
        slopes = polar_tensors(atoms)
    elif more[0].dipole is not None:
        slopes = _difference([value.dipole for value in more], [value.dipole for value in less], step)
    infrared = None if slopes is None else infrared_intensities(modes, slopes)
    if more[0].polarizability is None:
        return Vibrations(atoms, wavenumbers, modes, infrared)
    by_atoms = _difference([value.polarizability for value in more], [value.polarizability for value in less], step)
    activity, ratio = raman_activities(modes, by_atoms)
    return Vibrations(atoms, wavenumbers, modes, infrared, activity, ratio)


def normal_modes(
    atoms: ase.Atoms, hessian: Float[np.ndarray, "coordinates coordinates"]
) -> tuple[Float[np.ndarray, " modes"], Float[np.ndarray, "modes atoms 3"]]:
    """Wavenumbers (1/cm, negative for imaginary ones) and normal modes (1/sqrt(amu)) of a Hessian, eV/Angstrom^2.

    Translations and rotations are projected out; a linear molecule has one rotation less.
    """
    roots = np.sqrt(atoms.get_masses()).repeat(3)
    inside = internal_displacements(atoms)
    values, vectors = np.linalg.eigh(inside.T @ (hessian / roots[:, None] / roots) @ inside)
    return _as_wavenumbers(values), ((inside @ vectors) / roots[:, None]).T.reshape(len(values), len(atoms), 3)


def _as_wavenumbers(stiffness: Float[np.ndarray, " modes"]) -> Float[np.ndarray, " modes"]:
    """Wavenumbers, 1/cm, of force constants over masses, eV/(Angstrom^2 amu); negative as these are."""
    return np.sign(stiffness) * np.sqrt(np.abs(stiffness)) * WAVENUMBER


def _warn_of_kinks(
    surface: Surface,
    atoms: ase.Atoms,
    wavenumbers: Float[np.ndarray, " modes"],
    modes: Float[np.ndarray, "modes atoms 3"],
    step: float,
) -> None:
    """Warns of a mode whose wavenumber is another one at a larger step along it."""
    amplitudes = _LARGER_STEP / np.linalg.norm(modes, axis=-1).max(-1)
    along = amplitudes[:, None, None] * modes
    moved = [atoms.copy() for _ in range(2 * len(modes))]
    for structure, displacement in zip(moved, np.concatenate([along, -along]), strict=True):
        structure.positions += displacement
    forces = np.array([values.forces for values in surface(moved)])
    pull = ((forces[len(modes) :] - forces[: len(modes)]) * modes).sum((1, 2))
    larger = _as_wavenumbers(pull / (2.0 * amplitudes))
    allowed = np.maximum(_UNCERTAIN[0], _UNCERTAIN[1] * np.abs(wavenumbers))
    change = np.abs(larger - wavenumbers) / allowed
    worst = int(change.argmax())
    if change[worst] > 1.0:
        one, other = (f"{abs(value):.0f}{'i' if value < 0.0 else ''}" for value in (wavenumbers[worst], larger[worst]))
        warnings.warn(
            f"spectrum: the mode at {one} 1/cm is at {other} 1/cm if atoms move by {_LARGER_STEP:g} instead of "
            f"{step:g} Angstrom: the energy of this model has a kink in this geometry, as norms of vectors have in "
            "symmetric molecules, and harmonic wavenumbers are that uncertain",
            stacklevel=3,
        )


def infrared_intensities(
    modes: Float[np.ndarray, "modes atoms 3"], slopes: Float[np.ndarray, "atoms 3 3"]
) -> Float[np.ndarray, " modes"]:
    """Infrared intensities, km/mol: N_A / (12 epsilon_0 c^2) |d mu/dQ|^2.

    Args:
        modes: Displacements along the normal coordinates, 1/sqrt(amu).
        slopes: Derivatives of the dipole, e: (atom, direction moved, component of the dipole).
    """
    return INFRARED * (np.einsum("kax,axy->ky", modes, slopes) ** 2).sum(-1)


def raman_activities(
    modes: Float[np.ndarray, "modes atoms 3"], slopes: Float[np.ndarray, "atoms 3 3 3"]
) -> tuple[Float[np.ndarray, " modes"], Float[np.ndarray, " modes"]]:
    """Raman activities 45 a^2 + 7 g^2, Angstrom^4/amu, and depolarization ratios 3 g^2 / (45 a^2 + 4 g^2).

    a is the slope of the isotropic polarizability along a normal coordinate, g that of its anisotropy.

    Args:
        modes: Displacements along the normal coordinates, 1/sqrt(amu).
        slopes: Derivatives of the polarizability, Angstrom^2: (atom, direction moved, two components).
    """
    isotropic, anisotropic = invariants(np.einsum("kax,axyz->kyz", modes, slopes))
    strength = 45.0 * isotropic + 4.0 * anisotropic
    ratio = np.divide(3.0 * anisotropic, strength, out=np.zeros_like(strength), where=strength > 1e-12)
    return 45.0 * isotropic + 7.0 * anisotropic, ratio


def invariants(tensors: Float[np.ndarray, "... 3 3"]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Squares of the isotropic part and of the anisotropy of symmetric tensors."""
    trace = np.trace(tensors, axis1=-2, axis2=-1)
    return (trace / 3.0) ** 2, 1.5 * (tensors**2).sum((-2, -1)) - 0.5 * trace**2


def check_vibrating(atoms: ase.Atoms) -> None:
    """Makes sure that a structure has vibrations.

    Raises:
        ValueError: for a periodic system, a single atom, or constraints.
    """
    if atoms.pbc.any():
        raise ValueError("spectrum: only spectra of molecules are computed; set `pbc` to none for a molecule")
    if atoms.constraints:
        raise ValueError("spectrum: all atoms vibrate; remove the constraints with `atoms.set_constraint()`")
    if len(atoms) < 2:
        raise ValueError("spectrum: a single atom does not vibrate")


def _displaced(surface: Surface, atoms: ase.Atoms, step: float) -> tuple[list[Values], list[Values]]:
    """Values where each coordinate is a step larger, and where it is a step smaller."""
    structures: list[ase.Atoms] = []
    for sign in (1.0, -1.0):
        for coordinate in range(3 * len(atoms)):
            moved = atoms.copy()
            moved.positions[coordinate // 3, coordinate % 3] += sign * step
            structures.append(moved)
    values = surface(structures)
    return values[: 3 * len(atoms)], values[3 * len(atoms) :]


def _difference(
    more: Sequence[np.ndarray | None], less: Sequence[np.ndarray | None], step: float
) -> Float[np.ndarray, "atoms 3 ..."]:
    """Derivatives by each coordinate."""
    high, low = np.array(more, dtype=np.float64), np.array(less, dtype=np.float64)
    return ((high - low) / (2.0 * step)).reshape(-1, 3, *high.shape[1:])


def internal_displacements(atoms: ase.Atoms) -> Float[np.ndarray, "coordinates internal"]:
    """An orthonormal basis of mass-weighted displacements that neither shift nor turn the molecule."""
    roots = np.sqrt(atoms.get_masses())
    arms = atoms.positions - atoms.get_center_of_mass()
    shifts = [roots[:, None] * np.eye(3)[axis] for axis in range(3)]
    turns = [roots[:, None] * np.cross(np.eye(3)[axis], arms) for axis in range(3)]
    # Turning a linear molecule about itself is no displacement; one that is relaxed or rounded is nearly linear.
    sizes = np.linalg.svd(np.reshape(turns, (3, -1)), compute_uv=False)
    left, _, _ = np.linalg.svd(np.reshape(shifts + turns, (6, -1)).T, full_matrices=True)
    return left[:, 3 + int((sizes > _LINEAR * sizes[0]).sum()) :]
