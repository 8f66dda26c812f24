"""Enumeration against counts known from elsewhere, and thermal displacement against statistics."""

import ase
import ase.units
import numpy as np
import pytest
from ase.build import molecule

Chem = pytest.importorskip("rdkit.Chem")

from neural_polarization.labelling.displacement import ForceField, Tolerance, same_molecule, thermal_frames  # noqa: E402
from neural_polarization.labelling.enumeration import Sampling, choose, enumerate_smiles, structures  # noqa: E402
from neural_polarization.structures.smiles import embedded_molecule  # noqa: E402

VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}


def test_molecules_of_one_and_two_heavy_atoms() -> None:
    """By hand: a bond of order k needs k valences on both sides; O=O is left out."""
    assert enumerate_smiles(1) == ["C", "F", "N", "O"]
    pairs = enumerate_smiles(2)[4:]
    elements = sorted(VALENCE)
    expected = sum(
        min(VALENCE[first], VALENCE[second], 3) for k, first in enumerate(elements) for second in elements[k:]
    )
    assert len(pairs) == expected - 1
    assert {"C#N", "N#N", "C=O", "OO", "FF"} <= set(pairs)
    assert "O=O" not in pairs


def _cumulated_in_a_ring(smiles: str) -> bool:
    """Whether an atom of a ring has a triple bond or two double bonds."""
    return any(
        atom.IsInRing() and sum(bond.GetBondTypeAsDouble() - 1.0 for bond in atom.GetBonds()) > 1.5
        for atom in Chem.MolFromSmiles(smiles).GetAtoms()
    )


def test_hydrocarbons_of_four_carbons() -> None:
    """Structural isomers of C4 hydrocarbons: 2 butanes, 5 C4H8, 9 C4H6 (one with a triple bond in a ring)."""
    four = [smiles for smiles in enumerate_smiles(4, strained=True) if set(smiles) <= set("Cc=#()12")]
    hydrogens = [
        sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
        for molecule in map(Chem.MolFromSmiles, four)
        if molecule.GetNumAtoms() == 4
    ]
    assert hydrogens.count(10) == 2
    assert hydrogens.count(8) == 5
    assert hydrogens.count(6) == 9
    left_out = {smiles for smiles in four if _cumulated_in_a_ring(smiles)}
    assert {"CC1=C=C1", "C1#CCC1"} < left_out
    assert set(four) - set(enumerate_smiles(4)) == left_out


def test_molecules_are_unique_neutral_and_of_ordinary_valence() -> None:
    found = enumerate_smiles(3)
    assert len(found) == len(set(found)) == 109
    for smiles in found:
        molecule = Chem.MolFromSmiles(smiles)
        assert Chem.MolToSmiles(molecule) == smiles
        for atom in molecule.GetAtoms():
            assert atom.GetFormalCharge() == 0
            assert atom.GetNumRadicalElectrons() == 0
            assert atom.GetTotalValence() == VALENCE[atom.GetSymbol()]
    assert "C1#CC1" not in found
    assert "C1#CC1" in enumerate_smiles(3, strained=True)
    with pytest.raises(ValueError, match="heavy_atoms: expected at least 1, got 0"):
        enumerate_smiles(0)


def test_parts_of_an_enumeration() -> None:
    everything = enumerate_smiles(3)
    chosen = choose(everything, smallest=2, largest_sample=5, seed=1)
    assert chosen == choose(everything, smallest=2, largest_sample=5, seed=1)
    sizes = [Chem.MolFromSmiles(smiles).GetNumAtoms() for smiles in chosen]
    assert sizes.count(1) == 0 and sizes.count(2) == 18 and sizes.count(3) == 5
    assert choose(everything) == everything


def test_structures_come_in_balanced_rounds() -> None:
    sampling = Sampling(frames=3, temperature=300.0, seed=5)
    made = structures(["C", "CO"], sampling)
    assert [(atoms.info["smiles"], atoms.info["frame"]) for atoms in made] == [
        ("C", 0), ("CO", 0), ("C", 1), ("CO", 1), ("C", 2), ("CO", 2)
    ]  # fmt: skip
    assert [atoms.info["heavy_atoms"] for atoms in made[:2]] == [1, 2]
    again = structures(["C", "CO"], sampling)
    for one, other in zip(made, again, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-9)
    assert np.abs(made[2].positions - made[4].positions).max() > 1e-3


def test_relaxation_in_between_moves_the_centre() -> None:
    def longer(atoms: ase.Atoms) -> ase.Atoms:
        moved = atoms.copy()
        moved.positions *= 1.1
        return moved

    plain = structures(["O"], Sampling(frames=2))
    moved = structures(["O"], Sampling(frames=2), longer)
    assert moved[0].get_distance(0, 1) == pytest.approx(1.1 * plain[0].get_distance(0, 1))


