"""Kohn-Sham calculations as PySCF objects; all calls that set up PySCF are here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float

from ..units import BOHR, HARTREE
from .level import Level, pure_shells

FIELD_UNIT = HARTREE / BOHR
"""One atomic unit of field in V/Angstrom (51.42...)."""


@dataclass(frozen=True)
class Grid:
    """Quadrature points around each atom: radial shells and directions (a Lebedev number).

    Inner shells have fewer directions (the pruning of Treutler and Ahlrichs).
    """

    hydrogen: tuple[int, int]
    heavy: tuple[int, int]


TINY = Grid((10, 50), (15, 86))
SMALL = Grid((30, 110), (40, 194))
LEAN = Grid((30, 194), (40, 302))
FINE = Grid((50, 302), (75, 302))
FINEST = Grid((60, 434), (90, 590))


@dataclass(frozen=True)
class Accuracy:
    """Numerical accuracy of a calculation; the level gives the equations.

    Attributes:
        grid: Grid for energy and forces. Compared with `FINEST`, `LEAN` has errors of about 1e-6 hartree and 5e-4
            eV/Angstrom (rms; 2e-3 at most).
        response_grid: Grid for the second derivative of the exchange-correlation energy in the polarizability. `SMALL`
            has a relative error of 1e-5.
        response_convergence: Residual of the first-order orbitals. 1e-4 gives the polarizability to a relative error of
            1e-6.
        convergence: Change of the energy at convergence, hartree.
        gradient_convergence: Norm of the orbital gradient at convergence, hartree.
        density_fitting: Whether Coulomb and exchange energies use an auxiliary basis (def2-universal-jkfit). Forces are
            two to three times faster. Energies have errors of about 1e-5 hartree (nearly constant for a molecule), and
            forces of about 1e-3 eV/Angstrom.
        max_cycles: Number of iterations before the second-order solver is tried.
        max_memory: Memory that one process may use for integrals, MB.
    """

    grid: Grid = FINE
    response_grid: Grid = SMALL
    response_convergence: float = 1e-5
    convergence: float = 1e-9
    gradient_convergence: float = 3e-5
    density_fitting: bool = False
    max_cycles: int = 60
    max_memory: int = 2000

    def __post_init__(self) -> None:
        if self.max_cycles < 1:
            raise ValueError(f"max_cycles: expected at least 1, got {self.max_cycles}")

    def check(self, elements: Iterable[str]) -> None:
        """Raises ValueError if density fitting has no functions for the inner electrons of an element.

        From rubidium on, the auxiliary basis is made for effective core potentials. With all electrons, energies would
        be wrong by thousands of eV, and forces by several eV/Angstrom.
        """
        heavy = sorted(symbol for symbol in set(elements) if atomic_numbers[symbol] > atomic_numbers["Kr"])
        if self.density_fitting and heavy:
            raise ValueError(
                f"accuracy: density fitting (--accuracy fast) has no functions for the inner electrons of "
                f"{', '.join(heavy)}; take --accuracy standard or exact"
            )


FAST = Accuracy(
    grid=LEAN,
    response_grid=SMALL,
    response_convergence=1e-4,
    convergence=1e-7,
    gradient_convergence=1e-4,
    density_fitting=True,
)
"""Accuracy of the data set of this repository."""

EXACT = Accuracy(
    grid=FINEST,
    response_grid=FINE,
    response_convergence=1e-7,
    convergence=1e-10,
    gradient_convergence=1e-6,
)
"""Accuracy for comparisons with published numbers."""


def build_molecule(atoms: ase.Atoms, level: Level, accuracy: Accuracy) -> Any:
    """PySCF's molecule; charge and number of unpaired electrons from `atoms.info` ("charge", "spin")."""
    from pyscf import gto

    symbols = atoms.get_chemical_symbols()
    return gto.M(
        atom=list(zip(symbols, atoms.positions.tolist(), strict=True)),
        unit="Angstrom",
        basis=level.shells(symbols),
        charge=int(atoms.info.get("charge", 0)),
        spin=int(atoms.info.get("spin", 0)),
        cart=level.cartesian_d,
        verbose=0,
        max_memory=accuracy.max_memory,
    )


