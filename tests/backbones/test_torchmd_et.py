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


@torch.no_grad()
def test_linear_maps_start_as_the_originals() -> None:
    """Uniform in Glorot's bounds, without biases."""
    maps = [part for part in TorchMDET(4, channels=64, num_layers=2).modules() if isinstance(part, torch.nn.Linear)]
    assert len(maps) == 2 + 6 + 7
    for one in maps:
        bound = math.sqrt(6.0 / (one.in_features + one.out_features))
        assert 0.98 * bound < one.weight.abs().max() <= bound
        assert float(one.weight.std()) == pytest.approx(bound / math.sqrt(3.0), rel=0.05)
        assert one.bias is None or (one.bias == 0.0).all()


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


def test_joining_keeps_what_points_tell_of_their_species() -> None:
    backbone = TorchMDET(4, channels=8, num_layers=1)
    features = backbone.embed(torch.tensor([0, 3, 1]))
    again = backbone.join(features, backbone.split(features))
    for name, value in vars(features).items():
        assert torch.equal(getattr(again, name), value)
