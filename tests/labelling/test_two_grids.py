import ase
import numpy as np
import pytest

from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import LEAN, TINY, Accuracy, build_grid, build_molecule, mean_field
from neural_polarization.labelling.two_grids import CorrectedIntegration, solve_on_two_grids

STRICT = Accuracy(grid=LEAN, convergence=1e-9, gradient_convergence=1e-5)


@pytest.mark.parametrize(("name", "spin"), [("PBE", 0), ("B3LYP", 0), ("TPSS", 2), ("HF", 0)])
def test_the_result_is_that_of_the_fine_grid(name: str, spin: int) -> None:
    """Restricted and unrestricted, with and without exact exchange, with the kinetic energy density, with no grid."""
    symbols = "CHH" if spin else "OHH"
    atoms = ase.Atoms(symbols, [[0, 0, 0], [0.8, 0.5, 0.1], [-0.8, 0.6, 0]], info={"spin": spin})
    level = Level.parse(f"{name}/3-21G")
    molecule = build_molecule(atoms, level, STRICT)
    fast, plain = mean_field(molecule, level, STRICT), mean_field(molecule, level, STRICT)
    fine = fast.grids
    solve_on_two_grids(fast, build_grid(molecule, TINY), None)
    plain.kernel()
    assert fast.converged
    assert fast.grids is fine
    assert type(fast._numint) is type(plain._numint)
    assert fast.e_tot == pytest.approx(plain.e_tot, abs=1e-8)
    np.testing.assert_allclose(fast.make_rdm1(), plain.make_rdm1(), atol=2e-5)


def test_the_corrected_potential_is_the_derivative_of_the_corrected_energy() -> None:
    atoms = ase.Atoms("OHH", [[0, 0, 0], [0.9, 0.3, 0], [-0.9, 0.3, 0]])
    level = Level.parse("PBE/3-21G")
    molecule = build_molecule(atoms, level, STRICT)
    scf = mean_field(molecule, level, STRICT)
    fine, scf.grids = scf.grids, build_grid(molecule, TINY)
    density_matrix = scf.get_init_guess()
    corrected = CorrectedIntegration(scf, fine, density_matrix)
    change = np.random.default_rng(0).normal(size=density_matrix.shape) * 1e-3
    change += change.T

    def at(factor: float) -> tuple[float, np.ndarray]:
        _, energy, potential = corrected.nr_rks(molecule, scf.grids, scf.xc, density_matrix + factor * change)
        return float(energy), potential

    slope = (at(0.6)[0] - at(0.4)[0]) / 0.2
    assert slope == pytest.approx(float(np.vdot(at(0.5)[1], change)), rel=1e-5)
