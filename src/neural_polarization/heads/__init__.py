"""Heads predict a property of the molecule from the features of both points of every atom."""

from neural_polarization.heads.atomic_charges import AtomicCharges
from neural_polarization.heads.density import DensityHead
from neural_polarization.heads.dipole import Dipole, DipoleMagnitude
from neural_polarization.heads.dipole_flow import BalancedDipole, FlowDipole
from neural_polarization.heads.head import Head, Widths
from neural_polarization.heads.in_field import DIPOLES, FieldNames
from neural_polarization.heads.polarizability import BondPolarizability, Polarizability
from neural_polarization.heads.scalar import Extensive, Intensive
from neural_polarization.heads.spatial_extent import SpatialExtent

HEADS: dict[str, type[Head]] = {
    "extensive": Extensive,
    "intensive": Intensive,
    "dipole": Dipole,
    "dipole_balanced": BalancedDipole,
    "dipole_flow": FlowDipole,
    "dipole_magnitude": DipoleMagnitude,
    "polarizability": Polarizability,
    "polarizability_bonds": BondPolarizability,
    "spatial_extent": SpatialExtent,
    "atomic_charges": AtomicCharges,
}
"""Every kind of head, by its name in configurations and checkpoints."""

__all__ = [
    "DIPOLES",
    "HEADS",
    "AtomicCharges",
    "BalancedDipole",
    "BondPolarizability",
    "DensityHead",
    "Dipole",
    "DipoleMagnitude",
    "Extensive",
    "FieldNames",
    "FlowDipole",
    "Head",
    "Intensive",
    "Polarizability",
    "SpatialExtent",
    "Widths",
]
