"""Small random molecules that the tests of the data room share."""

import numpy as np
import pytest

from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules
from neural_polarization.properties import Property


def scattered(rng: np.random.Generator, size: int) -> np.ndarray:
    """Places on a jittered lattice: no two of them close."""
    lattice = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    return 1.3 * rng.permutation(lattice)[:size] + rng.uniform(-0.2, 0.2, (size, 3))


@pytest.fixture
def flat() -> FlatMolecules:
    """Forty molecules of 1 to 12 atoms of H, C, N, O."""
    rng = np.random.default_rng(7)
    sizes = rng.integers(1, 13, 40)
    return FlatMolecules.checked(
        "test",
        sizes,
        rng.choice([1, 6, 7, 8], sizes.sum()),
        np.concatenate([scattered(rng, size) for size in sizes]),
    )


@pytest.fixture
def dataset(flat: FlatMolecules) -> Dataset:
    """The forty molecules with an energy, a dipole and forces, some of them missing."""
    rng = np.random.default_rng(8)
    energy = rng.normal(-1e4, 1.0, len(flat))
    energy[3] = np.nan
    forces = rng.normal(size=flat.positions.shape)
    forces[: flat.n_atoms[0]] = np.nan
    return Dataset(
        "test",
        flat,
        {
            "energy": Property("energy", "meV"),
            "dipole": Property("dipole", "mD", (3,)),
            "forces": Property("forces", "meV/Angstrom", (3,), per_atom=True),
        },
        {"energy": energy, "dipole": rng.normal(size=(len(flat), 3)), "forces": forces},
        groups=np.arange(len(flat)) // 4,
    )
