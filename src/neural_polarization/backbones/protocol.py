"""What a network has to offer to be polarized."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.geometry import Edges

Features = TypeVar("Features")


@dataclass(frozen=True)
class PointFeatures:
    """The invariant and the vector part of a network's features, a view without parameters.

    Attributes:
        scalars: Channels that do not change when the molecule turns.
        vectors: Channels that turn with the molecule, or None where the network has none.
    """

    scalars: Float[Tensor, "points channels"]
    vectors: Float[Tensor, "points 3 vector_channels"] | None


@runtime_checkable
class Layer(Protocol[Features]):
    """One round of messages: a function of the features and of the geometry of this call alone."""

    def __call__(self, features: Features, edges: Edges, /) -> Features:
        """Features after the messages along `edges`."""
        ...


@runtime_checkable
class Backbone(Protocol[Features]):
    """An equivariant network as `NeuralPolarization` sees it: an embedding, layers, and a view of the features.

    Nothing about geometry may be cached between calls: the geometry differs from layer to layer.

    Attributes:
        cutoff: Distance below which nuclei exchange messages, Angstrom.
        num_species: Number of species that `embed` knows; with moving points, twice the number of elements.
        scalar_channels: Width of `PointFeatures.scalars`.
        vector_channels: Width of `PointFeatures.vectors`; 0 where the network has none.
    """

    @classmethod
    def __subclasshook__(cls, candidate: type, /) -> bool:
        """Whether `isinstance` takes objects of a class for backbones: it has the three methods.

        By itself `isinstance` looks for the attributes too, and since Python 3.12 it does not see those that a
        `torch.nn.Module` keeps in tables of its own, as `layers`. The contract looks at each of them.
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
        """The same features with these scalars and vectors in place of their own."""
        ...
