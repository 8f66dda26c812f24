"""Base class of the parts of the contract, which builds networks and compares numbers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import Any, ClassVar

import ase
import pytest
import torch
from torch import Tensor

from neural_polarization.backbones import Backbone
from neural_polarization.messages import Lengths, Messages
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Move
from neural_polarization.polarization import NeuralPolarization
from neural_polarization.testing.model import TinyModel
from neural_polarization.testing.structures import ELEMENTS

STANDARD = (Messages.PLAIN, Messages.RIDING, Messages.MOVING_VIEW, Messages.BOTH_VIEWS)
"""The choices of messages that the contract checks: the plain backbone and the three ways to polarize it."""

every_choice = pytest.mark.parametrize("messages", STANDARD, ids=[choice.value for choice in STANDARD])
every_polarized = pytest.mark.parametrize("messages", STANDARD[1:], ids=[choice.value for choice in STANDARD[1:]])
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


_GROWN = 10.0
"""Factor of a new network's moves. Its points hardly move, which would hide faults that need displacements."""

_made: "dict[tuple[type[Contract], int, int], Backbone[Any]]" = {}


class Contract(ABC):
    """Base class of the parts of the contract.

    Attributes:
        tolerance: Largest allowed error per floating-point type, relative to the largest of the compared numbers.
        exceptions: Names of the tests that the network fails by design, and the reasons. These tests are expected
            failures, and they fail if they pass.
        lengths: What of the edges follows the moving points. A subclass can also check a backbone that sees directions
            with `Lengths.NUCLEAR`.
    """

    tolerance: ClassVar[Mapping[torch.dtype, float]] = MappingProxyType({torch.float64: 1e-10, torch.float32: 1e-4})
    exceptions: ClassVar[Mapping[str, str]] = MappingProxyType({})
    lengths: ClassVar[Lengths] = Lengths.MOVING

    @pytest.fixture(autouse=True)
    def _declared_exceptions(self, request: pytest.FixtureRequest) -> None:
        """Marks a test that the network fails by design as an expected failure."""
        test = request.function.__name__
        if test in self.exceptions:
            request.applymarker(pytest.mark.xfail(reason=self.exceptions[test], strict=True))

    def test_exceptions_name_tests(self) -> None:
        """Every declared exception is a test of the contract, and gives its reason."""
        for test, reason in self.exceptions.items():
            assert test in dir(self), f"exceptions: the contract has no test {test!r}"
            assert reason, f"exceptions: why does the network not pass {test}?"

    @abstractmethod
    def make_backbone(self, num_species: int) -> Backbone[Any]:
        """A new, randomly initialized backbone that embeds `num_species` species."""

    def backbone(self, messages: Messages, seed: int = 0) -> Backbone[Any]:
        """A backbone with the species that `messages` needs; the same seed gives the same weights."""
        num_species = len(ELEMENTS) * messages.points
        key = (type(self), num_species, seed)
        if key not in _made:  # some networks take longer to build than to run, so they are kept
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _made[key] = self.make_backbone(num_species)
        return deepcopy(_made[key])

    def model(
        self,
        messages: Messages,
        dtype: torch.dtype = torch.float64,
        move: type[Move] | None = None,
        seed: int = 0,
    ) -> TinyModel:
        """The backbone inside `NeuralPolarization`, with a tiny readout; the same seed gives the same weights."""
        backbone = self.backbone(messages, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = NeuralPolarization(backbone, ELEMENTS, messages, move=move, lengths=self.lengths)
            for one in network.moves:
                assert isinstance(one, Move)
                one.enlarge(_GROWN)
            return TinyModel(network).to(dtype)

    def molecules(
        self,
        structures: ase.Atoms | Sequence[ase.Atoms],
        model: TinyModel,
        dtype: torch.dtype = torch.float64,
    ) -> Molecules:
        """A batch with the neighbours within the cutoff of the model's backbone."""
        return Molecules.from_ase(structures, model.network.backbone.cutoff, dtype)

    def assert_close(self, got: Tensor, expected: Tensor, what: str, scale: float | None = None) -> None:
        """Fails unless the numbers agree to the tolerance of their type.

        Args:
            got: Numbers to check.
            expected: Expected numbers.
            what: Name of the numbers for the message.
            scale: Number that the error is relative to; by default the largest expected number.
        """
        assert got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(expected.shape)}"
        if not got.numel():
            return
        assert got.isfinite().all(), f"{what}: not finite"
        error = float((got - expected).abs().max())
        reference = float(expected.abs().max()) if scale is None else scale
        allowed = self.tolerance[got.dtype] * max(reference, 1e-3)
        assert error <= allowed, f"{what}: differs by {error:.2e}, more than {allowed:.2e}"
