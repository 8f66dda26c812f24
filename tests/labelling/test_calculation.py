"""Labels against derivatives, sum rules and the calculation's own failures."""

from dataclasses import replace
from typing import Any

import ase
import numpy as np
import pytest

from neural_polarization.labelling.calculation import (
    NotConvergedError,
    Request,
    WarmStart,
    _identity,
    compute,
    converge,
)
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import FAST, LEAN, Accuracy, build_grid, build_molecule
from neural_polarization.labelling.properties import response
from neural_polarization.labelling.properties.charges import _free_atom_density
from neural_polarization.labelling.properties.density import evaluate_density, unpack_matrix
from neural_polarization.labelling.properties.moments import moments
from neural_polarization.properties import DEFINITIONS
from neural_polarization.units import BOHR, DEBYE

# Cartesian d and pure f functions on the heavy atom: everything that is special about the default level.
MIXED = Level.parse("B3LYP/6-31G(2df,p)")
TIGHT = Accuracy(convergence=1e-11, gradient_convergence=1e-6, response_convergence=1e-7)


def fluoride(distance: float = 0.95) -> ase.Atoms:
    axis = np.array([0.36, 0.48, 0.8])
    return ase.Atoms("FH", [0.1 * axis, (0.1 + distance) * axis])


def energy(atoms: ase.Atoms, request: Request) -> float:
    return float(compute(atoms, replace(request, quantities=()))["energy"])


@pytest.mark.parametrize("field", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.5)])
@pytest.mark.parametrize("density_fitting", [False, True])
def test_forces_are_derivatives(field: tuple[float, float, float], density_fitting: bool) -> None:
    accuracy = replace(TIGHT, density_fitting=density_fitting)
    request = Request(MIXED, accuracy, ("forces",), field=field)
    forces = compute(fluoride(), request)["forces"]
    step = 2e-3
    for atom, axis in ((0, 2), (1, 0)):
        values: list[float] = []
        for sign in (1, -1):
            moved = fluoride()
            moved.positions[atom, axis] += sign * step
            values.append(energy(moved, request))
        # What is left is the motion of the quadrature grid with the atoms.
        assert forces[atom, axis] == pytest.approx(-(values[0] - values[1]) / (2 * step), abs=2e-3)


@pytest.mark.parametrize("spin", [0, 1])
def test_polarizability_is_a_derivative_of_the_dipole(spin: int) -> None:
    atoms = fluoride() if spin == 0 else ase.Atoms("OH", fluoride().positions, info={"spin": 1})
    request = Request(MIXED, TIGHT, ("polarizability",))
    tensor = compute(atoms, request)["polarizability"]
    np.testing.assert_allclose(tensor, tensor.T)
    strength = 0.05  # V/Angstrom
    dipoles: list[np.ndarray] = []
    for sign in (1, -1):
        inside = replace(request, quantities=(), field=(0.0, 0.0, sign * strength))
        dipoles.append(compute(atoms, inside)["dipole"])
    # e*Angstrom per V/Angstrom to Angstrom^3: divided by 4 pi epsilon_0 = 1 / 14.3996 e/(V Angstrom).
    derivative = (dipoles[0] - dipoles[1]) / (2 * strength) * 14.39964548
    np.testing.assert_allclose(tensor[2], derivative, atol=2e-4)


