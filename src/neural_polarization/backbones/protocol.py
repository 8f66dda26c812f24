"""The protocol that a network has to offer to be polarized."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.geometry import Edges

Features = TypeVar("Features")


@dataclass(frozen=True)
class PointFeatures:
    """The invariant part and the vector part of a network's features.

    Attributes:
        scalars: Channels that do not change when the molecule turns.
        vectors: Channels that turn with the molecule; None for a network without vectors.
    """

    scalars: Float[Tensor, "points channels"]
    vectors: Float[Tensor, "points 3 vector_channels"] | None


@runtime_checkable
class Layer(Protocol[Features]):
    """One round of messages: a function of only the features and the geometry of this call."""

    def __call__(self, features: Features, edges: Edges, /) -> Features:
        """Features after the messages along `edges`."""
        ...


@runtime_checkable
class Backbone(Protocol[Features]):
    """An equivariant network as `NeuralPolarization` sees it: an embedding, layers, and a view of the features.

    A backbone may not keep anything about geometry between calls, because the geometry changes from layer to layer.

    Attributes:
        cutoff: Distance below which nuclei exchange messages, Angstrom.
        num_species: Number of species that `embed` knows; twice the number of elements if both points have features.
        scalar_channels: Number of channels of `PointFeatures.scalars`.
        vector_channels: Number of channels of `PointFeatures.vectors`; 0 for a network without vectors.
    """

    @classmethod
    def __subclasshook__(cls, candidate: type, /) -> bool:
        """Whether `isinstance` takes objects of a class for backbones: those of classes with the three methods.

        The default `isinstance` also looks for the attributes. Since Python 3.12 it does not find those that a
        `torch.nn.Module` keeps in its own tables, such as `layers`. The contract checks each attribute.
        """
        if cls is not Backbone:
            return NotImplemented
        return all(any(name in base.__dict__ for base in candidate.__mro__) for name in ("embed", "split", "join"))

    @property
    def cutoff(self) -> float: ...

    @property
    def num_species(self) -> int: ...

    @property
    def scalar_channels(self) -> int: ...

    @property
    def vector_channels(self) -> int: ...

    @property
    def layers(self) -> Iterable[Layer[Features]]: ...

    def embed(self, species: Int[Tensor, " points"]) -> Features:
        """Features of points of these species, before any message."""
        ...

    def split(self, features: Features) -> PointFeatures:
        """The scalars and vectors among the features."""
        ...

    def join(self, features: Features, split: PointFeatures) -> Features:
        """The features with their scalars and vectors replaced by those of `split`."""
        ...
