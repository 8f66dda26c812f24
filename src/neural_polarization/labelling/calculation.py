"""One structure in, its labels out."""

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import ase
import numpy as np
from jaxtyping import Float

from neural_polarization.properties import FIELD

from ..charges import STRONGEST_FIELD, frame_field
from ..properties import DEFINITIONS, QUANTITIES, USUAL_QUANTITIES
from ..structures import check_isolated
from ..units import BOHR, HARTREE
from . import gpu
from .level import Level
from .mean_field import TINY, Accuracy, build_grid, build_molecule, gradient, mean_field
from .properties.born_charges import born_charges
from .properties.charges import hirshfeld_charges, mulliken_charges
from .properties.density import density_guess, density_on_points, pack_matrix, unpack_matrix
from .properties.moments import moments
from .properties.orbitals import centroids, frontier
from .properties.response import polarizability

SAME_STATE = 1e-3
"""Largest difference between two calculations of one electronic state, eV."""


class NotConvergedError(RuntimeError):
    """The self-consistent field was not reached, not with the second-order solver either."""


@dataclass(frozen=True)
class Request:
    """What to compute for every structure.

    Attributes:
        level: method and basis.
        accuracy: grids, convergence, density fitting.
        quantities: some of `properties.QUANTITIES`.
        fractions: for the expensive ones, the share of structures that get them, 0 to 1; which ones is
            drawn from the structure's key, so that a restart and a second machine draw the same.
        field: homogeneous electric field, V/Angstrom, of structures that have none of their own in
            `info["external_field"]`.
        gpu: whether energy and forces are computed on the graphics processor (gpu4pyscf); not in a field.
    """

    level: Level
    accuracy: Accuracy = field(default_factory=Accuracy)
    quantities: tuple[str, ...] = USUAL_QUANTITIES
    fractions: Mapping[str, float] = field(default_factory=dict)
    field: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gpu: bool = False

    def __post_init__(self) -> None:
        unknown = sorted((set(self.quantities) | set(self.fractions)) - set(QUANTITIES))
        if unknown:
            raise ValueError(f"quantities: {', '.join(unknown)} not known; choose from {', '.join(QUANTITIES)}")
        for name, share in self.fractions.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"fractions: {name}={share} is not between 0 and 1")
        strength = float(np.linalg.norm(self.field))
        if not strength <= STRONGEST_FIELD:  # NaN is not below anything
            raise ValueError(
                f"field: expected at most {STRONGEST_FIELD:g} V/Angstrom, got {strength:g}; stronger fields pull "
                "electrons out of a molecule"
            )
        if self.gpu and any(self.field):
            raise ValueError("field: not supported on the graphics processor; leave out one of field and gpu")

    def at(self, atoms: ase.Atoms, where: str = "") -> "Request":
        """The same in the field of a structure.

        Args:
            atoms: the structure.
            where: what errors begin with; its formula if left out.

        Raises:
            ValueError: for a field that is no three finite numbers or too strong, or one on a graphics processor.
        """
        if FIELD not in atoms.info:
            return self
        x, y, z = frame_field(atoms, where or atoms.get_chemical_formula()).tolist()
        return replace(self, field=(x, y, z))

    def without(self, stored: Container[str]) -> "Request":
        """The same, less the quantities of which all labels are among those stored."""
        lacking = {kind.quantity for name, kind in DEFINITIONS.items() if name not in stored}
        return replace(self, quantities=tuple(name for name in self.quantities if name in lacking))

    def wanted(self, quantity: str, key: str) -> bool:
        """Whether the structure of this key gets this quantity."""
        if quantity not in self.quantities:
            return False
        draw = int.from_bytes(hashlib.sha256(f"{quantity}:{key}".encode()).digest()[:4]) / 2**32
        return draw < self.fractions.get(quantity, 1.0)


Labels: TypeAlias = dict[str, np.ndarray]


class WarmStart:
    """Orbitals of the last frame of each molecule, as the first guess for the next."""

    def __init__(self, capacity: int = 400) -> None:
        self._orbitals: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self._capacity = capacity

    def guess(self, key: tuple[Any, ...], overlap: Any) -> Any:
        """Density matrix of remembered orbitals, made orthonormal in the new geometry, or None."""
        if key not in self._orbitals:
            return None
        orbitals, occupation = self._orbitals[key]
        if orbitals.ndim != 2 or len(orbitals) != len(overlap):
            return None
        values, vectors = np.linalg.eigh(orbitals.T @ overlap @ orbitals)
        orthonormal = orbitals @ (vectors / np.sqrt(values)) @ vectors.T
        return (orthonormal * occupation) @ orthonormal.T

    def remember(self, key: tuple[Any, ...], scf: Any) -> None:
        """Keep the occupied orbitals of a converged restricted calculation."""
        if np.ndim(scf.mo_occ) != 1:
            return
        if len(self._orbitals) >= self._capacity:
            self._orbitals.pop(next(iter(self._orbitals)))
        occupied = scf.mo_occ > 0
        self._orbitals[key] = (scf.mo_coeff[:, occupied].copy(), scf.mo_occ[occupied].copy())


