"""DimeNet++: the contract, and how the coupling of points reaches the messages of edges.

Equality with PyTorch Geometric is in tests/originals/test_dimenet_original.py.
"""

from dataclasses import replace

import pytest
import torch

from neural_polarization.backbones.dimenet import DimeNetFeatures, DimeNetPP
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.molecules import Molecules
from neural_polarization.testing import BackboneContract, distorted, structure

CUTOFF = 4.0


def _backbone() -> DimeNetPP:
    return DimeNetPP(3, channels=8, num_layers=2, cutoff=CUTOFF, num_basis=4, num_degrees=3)


class TestDimeNetPP(BackboneContract):
    def make_backbone(self, num_species: int) -> DimeNetPP:
        return DimeNetPP(num_species, channels=8, num_layers=2, cutoff=CUTOFF, num_basis=4, num_degrees=3)


def _edges(molecules: Molecules) -> Edges:
    senders, receivers = molecules.edge_index
    vectors = molecules.positions[senders] - molecules.positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, CUTOFF))


def test_joined_scalars_reach_the_messages() -> None:
    """What is added to one point changes its neighbours in the next layer, and nothing changes if nothing is added."""
    backbone = _backbone().double()
    molecules = Molecules.from_ase(distorted("H2CO"), CUTOFF, torch.float64)
    edges = _edges(molecules)
    first, second = backbone.layers
    features: DimeNetFeatures = first(backbone.embed(torch.tensor([2, 1, 0, 0])), edges)
    plain: DimeNetFeatures = second(features, edges)

    same: DimeNetFeatures = second(backbone.join(features, backbone.split(features)), edges)
    assert torch.equal(same.scalars, plain.scalars)

    added = torch.zeros_like(features.scalars)
    added[0] = 0.1
    told: DimeNetFeatures = second(backbone.join(features, PointFeatures(features.scalars + added, None)), edges)
    change = (told.scalars - added - plain.scalars).abs().amax(1)
    assert (change[1:] > 1e-6).all()

    twice = backbone.join(features, PointFeatures(features.scalars + 0.3 * added, None))
    twice = backbone.join(twice, PointFeatures(features.scalars + added, None))
    again: DimeNetFeatures = second(twice, edges)
    assert torch.allclose(again.scalars, told.scalars, rtol=0.0, atol=1e-12)


@torch.no_grad()
def test_narrow_networks_start_as_large_as_wide_ones() -> None:
    """Functions of the basis are large: what they are mapped by has the size that 128 channels would give it."""
    molecules = Molecules.from_ase(distorted("CH3CH2OH"), CUTOFF, torch.float64)
    for channels in (8, 16, 128):
        backbone = DimeNetPP(3, channels=channels, num_layers=2, cutoff=CUTOFF).double()
        features = backbone.embed(torch.tensor([1, 1, 2, 0, 0, 0, 0, 0, 0]))
        for layer in backbone.layers:
            features = layer(features, _edges(molecules))
        assert 0.1 < features.scalars.std() < 6.0


def test_angles_count() -> None:
    """Two geometries with the same distances along all edges and other angles are told apart."""
    backbone = _backbone().double()
    chain = Edges(
        senders=torch.tensor([0, 1, 1, 2]),
        receivers=torch.tensor([1, 0, 2, 1]),
        vectors=torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, -1.0, 0], [0, 1.0, 0]], dtype=torch.float64),
        lengths=torch.ones(4, dtype=torch.float64),
        nuclear_lengths=torch.ones(4, dtype=torch.float64),
        envelope=torch.ones(4, dtype=torch.float64),
    )
    straight = replace(chain, vectors=chain.vectors.abs().sum(1, keepdim=True) * torch.tensor([[1.0, 0, 0]]).double())
    layer = backbone.layers[0]
    features = backbone.embed(torch.tensor([0, 1, 2]))
    bent_scalars, straight_scalars = layer(features, chain).scalars, layer(features, straight).scalars
    assert not torch.allclose(bent_scalars, straight_scalars, rtol=1e-6)


def test_finite_where_points_meet_and_in_line() -> None:
    """Second derivatives are finite for carbon dioxide, whose atoms are in line, and for points that nearly meet."""
    backbone = _backbone().double()
    molecules = Molecules.from_ase(structure("CO2"), CUTOFF, torch.float64)
    nuclear = _edges(molecules)
    for scale in (1.0, 1e-9):
        positions = (scale * molecules.positions).requires_grad_()
        vectors = positions[nuclear.senders] - positions[nuclear.receivers]
        edges = replace(nuclear, vectors=vectors, lengths=safe_norm(vectors))
        features = backbone.embed(torch.tensor([1, 2, 2]))
        for layer in backbone.layers:
            features = layer(features, edges)
        (gradient,) = torch.autograd.grad(features.scalars.square().sum(), positions, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), positions)
        assert features.scalars.isfinite().all() and gradient.isfinite().all() and second.isfinite().all()


def test_a_single_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channels: DimeNet\+\+ needs 2 or more"):
        DimeNetPP(2, channels=1)