def test_every_molecule_and_every_seed_has_its_own_displacements() -> None:
    """From one and the same relaxed structure."""
    water = molecule("H2O")
    frames = [structures(["O", "O"], Sampling(frames=2, seed=seed), lambda _: water)[2:] for seed in (0, 5)]
    moved = [atoms.positions for pair in frames for atoms in pair]
    for k, one in enumerate(moved):
        assert all(np.abs(one - other).max() > 1e-2 for other in moved[:k])


def test_hessian_is_the_curvature_of_the_energy() -> None:
    """RDKit's own energies, differentiated twice: 8.0, 10.6, 29.9 and 73.5 eV/Angstrom^2 for methane."""
    field = ForceField(embedded_molecule("C", "methane", 1))
    values = np.linalg.eigvalsh(field.hessian())
    np.testing.assert_allclose(values[:6], 0, atol=1e-3)
    np.testing.assert_allclose(values[6:], [8.02] * 2 + [10.59] * 3 + [29.89] + [73.51] * 3, rtol=1e-2)


def test_displacements_have_the_temperature() -> None:
    """Equipartition: half kT in each of the 3 N - 6 vibrations, on average."""
    field = ForceField(embedded_molecule("O", "water", 1))
    frames = thermal_frames(field, 400, 300.0, 0)
    hessian, relaxed = field.hessian(), frames[0].positions
    moved = np.array([(atoms.positions - relaxed).ravel() for atoms in frames[1:]])
    energies = np.einsum("fi,ij,fj->f", moved, hessian, moved) / 2
    assert energies.mean() == pytest.approx(3 / 2 * ase.units.kB * 300, rel=0.1)
    by_atom = moved.reshape(-1, 3, 3)
    np.testing.assert_allclose(by_atom.mean(axis=1), 0, atol=1e-9)
    turned = np.cross(relaxed - relaxed.mean(axis=0), by_atom).sum(axis=1)
    np.testing.assert_allclose(turned, 0, atol=1e-9)


def test_soft_modes_are_displaced_as_if_stiffer() -> None:
    """By kT / max(curvature, 0.8 eV/Angstrom^2) along every mode of ethanol, whose torsions are softer than that."""
    field = ForceField(embedded_molecule("CCO", "ethanol", 1))
    frames = thermal_frames(field, 400, 20.0, 0)
    curvature, modes = np.linalg.eigh(field.hessian())
    curvature, modes = curvature[6:], modes[:, 6:]
    assert np.count_nonzero(curvature < 0.6) == 2
    moved = np.array([(atoms.positions - frames[0].positions).ravel() for atoms in frames[1:]]) @ modes
    ratios = (moved**2).mean(axis=0) * np.maximum(curvature, 0.8) / (ase.units.kB * 20.0)
    np.testing.assert_allclose(ratios[:2].mean(), 1.0, rtol=0.15)
    np.testing.assert_allclose(ratios.mean(), 1.0, rtol=0.06)


@pytest.mark.parametrize(
    ("bond", "angle", "same"),
    [(0.96, 104.5, True), (0.79, 104.5, True), (0.75, 130.0, False), (1.18, 104.5, True), (1.22, 104.5, False),
     (0.96, 80.0, True), (0.96, 75.0, False)],
)  # fmt: skip
def test_what_still_counts_as_the_same_molecule(bond: float, angle: float, same: bool) -> None:
    """Bonds of 0.8 to 1.25 of the relaxed length, 0.96 here, and 1.2 Angstrom between the hydrogens of water."""
    relaxed, displaced = (
        ase.Atoms("OHH", [[0, 0, 0], [r, 0, 0], [r * np.cos(turn), r * np.sin(turn), 0]])
        for r, turn in ((0.96, np.radians(104.5)), (bond, np.radians(angle)))
    )
    assert same_molecule(relaxed, displaced, np.array([[0, 1], [0, 2]]), Tolerance()) is same


def test_bonds_do_not_break() -> None:
    field = ForceField(embedded_molecule("CCO", "ethanol", 1))
    relaxed, *displaced = thermal_frames(field, 20, 800.0, 3)
    for first, second in field.bonds():
        ratios = [atoms.get_distance(first, second) / relaxed.get_distance(first, second) for atoms in displaced]
        assert min(ratios) >= 0.8 and max(ratios) <= 1.25
    with pytest.raises(ValueError, match="bonds of C2H6O break in almost every sample; choose a lower"):
        thermal_frames(field, 5, 300.0, 0, Tolerance(shortest=0.999, longest=1.001))
    with pytest.raises(ValueError, match="temperature: expected kelvin"):
        thermal_frames(field, 5, -1.0, 0)
    assert len(thermal_frames(field, 1, 300.0, 0)) == 1
