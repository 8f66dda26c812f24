"""Structures and levels that the tests of the labels share. PySCF is an extra: without it they are skipped."""

import gc
from collections.abc import Iterator

import ase
import numpy as np
import pytest

pytest.importorskip("pyscf")

from neural_polarization.labelling.calculation import Request
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy


@pytest.fixture
def water() -> ase.Atoms:
    """Water in QM9's geometry (gdb 3)."""
    positions = [[-0.0343604951, 0.9775395708, 0.0076015923], [0.0647664923, 0.0205721989, 0.0015346341]]
    positions.append([0.8717903737, 1.3007924048, 0.0006931336])
    return ase.Atoms("OHH", np.array(positions))


@pytest.fixture
def quick() -> Request:
    """A level that takes a fraction of a second."""
    return Request(Level.parse("PBE/3-21G"), Accuracy(convergence=1e-10, gradient_convergence=1e-6))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """PySCF leaves its temporary files to the garbage collector, which Python reports."""
    for item in items:
        if "labelling" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom:ResourceWarning"))


@pytest.fixture(autouse=True)
def _collected_here() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Temporary files of a test are collected in it, not in a later test that does not expect it."""
    yield
    gc.collect()
