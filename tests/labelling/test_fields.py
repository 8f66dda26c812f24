"""Labels in random fields: drawn the same again, stored and packed, with energies whose slopes are the dipoles."""

from pathlib import Path

import ase
import h5py
import numpy as np
import pytest
from ase.io import write

from neural_polarization.cli import main
from neural_polarization.data.packed import read_packed
from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.fields import in_random_fields
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy
from neural_polarization.labelling.store import structure_key

TIGHT = Accuracy(convergence=1e-11, gradient_convergence=1e-6)


def fluoride(**info: object) -> ase.Atoms:
    return ase.Atoms("FH", [[0.1, 0.0, 0.0], [0.1, 0.3, 0.9]], info=dict(info))


def test_fields_are_drawn_evenly_and_the_same_again() -> None:
    structures = [fluoride(), ase.Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])]
    copies = in_random_fields(structures, 0.2, 1.0, 300, seed=1)
    assert [len(copy) for copy in copies] == [2] * 600
    fields = np.array([copy.info["external_field"] for copy in copies])
    strengths = np.linalg.norm(fields, axis=1)
    assert strengths.min() >= 0.2 and strengths.max() <= 1.0
    assert strengths.mean() == pytest.approx(0.6, abs=0.05)
    assert np.abs((fields / strengths[:, None]).mean(0)).max() < 0.1
    again = in_random_fields(structures[::-1], 0.2, 1.0, 300, seed=1)
    np.testing.assert_array_equal(fields[:300], [copy.info["external_field"] for copy in again[300:]])
    other = in_random_fields(structures, 0.2, 1.0, 300, seed=2)
    assert not np.allclose(fields[0], other[0].info["external_field"])
    assert "external_field" not in structures[0].info


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (1.0, 0.5), (0.2, 50.0), (0.2, float("nan"))])
def test_strengths_that_make_no_sense_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"random fields: expected 0 < LOW <= HIGH <= 5 V/Angstrom"):
        in_random_fields([fluoride()], low, high)
    with pytest.raises(ValueError, match="structure 0 has an external_field already"):
        in_random_fields([fluoride(external_field=[0.0, 0.0, 1.0])], 0.2, 1.0)


def test_a_structure_in_a_field_is_another_calculation() -> None:
    request = Request(Level.parse("PBE/STO-3G"), TIGHT, ("forces",))
    inside = fluoride(external_field=[0.0, 0.0, 0.4])
    assert structure_key(inside, request) != structure_key(fluoride(), request)
    strong = Request(request.level, TIGHT, ("forces",), field=(0.0, 0.0, 0.4))
    labels, expected = compute(inside, request), compute(fluoride(), strong)
    np.testing.assert_allclose(labels["forces"], expected["forces"], atol=1e-6)
    assert labels["energy"] == pytest.approx(float(expected["energy"]), abs=1e-7)
    np.testing.assert_array_equal(labels["external_field"], [0.0, 0.0, 0.4])
    assert "external_field" not in expected


@pytest.mark.parametrize("charge", [0, 1])
def test_slopes_of_energies_are_dipoles_wherever_the_molecule_is(charge: int) -> None:
    """For an ion both are about the centre of nuclear charge; its net force is that of its charge."""
    request = Request(Level.parse("PBE/STO-3G"), TIGHT, ("forces",))
    energies: list[float] = []
    net: list[np.ndarray] = []
    for strength, shift in ((0.02, 0.0), (-0.02, 3.0)):
        atoms = fluoride(charge=charge, spin=charge, external_field=[0.0, 0.0, strength])
        atoms.positions += shift
        labels = compute(atoms, request)
        energies.append(float(labels["energy"]))
        net.append(labels["forces"].sum(0))
    dipole = compute(fluoride(charge=charge, spin=charge), request)["dipole"]
    assert -(energies[0] - energies[1]) / 0.04 == pytest.approx(dipole[2], abs=2e-4)
    # A difference, as the motion of the quadrature grid leaves a net force without any field.
    np.testing.assert_allclose((net[0] - net[1]) / 0.04, [0.0, 0.0, charge], atol=5e-3)


def test_the_command_stores_and_packs_fields(tmp_path: Path) -> None:
    structures, labels, data = tmp_path / "one.extxyz", tmp_path / "labels.h5", tmp_path / "set.npz"
    write(structures, fluoride(), format="extxyz")
    level = ["--level", "PBE/STO-3G", "--accuracy", "fast", "--quantities", "forces"]
    assert main(["label", str(structures), "-o", str(labels), *level]) == 0
    fields = ["--random-fields", "0.2", "0.5", "--per-structure", "2"]
    assert main(["label", str(structures), "-o", str(labels), *level, *fields]) == 0
    with h5py.File(labels) as file:
        structure_group = file["structures"]
        assert isinstance(structure_group, h5py.Group)
        assert len(structure_group) == 3
    assert main(["pack", str(labels), "-o", str(data)]) == 0
    dataset = read_packed(data)
    found = dataset.labels["external_field"]
    strengths = np.linalg.norm(found, axis=1)
    assert np.isnan(strengths[0]) and (strengths[1:] >= 0.2).all() and (strengths[1:] <= 0.5).all()
    batch = dataset.prepare(5.0).batch([0, 1, 2])
    assert "external_field" not in batch.labels
    assert batch.molecules.external_field is not None
    np.testing.assert_allclose(batch.molecules.external_field.numpy(), np.nan_to_num(found), atol=1e-7)
