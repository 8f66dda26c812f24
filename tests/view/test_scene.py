"""Scenes: what they refuse, and what they derive."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from scenes import water

from neural_polarization.view import Grid, Scene
from neural_polarization.view.scene import MINUS


def test_points_of_an_oblique_grid() -> None:
    spacing = np.array([[0.2, 0.0, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 0.4]])
    grid = Grid(np.array([1.0, 2.0, 3.0]), spacing, np.zeros((2, 3, 4)))
    np.testing.assert_allclose(grid.points[1, 2, 3], [1.0 + 0.2 + 0.2, 2.0 + 0.6, 3.0 + 1.2])
    assert grid.cell_volume == pytest.approx(0.2 * 0.3 * 0.4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positions": np.full((3, 3), np.nan)}, "positions: 9 of 9 numbers are not finite"),
        ({"positions": np.zeros((2, 3))}, r"positions: expected the shape \(3, 3\), got \(2, 3\)"),
        ({"atomic_numbers": np.array([], dtype=int)}, "no atoms"),
        ({"atomic_numbers": np.array([8, 1, 400])}, "atomic_numbers: expected 0 to 118"),
        ({"moving_points": np.zeros((3, 3))}, r"moving_points: expected the shape \(any, 3, 3\)"),
        ({"moving_points": np.full((1, 3, 3), np.inf)}, "moving_points: 9 of 9 numbers are not finite"),
        ({"dipole": np.array([0.0, np.nan, 0.0])}, "dipole: 1 of 3 numbers are not finite"),
        ({"charges": np.zeros(4)}, "charges: expected the shape"),
        ({"density": None, "reference": water().density}, "reference: expected on the points of `density`"),
        ({"reference": water(points=20).density}, "reference: expected on the points of `density`"),
    ],
)
def test_refuses_what_cannot_be_shown(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"scene 'Water': .*{words}"):
        dataclasses.replace(water(), **change)


@pytest.mark.parametrize(
    ("values", "spacing", "words"),
    [
        (np.full((2, 2, 2), np.nan), np.eye(3), "8 of 8 numbers are not finite"),
        (np.zeros((2, 2)), np.eye(3), "expected the shape"),
        (np.zeros((1, 2, 2)), np.eye(3), "two or more points"),
        (np.zeros((2, 2, 2)), np.ones((3, 3)), "lie in a plane"),
    ],
)
def test_refuses_grids_that_cannot_be(values: np.ndarray, spacing: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Grid(np.zeros(3), spacing, values)


def test_formula_has_the_charge() -> None:
    ammonium = Scene("", np.array([7, 1, 1, 1, 1]), np.eye(5, 3), charge=1)
    assert ammonium.formula == "H4N+"
    assert dataclasses.replace(ammonium, charge=-2).formula == f"H4N2{MINUS}"


@pytest.mark.parametrize(("name", "bonds"), [("H2O", 2), ("C6H6", 12), ("CH3CH2OH", 8), ("CO2", 2)])
def test_bonds_are_those_of_chemistry(name: str, bonds: int) -> None:
    atoms = molecule(name)
    found = Scene(name, atoms.numbers, atoms.positions).bonds()
    assert len(found) == bonds
    assert all(i < j for i, j in found)


def test_difference_to_a_reference() -> None:
    scene = water()
    assert scene.density is not None
    half = Grid(scene.density.origin, scene.density.spacing, scene.density.values / 2)
    difference = dataclasses.replace(scene, reference=half).difference
    assert difference is not None
    np.testing.assert_allclose(difference.values, half.values)
    assert scene.difference is None