@pytest.mark.parametrize("method", ["B3LYP", "PBE", "HF"])
def test_fitted_exchange_of_orbitals_is_that_of_matrices(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Density fitting takes exchange from the orbitals of a first-order density; here from the matrix as well."""
    request = Request(Level.parse(f"{method}/3-21G"), FAST, ("polarizability",))
    fast = compute(fluoride(), request)["polarizability"]
    monkeypatch.setattr(response, "_has_fitted_exchange", lambda _: False)
    np.testing.assert_allclose(fast, compute(fluoride(), request)["polarizability"], atol=1e-7)


def test_quantities_of_another_state_are_not_added(water: ase.Atoms, quick: Request) -> None:
    stored = compute(water, replace(quick, quantities=()))
    stored["energy"] = np.array(stored["energy"] - 0.1)
    with pytest.raises(NotConvergedError, match="not that of the stored labels"):
        compute(water, replace(quick, quantities=("forces",)), stored=stored)


def test_dipole_is_a_derivative_of_the_energy(water: ase.Atoms, quick: Request) -> None:
    dipole = compute(water, replace(quick, quantities=()))["dipole"]
    strength = 0.01
    values = [energy(water, replace(quick, field=(sign * strength, 0.0, 0.0))) for sign in (1, -1)]
    assert dipole[0] == pytest.approx(-(values[0] - values[1]) / (2 * strength), abs=1e-5)


@pytest.fixture(scope="module")
def labels_of_water() -> tuple[ase.Atoms, dict[str, np.ndarray]]:
    # gdb 3 of QM9
    positions = [[-0.03436, 0.97754, 0.0076], [0.064766, 0.020572, 0.001535], [0.87179, 1.300792, 0.000693]]
    atoms = ase.Atoms("OHH", positions)
    return atoms, compute(atoms, Request(MIXED))


def test_every_label_is_defined(labels_of_water: tuple[ase.Atoms, dict[str, np.ndarray]]) -> None:
    elsewhere = {"stress", "external_field", "born_charges"}  # of crystals, in a field, where they are asked for
    assert set(labels_of_water[1]) == set(DEFINITIONS) - elsewhere


def test_published_values_of_water(labels_of_water: tuple[ase.Atoms, dict[str, np.ndarray]]) -> None:
    """QM9 gdb 3: dipole 1.8511 D, alpha 6.31 bohr^3, R2 19.0002 bohr^2, HOMO -0.2928, LUMO 0.0687 hartree."""
    labels = labels_of_water[1]
    assert np.linalg.norm(labels["dipole"]) / DEBYE == pytest.approx(1.8511, abs=2e-4)
    assert np.trace(labels["polarizability"]) / 3 / BOHR**3 == pytest.approx(6.31, abs=0.006)
    assert labels["spatial_extent"] / BOHR**2 == pytest.approx(19.0002, abs=3e-4)
    assert labels["homo"] / 27.211386 == pytest.approx(-0.2928, abs=1e-4)
    assert labels["lumo"] / 27.211386 == pytest.approx(0.0687, abs=1e-4)
    # QM9's Mulliken charges of water
    np.testing.assert_allclose(labels["mulliken_charges"], [-0.589706, 0.294853, 0.294853], atol=2e-5)


def test_moments_of_bare_nuclei() -> None:
    """Nine and one charges, 2 Angstrom apart: 0.2 and 1.8 Angstrom from their centre, where the dipole is zero."""
    molecule = build_molecule(fluoride(2.0), MIXED, Accuracy())
    found = moments(molecule, np.zeros((molecule.nao, molecule.nao)))
    axis = fluoride().positions[0] / 0.1
    np.testing.assert_allclose(found.dipole, 0.0, atol=1e-9)
    along = 9 * 0.2**2 + 1 * 1.8**2
    np.testing.assert_allclose(found.quadrupole, along * np.outer(axis, axis) * 1.5 - along * np.eye(3) / 2, atol=1e-9)
    assert found.spatial_extent == 0.0


def test_sum_rules(labels_of_water: tuple[ase.Atoms, dict[str, np.ndarray]]) -> None:
    atoms, labels = labels_of_water
    assert np.abs(labels["forces"].sum(axis=0)).max() < 2e-3
    assert abs(labels["mulliken_charges"].sum()) < 1e-6
    assert abs(labels["hirshfeld_charges"].sum()) < 1e-4
    assert labels["hirshfeld_charges"][0] == pytest.approx(-0.31, abs=0.03)
    assert abs(np.trace(labels["quadrupole"])) < 1e-10
    nuclei = atoms.numbers @ atoms.positions
    electrons = labels["centroid_occupations"] @ labels["centroid_positions"]
    np.testing.assert_allclose(nuclei - electrons, labels["dipole"], atol=1e-5)
    from_origin = np.sum((labels["centroid_positions"] - nuclei / 10) ** 2, axis=1)
    extents = labels["centroid_spreads"] ** 2 + from_origin
    assert labels["centroid_occupations"] @ extents == pytest.approx(labels["spatial_extent"], abs=1e-5)


def test_free_atoms_fall_off_as_their_orbitals_do() -> None:
    """Hydrogen in a minimal basis is half a filled orbital of each spin: its square is the density, near and far."""
    from pyscf import gto

    points = np.zeros((200, 3))
    points[:, 2] = np.linspace(0.0, 8.0, 200)
    orbital = gto.M(atom="H", basis="sto-3g", spin=1, verbose=0).eval_gto("GTOval_sph", points)[:, 0]
    np.testing.assert_allclose(_free_atom_density("H", Level.parse("HF/STO-3G"), points), orbital**2, rtol=2e-3)


def test_density_matrix_makes_the_density_again(
    labels_of_water: tuple[ase.Atoms, dict[str, np.ndarray]],
) -> None:
    atoms, labels = labels_of_water
    molecule = build_molecule(atoms, MIXED, Accuracy())
    grid = build_grid(molecule, LEAN)
    grid.build()
    density = evaluate_density(atoms, MIXED, labels["density_matrix"], grid.coords * BOHR) * BOHR**3
    assert density @ grid.weights == pytest.approx(10, abs=1e-4)
    dipole = (atoms.numbers @ atoms.positions) - (density * grid.weights) @ grid.coords * BOHR
    np.testing.assert_allclose(dipole, labels["dipole"], atol=2e-4)
    origin = atoms.numbers @ atoms.positions / 10
    points = np.concatenate([atoms.positions, grid.coords * BOHR]) - origin
    charges = np.concatenate([atoms.numbers, -density * grid.weights])
    products = np.einsum("px,py->pxy", points, points)
    traceless = (3 * products - np.sum(points**2, axis=1)[:, None, None] * np.eye(3)) / 2
    np.testing.assert_allclose(np.tensordot(charges, traceless, 1), labels["quadrupole"], atol=5e-4)
    with pytest.raises(ValueError, match="structure or level differ"):
        evaluate_density(atoms, Level.parse("PBE/3-21G"), labels["density_matrix"], np.zeros((1, 3)))


def test_orbital_centroids_of_water(labels_of_water: tuple[ase.Atoms, dict[str, np.ndarray]]) -> None:
    """One core, two lone pairs on the oxygen, one orbital per bond."""
    atoms, labels = labels_of_water
    owners = sorted(tuple(sorted(pair)) for pair in labels["centroid_owners"].tolist())
    assert owners == [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2)]
    core = np.argmin(labels["centroid_spreads"])
    np.testing.assert_allclose(labels["centroid_positions"][core], atoms.positions[0], atol=5e-3)
    bond = labels["centroid_owners"].tolist().index([0, 1])
    distance = np.linalg.norm(labels["centroid_positions"][bond] - atoms.positions[0])
    assert 0.4 < distance < 0.6, "a bond's electrons sit between the atoms, nearer the oxygen"


def test_labels_turn_with_the_molecule(water: ase.Atoms, quick: Request) -> None:
    turned = water.copy()
    turned.rotate(40, (1, 2, 3))
    rotation = np.linalg.lstsq(water.positions - water.positions[0], turned.positions - turned.positions[0])[0].T
    request = replace(quick, quantities=("forces", "polarizability"))
    before, after = compute(water, request), compute(turned, request)
    # Water lies in a plane: the third direction is not determined by its positions alone.
    normal = np.cross(rotation[:, 0], rotation[:, 1])
    assert np.isfinite(normal).all()
    np.testing.assert_allclose(after["energy"], before["energy"], atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(after["dipole"]), np.linalg.norm(before["dipole"]), atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(after["polarizability"]), np.linalg.eigvalsh(before["polarizability"]), atol=1e-4
    )


def test_fast_accuracy_is_close_to_the_exact_one(water: ase.Atoms) -> None:
    fast, exact = (compute(water, Request(MIXED, accuracy)) for accuracy in (FAST, TIGHT))
    assert abs(fast["energy"] - exact["energy"]) < 1e-3
    assert np.abs(fast["forces"] - exact["forces"]).max() < 3e-3
    assert np.abs(fast["dipole"] - exact["dipole"]).max() < 2e-4
    assert np.abs(fast["polarizability"] - exact["polarizability"]).max() < 1e-3


def test_warm_start_changes_nothing_but_the_iterations(water: ase.Atoms, quick: Request) -> None:
    warm = WarmStart(capacity=1)
    compute(water, replace(quick, quantities=()), warm=warm)
    water.positions[1, 0] += 0.03
    cold = energy(water, quick)
    assert float(compute(water, replace(quick, quantities=()), warm=warm)["energy"]) == pytest.approx(cold, abs=1e-7)
    other = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])
    compute(other, replace(quick, quantities=()), warm=warm)


def test_a_guess_is_of_the_same_level(water: ase.Atoms, quick: Request) -> None:
    """The coefficients of one basis mean nothing in another one of as many functions."""
    one, other = (replace(quick, level=Level("PBE", basis)) for basis in ("cc-pVDZ", "def2-SVP"))
    assert _identity(water, one) != _identity(water, other)
    assert _identity(water, one) == _identity(water, replace(one, quantities=()))


def test_ions_and_radicals(quick: Request) -> None:
    hydroxyl = ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"spin": 1})
    neutral = compute(hydroxyl, replace(quick, quantities=("centroids", "charges")))
    assert neutral["centroid_occupations"].sum() == 9
    assert set(neutral["centroid_occupations"].tolist()) == {1.0}
    hydroxyl.info.update(spin=0, charge=-1)
    anion = compute(hydroxyl, replace(quick, quantities=("charges",)))
    assert anion["hirshfeld_charges"].sum() == pytest.approx(-1, abs=1e-3)
    assert anion["mulliken_charges"].sum() == pytest.approx(-1, abs=1e-6)
    proton = ase.Atoms("H", [[0, 0, 0]], info={"spin": 1})
    assert compute(proton, replace(quick, quantities=("centroids",)))["centroid_positions"].shape == (1, 3)


def test_added_quantities_of_open_shells_start_from_the_stored_density(
    quick: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Natural orbitals of the sum of both spins are nearly the orbitals of each."""
    guesses: list[np.ndarray] = []

    def solve(scf: Any, coarse: Any, guess: np.ndarray) -> None:
        guesses.append(guess)
        scf.kernel(dm0=guess)
        guesses.append(scf.make_rdm1())

    methylene = ase.Atoms("CHH", [[0, 0, 0], [0.8, 0.5, 0.1], [-0.8, 0.6, 0]], info={"spin": 2})
    stored = compute(methylene, replace(quick, quantities=("density",)))
    monkeypatch.setattr("neural_polarization.labelling.two_grids.solve_on_two_grids", solve)
    added = compute(methylene, replace(quick, quantities=("forces",)), stored=stored)
    assert set(added) == set(stored) | {"forces"}
    guess, found = guesses
    assert np.linalg.norm(guess - found) < 0.1 * np.linalg.norm(found), "free atoms are off by half of it"
    np.testing.assert_allclose(guess.sum(0), unpack_matrix(stored["density_matrix"]), atol=0.01)
    overlap = build_molecule(methylene, quick.level, quick.accuracy).intor_symmetric("int1e_ovlp")
    np.testing.assert_allclose(np.einsum("sij,ji->s", guess, overlap), [5.0, 3.0], atol=1e-9)


def test_no_convergence_is_an_error_with_its_reason(water: ase.Atoms, quick: Request) -> None:
    hopeless = replace(quick, accuracy=replace(quick.accuracy, max_cycles=1))
    with pytest.raises(NotConvergedError, match=r"PBE/3-21G did not converge in 1 iterations.*second-order"):
        compute(water, hopeless)


def test_second_order_solver_takes_over(water: ase.Atoms, quick: Request) -> None:
    """Seven iterations are too few for the first solver and enough for the second."""
    reference = energy(water, quick)
    few = replace(quick, accuracy=replace(quick.accuracy, max_cycles=4))
    scf = converge(build_molecule(water, few.level, few.accuracy), few)
    assert scf.converged
    assert scf.e_tot * 27.211386245988 == pytest.approx(reference, abs=1e-5)


def test_requests_are_checked() -> None:
    level = Level.parse("PBE/3-21G")
    with pytest.raises(ValueError, match=r"quantities: enthalpy not known; choose from forces"):
        Request(level, quantities=("enthalpy",))
    with pytest.raises(ValueError, match=r"polarizability=1\.5 is not between 0 and 1"):
        Request(level, fractions={"polarizability": 1.5})
    with pytest.raises(ValueError, match="not supported on the graphics processor"):
        Request(level, field=(0.0, 0.0, 1.0), gpu=True)


def test_shares_are_drawn_from_the_key() -> None:
    request = Request(Level.parse("PBE/3-21G"), fractions={"density": 0.3})
    drawn = [request.wanted("density", f"structure {k}") for k in range(2000)]
    assert sum(drawn) == pytest.approx(600, abs=80)
    assert drawn == [request.wanted("density", f"structure {k}") for k in range(2000)]
    assert all(request.wanted("forces", str(k)) for k in range(5))
    other = [request.wanted("density", f"structure {k}") and drawn[k + 1] for k in range(1999)]
    assert sum(other) == pytest.approx(180, abs=60), "draws of neighbours are independent"
