"""GVP-GNN: the contract, and what its vector norm is for.

The paper's equations in plain loops are in tests/originals/test_gvp_paper.py.
"""

import pytest
import torch

from neural_polarization.backbones.gvp import GVP, GeometricVectorPerceptron, VectorLayerNorm
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS, BackboneContract, structure


class TestGVP(BackboneContract):
    def make_backbone(self, num_species: int) -> GVP:
        return GVP(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8, vector_channels=4)


def test_norm_keeps_small_vectors_and_bounds_large_ones() -> None:
    norm = VectorLayerNorm(4).double()
    vectors = torch.randn(5, 3, 2, dtype=torch.float64)

    def normalized(scale: float) -> torch.Tensor:
        out: PointFeatures = norm(PointFeatures(torch.randn(5, 4, dtype=torch.float64), scale * vectors))
        assert out.vectors is not None
        return out.vectors

    assert torch.allclose(normalized(1e-8), 1e-8 * vectors, rtol=1e-12, atol=0.0)
    root_mean_square = normalized(1e8).square().sum(1).mean(-1).sqrt()
    assert torch.allclose(root_mean_square, torch.ones(5, dtype=torch.float64))


@torch.no_grad()
@pytest.mark.parametrize("channels", [2, 4, 12])
def test_vectors_keep_their_length_on_the_way_to_more_channels(channels: int) -> None:
    """The mean square over channels, before the gate, of a perceptron at the start."""
    perceptron = GeometricVectorPerceptron(5, 2, 5, channels).double()
    vectors = torch.randn(6, 3, 2, dtype=torch.float64)
    mixed = perceptron.of_vectors(perceptron.hidden(vectors))
    assert torch.allclose(mixed.square().mean(-1), vectors.square().mean(-1))


@torch.no_grad()
def test_rounding_errors_do_not_grow_with_depth() -> None:
    """Methane's carbon has no vectors, in single precision and after the ten norms of the paper's depth."""
    network = NeuralPolarization(GVP(len(ELEMENTS), channels=16, num_layers=5), ELEMENTS, "plain")
    points: Polarized = network(Molecules.from_ase(structure("CH4"), 4.5, torch.float32))
    assert points.vectors is not None
    lengths = points.vectors.norm(dim=1).amax(-1)
    assert lengths[1:].min() > 1e-2
    assert lengths[0] < 1e-5 * lengths[1:].min()
