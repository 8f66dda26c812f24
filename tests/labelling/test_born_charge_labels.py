"""Born charges as labels: derivatives of the dipole, which add up to the charge, with and without a field."""

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.io import write

from neural_polarization.cli import main
from neural_polarization.data.packed import read_packed
from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy

TIGHT = Accuracy(convergence=1e-11, gradient_convergence=1e-6)
LEVEL = Level.parse("PBE/STO-3G")


def fluoride(**info: object) -> ase.Atoms:
    return ase.Atoms("FH", [[0.1, 0.0, 0.0], [0.1, 0.3, 0.9]], info=dict(info))


@pytest.mark.parametrize("info", [{}, {"external_field": [0.1, 0.0, 0.3]}, {"charge": 1, "spin": 1}], ids=str)
def test_they_are_derivatives_of_the_dipole(info: dict[str, object]) -> None:
    charges = compute(fluoride(**info), Request(LEVEL, TIGHT, ("born_charges",)))["born_charges"]
    assert charges.shape == (2, 3, 3)
    total = float(str(info.get("charge", 0)))
    # The quadrature grid moves with the atoms, which breaks the sum rule a little.
    np.testing.assert_allclose(charges.sum(0), total * np.eye(3), atol=0.01)
    dipoles: list[np.ndarray] = []
    for sign in (1.0, -1.0):
        atoms = fluoride(**info)
        atoms.positions[1, 2] += 0.002 * sign
        dipole = compute(atoms, Request(LEVEL, TIGHT, ()))["dipole"]
        centre = atoms.numbers @ atoms.positions / atoms.numbers.sum()
        dipoles.append(dipole + total * centre)  # about a fixed origin
    np.testing.assert_allclose(charges[1, 2], (dipoles[0] - dipoles[1]) / 0.004, atol=0.01)


def test_they_are_asked_for_and_packed(tmp_path: Path) -> None:
    structures, labels, data = tmp_path / "one.extxyz", tmp_path / "labels.h5", tmp_path / "set.npz"
    write(structures, fluoride(), format="extxyz")
    assert "born_charges" not in Request(LEVEL).quantities
    words = ["--level", "PBE/STO-3G", "--accuracy", "fast", "--quantities", "forces", "born_charges"]
    assert main(["label", str(structures), "-o", str(labels), *words]) == 0
    assert main(["pack", str(labels), "-o", str(data)]) == 0
    found = read_packed(data).labels["born_charges"]
    assert found.shape == (2, 3, 3)
    expected = compute(fluoride(), Request(LEVEL, TIGHT, ("born_charges",)))["born_charges"]
    np.testing.assert_allclose(found, expected, atol=0.01)
