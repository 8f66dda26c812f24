"""The labels: their names, units and definitions. Files carry this text with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Definition:
    """What one label is.

    Attributes:
        unit: of the stored numbers.
        meaning: definition, with the origin or sign where there is a choice.
    """

    unit: str
    meaning: str


DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        "energy": Definition("eV", "total electronic energy with nuclear repulsion; in a field, of molecule and field"),
        "forces": Definition("eV/Angstrom", "minus the derivative of the energy by the nuclei, (atoms, 3)"),
        "dipole": Definition("e*Angstrom", "from negative to positive, about the centre of nuclear charge, (3)"),
        "quadrupole": Definition(
            "e*Angstrom^2", "sum of q (3 r r - r^2) / 2 about the centre of nuclear charge, traceless, (3, 3)"
        ),
        "spatial_extent": Definition(
            "Angstrom^2", "integral of the density times r^2 about the centre of nuclear charge (QM9: R2)"
        ),
        "homo": Definition("eV", "energy of the highest occupied orbital of either spin"),
        "lumo": Definition("eV", "energy of the lowest empty orbital of either spin"),
        "gap": Definition("eV", "lumo - homo"),
        "polarizability": Definition("Angstrom^3", "static dipole polarizability as a volume, (3, 3)"),
        "mulliken_charges": Definition("e", "nuclear charge less Mulliken population, (atoms)"),
        "hirshfeld_charges": Definition("e", "nuclear charge less Hirshfeld's share of the density, (atoms)"),
        "centroid_positions": Definition(
            "Angstrom", "mean positions of Boys-localized occupied orbitals, (orbitals, 3)"
        ),
        "centroid_occupations": Definition("e", "electrons in each localized orbital, (orbitals)"),
        "centroid_spreads": Definition("Angstrom", "root of <r^2> - <r>^2 of each localized orbital, (orbitals)"),
        "centroid_owners": Definition(
            "1", "the two atoms of the bond, or one atom twice (core, lone pair), by population, (orbitals, 2)"
        ),
        "density_points": Definition("Angstrom", "quadrature points of the density sample, (points, 3)"),
        "density_weights": Definition("Angstrom^3", "quadrature weights of the density sample, (points)"),
        "density_values": Definition("e/Angstrom^3", "electron density at the points, (points)"),
        "density_matrix": Definition(
            "1", "lower triangle, row by row, of the density matrix in PySCF's functions of the level, both spins"
        ),
    }
)
"""Every label that `compute` makes."""
