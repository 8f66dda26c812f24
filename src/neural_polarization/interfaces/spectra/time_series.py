"""Spectra from the course of dipole and polarizability in a dynamics."""

import math
from dataclasses import dataclass

import numpy as np
from ase import units
from jaxtyping import Float
from scipy import constants

from neural_polarization.interfaces.spectra.vibrations import INFRARED

SPEED_OF_LIGHT = constants.c * 1e-13
"""Speed of light, cm/fs: a wavenumber times it is a frequency in 1/fs."""

_PER_FS_SQUARED = units.fs**-2  # 1/fs^2 in eV/(Angstrom^2 amu), which is 1 over ASE's time squared


@dataclass(frozen=True)
class Curve:
    """A spectrum over wavenumbers; its integral over a band is what a harmonic spectrum gives for the mode.

    Attributes:
        wavenumbers: Wavenumbers, 1/cm, from zero on in equal steps.
        infrared: Absorption, km/mol per 1/cm, or None.
        raman: Raman activity, Angstrom^4/amu per 1/cm, or None.
    """

    wavenumbers: Float[np.ndarray, " points"]
    infrared: Float[np.ndarray, " points"] | None = None
    raman: Float[np.ndarray, " points"] | None = None


def curve_of_dynamics(
    dipoles: Float[np.ndarray, "steps 3"] | None,
    polarizabilities: Float[np.ndarray, "steps 3 3"] | None,
    timestep: float,
    temperature: float,
    resolution: float = 10.0,
) -> Curve:
    """Infrared and Raman spectrum of a classical dynamics, with the harmonic quantum correction.

    The Fourier transform of the autocorrelation of d mu/dt, divided by k T. This is the absorption
    (pi / (3 V epsilon_0 c hbar)) omega (1 - exp(-beta hbar omega)) C(omega), where the quantum correlation C is the
    classical one times the harmonic correction beta hbar omega / (1 - exp(-beta hbar omega)): the classical
    dynamics of a harmonic molecule gives its exact harmonic intensities. Raman activities are the same of d alpha/dt,
    45 of the isotropic part and 7 of the anisotropy.

    Args:
        dipoles: Dipole at each step, e*Angstrom, or None.
        polarizabilities: Polarizability at each step, Angstrom^3, or None.
        timestep: Time between two steps, fs.
        temperature: Temperature of the dynamics, K.
        resolution: Width of a sharp line, 1/cm: the series is cut into windows of that length, which overlap.

    Raises:
        ValueError: for a series that is too short for the resolution, neither series, or a temperature that is not
            positive.

    References:
        R. Ramirez et al., J. Chem. Phys. 121, 3973 (2004), for the correction; M. Thomas et al., Phys. Chem. Chem.
        Phys. 15, 6608 (2013), for spectra of d mu/dt and d alpha/dt.
    """
    given = [series for series in (dipoles, polarizabilities) if series is not None]
    if not given:
        raise ValueError("spectrum: neither dipoles nor polarizabilities are given")
    if not temperature > 0.0:
        raise ValueError(f"spectrum: expected a temperature above zero, got {temperature} K")
    window = check_length(len(given[0]), timestep, resolution)
    energy = temperature * units.kB
    infrared = raman = None
    if dipoles is not None:
        infrared = INFRARED / energy * _power(dipoles, timestep, window).sum(-1)
    if polarizabilities is not None:
        trace = np.trace(polarizabilities, axis1=-2, axis2=-1) / 3.0
        rest = polarizabilities - trace[:, None, None] * np.eye(3)
        isotropic = _power(trace[:, None], timestep, window).sum(-1)
        anisotropic = 1.5 * _power(rest.reshape(len(rest), 9), timestep, window).sum(-1)
        raman = (45.0 * isotropic + 7.0 * anisotropic) / energy
    wavenumbers = np.fft.rfftfreq(window, timestep) / SPEED_OF_LIGHT
    return Curve(wavenumbers, infrared, raman)


def window_length(timestep: float, resolution: float) -> int:
    """Number of steps of a window that resolves a wavenumber: a Hann window's line is 1.44 / length wide."""
    return int(np.ceil(1.44 / (resolution * SPEED_OF_LIGHT * timestep)))


def check_length(steps: int, timestep: float, resolution: float) -> int:
    """The window of a series (`window_length`), if the series is long enough for it.

    Args:
        steps: number of values of the series.
        timestep: time between two of them, fs.
        resolution: width of a sharp line, 1/cm.

    Raises:
        ValueError: for a series that is too short.
    """
    window = window_length(timestep, resolution)
    if steps < window + 1:
        raise ValueError(
            f"spectrum: {1e-3 * timestep * steps:g} ps are too short to resolve {resolution:g} 1/cm; give a dynamics "
            f"of {math.ceil(0.1 * timestep * (window + 1)) / 100:g} ps or more, or a larger width"
        )
    return window


def _power(
    series: Float[np.ndarray, "steps components"], timestep: float, window: int
) -> Float[np.ndarray, "points components"]:
    """One-sided power of the rate of change per 1/cm, (unit)^2 eV/(Angstrom^2 amu): its integral is the mean square."""
    rate = np.diff(series, axis=0) / timestep
    taper = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    starts = range(0, len(rate) - window + 1, max(1, window // 2))
    total = np.zeros((window // 2 + 1, series.shape[1]))
    for start in starts:
        part = rate[start : start + window]
        transformed = np.fft.rfft((part - part.mean(0)) * taper[:, None], axis=0)
        total += np.abs(transformed) ** 2
    total *= 2.0 * timestep * SPEED_OF_LIGHT / (len(starts) * (taper**2).sum())
    frequencies = np.fft.rfftfreq(window, timestep)
    # A difference of neighbours is the slope in the middle times sinc: it is undone, up to where noise would grow.
    damping = np.sinc(np.minimum(frequencies * timestep, 0.5)) ** 2
    return _PER_FS_SQUARED * total / damping[:, None]
