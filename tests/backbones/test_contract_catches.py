"""The contract fails on backbones that break it: one deliberately broken network per rule."""

import ast
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neural_polarization.backbones import Backbone, PaiNN, PointFeatures
from neural_polarization.geometry import Edges
from neural_polarization.messages import Messages
from neural_polarization.testing import ELEMENTS, BackboneContract


class Broken(nn.Module):
    """A layer of PaiNN with something wrong around it."""

    def __init__(self, layer: Callable[[PointFeatures, Edges], PointFeatures]) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        return self.layer(features, edges)


class KnowsDirections(Broken):
    """Prefers the x axis."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        return self.layer(features, replace(edges, lengths=edges.lengths + 0.1 * edges.vectors[:, 0].abs()))


class HasHandedness(Broken):
    """Adds pseudovectors to vectors: right under rotations, wrong under reflections."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        out = self.layer(features, edges)
        assert out.vectors is not None
        return PointFeatures(out.scalars, out.vectors + torch.linalg.cross(out.vectors, out.vectors.roll(1, -1), dim=1))


class AveragesTheBatch(Broken):
    """Lets molecules of a batch know of each other."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        out = self.layer(features, edges)
        return PointFeatures(out.scalars + out.scalars.mean(0), out.vectors)


class CountsAtoms(Broken):
    """Depends on the order of atoms."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        out = self.layer(features, edges)
        return PointFeatures(out.scalars + torch.arange(len(out.scalars)).to(out.scalars).unsqueeze(-1), out.vectors)


class CutsOff(Broken):
    """Ignores the envelope."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        return self.layer(features, replace(edges, envelope=torch.ones_like(edges.envelope)))


class StepsInside(Broken):
    """Counts edges only up to a length inside the cutoff."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        inside = (edges.lengths < 1.6).to(edges.envelope)
        return self.layer(features, replace(edges, envelope=edges.envelope * inside))


class HasAKink(Broken):
    """Weakens edges from a length inside the cutoff on, so that forces jump there."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        beyond = (edges.lengths - 1.6).clamp(min=0.0)
        return self.layer(features, replace(edges, envelope=edges.envelope * (1.0 - 0.1 * beyond)))


class FadesWithMovingPoints(Broken):
    """Takes the envelope from the moved distance, where the edge may end before it has faded."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        envelope = 0.5 * (1.0 + torch.cos(edges.lengths * torch.pi / 4.0))
        return self.layer(features, replace(edges, envelope=envelope))


def _only(edges: Edges, keep: Tensor) -> Edges:
    """The edges that are kept."""
    return Edges(**{field.name: getattr(edges, field.name)[keep] for field in fields(edges)})


class SeesTheNearest(Broken):
    """Hears the nearest neighbours only, and the next one at once when two of them trade places."""

    nearest = 16

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        nearer = edges.nuclear_lengths < edges.nuclear_lengths.unsqueeze(-1)
        rank = (nearer & (edges.receivers == edges.receivers.unsqueeze(-1))).sum(-1)
        return self.layer(features, _only(edges, rank < self.nearest))


class SeesTheNearestOne(SeesTheNearest):
    nearest = 1


class SeesTheNearest32(SeesTheNearest):
    nearest = 32


class ForgetsImages(Broken):
    """Takes an atom's image in the next cell for the atom itself."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        return self.layer(features, _only(edges, edges.senders != edges.receivers))


class KnowsNoElements(PaiNN):
    """Has one row for all species."""

    def embed(self, species: Tensor) -> PointFeatures:
        return super().embed(torch.zeros_like(species))


class KnowsFixedPointsOnly(PaiNN):
    """Takes a moving point for its nucleus."""

    def embed(self, species: Tensor) -> PointFeatures:
        return super().embed(species % len(ELEMENTS))


class TalksAboutNothing(Broken):
    """Sends the same whatever the sender is."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        out = self.layer(replace(features, scalars=torch.ones_like(features.scalars)), edges)
        return PointFeatures(features.scalars + out.scalars - 1.0, out.vectors)


