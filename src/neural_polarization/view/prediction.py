"""Scenes of molecules with their electrons, and of what a model predicts: also the moving points, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import ase
import numpy as np
import torch

from neural_polarization.predictor import Predictor

from ..charges import total_charge
from ..density.density import Density
from ..density.free_atoms import known_elements
from ..density.grids import grid_around
from ..interfaces.electrons import KINDS, predict_density
from ..interfaces.outputs import in_unit
from ..interfaces.prediction import Prediction, predict
from ..models import Model
from ..molecules import Molecules
from ..units import DEBYE
from .scene import Array, Grid, Scene

STILL = 1e-6
"""Displacements (Angstrom) of which none is longer are not drawn: the network is not polarized."""


def scenes_of(
    model: Predictor, structures: Sequence[ase.Atoms], units: Mapping[str, str], spacing: float = 0.15
) -> list[Scene]:
    """A scene of each structure, from one model.

    Density, deformation density and potential are there where the model predicts a density and the structure is a
    molecule; a model without one gets balls, sticks and moving points.

    Args:
        model: on any device.
        structures: molecules or periodic systems, of which the atoms are shown.
        units: customary unit of each property, as `Checkpoint.units` gives them.
        spacing: of the grids, Angstrom.

    Raises:
        ValueError: for an element that the model was not made for, or a grid of too many points.
    """
    predictions = predict(model, structures)
    return [_scene(model, prediction, units, spacing) for prediction in predictions]


def scene_of_density(atoms: ase.Atoms, density: Density, spacing: float = 0.15) -> Scene:
    """A scene of a molecule and a density of any origin: of labels, of a calculation, of a model.

    Args:
        atoms: the molecule with its charge (`charges.total_charge`); `atoms.info` may hold "name" or "smiles" for the
            title.
        density: of this one molecule, with its nuclei where the atoms are. There is no deformation density of
            elements without a free atom (`free_atoms.known_elements`).
        spacing: of the grids, Angstrom.

    Raises:
        ValueError: for a density of other nuclei, or a grid of too many points.
    """
    density.nuclei.check_same(torch.from_numpy(atoms.numbers), torch.from_numpy(atoms.positions), "the structure")
    around = grid_around(density, spacing)
    points = around.points()
    kinds = ["total", "potential"]
    if set(atoms.symbols) <= set(known_elements()):
        kinds.append("deformation")
    grids = {
        kind: Grid(
            np.array(around.origin),
            around.spacing * np.eye(3),
            KINDS[kind].values(density, points).numpy().astype(np.float64).reshape(around.shape),
        )
        for kind in kinds
    }
    return replace(
        _bare(atoms),
        dipole=density.dipole[0].numpy(),
        density=grids["total"],
        deformation=grids.get("deformation"),
        potential=grids["potential"],
    )


def _bare(atoms: ase.Atoms) -> Scene:
    return Scene(
        title=str(atoms.info.get("name") or atoms.info.get("smiles") or atoms.get_chemical_formula()),
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        charge=total_charge(atoms),
    )


def _scene(model: Predictor, prediction: Prediction, units: Mapping[str, str], spacing: float) -> Scene:
    atoms = prediction.atoms
    density = None
    if isinstance(model, Model) and model.density_head is not None and not atoms.pbc.any():
        density = predict_density(model, atoms)
    if density is not None:
        scene = scene_of_density(atoms, density, spacing)
    else:
        dipole = prediction.properties.get("dipole")
        scene = replace(_bare(atoms), dipole=None if dipole is None or dipole.shape != (3,) else dipole)
    charges = [value for value in prediction.of_atoms.values() if value.ndim == 1]
    return replace(
        scene,
        moving_points=_moving_points(model, prediction),
        charges=charges[0] if len(charges) == 1 else None,
        properties=_shown(prediction, units, density),
    )


def _moving_points(model: Predictor, prediction: Prediction) -> Array | None:
    """Positions after every layer, (layers, atoms, 3); after the last one where a model does not tell the others."""
    if np.abs(prediction.displacement).max() < STILL:
        return None
    trajectory = prediction.displacement[None]
    if isinstance(model, Model):
        weight = next(model.parameters())
        molecules = Molecules.from_ase(prediction.atoms, model.cutoff, weight.dtype).to(weight.device)
        with torch.no_grad():
            trajectory = model.trajectory(molecules)[1:].cpu().double().numpy()
    return prediction.atoms.positions + trajectory


def _shown(prediction: Prediction, units: Mapping[str, str], density: Density | None) -> dict[str, str]:
    """Numbers of a page's table: a value as it is, the length of a vector, a third of the trace of a tensor."""
    shown: dict[str, str] = {}
    for name, value in prediction.properties.items():
        number, unit = in_unit(name, value, units)
        match number.shape:
            case ():
                shown[name] = f"{float(number):.6g} {unit}"
            case (3,):
                shown[f"{name}, length"] = f"{float(np.linalg.norm(number)):.4g} {unit}"
            case (3, 3):
                shown[f"{name}, isotropic"] = f"{float(np.trace(number)) / 3:.4g} {unit}"
            case _:
                pass
    if prediction.forces is not None:
        shown["largest force"] = f"{np.linalg.norm(prediction.forces, axis=-1).max():.3g} eV/Angstrom"
    if density is not None:
        shown["electrons"] = f"{density.electrons.item():.6f}"
        shown["dipole of the density, length"] = f"{density.dipole[0].norm().item() / DEBYE:.4g} D"
    return shown
