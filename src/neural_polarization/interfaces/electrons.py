"""Electron densities of structures, as a value and on grids: what `npol density` writes and pages show."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase
import torch
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.cores import core_density, core_electrons
from neural_polarization.density.cube import (
    DEFORMATION,
    DENSITY,
    POTENTIAL,
    SUFFIXES,
    Quantity,
    check_output,
    write_grid,
)
from neural_polarization.density.density import Density
from neural_polarization.density.evaluation import Progress
from neural_polarization.density.free_atoms import free_atoms
from neural_polarization.density.grids import Grid, grid_around
from neural_polarization.interfaces.prediction import check_elements
from neural_polarization.knowledge import Watch
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import Predictor, evaluating

VALENCE = Quantity("electron density less that of cores", "e/Angstrom^3", "e/bohr^3", DENSITY.factor)

_POINTS_OF_BLOCK = 65536  # between two reports of progress


class Kind(ABC):
    """What of a density is written.

    Attributes:
        quantity: its name and its units.
    """

    quantity: Quantity

    @abstractmethod
    def values(
        self, density: Density, points: Float[Tensor, "points 3"], progress: Progress | None = None
    ) -> Float[Tensor, " points"]:
        """Values for the density of one molecule at points (Angstrom, float64)."""

    def electrons(self, density: Density) -> float | None:
        """Exact integral over space, e; None where there is no such number."""
        return None


class Total(Kind):
    """The electron density."""

    quantity = DENSITY

    def values(
        self, density: Density, points: Float[Tensor, "points 3"], progress: Progress | None = None
    ) -> Float[Tensor, " points"]:
        """The density, computed in single precision about its centre: far from the origin, digits would be lost."""
        centre = density.nuclei.centre
        return density.shifted(-centre).evaluate((points - centre).float(), progress=progress)

    def electrons(self, density: Density) -> float:
        """All electrons."""
        return density.electrons.item()


class Deformation(Kind):
    """The density less that of free atoms: where electrons went as the bonds were made."""

    quantity = DEFORMATION

    def values(
        self, density: Density, points: Float[Tensor, "points 3"], progress: Progress | None = None
    ) -> Float[Tensor, " points"]:
        """The difference, in double precision, as both densities are large near the nuclei."""
        less = tuple(part.times(-1.0) for part in free_atoms(density.nuclei))
        return Density((*density.parts, *less), density.nuclei).evaluate(points, progress=progress)

    def electrons(self, density: Density) -> float:
        """Minus the total charge."""
        return -density.charge.item()


class Valence(Kind):
    """The density less cores of two or ten electrons by Slater's rules."""

    quantity = VALENCE

    def values(
        self, density: Density, points: Float[Tensor, "points 3"], progress: Progress | None = None
    ) -> Float[Tensor, " points"]:
        """The difference, in double precision."""
        return density.evaluate(points, progress=progress) - core_density(density.nuclei, points)

    def electrons(self, density: Density) -> float:
        """All electrons less those of the cores."""
        return density.electrons.item() - core_electrons(density.nuclei)


class Potential(Kind):
    """The electrostatic potential of nuclei and electrons."""

    quantity = POTENTIAL

    def values(
        self, density: Density, points: Float[Tensor, "points 3"], progress: Progress | None = None
    ) -> Float[Tensor, " points"]:
        """The potential, in double precision, as nuclei and electrons cancel far away."""
        values: list[Tensor] = []
        for start in range(0, len(points), _POINTS_OF_BLOCK):
            values.append(density.potential(points[start : start + _POINTS_OF_BLOCK]))
            if progress is not None:
                progress(min(start + _POINTS_OF_BLOCK, len(points)), len(points))
        return torch.cat(values)


KINDS: dict[str, Kind] = {
    "total": Total(),
    "deformation": Deformation(),
    "valence": Valence(),
    "potential": Potential(),
}
"""What can be written, by its name on the command line."""


def require_density(model: Predictor) -> Model:
    """The same model, known to predict a density.

    Raises:
        ValueError: for a model without one.
    """
    if not isinstance(model, Model) or model.density_head is None:
        raise ValueError(
            "this model predicts no electron density; train one with a density (`model.density`), or take the one of "
            "the package: --pretrained small"
        )
    return model


