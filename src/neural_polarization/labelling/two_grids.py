"""Self-consistency on a coarse quadrature grid with the result of a fine one."""

from typing import Any

import numpy as np
from pyscf.dft import numint

_MOST_ROUNDS = 8
"""How often the correction is computed anew, at most; two or three times as a rule."""


class CorrectedIntegration(numint.NumInt):
    """Exchange and correlation on a coarse grid, corrected to first order towards a fine grid.

    With E_c and E_f the exchange-correlation energies on the two grids and V their derivatives by the density matrix P,
    the energy is E_c(P) + E_f(P0) - E_c(P0) + tr[(V_f(P0) - V_c(P0)) (P - P0)]. Its error is of second order in P - P0,
    and times the small difference of the grids.

    Args:
        scf: a restricted Kohn-Sham object whose `grids` are the coarse ones.
        fine: PySCF's fine grid.
        density_matrix: P0, (functions, functions).
    """

    def __init__(self, scf: Any, fine: Any, density_matrix: Any) -> None:
        super().__init__()
        plain = numint.NumInt()
        at_fine = plain.nr_rks(scf.mol, fine, scf.xc, density_matrix)
        at_coarse = plain.nr_rks(scf.mol, scf.grids, scf.xc, density_matrix)
        self._electrons, self._energy, self._potential = (
            np.asarray(better - worse) for better, worse in zip(at_fine, at_coarse, strict=True)
        )
        self._reference = np.array(density_matrix)

    def nr_rks(self, mol: Any, grids: Any, xc_code: str, dms: Any, *arguments: Any, **options: Any) -> Any:
        """Electrons, energy and potential of a restricted calculation."""
        return self._corrected(dms, super().nr_rks(mol, grids, xc_code, dms, *arguments, **options))

    def _corrected(self, density_matrix: Any, coarse: Any) -> Any:
        electrons, energy, potential = coarse
        first_order = float(np.vdot(self._potential, np.asarray(density_matrix) - self._reference))
        return electrons + self._electrons, energy + float(self._energy) + first_order, potential + self._potential


def solve_on_two_grids(scf: Any, coarse: Any, guess: Any) -> None:
    """Bring a Kohn-Sham object to self-consistency on its own grid, with nearly all iterations on a coarser one.

    Unrestricted calculations are begun on the coarse grid and finished on the fine one, without a correction.

    Args:
        scf: with the fine grid, and with the convergence that is wanted; left converged, or not (`scf.converged`).
        coarse: PySCF's coarse grid.
        guess: density matrix to start from, or None.
    """
    fine, energy_tolerance, gradient_tolerance = scf.grids, scf.conv_tol, scf.conv_tol_grad
    fine.build(with_non0tab=True)
    plain = scf._numint
    scf.grids = coarse
    scf.conv_tol, scf.conv_tol_grad = 1e-5 if scf.mol.spin else 1e-2, None
    scf.kernel(dm0=guess)
    scf.conv_tol, scf.conv_tol_grad = energy_tolerance, gradient_tolerance
    if scf.mol.spin:
        scf.grids = fine
        scf.kernel(dm0=scf.make_rdm1())
        return
    for _ in range(_MOST_ROUNDS):
        density_matrix = scf.make_rdm1()
        scf._numint = CorrectedIntegration(scf, fine, density_matrix)
        scf.kernel(dm0=density_matrix)
        # The correction is exact where it was computed: there one iteration that changes nothing ends the search.
        if not scf.converged or scf.cycles <= 1:
            break
    scf.grids, scf._numint = fine, plain
