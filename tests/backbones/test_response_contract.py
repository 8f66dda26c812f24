"""The public contract of responses to a field, for every backbone that is written here."""

from dataclasses import replace
from typing import Any, ClassVar

from neural_polarization.architectures import ARCHITECTURES
from neural_polarization.backbones.protocol import Backbone
from neural_polarization.geometry import FIELD_EPSILON
from neural_polarization.messages import Messages
from neural_polarization.testing import ResponseContract


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


class TestPaiNNOfTwoPoints(OfArchitecture):
    architecture = "painn"
    messages = Messages.BOTH_VIEWS


class TestSchNet(OfArchitecture):
    architecture = "schnet"


class TestCGCNN(OfArchitecture):
    architecture = "cgcnn"


class TestDimeNet(OfArchitecture):
    architecture = "dimenet"


class TestEGNN(OfArchitecture):
    architecture = "egnn"


class TestTorchMDET(OfArchitecture):
    architecture = "torchmd_et"


class TestGVP(OfArchitecture):
    architecture = "gvp"


class TestTFN(OfArchitecture):
    architecture = "tfn"


class TestNequIP(OfArchitecture):
    architecture = "nequip"


class TestSEGNN(OfArchitecture):
    architecture = "segnn"


class TestSO3krates(OfArchitecture):
    architecture = "so3krates"


class TestCormorant(OfArchitecture):
    architecture = "cormorant"


class TestMACE(OfArchitecture):
    architecture = "mace"


class TestSE3Transformer(OfArchitecture):
    architecture = "se3_transformer"


class TestEquiformer(OfArchitecture):
    architecture = "equiformer"