def check_molecules(structures: Sequence[ase.Atoms], names: Sequence[str] = ()) -> None:
    """Makes sure that no structure is periodic, before the density of any is computed.

    Args:
        structures: whose densities are wanted.
        names: what errors call each structure; by default its number.

    Raises:
        ValueError: otherwise, naming the structure.
    """
    for k, frame in enumerate(structures):
        if frame.pbc.any():
            where = f"{names[k] if names else f'structure {k}'} ({frame.get_chemical_formula()})"
            raise ValueError(
                f"{where} is periodic, and densities are of molecules (functions of neighbouring cells would be "
                "missing); leave it out, or set `pbc` to none for a molecule"
            )


def predict_density(model: Predictor, structure: ase.Atoms, watch: Watch | None = None) -> Density:
    """The density of one structure.

    Args:
        model: on any device.
        structure: a molecule.
        watch: says what lies outside of the training, such as a larger molecule; nothing is said without one.

    Raises:
        ValueError: for a model without a density, an element that it does not know, a periodic system, or a structure
            in a field (`info["external_field"]`).
    """
    model = require_density(model)
    check_elements(model, [structure])
    weight = next(model.parameters())
    molecules = Molecules.from_ase(structure, model.cutoff, weight.dtype).to(weight.device)
    with evaluating(model), torch.no_grad():
        density = _put_on(model.density(molecules).to("cpu"), structure)
    if watch is not None and model.knowledge is not None:
        watch.tell(model.knowledge, model.knowledge.outside(molecules).values())
    return density


def _put_on(density: Density, structure: ase.Atoms) -> Density:
    """The density on the nuclei of a structure: in single precision, a batch is about its own centre."""
    positions = torch.from_numpy(structure.positions.astype("float64"))
    density = density.shifted((positions[0] - density.nuclei.positions[0].double()).unsqueeze(0))
    return Density(density.parts, replace(density.nuclei, positions=positions))


def output_paths(
    output: str | Path, number: int, overwrite: bool = False, endings: Sequence[str] = SUFFIXES
) -> list[Path]:
    """Names of the files of several structures, "rho_0.cube", "rho_1.cube" for "rho.cube"; the same name for one.

    Raises:
        ValueError, OSError: for a file that cannot be written, before anything is computed (`check_output`).
    """
    path = Path(output)
    paths = [path] if number == 1 else [path.with_stem(f"{path.stem}_{k}") for k in range(number)]
    for one in paths:
        check_output(one, overwrite, endings)
    return paths


def write_density(
    model: Predictor,
    structures: Sequence[ase.Atoms],
    output: str | Path,
    kind: str = "total",
    spacing: float = 0.1,
    margin: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes what a model predicts of the electrons of some structures, a file each.

    Args:
        model: with a density.
        structures: molecules.
        output: ends on .cube or .npz; with several structures each file gets a number, as `output_paths` says.
        kind: one of `KINDS`.
        spacing: of the grid, Angstrom.
        margin: of the grid around the nuclei, Angstrom; if left out, the surface of 0.002 e/bohr^3 is inside.
        overwrite: whether files that are there may be replaced.
        progress: called with the points that are done, and all points, of each structure.

    Returns:
        The files.

    Raises:
        ValueError: for a model without a density, an element that it does not know, a kind that does not exist, a
            periodic system, or a grid of too many points.
        OSError: for files that are there already or cannot be written.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not known; choose one of {', '.join(KINDS)}")
    model = require_density(model)
    check_elements(model, structures)
    check_molecules(structures)
    paths = output_paths(output, len(structures), overwrite)
    of_kind, watch = KINDS[kind], Watch()
    for structure, path in zip(structures, paths, strict=True):
        density = predict_density(model, structure, watch)
        grid: Grid = grid_around(density, spacing, margin)
        values = of_kind.values(density, grid.points(), progress)
        write_grid(path, grid, values, density.nuclei, of_kind.quantity, of_kind.electrons(density), overwrite)
    return paths
