"""What spectra are made of: forces, dipoles and polarizabilities of structures, from a model or from anything else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import ase
import numpy as np
import torch
from jaxtyping import Float

from neural_polarization.charges import total_charge
from neural_polarization.field_derivatives import born_charges, responding
from neural_polarization.interfaces.prediction import predict
from neural_polarization.knowledge import Watch
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import Predictor


@dataclass(frozen=True)
class Values:
    """What is known of one structure.

    Attributes:
        energy: Energy, eV.
        forces: Forces (atoms, 3), eV/Angstrom.
        dipole: Dipole (3,), e*Angstrom, of an ion about its centre of mass; or None.
        polarizability: Polarizability (3, 3), Angstrom^3, or None.
    """

    energy: float
    forces: Float[np.ndarray, "atoms 3"]
    dipole: Float[np.ndarray, "3"] | None = None
    polarizability: Float[np.ndarray, "3 3"] | None = None


Surface: TypeAlias = Callable[[Sequence[ase.Atoms]], list[Values]]
"""A function that gives the values of structures."""

PolarTensors: TypeAlias = Callable[[ase.Atoms], Float[np.ndarray, "atoms 3 3"]]
"""A function that gives Born charges of a structure: index (atom, direction moved, component of the dipole), e."""


@dataclass(frozen=True)
class Names:
    """Names of a model's properties that spectra are made of; None where there is no such property."""

    energy: str
    dipole: str | None
    polarizability: str | None

    @classmethod
    def of(cls, model: Predictor) -> "Names":
        """The names among what a model predicts.

        Raises:
            ValueError: for a model without forces, or with neither dipole nor polarizability.
        """
        known = model.predictions
        energies = [name for name, kind in known.items() if kind.forces]
        dipoles = [name for name, kind in known.items() if kind.dipole]
        tensors = [name for name, kind in known.items() if kind.shape == (3, 3)]
        if not energies:
            raise ValueError(
                f"spectrum: this model has no forces (it predicts {', '.join(known)}), which vibrations need; take one "
                "with an energy that has them (`forces: true`)"
            )
        if not dipoles and not tensors:
            raise ValueError(
                "spectrum: this model has neither a dipole, from which infrared intensities come, nor a "
                "polarizability, from which Raman intensities come; train one with such a head"
            )
        return cls(energies[0], dipoles[0] if dipoles else None, tensors[0] if tensors else None)


def surface_of(model: Predictor, names: Names, batch_size: int = 64, watch: Watch | None = None) -> Surface:
    """The values that a model predicts.

    Args:
        model: Model with forces, in double precision: second derivatives are differences.
        names: Names of its properties.
        batch_size: Number of structures at a time.
        watch: Says what lies outside of the training; by default a new one.
    """
    asked = [name for name in (names.energy, names.dipole, names.polarizability) if name is not None]
    watch = watch or Watch()

    def surface(structures: Sequence[ase.Atoms]) -> list[Values]:
        found: list[Values] = []
        for one in predict(model, structures, batch_size, asked, watch):
            assert one.forces is not None
            values = one.properties
            found.append(
                Values(
                    float(values[names.energy]),
                    one.forces,
                    None if names.dipole is None else values[names.dipole] + _of_net_charge(one.atoms),
                    None if names.polarizability is None else values[names.polarizability],
                )
            )
        return found

    return surface


def _of_net_charge(atoms: ase.Atoms) -> Float[np.ndarray, "3"]:
    """What the dipole of an ion gains, e*Angstrom, if it is taken about the centre of mass, which no vibration moves.

    A model's is about the centre of nuclear charge, which moves as nuclei do. A neutral molecule has one dipole.
    """
    centre = atoms.numbers @ atoms.positions / atoms.numbers.sum()
    return total_charge(atoms) * (centre - atoms.get_center_of_mass())


def polar_tensors_of(model: Predictor) -> PolarTensors | None:
    """Born charges of a model with a response, by autograd; None for a model without."""
    if not model.sees_field:
        return None
    energy = responding(model)
    weight = next(model.parameters())

    def polar_tensors(atoms: ase.Atoms) -> Float[np.ndarray, "atoms 3 3"]:
        molecules = Molecules.from_ase(atoms, model.cutoff, weight.dtype).to(weight.device)
        return born_charges(energy, molecules).to(device="cpu", dtype=torch.float64).numpy()

    return polar_tensors
