"""Predictions for structures: every property that a model has, forces, stress, and where the electron clouds are."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from neural_polarization.charges import frame_field, total_charge
from neural_polarization.field_derivatives import born_charges, responding
from neural_polarization.knowledge import Departure, Outside, Watch
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import Predictor, evaluating
from neural_polarization.properties import BORN_CHARGES, DISPLACEMENT, FORCES, STRESS
from neural_polarization.structures import check_structure
from neural_polarization.structures.smiles import embedded_molecule, molecule_atoms


@dataclass(frozen=True)
class Prediction:
    """What a model says of one structure.

    Attributes:
        atoms: the structure.
        properties: internal units, by name; arrays without axes for numbers. What is not defined for a periodic
            system (dipoles, for instance) is not there.
        displacement: of the electron clouds from their nuclei, (atoms, 3), Angstrom.
        forces: (atoms, 3), eV/Angstrom, if the model has them.
        outside: how the structure lies outside of what the model was trained on; empty where it does not.
        stress: xx, yy, zz, yz, xz, xy as in ASE, eV/Angstrom^3, if the model has forces and the structure repeats in a
            cell with a volume.
        born_charges: (atoms, 3, 3), e, where they were asked for: (atom, direction moved, component of the dipole).
        of_atoms: properties of atoms such as charges, (atoms, ...), internal units, by name.
    """

    atoms: ase.Atoms
    properties: Mapping[str, NDArray[np.float64]]
    displacement: NDArray[np.float64]
    forces: NDArray[np.float64] | None
    outside: tuple[Departure, ...] = ()
    stress: NDArray[np.float64] | None = None
    born_charges: NDArray[np.float64] | None = None
    of_atoms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])


def predict(
    model: Predictor,
    structures: ase.Atoms | Sequence[ase.Atoms],
    batch_size: int = 64,
    properties: Collection[str] | None = None,
    watch: Watch | None = None,
    with_born_charges: bool = False,
) -> list[Prediction]:
    """Predictions for some structures; what lies outside of the model's training is an `OutsideTrainingWarning`.

    Args:
        model: on any device.
        structures: one or several molecules or periodic systems.
        batch_size: structures at a time.
        properties: names of those that are predicted, by default all that are defined for the structure.
        watch: says what lies outside of the training; by default a new one. `Watch(strict=True)` makes it an error.
        with_born_charges: whether Born charges are computed too, which takes a second pass.

    Raises:
        TypeError: for anything else than structures, such as the name of a file.
        ValueError: for an element that the model was not made for or has not learned, a structure that cannot be, a
            batch size below 1, Born charges of a model without a response, a property that is asked for by its name
            and not defined for a periodic system, or a prediction that is not finite.
    """
    if isinstance(structures, ase.Atoms):
        structures = [structures]
    for number, frame in enumerate(structures):
        if not isinstance(frame, ase.Atoms):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"structure {number} is a {type(frame).__name__}; expected ase.Atoms or a list of them: "
                "`npol.predict` and `structures.read_structures` take a file"
            )
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    if with_born_charges:
        responding(model)
    check_elements(model, structures)
    weight = next(model.parameters())
    of_crystals = [name for name, kind in model.predictions.items() if kind.periodic]
    found: dict[int, Prediction] = {}
    outside: list[Outside] = []
    with evaluating(model):
        for periodic in (False, True):
            which = [k for k, frame in enumerate(structures) if bool(frame.pbc.any()) == periodic]
            names = of_crystals if periodic and properties is None else properties
            for start in range(0, len(which), batch_size):
                batch = which[start : start + batch_size]
                chosen = {f"structure {k}": structures[k] for k in batch}
                predictions, strange = _predict(model, chosen, weight, names, with_born_charges)
                found.update(zip(batch, predictions, strict=True))
                outside += strange
    watch = watch or Watch()
    if model.knowledge is not None:
        watch.tell(model.knowledge, outside, _blind(model))
    watch.say(unseen_charges(model, structures))
    return [found[k] for k in range(len(structures))]


def _predict(
    model: Predictor,
    named: Mapping[str, ase.Atoms],
    like: torch.Tensor,
    properties: Collection[str] | None,
    with_born_charges: bool,
) -> tuple[list[Prediction], list[Outside]]:
    """Predictions for one batch of structures by what errors call them, and what lies outside of the training."""
    frames = list(named.values())
    molecules = Molecules.from_ase(frames, model.cutoff, like.dtype, list(named)).to(like.device)
    with torch.no_grad():
        values, displacement = model.with_displacement(
            molecules, properties=properties, stress=molecules.volume is not None
        )
    charges = born_charges(responding(model), molecules) if with_born_charges else None
    volumes = None if STRESS not in values else molecules.volume
    outside = model.knowledge.outside(molecules, values) if model.knowledge is not None else {}
    values = _about_origin(model, values, frames, like.dtype)
    offsets = np.cumsum([0] + [len(frame) for frame in frames])
    of_molecules = [name for name in values if name in model.predictions and not model.predictions[name].per_atom]
    of_atoms = [name for name in values if name in model.predictions and model.predictions[name].per_atom]
    predictions: list[Prediction] = []
    for k, frame in enumerate(frames):
        rows = slice(int(offsets[k]), int(offsets[k + 1]))
        prediction = Prediction(
            atoms=frame,
            properties={name: _array(values[name][k]) for name in of_molecules},
            displacement=_array(displacement[rows]),
            forces=_array(values[FORCES][rows]) if FORCES in values else None,
            outside=outside[k].departures if k in outside else (),
            stress=_array(values[STRESS][k]) if volumes is not None and bool(volumes[k] > 0.0) else None,
            born_charges=None if charges is None else _array(charges[rows]),
            of_atoms={name: _array(values[name][rows]) for name in of_atoms},
        )
        _check_finite(prediction)
        predictions.append(prediction)
    return predictions, list(outside.values())


def _about_origin(
    model: Predictor, values: Mapping[str, torch.Tensor], frames: Sequence[ase.Atoms], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Predictions with the energies of ions in fields about the origin of the coordinates of the structures.

    In single precision each structure is about its own centre c, and the energy of an ion lacks -Q F.c.
    """
    found = dict(values)
    if not model.sees_field or dtype == torch.float64:
        return found
    lacking = [-total_charge(frame) * (frame_field(frame, "structure") @ frame.positions.mean(0)) for frame in frames]
    for name in found:
        if name in model.predictions and model.predictions[name].forces:
            found[name] = found[name].double() + torch.tensor(lacking, dtype=torch.float64, device=found[name].device)
    return found