def compute(
    atoms: ase.Atoms,
    request: Request,
    key: str = "",
    warm: WarmStart | None = None,
    stored: Labels | None = None,
) -> Labels:
    """Labels of one structure; their units and definitions are in `properties.DEFINITIONS`.

    What the basis does not have is left out: the lowest empty orbital where it leaves none empty.

    Args:
        atoms: positions in Angstrom; `atoms.info` may hold "charge" (e), "spin" (unpaired electrons) and
            "external_field" (V/Angstrom).
        request: what to compute, and how.
        key: identity of the structure, from which expensive quantities are drawn.
        warm: orbitals of earlier frames.
        stored: labels that the structure has already, at the same level. Their quantities are not computed again,
            and a density matrix among them is the first guess. They are part of the result.

    Raises:
        NotConvergedError: where no self-consistent field was found, or another state than that of the stored labels.
        ValueError: where level and structure do not fit, for a periodic structure, and for the polarizability in a
            basis that leaves no orbital empty.
    """
    check_isolated(atoms, atoms.get_chemical_formula())
    stored = stored or {}
    request = request.at(atoms).without(stored)
    external = np.asarray(request.field)
    molecule = build_molecule(atoms, request.level, request.accuracy)
    known = density_guess(molecule, unpack_matrix(stored["density_matrix"])) if "density_matrix" in stored else None
    scf = converge(molecule, request, _identity(atoms, request), warm, known)
    energy = scf.e_tot * HARTREE + _to_centre(atoms, external)
    if "energy" in stored and abs(energy - float(stored["energy"])) > SAME_STATE:
        raise NotConvergedError(f"found a state of {energy:.6f} eV, not that of the stored labels")
    forces = -gradient(scf, external) * HARTREE / BOHR if request.wanted("forces", key) else None
    if request.gpu:
        scf = gpu.to_cpu(scf)
    density_matrix = np.asarray(scf.make_rdm1())
    if density_matrix.ndim == 3:
        density_matrix = density_matrix.sum(axis=0)
    charge_moments, orbital_energies = moments(molecule, density_matrix), frontier(scf)
    labels: Labels = {
        "energy": np.array(energy),
        "dipole": charge_moments.dipole,
        "quadrupole": charge_moments.quadrupole,
        "spatial_extent": np.array(charge_moments.spatial_extent),
        **{name: np.array(value) for name, value in vars(orbital_energies).items() if value is not None},
    }
    if FIELD in atoms.info:
        labels[FIELD] = external
    if forces is not None:
        labels["forces"] = forces
    if request.wanted("charges", key):
        density = density_on_points(molecule, density_matrix, scf.grids.coords)
        labels["mulliken_charges"] = mulliken_charges(molecule, density_matrix)
        labels["hirshfeld_charges"] = hirshfeld_charges(
            molecule, request.level, scf.grids.coords, scf.grids.weights, density
        )
    if request.wanted("polarizability", key):
        labels["polarizability"] = polarizability(
            scf, request.accuracy.response_grid, request.accuracy.response_convergence
        )
    if request.wanted("born_charges", key):
        labels["born_charges"] = born_charges(
            lambda field: mean_field(molecule, request.level, request.accuracy, field),
            external,
            np.asarray(scf.make_rdm1()),
        )
    if request.wanted("centroids", key):
        localized = centroids(scf)
        labels["centroid_positions"] = localized.positions
        labels["centroid_occupations"] = localized.occupations
        labels["centroid_spreads"] = localized.spreads
        labels["centroid_owners"] = localized.owners
    if request.wanted("density", key):
        labels["density_matrix"] = pack_matrix(density_matrix).astype(np.float32)
    return {**labels, **stored}


def converge(
    molecule: Any,
    request: Request,
    identity: tuple[Any, ...] = (),
    warm: WarmStart | None = None,
    guess: Float[np.ndarray, "*spins functions functions"] | None = None,
) -> Any:
    """A converged Kohn-Sham object.

    The search starts from the density matrix `guess` (one for each spin of an open shell), or from the orbitals of an
    earlier frame. Nearly all iterations run on a coarse grid (`solve_on_two_grids`). Where they end unconverged, the
    second-order solver goes on.

    Raises:
        NotConvergedError: with the number of iterations.
    """
    accuracy = request.accuracy
    scf = mean_field(molecule, request.level, accuracy, np.asarray(request.field))
    if request.gpu:
        scf = gpu.to_gpu(scf)
        scf.kernel()
    else:
        from .two_grids import solve_on_two_grids  # which needs PySCF; labels are packed without it

        if guess is None and warm is not None:
            guess = warm.guess(identity, scf.get_ovlp())
        solve_on_two_grids(scf, build_grid(scf.mol, TINY), guess)
    if not scf.converged:
        guess = scf.make_rdm1()
        scf = scf.newton()
        scf.max_cycle = accuracy.max_cycles
        scf.kernel(dm0=guess)
        if not scf.converged:
            raise NotConvergedError(
                f"{request.level} did not converge in {accuracy.max_cycles} iterations, nor in as many of the "
                "second-order solver"
            )
        scf = scf.undo_newton()
    if warm is not None and not request.gpu:
        warm.remember(identity, scf)
    return scf


def _to_centre(atoms: ase.Atoms, field: np.ndarray) -> float:
    """What the energy of an ion in a field gains when its origin becomes the centre of nuclear charge, eV.

    That is the origin of its dipole; the energy of a neutral molecule does not depend on it.
    """
    centre = atoms.numbers @ atoms.positions / atoms.numbers.sum()
    return float(atoms.info.get("charge", 0)) * float(field @ centre)


def _identity(atoms: ase.Atoms, request: Request) -> tuple[Any, ...]:
    """What calculations have in common where the orbitals of one are a guess for the other."""
    return (
        str(request.level),
        atoms.info.get("smiles"),
        tuple(atoms.numbers.tolist()),
        atoms.info.get("charge", 0),
        atoms.info.get("spin", 0),
    )
