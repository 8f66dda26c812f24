"""The public contract of responses to a field, for every backbone that is written here."""

import os
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from neural_polarization.architectures import ARCHITECTURES
from neural_polarization.backbones.protocol import Backbone
from neural_polarization.geometry import FIELD_EPSILON
from neural_polarization.messages import Messages
from neural_polarization.testing import ResponseContract

_LONG = pytest.mark.skipif(
    not os.environ.get("NPOL_TEST_RESPONSE"), reason="takes up to a minute; `make test-response` runs it"
)


def long(contract: type[ResponseContract]) -> type[ResponseContract]:
    """Marks a network that is not among those of the ordinary run."""
    return pytest.mark.slow(_LONG(contract))


class OfArchitecture(ResponseContract):
    """Builds one in the size that the fifteen can be checked in within a minute."""

    architecture: ClassVar[str]

    def make_backbone(self, num_species: int) -> Backbone[Any]:
        architecture = ARCHITECTURES[self.architecture]
        small = architecture.presets["small"]
        lmax = None if small.lmax is None else 1
        return architecture.build(replace(small, lmax=lmax, norm_epsilon=FIELD_EPSILON), num_species)


class TestPaiNN(OfArchitecture):
    architecture = "painn"


@long
class TestPaiNNOfTwoPoints(OfArchitecture):
    architecture = "painn"
    messages = Messages.BOTH_VIEWS


class TestSchNet(OfArchitecture):
    architecture = "schnet"


@long
class TestCGCNN(OfArchitecture):
    architecture = "cgcnn"


@long
class TestDimeNet(OfArchitecture):
    architecture = "dimenet"


class TestEGNN(OfArchitecture):
    architecture = "egnn"


@long
class TestTorchMDET(OfArchitecture):
    architecture = "torchmd_et"


@long
class TestGVP(OfArchitecture):
    architecture = "gvp"


@long
class TestTFN(OfArchitecture):
    architecture = "tfn"


class TestNequIP(OfArchitecture):
    architecture = "nequip"


@long
class TestSEGNN(OfArchitecture):
    architecture = "segnn"


@long
class TestSO3krates(OfArchitecture):
    architecture = "so3krates"


@long
class TestCormorant(OfArchitecture):
    architecture = "cormorant"


@long
class TestMACE(OfArchitecture):
    architecture = "mace"


@long
class TestSE3Transformer(OfArchitecture):
    architecture = "se3_transformer"


@long
class TestEquiformer(OfArchitecture):
    architecture = "equiformer"
