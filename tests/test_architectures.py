"""Named networks: a size that is asked for arrives in every part of the network, and the named sizes are those told."""

import math
from typing import Any

import pytest
import torch

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig, Size
from neural_polarization.backbones.protocol import Backbone
from neural_polarization.layers import BesselBasis, GaussianBasis
from neural_polarization.layers.expnormal import ExpNormalBasis

WITHOUT_FUNCTIONS = ("egnn", "segnn")
"""Networks that read the square of the distance."""


def _build(name: str, **sizes: Any) -> Backbone[Any]:
    if ARCHITECTURES[name].paper.lmax is not None:
        pytest.importorskip("e3nn")
    return BackboneConfig(name, **sizes).build(3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_radial_functions_are_as_many_as_asked_for_and_end_at_the_cutoff(name: str) -> None:
    backbone = _build(name, channels=8, num_layers=2, cutoff=3.5, num_basis=7)
    assert (backbone.scalar_channels, len(backbone.layers), backbone.cutoff) == (8, 2, 3.5)
    assert isinstance(backbone, torch.nn.Module)
    found = 0
    for part in backbone.modules():
        assert getattr(part, "cutoff", 3.5) == 3.5
        if isinstance(part, GaussianBasis):
            expected = torch.linspace(0.0, 3.5, 7)
            assert part.coefficient == pytest.approx(-0.5 * (6 / 3.5) ** 2)
        elif isinstance(part, BesselBasis):
            expected = torch.arange(1, 8) * math.pi / 3.5
        elif isinstance(part, ExpNormalBasis):
            expected = torch.linspace(math.exp(-3.5), 1.0, 7)
            assert part.alpha == 5.0 / 3.5
        else:
            continue
        found += 1
        assert torch.allclose(part.frequencies if isinstance(part, BesselBasis) else part.centres, expected)
    assert (found > 0) == (name not in WITHOUT_FUNCTIONS)


@pytest.mark.parametrize("name", [name for name, one in ARCHITECTURES.items() if one.paper.lmax is not None])
def test_harmonics_go_to_the_degree_asked_for(name: str) -> None:
    """SEGNN's attributes go up to degree 3, whatever its features do."""
    from neural_polarization.layers.irreps import Harmonics

    backbone = _build(name, channels=8, num_layers=2, num_basis=6, lmax=1)
    assert isinstance(backbone, torch.nn.Module)
    degrees = {part.irreps.lmax for part in backbone.modules() if isinstance(part, Harmonics)}
    assert degrees == {3 if name == "segnn" else 1}


@pytest.mark.parametrize(
    ("name", "channels", "layers", "cutoff", "basis", "lmax", "heads"),
    [
        ("schnet", 64, 3, 30.0, 300, None, 1),
        ("cgcnn", 64, 3, 8.0, 41, None, 1),
        ("dimenet", 128, 4, 5.0, 6, None, 1),
        ("egnn", 128, 7, 5.0, 20, None, 1),
        ("painn", 128, 3, 5.0, 20, None, 1),
        ("torchmd_et", 128, 6, 5.0, 32, None, 8),
        ("gvp", 100, 5, 4.5, 16, None, 1),
        ("tfn", 15, 3, 5.0, 20, 1, 1),
        ("nequip", 64, 5, 4.0, 8, 3, 1),
        ("segnn", 36, 7, 2.0, 20, 2, 1),
        ("so3krates", 132, 3, 5.0, 32, 3, 4),
        ("cormorant", 16, 4, 5.0, 16, 3, 1),
        ("mace", 256, 2, 5.0, 8, 3, 1),
        ("se3_transformer", 32, 7, 5.0, 20, 3, 8),
        ("equiformer", 128, 6, 5.0, 128, 2, 4),
    ],
)
def test_sizes_of_the_papers_and_what_the_standard_makes_of_them(
    name: str, channels: int, layers: int, cutoff: float, basis: int, lmax: int | None, heads: int
) -> None:
    """The standard is at most 3 layers, 64 channels or, of every degree up to 2, 32, and one cutoff for all."""
    assert BackboneConfig(name, preset="paper").size == Size(channels, layers, cutoff, basis, lmax, heads)
    standard = BackboneConfig(name).size
    width, degree = (64, None) if lmax is None else (32, min(lmax, 2))
    assert standard == Size(width, min(layers, 3), 5.0, min(basis, 20), degree, heads)
    assert standard.num_heads == heads


def test_heads_are_as_many_as_share_the_channels_evenly() -> None:
    assert [Size(channels, 1, most_heads=8).num_heads for channels in (128, 100, 12, 6, 7)] == [8, 4, 4, 2, 1]


@pytest.mark.parametrize("name", ["torchmd_et", "so3krates", "se3_transformer", "equiformer"])
def test_heads_of_a_built_network(name: str) -> None:
    backbone = _build(name, channels=12, num_layers=2, num_basis=6)
    layer: Any = backbone.layers[0]
    heads = {
        "torchmd_et": lambda: layer.num_heads,
        "so3krates": lambda: layer.of_scalars.shape[0],
        "se3_transformer": lambda: layer.attention.key_heads.num_heads,
        "equiformer": lambda: layer.attention.alpha_heads.num_heads,
    }
    assert heads[name]() == 4


def test_gvp_has_the_papers_proportion_of_vectors() -> None:
    """16 of 100; and never fewer than two."""
    assert [_build("gvp", channels=channels, num_layers=1).vector_channels for channels in (100, 50, 8)] == [16, 8, 2]


def test_dimenet_has_the_papers_degrees() -> None:
    layer: Any = _build("dimenet", channels=8, num_layers=1).layers[0]
    assert layer.basis.num_degrees == 7


@pytest.mark.parametrize(("lmax", "between"), [(1, 1), (3, 2)])
def test_features_of_mace_between_layers_go_up_to_degree_two(lmax: int, between: int) -> None:
    """The harmonics, and what is multiplied, have the degree that is asked for."""
    layer: Any = _build("mace", channels=2, num_layers=2, num_basis=4, lmax=lmax).layers[1]
    assert layer.irreps_in.lmax == between
