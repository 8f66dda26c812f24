"""Our PaiNN and SchNet against SchNetPack's with the same weights: scalars, vectors and forces to rounding."""

import warnings

import pytest
import torch
from ours import CHANNELS, CUTOFF, MOLECULES, NUM_BASIS, NUM_LAYERS, assert_equal, network, scalars_and_forces

from neural_polarization.molecules import Molecules
from neural_polarization.testing import distorted

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schnetpack_networks as originals
except ModuleNotFoundError as error:
    pytest.skip(
        f"the originals are not installed ({error}): pip install neural-polarization[schnetpack]",
        allow_module_level=True,
    )


@pytest.mark.parametrize("name", ["painn", "schnet"])
def test_equal_to_schnetpack(name: str) -> None:
    make = originals.painn if name == "painn" else originals.schnet
    original = make(CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS).double()
    mine = network(name, original.state_dict())
    weights = torch.randn(CHANNELS, dtype=torch.float64)
    molecules = Molecules.from_ase([distorted(x) for x in MOLECULES], CUTOFF, torch.float64)
    expected = originals.scalars_and_forces(original, molecules, weights)
    got = scalars_and_forces(mine, molecules, weights)
    for what, ours, theirs in zip(("scalars", "vectors", "forces"), got, expected, strict=True):
        if ours is not None and theirs is not None:
            assert_equal(ours, theirs, what)