class Remembers(Broken):
    """Keeps the first geometry that it saw."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        if not hasattr(self, "first") or len(self.first.senders) != len(edges.senders):
            self.first = edges
        return self.layer(features, self.first)


class TakesNorms(Broken):
    """Takes a norm that has no derivative at zero."""

    def forward(self, features: PointFeatures, edges: Edges) -> PointFeatures:
        out = self.layer(features, edges)
        assert out.vectors is not None
        return PointFeatures(out.scalars + out.vectors.square().sum(1).sqrt(), out.vectors)


class HasDeadWeights(Broken):
    """Has a parameter that does nothing."""

    def __init__(self, layer: Callable[[PointFeatures, Edges], PointFeatures]) -> None:
        super().__init__(layer)
        self.dead = nn.Parameter(torch.zeros(3))


def _contract(broken: type[Broken] | type[PaiNN]) -> BackboneContract:
    network, around = (broken, Broken) if issubclass(broken, PaiNN) else (PaiNN, broken)

    class Mine(BackboneContract):
        def make_backbone(self, num_species: int) -> PaiNN:
            backbone = network(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8)
            backbone.layers = nn.ModuleList(around(layer) for layer in backbone.layers)
            return backbone

    return Mine()


PLAIN, RIDING, BOTH = Messages.PLAIN, Messages.RIDING, Messages.BOTH_VIEWS
DOUBLE = torch.float64

CASES: list[tuple[type[Broken] | type[PaiNN], Callable[[BackboneContract], Any]]] = [
    (KnowsDirections, lambda c: c.test_turns_with_the_molecule(PLAIN, DOUBLE, 1)),
    (HasHandedness, lambda c: c.test_turns_with_the_molecule(PLAIN, DOUBLE, -1)),
    (AveragesTheBatch, lambda c: c.test_batch_is_one_by_one(PLAIN, DOUBLE)),
    (AveragesTheBatch, lambda c: c.test_no_gradient_across_molecules(PLAIN)),
    (CountsAtoms, lambda c: c.test_order_of_atoms(PLAIN, DOUBLE)),
    (CountsAtoms, lambda c: c.test_size_extensive(PLAIN, DOUBLE)),
    (CutsOff, lambda c: c.test_continuous_through_the_cutoff(PLAIN)),
    (StepsInside, lambda c: c.test_continuous_between_zero_and_the_cutoff(PLAIN)),
    (StepsInside, lambda c: c.test_continuous_between_zero_and_the_cutoff(RIDING)),
    (HasAKink, lambda c: c.test_continuous_between_zero_and_the_cutoff(BOTH)),
    (FadesWithMovingPoints, lambda c: c.test_continuous_through_the_cutoff(RIDING)),
    (SeesTheNearest, lambda c: c.test_continuous_where_neighbours_trade_places(PLAIN)),
    (SeesTheNearest, lambda c: c.test_continuous_where_neighbours_trade_places(BOTH)),
    (SeesTheNearestOne, lambda c: c.test_continuous_where_neighbours_trade_places(RIDING)),
    (SeesTheNearest32, lambda c: c.test_continuous_where_neighbours_trade_places(PLAIN)),
    (ForgetsImages, lambda c: c.test_a_crystal_is_its_supercell(PLAIN)),
    (KnowsNoElements, lambda c: c.test_every_species_is_its_own()),
    (KnowsNoElements, lambda c: c.test_elements_are_told_apart(PLAIN)),
    (KnowsFixedPointsOnly, lambda c: c.test_every_species_is_its_own()),
    (TalksAboutNothing, lambda c: c.test_elements_are_told_apart(PLAIN)),
    (Remembers, lambda c: c.test_layers_listen_to_this_call()),
    (TakesNorms, lambda c: c.test_first_and_second_derivatives(PLAIN, False)),
    (HasDeadWeights, lambda c: c.test_every_parameter_gets_a_gradient(BOTH)),
]


@pytest.mark.filterwarnings("ignore:Anomaly")
@pytest.mark.parametrize(("broken", "check"), CASES, ids=[broken.__name__ for broken, _ in CASES])
def test_the_contract_fails(broken: type[Broken] | type[PaiNN], check: Callable[[BackboneContract], Any]) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        check(_contract(broken))


def test_the_contract_passes_on_what_is_not_broken() -> None:
    for _, check in CASES:
        check(_contract(Broken))


def test_handedness_is_fine_under_rotations() -> None:
    _contract(HasHandedness).test_turns_with_the_molecule(PLAIN, DOUBLE, 1)


def test_a_missing_part_is_named() -> None:
    """`isinstance` asks for the methods, on all Pythons alike; the contract looks at every attribute."""

    class Mine(BackboneContract):
        def make_backbone(self, num_species: int) -> PaiNN:
            backbone = PaiNN(num_species, channels=8)
            assert isinstance(backbone, Backbone)
            del backbone.layers
            return backbone

    with pytest.raises(AttributeError, match="layers"):
        Mine().test_offers_the_protocol()
    assert not isinstance(nn.Linear(2, 2), Backbone)
    assert not isinstance(PaiNN(2, channels=8).layers[0], Backbone)


def test_the_documented_exception_is_one() -> None:
    """What docs/polarize_your_own.md declares for a sum over the nearest neighbours, such a sum really fails."""
    page = Path(__file__).parents[2] / "docs" / "polarize_your_own.md"
    (declared,) = re.findall(r"exceptions = (\{.*\})", page.read_text())
    for name, reason in ast.literal_eval(declared).items():
        assert f"{SeesTheNearest.nearest} nearest" in reason
        with pytest.raises(AssertionError, match="neighbours change their order"):
            getattr(_contract(SeesTheNearest), name)(PLAIN)
