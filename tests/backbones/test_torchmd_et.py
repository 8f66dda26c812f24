"""TorchMD-NET's equivariant transformer: the contract, its heads and its radial functions.

Equality with the original is in tests/originals/test_torchmd_et_original.py.
"""

import math

import pytest
import torch

from neural_polarization.backbones.torchmd_et import TorchMDET
from neural_polarization.layers.expnormal import ExpNormalBasis
from neural_polarization.testing import BackboneContract


class TestTorchMDET(BackboneContract):
    def make_backbone(self, num_species: int) -> TorchMDET:
        return TorchMDET(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8, num_heads=2)


def test_channels_have_to_fit_the_heads() -> None:
    with pytest.raises(ValueError, match="num_heads=3"):
        TorchMDET(4, channels=8, num_heads=3)


def test_radial_functions_peak_at_their_centres() -> None:
    """The k-th function is 1 where exp(-alpha r) is its centre, which for the last one is at length zero."""
    basis = ExpNormalBasis(8, cutoff=4.0).double()
    centres = [math.exp(-4.0) + k / 7.0 * (1.0 - math.exp(-4.0)) for k in range(8)]
    lengths = torch.tensor([-math.log(centre) * 4.0 / 5.0 for centre in centres], dtype=torch.float64)
    values = basis(lengths)
    assert torch.allclose(values.diagonal(), torch.ones(8, dtype=torch.float64), atol=1e-6)
    assert values.argmax(1).tolist() == list(range(8))
    far = basis(torch.tensor([0.0, 1e-5, 4.0, 40.0], dtype=torch.float64))
    assert far.isfinite().all() and (far <= 1.0).all()