def mean_field(molecule: Any, level: Level, accuracy: Accuracy, field: Float[np.ndarray, "3"] | None = None) -> Any:
    """An unconverged Kohn-Sham object: restricted where all electrons are paired.

    Args:
        molecule: PySCF's molecule, from `build_molecule`.
        level: Functional and basis.
        accuracy: Grids, convergence, density fitting.
        field: Homogeneous electric field, V/Angstrom; it adds - dipole . field to the energy.
    """
    from pyscf import dft

    scf = (dft.rks.RKS if molecule.spin == 0 else dft.uks.UKS)(molecule, xc=level.functional)
    if molecule.cart:
        scf.check_linear_dependency = lambda s, verbose=None: _orthogonal_functions(molecule, s)
    scf.conv_tol = accuracy.convergence
    scf.conv_tol_grad = accuracy.gradient_convergence
    scf.conv_check = False  # one more iteration, only needed after a level shift
    scf.max_cycle = accuracy.max_cycles
    scf.grids = build_grid(molecule, accuracy.grid)
    if accuracy.density_fitting:
        accuracy.check(molecule.elements)
        scf = scf.density_fit(auxbasis="def2-universal-jkfit")
    if field is not None and np.any(field):
        _apply_field(scf, np.asarray(field, dtype=float) / FIELD_UNIT)
    return scf


def build_grid(molecule: Any, grid: Grid) -> Any:
    """PySCF's grid object for a molecule; its points are computed at first use.

    References:
        O. Treutler, R. Ahlrichs, J. Chem. Phys. 102, 346 (1995).
    """
    from pyscf.dft import gen_grid

    points = gen_grid.Grids(molecule)
    points.atom_grid = {
        molecule.atom_symbol(atom): grid.hydrogen if molecule.atom_pure_symbol(atom) == "H" else grid.heavy
        for atom in range(molecule.natm)
    }
    points.prune = gen_grid.treutler_prune
    return points


def _orthogonal_functions(molecule: Any, overlap: Any) -> Any:
    """Canonical orthogonalization inside the space of allowed functions.

    PySCF diagonalizes, extrapolates and rotates in the space that this matrix spans. In this way shells of Cartesian d
    and of pure f functions are mixed.
    """
    angular_momenta = [
        int(molecule.bas_angular(shell)) for shell in range(molecule.nbas) for _ in range(molecule.bas_nctr(shell))
    ]
    allowed = pure_shells(angular_momenta)
    values, vectors = np.linalg.eigh(allowed.T @ overlap @ allowed)
    kept = values > 1e-8
    return allowed @ (vectors[:, kept] / np.sqrt(values[kept]))


def _apply_field(scf: Any, field: Float[np.ndarray, "3"]) -> None:
    molecule = scf.mol
    dipole = molecule.intor_symmetric("int1e_r", comp=3)
    core = scf.get_hcore() + np.einsum("x,xij->ij", field, dipole)
    nuclear = molecule.energy_nuc() - float(molecule.atom_charges() @ molecule.atom_coords() @ field)
    scf.get_hcore = lambda *_: core
    scf.energy_nuc = lambda *_: nuclear


def gradient(scf: Any, field: Float[np.ndarray, "3"] | None = None) -> Float[np.ndarray, "atoms 3"]:
    """Derivative of the energy with respect to the nuclei, hartree/bohr."""
    method = scf.nuc_grad_method()
    if field is None or not np.any(field):
        return np.asarray(method.kernel())
    atomic_field = np.asarray(field, dtype=float) / FIELD_UNIT
    molecule = scf.mol
    # <i| r_x d/dR_y |j>: basis functions move with their atoms, d/dR = - d/dr.
    r_nabla = molecule.intor("int1e_irp").reshape(3, 3, molecule.nao, molecule.nao)
    moving = -np.einsum("x,xyij->yji", atomic_field, r_nabla)
    plain = method.get_hcore
    method.get_hcore = lambda mol=None: plain(mol) + moving
    return np.asarray(method.kernel()) - molecule.atom_charges()[:, None] * atomic_field