def _check_finite(prediction: Prediction) -> None:
    arrays = {**prediction.properties, **prediction.of_atoms, DISPLACEMENT: prediction.displacement}
    if prediction.forces is not None:
        arrays[FORCES] = prediction.forces
    if prediction.stress is not None:
        arrays[STRESS] = prediction.stress
    if prediction.born_charges is not None:
        arrays[BORN_CHARGES] = prediction.born_charges
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"the model predicts {name} that are not finite for {prediction.atoms.get_chemical_formula()}; the "
                "structure lies far outside of what it was trained on, or its training diverged"
            )


def from_smiles(smiles: str) -> ase.Atoms:
    """A structure of a SMILES, relaxed in a force field; `info["smiles"]` remembers it.

    Raises:
        ImportError: without RDKit.
        ValueError: for a SMILES that cannot be read or embedded.
    """
    with contextlib.suppress(ImportError):
        from rdkit import rdBase

        rdBase.DisableLog("rdApp.*")  # what it reports becomes the one line of our error
    atoms = molecule_atoms(embedded_molecule(smiles, "--smiles"), "--smiles")
    check_structure(atoms, f"--smiles {smiles}")
    atoms.info["smiles"] = smiles
    return atoms


def check_elements(model: Predictor, structures: Sequence[ase.Atoms], names: Sequence[str] = ()) -> None:
    """Makes sure that a model knows every element.

    Args:
        model: with or without knowledge of its training.
        structures: what it is asked about.
        names: what errors call each structure; by default its number.

    Raises:
        ValueError: naming the structure and the element that the model does not know, or that it names although no
            training structure had it.
    """
    elements = model.elements
    unlearned = model.knowledge.missing_elements if model.knowledge is not None else ()
    for k, frame in enumerate(structures):
        symbols = {str(symbol) for symbol in frame.symbols}
        where = f"{names[k] if names else f'structure {k}'} ({frame.get_chemical_formula()})"
        strange = sorted(symbols - set(elements))
        if strange:
            raise ValueError(
                f"{where} contains {', '.join(strange)}, but the model was trained for {', '.join(elements)} only; "
                "leave it out or train on such molecules"
            )
        strange = sorted(symbols & set(unlearned))
        if strange:
            raise ValueError(
                f"{where} contains {', '.join(strange)}, which the model names, but no training structure had; leave "
                "it out or train on such molecules"
            )


def _blind(model: Predictor) -> list[str]:
    """Properties that do not depend on the total charge."""
    return [name for name, kind in model.predictions.items() if not kind.sees_charge]


def unseen_charges(model: Predictor, structures: Sequence[ase.Atoms]) -> str | None:
    """What to tell of structures with a charge where heads of the model do not see it, or None.

    Dipoles take the total charge into account; everything else is the same for a molecule and its ion. Where it is
    known which charges the model was trained on, others are told apart from it (`Watch.tell`), and a single one is
    what its values are for.
    """
    seen = model.knowledge.charges if model.knowledge is not None else None
    charges = [float(total_charge(frame)) for frame in structures]
    charged = sum(bool(charge) and (seen is None or (charge in seen and len(seen) > 1)) for charge in charges)
    blind = _blind(model)
    if not charged or not blind:
        return None
    return (
        f"structures with a charge: {charged} of {len(structures)}; {', '.join(blind)} of this model "
        f"{'does' if len(blind) == 1 else 'do'} not depend on it: a molecule and its ion get the same values"
    )


def undefined_moments(model: Predictor, structures: Sequence[ase.Atoms]) -> str | None:
    """What to tell of periodic structures where properties of the model are not defined for them, or None."""
    periodic = sum(bool(frame.pbc.any()) for frame in structures)
    undefined = [name for name, kind in model.predictions.items() if not kind.periodic]
    if not periodic or not undefined:
        return None
    return (
        f"periodic structures: {periodic} of {len(structures)}; {', '.join(undefined)} "
        f"{'is' if len(undefined) == 1 else 'are'} not defined for them: left out"
    )


def internal_unit(unit: str) -> str:
    """The unit in which a value is written, of the dimension of a customary one: no thousandths.

    Errors are shown in meV; energies themselves are better read in eV.

    Example:
        >>> internal_unit("meV/Angstrom"), internal_unit("cal/mol/K")
        ('eV/Angstrom', 'cal/mol/K')
    """
    plain: dict[str, str] = {"meV": "eV", "meV/Angstrom": "eV/Angstrom", "mD": "D"}
    return plain.get(unit, unit)


def _array(value: torch.Tensor) -> NDArray[np.float64]:
    return value.detach().cpu().double().numpy()
