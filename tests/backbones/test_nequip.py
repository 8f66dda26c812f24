"""NequIP: the contract, the symmetry of features of both parities, and its nonlinearity."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from e3nn import o3
from torch import Tensor

from neural_polarization.backbones.attributed import SelfConnection
from neural_polarization.backbones.nequip import Gated, NequIP, NequIPLayer, features_of_layers
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.layers.irreps import make_irreps
from neural_polarization.testing import BackboneContract


class TestNequIP(BackboneContract):
    def make_backbone(self, num_species: int) -> NequIP:
        return NequIP(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=4, lmax=1)


def test_features_that_a_later_layer_reads() -> None:
    irreps = features_of_layers(2, 1, 5, both_parities=True)
    assert [str(one) for one in irreps] == [
        "2x0e",
        "2x0e+2x1o",
        "2x0e+2x1o+2x1e",
        "2x0e+2x1o+2x0o+2x1e",
        "2x0e+2x1o+2x1e",
        "2x0e+2x1o",
    ]
    assert str(features_of_layers(2, 2, 2, both_parities=False)[1]) == "2x0e+2x1o+2x2e"


def _edges(positions: Tensor, cutoff: float) -> Edges:
    senders, receivers = (~torch.eye(len(positions), dtype=torch.bool)).nonzero().unbind(1)
    vectors = positions[senders] - positions[receivers]
    lengths = safe_norm(vectors)
    return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, cutoff))


def _matrix(irrep: o3.Irrep, turn: Tensor) -> Tensor:
    """What a rotation with a reflection does to an irrep, from harmonics: e3nn's own is right to 1e-7 only."""
    points = torch.randn(20, 3, dtype=torch.float64)
    before, after = (o3.spherical_harmonics(irrep.l, x, normalize=False) for x in (points, points @ turn.T))
    of_natural_parity = torch.linalg.lstsq(before, after).solution.T
    return of_natural_parity if irrep.p == (-1) ** irrep.l else -of_natural_parity


def test_features_of_both_parities_turn() -> None:
    """After every layer each irrep is multiplied by its matrix; a reflection changes the sign of pseudoscalars."""
    network = NequIP(2, channels=2, num_layers=5, cutoff=6.0, num_basis=3, lmax=2).double().requires_grad_(False)
    positions = torch.randn(5, 3, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    turn = -turn * torch.linalg.det(turn)
    before = after = network.embed(torch.tensor([0, 1, 1, 0, 1]))
    pseudoscalars = 0.0
    for layer in network.layers:
        assert isinstance(layer, NequIPLayer)
        before, after = layer(before, _edges(positions, 6.0)), layer(after, _edges(positions @ turn.T, 6.0))
        irreps = layer.gated.irreps
        matrix = torch.block_diag(*(_matrix(irrep, turn) for channels, irrep in irreps for _ in range(channels)))
        expected = before.values @ matrix.T
        assert (after.values - expected).abs().max() < 1e-10 * expected.abs().max()
        for (_, irrep), block in zip(irreps, irreps.slices(), strict=True):
            if irrep == o3.Irrep(0, -1):
                pseudoscalars = float(after.values[:, block].abs().max())
    assert pseudoscalars > 1e-8


def test_every_weight_of_both_parities_is_read() -> None:
    network = NequIP(2, channels=2, num_layers=5, cutoff=6.0, num_basis=3, lmax=2)
    edges = _edges(torch.randn(5, 3), 6.0)
    features = network.embed(torch.tensor([0, 1, 1, 0, 1]))
    for layer in network.layers:
        features = layer(features, edges)
    split = network.split(features)
    assert split.vectors is not None
    (split.scalars.sum() + split.vectors.square().sum()).backward()
    assert all(p.grad is not None and (p.grad != 0.0).any() for p in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("num_species", [1, 5])
def test_self_connections_keep_the_size_of_features_at_the_start(num_species: int) -> None:
    """Each is the linear map of one species, whatever the number of species is."""
    connection = SelfConnection(make_irreps([(64, "0e")]), num_species, make_irreps([(64, "0e")]))
    values = connection(torch.randn(200, 64), torch.arange(200) % num_species)
    assert float(values.std()) == pytest.approx(1.0, rel=0.1)


def test_gated() -> None:
    """Channel by channel, with the constants by which e3nn scales activations."""
    irreps = make_irreps([(2, "0e"), (2, "1o"), (1, "0o"), (2, "2e")])
    gated = Gated(irreps).double()
    assert str(gated.irreps_in) == "4x0e+2x0e+2x1o+1x0o+2x2e"
    features = torch.randn(3, gated.irreps_in.dim, dtype=torch.float64)
    gates, rest = features[:, :4], features[:, 4:]
    normal = torch.linspace(-12.0, 12.0, 100_001, dtype=torch.float64)
    density = torch.exp(-0.5 * normal.square()) / torch.exp(-0.5 * normal.square()).sum()
    of_silu, of_tanh = ((density * f(normal).square()).sum().rsqrt() for f in (F.silu, torch.tanh))
    expected = rest.clone()
    expected[:, :2] = of_silu * F.silu(rest[:, :2])
    for channel, columns in enumerate([slice(2, 5), slice(5, 8), slice(9, 14), slice(14, 19)]):
        expected[:, columns] = rest[:, columns] * of_silu * F.silu(gates[:, channel : channel + 1])
    expected[:, 8] = of_tanh * torch.tanh(rest[:, 8])
    assert (gated(features) - expected).abs().max() < 5e-3  # e3nn integrates with random numbers


def test_messages_end_at_the_nuclear_cutoff() -> None:
    """The polynomial envelope is of the distance of nuclei, wherever the points are."""
    network = NequIP(2, channels=2, num_layers=2, cutoff=3.0, num_basis=3, lmax=1).double()
    layer = network.layers[0]
    edges = _edges(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64), 3.0)
    far = torch.full_like(edges.lengths, 3.0)
    features = network.embed(torch.tensor([0, 1]))
    alone = layer(features, Edges(*(x[:0] for x in vars(edges).values()))).values
    beyond = layer(features, Edges(**(vars(edges) | {"nuclear_lengths": far}))).values
    assert torch.equal(beyond, alone)
    assert (layer(features, edges).values - alone).abs().max() > 1e-3
