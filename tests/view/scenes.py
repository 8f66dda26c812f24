"""Scenes with known densities: Gaussian functions, whose surfaces are known exactly."""

import numpy as np

from neural_polarization.view import Grid, Scene

POSITIONS = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])


def box(points: int = 30, half: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin, spacing and points of a cube around the origin."""
    spacing = 2 * half / (points - 1) * np.eye(3)
    origin = np.full(3, -half)
    grid = Grid(origin, spacing, np.zeros((points, points, points)))
    return origin, spacing, grid.points


def water(points: int = 30, shift: float = 0.0) -> Scene:
    """Water with a density of Gaussian functions, a potential of point charges, and moving points of three layers."""
    origin, spacing, places = box(points)
    numbers = np.array([8, 1, 1])
    positions = POSITIONS + np.array([0.0, 0.0, shift])
    squares = np.sum((places[..., None, :] - positions) ** 2, axis=-1)
    density = np.exp(-2.0 * squares) @ np.array([6.0, 1.0, 1.0])
    deformation = np.exp(-2.0 * squares) @ np.array([-0.6, 0.3, 0.3])
    potential = (1.0 / np.sqrt(squares + 0.25)) @ np.array([-6.0, 3.0, 3.0])
    displacement = np.array([[0.0, 0.0, 0.04], [0.0, -0.25, 0.2], [0.0, 0.25, 0.2]])
    return Scene(
        title="Water",
        atomic_numbers=numbers,
        positions=positions,
        moving_points=positions + np.array([0.3, 0.6, 1.0])[:, None, None] * displacement,
        density=Grid(origin, spacing, density),
        deformation=Grid(origin, spacing, deformation),
        potential=Grid(origin, spacing, potential),
        dipole=np.array([0.0, 0.0, -0.39]),
        charges=np.array([-0.6, 0.3, 0.3]),
        properties={"energy": "2078.6 eV <"},
    )
