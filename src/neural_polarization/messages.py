"""Which points exchange messages: the choices of the method, the edges between points, and the views of a layer."""

from abc import ABC, abstractmethod
from dataclasses import replace
from enum import StrEnum
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from neural_polarization.backbones.protocol import Features, Layer
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Couple, PairCouple, SelfCouple


class Choice(StrEnum):
    """A named choice; an unknown name is an error that lists the known ones."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        known = ", ".join(choice.value for choice in cls)
        raise ValueError(f"{cls.__name__.lower()}: {value!r} is not known; choose one of {known}")


class Messages(Choice):
    """Which points exchange messages: the first choice of the method.

    Nuclei closer than the cutoff are connected. In `PLAIN` and `RIDING` an atom has one set of features. In the other
    choices each of its two points has its own.
    """

    PLAIN = "plain"
    """The backbone as it is: there are fixed points only, and nothing moves."""
    RIDING = "riding"
    """The cheapest choice: an atom has one set of features, and the geometry is that of the moving points."""
    MOVING_VIEW = "moving_view"
    """The default: moving points exchange messages, and fixed points see the molecule through their moving point."""
    BOTH_VIEWS = "both_views"
    """Fixed points exchange messages, and so do moving points, so that there are twice as many edges."""

    @property
    def two_points(self) -> bool:
        """Whether fixed and moving points have features of their own."""
        return self in (Messages.MOVING_VIEW, Messages.BOTH_VIEWS)

    @property
    def points(self) -> int:
        """Number of points of an atom that have features: 1 or 2. An embedding needs this many species per element."""
        return 2 if self.two_points else 1


class Lengths(Choice):
    """What of an edge follows the moving points: the second choice of the method, for networks that see directions."""

    MOVING = "moving"
    """Directions and lengths follow the moving points. This is for energies and forces of varied geometries."""
    NUCLEAR = "nuclear"
    """Only directions follow the moving points; lengths are the distances of the nuclei. This is for relaxed molecules,
    in which the length of a bond says what kind of bond it is."""


class Connection(ABC):
    """The edges of a batch as a function of the displacements of its moving points.

    Args:
        molecules: The batch, with its nuclear neighbours.
        cutoff: Cutoff distance, Angstrom.

    Attributes:
        nuclear: The edges between the nuclei. They do not change from layer to layer.

    Raises:
        ValueError: for a batch whose neighbours were listed for a shorter cutoff.
    """

    def __init__(self, molecules: Molecules, cutoff: float) -> None:
        if molecules.cutoff is not None and molecules.cutoff < cutoff - 1e-6:
            raise ValueError(
                f"molecules: their neighbours were listed up to {molecules.cutoff:g} Angstrom, but the network looks "
                f"as far as {cutoff:g}; list them with the network's own `cutoff`"
            )
        senders, receivers = molecules.edge_index.unbind(0)
        vectors = molecules.positions[senders] - molecules.positions[receivers]
        if molecules.shifts is not None:
            vectors = vectors + molecules.shifts
        distances = safe_norm(vectors)
        self.nuclear = Edges(senders, receivers, vectors, distances, distances, cosine_envelope(distances, cutoff))

    @abstractmethod
    def __call__(self, displacement: Float[Tensor, "atoms 3"]) -> Edges:
        """Edges with the moving points at `displacement` (Angstrom) from their nuclei."""

    def _vectors(self, displacement: Float[Tensor, "atoms 3"]) -> Float[Tensor, "edges 3"]:
        """Vectors between the moving points, Angstrom."""
        of_sender = displacement.index_select(0, self.nuclear.senders)
        of_receiver = displacement.index_select(0, self.nuclear.receivers)
        return self.nuclear.vectors + of_sender - of_receiver


class MovingLengths(Connection):
    """Edges whose vectors and lengths are those between the moving points."""

    def __call__(self, displacement: Float[Tensor, "atoms 3"]) -> Edges:
        """Edges with the moving points at `displacement` (Angstrom) from their nuclei."""
        vectors = self._vectors(displacement)
        return replace(self.nuclear, vectors=vectors, lengths=safe_norm(vectors))


class NuclearLengths(Connection):
    """Edges whose vectors have the direction between the moving points and the length between the nuclei."""

    def __call__(self, displacement: Float[Tensor, "atoms 3"]) -> Edges:
        """Edges with the moving points at `displacement` (Angstrom) from their nuclei."""
        vectors = self._vectors(displacement)
        stretch = self.nuclear.lengths / safe_norm(vectors)  # exactly one where nothing has moved
        return replace(self.nuclear, vectors=vectors * stretch.unsqueeze(-1))


CONNECTIONS: dict[Lengths, type[Connection]] = {Lengths.MOVING: MovingLengths, Lengths.NUCLEAR: NuclearLengths}
"""The kind of edges for each choice of lengths."""


class View(ABC):
    """Which features of an atom pass through a layer. It has no state."""

    couple: ClassVar[type[Couple]]
    """The coupling of the two points of an atom after the layer."""

    @abstractmethod
    def pass_messages(
        self, layer: Layer[Features], fixed: Features, moving: Features, nuclear: Edges, edges: Edges
    ) -> tuple[Features, Features]:
        """Features of the fixed and of the moving points after one layer.

        Args:
            layer: Layer of the backbone.
            fixed: Features of the fixed points.
            moving: Features of the moving points; the same object as `fixed` if an atom has one set of features.
            nuclear: Edges between the nuclei.
            edges: Edges between the moving points.
        """


class RidingView(View):
    """One set of features per atom, whose geometry is that of the moving points."""

    couple = SelfCouple

    def pass_messages(
        self, layer: Layer[Features], fixed: Features, moving: Features, nuclear: Edges, edges: Edges
    ) -> tuple[Features, Features]:
        """Features of the atoms after messages between the moving points; fixed and moving features are one object."""
        features = layer(moving, edges)
        return features, features


class MovingView(View):
    """Two sets of features per atom: moving points exchange messages, and only the coupling changes fixed points."""

    couple = PairCouple

    def pass_messages(
        self, layer: Layer[Features], fixed: Features, moving: Features, nuclear: Edges, edges: Edges
    ) -> tuple[Features, Features]:
        """Features after messages between the moving points."""
        return fixed, layer(moving, edges)


class BothViews(View):
    """Two sets of features per atom: each of the two kinds of points exchanges messages among itself.

    The layer is called once for each kind, which takes less memory than one call with all points.
    """

    couple = PairCouple

    def pass_messages(
        self, layer: Layer[Features], fixed: Features, moving: Features, nuclear: Edges, edges: Edges
    ) -> tuple[Features, Features]:
        """Features after messages among the fixed points and among the moving points."""
        return layer(fixed, nuclear), layer(moving, edges)


VIEWS: dict[Messages, type[View]] = {
    Messages.RIDING: RidingView,
    Messages.MOVING_VIEW: MovingView,
    Messages.BOTH_VIEWS: BothViews,
}
"""The view for each choice of messages. A plain network has no moving points, and so no view."""
