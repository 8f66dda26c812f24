"""Electron densities as sums of Gaussian functions on points that need not be nuclei."""

from neural_polarization.density.density import Density, Nuclei
from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.flat import FlatShells

__all__ = ["Density", "FlatShells", "Gaussians", "Nuclei"]
