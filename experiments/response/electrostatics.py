"""How much of what two molecules feel far apart is the electrostatics of point charges, before any network.

    python experiments/response/electrostatics.py s66x8.npz

S66x8: 66 dimers at eight separations, from 0.9 to 2 times the one of their minimum, with energies, Hirshfeld and CM5
charges and Hirshfeld dipoles of the atoms, all of one level. A network that is local beyond the separations of its
training predicts no change of the energy there. Point charges with Thole's damping predict one, from the labels
themselves, so that this is the most that learned charges can be good for. A dipole of an atom is one electron on its
moving point, displaced, and a charge on its nucleus that is larger by one: charges on fixed and moving points.
"Scaled" multiplies the electrostatic energy by one number, fitted to all dimers one step nearer: charges that are
learned from energies stand for induction too.

References:
    J. Rezac, K. E. Riley, P. Hobza, J. Chem. Theory Comput. 7, 2427 (2011): the dimers.
    B. T. Thole, Chem. Phys. 59, 341 (1981); P. Ren, J. W. Ponder, J. Phys. Chem. B 107, 5933 (2003): the damping.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from neural_polarization.geometry import all_pairs, safe_norm
from neural_polarization.layers import sum_by_index
from neural_polarization.text import markdown_table
from neural_polarization.units import BOHR, COULOMB, HARTREE

SEPARATIONS = (0.90, 0.95, 1.00, 1.05, 1.10, 1.25, 1.50, 2.00)
POLARIZABILITIES = {1: 0.514, 6: 1.405, 7: 1.105, 8: 0.862}
"""Of atoms, Angstrom^3 (Thole's)."""

DAMPING = 0.39
"""Of Ren and Ponder."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Charges on points of several structures, each with the polarizability of its atom, which smears it out.

    Attributes:
        places: (points, 3), Angstrom.
        charges: (points,), e.
        polarizabilities: (points,), Angstrom^3.
        index: structure of each point, ascending.
        count: number of structures.
    """

    places: Tensor
    charges: Tensor
    polarizabilities: Tensor
    index: Tensor
    count: int

    def energy(self) -> Tensor:
        """Energy of all pairs of points of each structure, (structures,), eV; finite where two points are in one."""
        senders, receivers = all_pairs(self.places.detach(), self.index, math.inf)
        once = senders < receivers
        senders, receivers = senders[once], receivers[once]
        lengths = safe_norm(self.places[senders] - self.places[receivers])
        sizes = (self.polarizabilities[senders] * self.polarizabilities[receivers]) ** (1.0 / 6.0)
        cubes = DAMPING * (lengths / sizes) ** 3
        two_thirds = torch.full_like(cubes, 2.0 / 3.0)
        tails = math.gamma(2.0 / 3.0) * torch.special.gammaincc(two_thirds, cubes)
        damped = -torch.expm1(-cubes) / lengths + DAMPING ** (1.0 / 3.0) / sizes * tails
        pairs = self.charges[senders] * self.charges[receivers] * damped
        return COULOMB * sum_by_index(pairs, self.index[receivers], self.count)

    def dipole(self) -> Tensor:
        """Dipole about the origin, (structures, 3), e*Angstrom."""
        return sum_by_index(self.charges.unsqueeze(-1) * self.places, self.index, self.count)


def check_damping() -> None:
    """Holds the energy of two unit charges against its limits, far apart and in one place, and its derivatives too."""
    places, ones = torch.zeros(4, 3, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    places[1, 2] = 30.0
    places.requires_grad_()
    energies = Points(places, ones, ones, torch.tensor([0, 0, 1, 1]), 2).energy()
    expected = COULOMB * torch.tensor([1.0 / 30.0, DAMPING ** (1.0 / 3.0) * math.gamma(2.0 / 3.0)], dtype=torch.float64)
    assert bool((energies - expected).abs().max() < 1e-6), energies
    (slopes,) = torch.autograd.grad(energies.sum(), places, create_graph=True)
    assert abs(slopes[1, 2].item() + COULOMB / 30.0**2) < 1e-6 and slopes[3].abs().max().item() < 1e-6, slopes
    (curvatures,) = torch.autograd.grad(slopes.square().sum(), places)  # as in training on forces
    assert bool(curvatures.isfinite().all()), curvatures


@dataclass(frozen=True)
class Dimer:
    """A dimer at one separation, and which molecule every atom is in."""

    energy: float
    positions: Array
    numbers: NDArray[np.int64]
    molecule: NDArray[np.int64]
    cm5: Array
    hirshfeld: Array
    dipoles: Array
    forces: Array

    def points(self, which: int, kind: str) -> tuple[Array, Array, Array]:
        """Places, charges and polarizabilities of one of its molecules, without net charge left over from rounding."""
        rows = self.molecule == which
        charges = (self.cm5 if kind == "cm5" else self.hirshfeld)[rows]
        charges = charges - charges.mean()
        volumes = np.array([POLARIZABILITIES[number] for number in self.numbers[rows].tolist()])
        places = self.positions[rows]
        if kind != "moving":
            return places, charges, volumes
        moved = places - self.dipoles[rows]  # one electron, whose charge is -1
        both = np.concatenate([charges + 1.0, -np.ones_like(charges)])
        return np.concatenate([places, moved]), both, np.tile(volumes, 2)

    def electrostatic(self, kind: str) -> float:
        """Energy between the charges of both molecules, eV."""
        one, other = self.points(0, kind), self.points(1, kind)
        three = (one, other, one, other)  # two structures of one molecule each, and one of both
        places, charges, volumes = (torch.from_numpy(np.concatenate(part)) for part in zip(*three, strict=True))
        index = torch.from_numpy(np.repeat([0, 1, 2, 2], [len(part[1]) for part in three]))
        first, second, both = Points(places, charges, volumes, index, 3).energy().tolist()
        return both - first - second


def read(path: Path) -> dict[tuple[int, int], Dimer]:
    """Every dimer at every separation."""
    check_damping()
    arrays = np.load(path)
    found: dict[tuple[int, int], Dimer] = {}
    ends = np.cumsum(arrays["n_atoms"].astype(np.int64))
    dimers, separations = arrays["dimer_and_distance_index"].astype(int).T
    separations -= separations.min()
    molecules: dict[int, NDArray[np.int64]] = {}
    for row in np.argsort(-separations, kind="stable"):  # apart first: there the bonds are clear
        rows = slice(ends[row] - int(arrays["n_atoms"][row]), ends[row])
        positions = arrays["positions"][rows].astype(np.float64)
        numbers = arrays["atomic_numbers"][rows].astype(np.int64)
        if dimers[row] not in molecules:
            reach = covalent_radii[numbers][:, None] + covalent_radii[numbers] + 0.3
            bonds = np.linalg.norm(positions[:, None] - positions, axis=-1) < reach
            count, molecules[dimers[row]] = connected_components(bonds)
            assert count == 2, (dimers[row], count)
        found[int(dimers[row]), int(separations[row])] = Dimer(
            float(arrays["energies"][row]) * HARTREE,
            positions,
            numbers,
            molecules[dimers[row]],
            arrays["cm5_charges"][rows].astype(np.float64),
            arrays["hirshfeld_charges"][rows].astype(np.float64),
            arrays["hirshfeld_atomic_dipoles"][rows].astype(np.float64) * BOHR,
            arrays["forces"][rows].astype(np.float64) * HARTREE,
        )
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("s66x8", type=Path)
    dimers = read(parser.parse_args().s66x8)
    names = sorted({dimer for dimer, _ in dimers})
    kinds = {"cm5": "CM5 charges", "hirshfeld": "Hirshfeld charges", "moving": "Hirshfeld, fixed and moving points"}
    titles = (f"{title}: {what}" for title in kinds.values() for what in ("left", "left, scaled"))
    rows = [["from", "to", "change, meV", *titles]]
    factors: dict[str, float] = {}
    for near, far in ((2, 4), (4, 5), (5, 6), (6, 7)):
        pairs = [(dimers[name, near], dimers[name, far]) for name in names]
        changes = np.array([b.energy - a.energy for a, b in pairs])
        cells = [_size(changes)]
        for kind in kinds:
            predicted = np.array([b.electrostatic(kind) - a.electrostatic(kind) for a, b in pairs])
            scaled = _size(changes - factors[kind] * predicted) if factors.get(kind) else ""
            cells += [_size(changes - predicted), scaled]
            factors[kind] = float(changes @ predicted / (predicted @ predicted))  # for the next line
        rows.append([str(SEPARATIONS[near]), str(SEPARATIONS[far]), *cells])
    print(markdown_table(rows))


def _size(energies: Array) -> str:
    """Root mean square, meV."""
    return f"{1e3 * np.sqrt((energies**2).mean()):.0f}"


if __name__ == "__main__":
    main()
