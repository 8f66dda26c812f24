"""An ASE calculator: energies, forces, stresses and dipoles for optimization, dynamics and vibrations."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import ase
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties, all_outputs

from neural_polarization.charges import LookAlikes, frame_field, settle_field, total_charge, unpaired_electrons
from neural_polarization.interfaces.devices import checked_device
from neural_polarization.interfaces.exported import for_simulation
from neural_polarization.interfaces.prediction import predict
from neural_polarization.knowledge import Watch
from neural_polarization.predictor import Predictor
from neural_polarization.properties import DISPLACEMENT, FIELD
from neural_polarization.units import COULOMB

BORN_EFFECTIVE_CHARGES = "born_effective_charges"
"""ASE's name of Born charges."""


class NeuralPolarizationCalculator(Calculator):
    """A model behind ASE's interface.

    Results are in ASE's units: eV, eV/Angstrom, eV/Angstrom^3, e*Angstrom. Beside ASE's own properties `results` has
    `displacement`, (atoms, 3), Angstrom: where the electron clouds are relative to their nuclei. Molecules, crystals,
    slabs and wires are understood. What repeats has no dipole. It has a stress if its cell has a volume, which is that
    with the vacuum for a slab, as everywhere in ASE. The total charge is `atoms.info["charge"]`, e, or the sum of the
    initial charges (`charges.total_charge`); only dipoles, and energies in a field, depend on it, unless it is an input
    of the network (`model.electronic`).

    A model with a response gives energies, forces and dipoles in a uniform electric field:
    `atoms.info["external_field"]` or, where that is not set, the calculator's own. The energy is that of molecule and
    field. Of a molecule it gives also, where they are asked for (`calculator.get_property`), `polarizability`, in ASE's
    unit e^2 Angstrom^2/eV, and `born_effective_charges`, e: (atom, direction moved, component of the dipole). For an
    ion the energy in a field refers to the origin of the coordinates, and its dipole to the centre of nuclear charge.

    Args:
        model: a model, which is copied, its checkpoint, or an exported file (.pt2). That is a program: load one only if
            you trust its source. A model of another package that was polarized serves too, if its unit of energy is
            the eV.
        energy: name of the property that is the energy; by default the one that has forces, or "energy".
        device: where to compute.
        double: whether to compute in double precision, which smooth vibrations and conserved energies need.
        strict: whether structures outside of the model's training are errors. Otherwise each departure (a composition,
            a charge, periodicity, size, atoms nearer than any in training) is warned of once.
        external_field: uniform electric field, V/Angstrom, for structures that have none of their own.
        trust: modules of networks of one's own that a checkpoint may import (see `load_model`).
        save_memory: whether to take less memory and more time, for large systems (`polarization.save_memory`).

    Raises:
        ValueError: if the model has no such energy, it is not one number per molecule, there is no such device, it has
            no response to a field that is given, or it is exported and `save_memory` is set.

    Example:
        >>> from ase.build import molecule
        >>> from neural_polarization.models import HeadConfig, Model, ModelConfig
        >>> model = Model(ModelConfig(("H", "O"), {"energy": HeadConfig("extensive", forces=True)}))
        >>> water = molecule("H2O", calculator=NeuralPolarizationCalculator(model))
        >>> water.get_forces().shape
        (3, 3)
    """

    def __init__(
        self,
        model: Predictor | str | Path,
        energy: str | None = None,
        device: torch.device | str = "cpu",
        double: bool = False,
        strict: bool = False,
        external_field: Sequence[float] | None = None,
        trust: Collection[str] = (),
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        self.watch = Watch(strict)
        self._surroundings: dict[str, Any] | None = None
        self._names_seen: set[str] = set()
        self.model = for_simulation(model, checked_device(device), double, trust, save_memory)
        self.external_field = external_field
        if external_field is not None and not self.model.sees_field:
            raise ValueError(
                "external_field: this model has no response to a field (an exported one never has); leave it out, or "
                "take the .safetensors file of a model with `response: quadratic` or `response: push_dual`"
            )
        known = self.model.predictions
        with_forces = [name for name, kind in known.items() if kind.forces]
        named = energy is not None
        self.energy = energy or (with_forces[0] if with_forces else "energy")
        dipoles = [name for name, kind in known.items() if kind.dipole]
        self.dipole = dipoles[0] if dipoles else None
        tensors = [name for name, kind in known.items() if kind.shape == (3, 3)]
        self.polarizability = tensors[0] if len(tensors) == 1 else None
        of_atoms = [name for name, kind in known.items() if kind.per_atom and kind.shape == ()]
        self.charges = of_atoms[0] if len(of_atoms) == 1 else None
        if self.energy not in known and (named or not dipoles):
            raise ValueError(
                f"energy: the model has no property {self.energy!r} (it has {', '.join(known)}); name the one that is "
                "the energy"
            )
        if self.energy in known and (known[self.energy].shape != () or known[self.energy].per_atom):
            what = "a dipole" if known[self.energy].dipole else f"of shape {known[self.energy].shape}"
            what = "one number per atom" if known[self.energy].per_atom else what
            raise ValueError(
                f"energy: {self.energy!r} is {what}, not one number per molecule; name the property that is the energy"
            )
        self.implemented_properties = [
            *(["energy", "free_energy"] if self.energy in known else []),
            *(["forces", "stress"] if self.energy in with_forces else []),
            *(["dipole"] if self.dipole else []),
            *(["polarizability"] if self.polarizability else []),
            *(["charges"] if self.charges else []),
            *([BORN_EFFECTIVE_CHARGES] if self.model.sees_field else []),
        ]

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE itself does not look at charges, spins and fields."""
        changes: list[str] = list(super().check_state(atoms, tol))
        if self._surroundings is not None:
            now = self._surroundings_of(atoms)
            changes += [name for name, value in self._surroundings.items() if now[name] != value]
        return changes

    def _surroundings_of(self, atoms: ase.Atoms) -> dict[str, Any]:
        """What decides about a result beside the atoms, in numbers: users change arrays in place."""
        return {
            "charge": total_charge(atoms),
            "spin": unpaired_electrons(atoms),
            "external_field": frame_field(self._in_field(atoms), "structure 0").tolist(),
        }

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Called by ASE when something is asked for and the atoms have changed."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert isinstance(self.atoms, ase.Atoms)
        self._surroundings = self._surroundings_of(self.atoms)
        self._warn_of_names(self.atoms)
        (prediction,) = predict(
            self.model,
            [self._in_field(self.atoms)],
            properties=self._names(self.atoms, properties),
            watch=self.watch,
            with_born_charges=BORN_EFFECTIVE_CHARGES in properties,
        )
        results: dict[str, Any] = {DISPLACEMENT: prediction.displacement}
        if self.energy in prediction.properties:  # a spatial extent, for instance, is not defined for a crystal
            results["energy"] = results["free_energy"] = float(prediction.properties[self.energy])
        if "forces" in self.implemented_properties:
            results["forces"] = prediction.forces
        if prediction.stress is not None:  # a molecule has none
            results["stress"] = prediction.stress
        if self.dipole is not None and self.dipole in prediction.properties:  # in a crystal it is not
            results["dipole"] = prediction.properties[self.dipole]
        if self.polarizability is not None and self.polarizability in prediction.properties:
            results["polarizability"] = prediction.properties[self.polarizability] / COULOMB
        if self.charges is not None and self.charges in prediction.of_atoms:
            results["charges"] = prediction.of_atoms[self.charges]
        if prediction.born_charges is not None:
            results[BORN_EFFECTIVE_CHARGES] = prediction.born_charges
        self.results = results

    def export_properties(self) -> Properties:
        """The results that ASE has a name for, for `atoms.get_properties`; others it refuses."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def _in_field(self, atoms: ase.Atoms) -> ase.Atoms:
        """The structure in its field, or in the calculator's where it has none."""
        if FIELD in atoms.info or (self.external_field is None and not atoms.info):
            return atoms
        atoms = atoms.copy()
        settle_field(atoms)
        if self.external_field is not None:
            atoms.info.setdefault(FIELD, self.external_field)
        return atoms

    def _warn_of_names(self, atoms: ase.Atoms) -> None:
        """Warns once of names in `atoms.info` that look like a charge, a spin or a field and are not used."""
        if not self._names_seen.issuperset(atoms.info):
            self._names_seen.update(atoms.info)
            look_alikes = LookAlikes("atoms.info")
            look_alikes.see(atoms.info, "atoms.info")
            look_alikes.warn()

    def _names(self, atoms: ase.Atoms, properties: Collection[str]) -> list[str] | None:
        """What is predicted: all there is; in a field the polarizability, which costs derivatives, on request."""
        if not self.model.sees_field:
            return None
        known, periodic = self.model.predictions, bool(atoms.pbc.any())
        wanted = (
            self.energy,
            self.dipole,
            self.polarizability if "polarizability" in properties else None,
            self.charges if "charges" in properties else None,
        )
        names = [name for name in wanted if name is not None and name in known]
        return [name for name in names if not periodic or known[name].periodic]
