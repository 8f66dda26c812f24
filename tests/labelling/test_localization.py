"""Localized orbitals of molecules whose bonds and lone pairs everybody knows."""

from typing import Any

import ase
import ase.build
import numpy as np
import pytest
from pyscf import dft, gto, lo

from neural_polarization.labelling.properties.localization import best_rotation
from neural_polarization.labelling.properties.orbitals import centroids
from neural_polarization.units import BOHR

FLUOROMETHANE = ase.Atoms(
    "CFHHH", [[0, 0, 0], [0, 0, 1.39], [1.03, 0, -0.36], [-0.515, 0.892, -0.36], [-0.515, -0.892, -0.36]]
)


def _scf(name: str) -> tuple[ase.Atoms, Any]:
    atoms = FLUOROMETHANE if name == "CH3F" else ase.build.molecule(name)
    molecule = gto.M(atom=list(zip(atoms.numbers, atoms.positions, strict=True)), basis="3-21g", verbose=0)
    return atoms, dft.RKS(molecule, xc="svwn").density_fit().run()


@pytest.mark.parametrize(
    ("name", "cores", "lone_pairs", "between_heavy"), [("H2O", 1, 2, 0), ("H2CO", 2, 2, 2), ("CH3F", 2, 3, 1)]
)
def test_bonds_lone_pairs_and_cores(name: str, cores: int, lone_pairs: int, between_heavy: int) -> None:
    """Every bond to hydrogen has one orbital on its axis; the others are cores, lone pairs and bonds of heavy atoms."""
    atoms, scf = _scf(name)
    found = centroids(scf)
    owners = [tuple(sorted(pair)) for pair in found.owners.tolist()]
    alone = [orbital for orbital, (one, other) in enumerate(owners) if one == other]
    assert sum(found.spreads[orbital] < 0.3 for orbital in alone) == cores
    assert sum(found.spreads[orbital] > 0.3 for orbital in alone) == lone_pairs
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    heavy = np.flatnonzero(atoms.numbers > 1)
    for hydrogen in hydrogens:
        nearest = heavy[np.argmin(atoms.get_distances(hydrogen, heavy))]
        assert owners.count((min(hydrogen, nearest), max(hydrogen, nearest))) == 1
        bond = owners.index((min(hydrogen, nearest), max(hydrogen, nearest)))
        axis = atoms.positions[hydrogen] - atoms.positions[nearest]
        along = (found.positions[bond] - atoms.positions[nearest]) @ axis / (axis @ axis)
        assert 0.3 < along < 0.8
        off = found.positions[bond] - atoms.positions[nearest] - along * axis
        assert np.linalg.norm(off) < 0.1
    assert len(owners) == cores + lone_pairs + len(hydrogens) + between_heavy


def test_no_single_start_of_pyscf_is_better() -> None:
    """The sum of squared centroids, which localization maximizes, beside six starts of PySCF's solver."""
    _, scf = _scf("CH3F")
    operators = scf.mol.intor_symmetric("int1e_r", comp=3)
    occupied = scf.mo_coeff[:, scf.mo_occ > 0]
    reached = []
    for seed in range(6):
        turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((occupied.shape[1],) * 2))[0]
        boys = lo.Boys(scf.mol, occupied @ turn)
        boys.set(verbose=0, init_guess=None)
        orbitals = boys.kernel()
        reached.append(np.sum(np.einsum("xij,ik,jk->kx", operators, orbitals, orbitals) ** 2))
    ours = np.sum((centroids(scf).positions / BOHR) ** 2)
    assert ours == pytest.approx(max(reached), abs=1e-5)
    assert ours > min(reached) + 0.1, "one of the starts must end elsewhere, or this test shows nothing"


def test_rotation_of_a_known_solution_is_undone() -> None:
    """Orbitals at separate places, mixed by a rotation: localization finds the places again."""
    random = np.random.default_rng(3)
    places = random.normal(size=(5, 3))
    mixing = np.linalg.qr(random.normal(size=(5, 5)))[0]
    moments = np.einsum("kx,ki,kj->xij", places, mixing, mixing)
    rotation = best_rotation(moments)
    found = np.einsum("xij,ik,jk->kx", moments, rotation, rotation)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], places[np.argsort(places[:, 0])], atol=1e-4)
