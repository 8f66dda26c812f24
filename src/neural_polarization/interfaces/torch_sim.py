"""A model behind torch-sim's interface: dynamics and relaxation of many systems in one batch.

torch-sim needs Python 3.12 or later: pip install 'neural-polarization[torchsim]'.
"""

import warnings
from collections.abc import Collection
from pathlib import Path

import ase
import torch
from torch import Tensor

from neural_polarization.interfaces.devices import checked_device
from neural_polarization.interfaces.exported import for_simulation
from neural_polarization.interfaces.prediction import check_elements
from neural_polarization.knowledge import Watch
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import Predictor
from neural_polarization.properties import DISPLACEMENT, FORCES, STRESS

try:
    from torch_sim.models.interface import ModelInterface  # pyright: ignore[reportMissingImports]
    from torch_sim.state import SimState  # pyright: ignore[reportMissingImports]
except ImportError:
    raise ImportError(
        "torch-sim is not installed; it needs Python 3.12 or later: pip install 'neural-polarization[torchsim]'"
    ) from None

_VOIGT = torch.tensor([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Place of each component of a stress among xx, yy, zz, yz, xz, xy."""


class TorchSimModel(ModelInterface):  # pyright: ignore[reportUntypedBaseClass]
    """A model as torch-sim calls it: energies, forces and stresses of a batch of systems.

    States are in double precision, as in ASE; `double` says in what the network computes. Beside what torch-sim asks
    for, each state keeps `displacement`, (atoms, 3), Angstrom, where the electron clouds are relative to their nuclei,
    and, for molecules, `dipole`, (systems, 3), e*Angstrom. Molecules, crystals, slabs and wires are understood. A state
    may have `charge`, e, and `spin`, unpaired electrons, of each system (torch-sim's `system_extras_map`). One without
    them, which a model takes as inputs, is neutral, with as few unpaired electrons as there can be; a warning says so.

    Args:
        model: a model, which is copied, its checkpoint, or an exported file (.pt2), which computes one system after the
            other. An exported file is a program: load one only if you trust its source.
        energy: name of the property that is the energy; by default the one that has forces.
        device: where to compute.
        double: whether the network computes in double precision.
        stress: whether to compute stresses, which cells that relax or move need; they are NaN for molecules.
        strict: whether systems outside of the model's training are errors. Otherwise each departure is warned of once.
        trust: modules of networks of one's own that a checkpoint may import (see `load_model`).
        save_memory: whether to take less memory and more time, for large batches (`polarization.save_memory`).

    Raises:
        ValueError: if the model has no such energy with forces, there is no such device, or the model is exported and
            `save_memory` is set.

    Example:
        >>> import torch_sim as ts  # doctest: +SKIP
        >>> final = ts.integrate(
        ...     [ethanol, water],
        ...     TorchSimModel("model.safetensors"),
        ...     integrator=ts.Integrator.nve,
        ...     n_steps=100,
        ...     timestep=0.0005,
        ...     temperature=300,
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Predictor | str | Path,
        energy: str | None = None,
        device: torch.device | str = "cpu",
        double: bool = False,
        stress: bool = True,
        strict: bool = False,
        trust: Collection[str] = (),
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        self._device, self._dtype = checked_device(device), torch.float64
        self.model = for_simulation(model, self._device, double, trust, save_memory).requires_grad_(False)
        self._watch = Watch(strict)
        self._compute_forces, self._compute_stress = True, stress
        known = self.model.predictions
        energies = [name for name, kind in known.items() if kind.forces]
        if not energies or (energy is not None and energy not in energies):
            raise ValueError(
                f"energy: the model has no energy {energy or ''!r} with forces (it has {', '.join(known)}); dynamics "
                "need one: train it with `forces: true`"
            )
        self.energy = energy or energies[0]
        dipoles = [name for name, kind in known.items() if kind.dipole]
        self.dipole = dipoles[0] if dipoles else None
        kind = known[self.energy]
        self._inputs = [name for name, seen in (("charge", kind.sees_charge), ("spin", kind.sees_spin)) if seen]

    def forward(self, state: SimState, **kwargs: object) -> dict[str, Tensor]:
        """Energy (systems), eV, forces (atoms, 3), eV/Angstrom, stress (systems, 3, 3), eV/Angstrom^3, and the rest.

        Raises:
            ValueError: for a state in single precision or in an electric field, a charge or spin that is no whole
                number of a possible size, an element that the model has not learned, or systems that cannot be (as
                `Molecules`).
        """
        periodic = bool(state.pbc.any())
        molecules = self._molecules(state, periodic)
        names = [self.energy] if self.dipole is None or periodic else [self.energy, self.dipole]
        with torch.no_grad():
            values, displacement = self.model.with_displacement(
                molecules, properties=names, stress=self._compute_stress and molecules.volume is not None
            )
        if self.model.knowledge is not None:
            blind = [name for name in names if not self.model.predictions[name].sees_charge]
            self._watch.tell(self.model.knowledge, self.model.knowledge.outside(molecules, values).values(), blind)
        found = {"energy": values[self.energy], "forces": values[FORCES], DISPLACEMENT: displacement}
        if self.dipole in values:
            found["dipole"] = values[self.dipole]
        if self._compute_stress:
            missing = displacement.new_full((molecules.num_molecules, 6), float("nan"))
            found["stress"] = values.get(STRESS, missing)[:, _VOIGT.to(self._device)]
        return {name: value.to(self._dtype) for name, value in found.items()}

    def _molecules(self, state: SimState, periodic: bool) -> Molecules:
        """The systems of a state, with their neighbours. Nothing is kept: systems come and go between two calls."""
        if state.positions.dtype != self._dtype:
            raise ValueError(
                f"state: its positions are in {state.positions.dtype}, in which energies do not keep their digits; "
                "make it with dtype=torch.float64 (the network computes in its own precision)"
            )
        if getattr(state, "external_field", None) is not None:
            raise ValueError(
                "external_field: torch-sim runs without fields; leave it out of the state, or run each system with "
                "`NeuralPolarizationCalculator`"
            )
        sizes = torch.bincount(state.system_idx).tolist()
        numbers, positions = state.atomic_numbers.long(), state.positions.detach()
        check_elements(self.model, [ase.Atoms(numbers.unique().cpu().numpy())], ["state"])
        charge, spin = _whole(state, "charge"), _whole(state, "spin")
        self._warn_of_inputs(state)
        if periodic:
            cells = state.cell.mT.detach().cpu().numpy()  # torch-sim has lattice vectors in columns
            frames = [
                ase.Atoms(number.cpu().numpy(), place.cpu().numpy(), cell=cell, pbc=state.pbc.cpu().numpy())
                for number, place, cell in zip(numbers.split(sizes), positions.split(sizes), cells, strict=True)
            ]
            for name, values in (("charge", charge), ("spin", spin)):
                for k, frame in enumerate(frames):
                    if values is not None:
                        frame.info[name] = float(values[k])
            names = [f"system {k}" for k in range(len(frames))]
            molecules = Molecules.from_ase(frames, self.model.cutoff, torch.float64, names)
        else:
            molecules = Molecules.from_arrays(numbers, positions, self.model.cutoff, sizes, charge, spin=spin)
        return molecules.to(self._device, next(self.model.parameters()).dtype)

    def _warn_of_inputs(self, state: SimState) -> None:
        """Warns once of inputs that a state does not have: torch-sim leaves `atoms.info` out unless it is asked."""
        missing = [name for name in self._inputs if getattr(state, name, None) is None]
        self._inputs = [name for name in self._inputs if name not in missing]
        if missing:
            warnings.warn(
                f"the state has no {' and no '.join(missing)}, which this model takes as input: its systems are taken "
                "for neutral ones with as few unpaired electrons as there can be. Make it with `torch_sim.io."
                "atoms_to_state(frames, system_extras_map={'charge': 'charge', 'spin': 'spin'})`, with both in the "
                "`info` of every structure: torch-sim leaves out what one of them lacks",
                stacklevel=4,
            )


def _whole(state: SimState, name: str) -> Tensor | None:
    """Charges or numbers of unpaired electrons of the systems of a state, or None."""
    values = getattr(state, name, None)
    if values is None:
        return None
    values = values.to(state.positions)
    if values.shape != (state.n_systems,):
        raise ValueError(f"{name}: has shape {tuple(values.shape)}; expected ({state.n_systems},), one for each system")
    if not torch.equal(values, values.round()):
        system = int((values != values.round()).nonzero()[0, 0])
        raise ValueError(
            f"{name} of system {system} is {float(values[system]):g}; expected a whole number for each system"
        )
    return values
