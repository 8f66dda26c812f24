"""An ASE calculator: energies, forces and dipoles for optimization, dynamics and vibrations."""

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import ase
import torch
from ase.calculators.calculator import Calculator, all_changes

from neural_polarization.charges import total_charge
from neural_polarization.checkpoints import load_model
from neural_polarization.interfaces.devices import checked_device
from neural_polarization.interfaces.prediction import DISPLACEMENT, predict
from neural_polarization.knowledge import Watch
from neural_polarization.models import Predictor


class NeuralPolarizationCalculator(Calculator):
    """A model behind ASE's interface.

    Results are in ASE's units: eV, eV/Angstrom, e*Angstrom. Beside ASE's own properties `results` has
    `displacement`, (atoms, 3), Angstrom: where the electron clouds are relative to their nuclei. Molecules and fully
    periodic systems are understood; there is no stress, and no dipole of what is periodic. The total charge is
    `atoms.info["charge"]`, e, or the sum of the initial charges (`charges.total_charge`); only dipoles depend on it.

    Args:
        model: a model, which is copied, or its checkpoint; a model of another package that was polarized serves too, if
            its unit of energy is the eV.
        energy: name of the property that is the energy; by default the one that has forces, or "energy".
        device: where to compute.
        double: whether to compute in double precision, which smooth vibrations and conserved energies need.
        strict: whether structures outside of the model's training are errors. Otherwise each departure (a composition,
            a charge, periodicity, size, atoms nearer than any in training) is warned of once.
        trust: modules of networks of one's own that a checkpoint may import (see `load_model`).

    Raises:
        ValueError: if the model has no such energy, it is not one number per molecule, or there is no such device.

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
        trust: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._watch = Watch(strict)
        # A copy: whoever gave the model may go on training it, in its own precision.
        loaded = copy.deepcopy(model) if isinstance(model, Predictor) else load_model(model, trust)[0]
        self.model = loaded.to(checked_device(device), torch.float64 if double else None).eval()
        known = self.model.predictions
        with_forces = [name for name, kind in known.items() if kind.forces]
        named = energy is not None
        self.energy = energy or (with_forces[0] if with_forces else "energy")
        dipoles = [name for name, kind in known.items() if kind.dipole]
        self.dipole = dipoles[0] if dipoles else None
        if self.energy not in known and (named or not dipoles):
            raise ValueError(
                f"energy: the model has no property {self.energy!r} (it has {', '.join(known)}); name the one that is "
                "the energy"
            )
        if self.energy in known and known[self.energy].shape != ():
            what = "a dipole" if known[self.energy].dipole else f"of shape {known[self.energy].shape}"
            raise ValueError(
                f"energy: {self.energy!r} is {what}, not one number per molecule; name the property that is the energy"
            )
        self.implemented_properties = [
            *(["energy", "free_energy"] if self.energy in known else []),
            *(["forces"] if self.energy in with_forces else []),
            *(["dipole"] if self.dipole else []),
        ]

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE itself does not look at the total charge."""
        changes: list[str] = list(super().check_state(atoms, tol))
        if isinstance(self.atoms, ase.Atoms) and total_charge(self.atoms) != total_charge(atoms):
            changes.append("charge")
        return changes

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Called by ASE when something is asked for and the atoms have changed."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert isinstance(self.atoms, ase.Atoms)
        (prediction,) = predict(self.model, [self.atoms], watch=self._watch)
        results: dict[str, Any] = {DISPLACEMENT: prediction.displacement}
        if "energy" in self.implemented_properties:
            results["energy"] = results["free_energy"] = float(prediction.properties[self.energy])
        if "forces" in self.implemented_properties:
            results["forces"] = prediction.forces
        if self.dipole is not None and self.dipole in prediction.properties:  # in a crystal it is not
            results["dipole"] = prediction.properties[self.dipole]
        self.results = results
