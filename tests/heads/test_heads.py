"""Heads: symmetry, origin, additivity, physics and precision of every property."""

import math
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.heads import (
    HEADS,
    BalancedDipole,
    Dipole,
    Extensive,
    Head,
    Intensive,
    Polarizability,
    SpatialExtent,
    Widths,
)
from neural_polarization.heads.dipole_flow import AdditiveDipole
from neural_polarization.heads.edges import SharedOut
from neural_polarization.messages import CONNECTIONS, Lengths, Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized

ELEMENTS = ("H", "C", "O")
NAMES = ["CH3CH2OH", "H2O", "CH4", "H2CO"]


def make_model(kind: str, messages: str = "both_views", backbone: str = "painn") -> Model:
    """A small double-precision model with one head, whose moves are large enough to matter."""
    torch.manual_seed(1)
    config = ModelConfig(
        ELEMENTS,
        {"p": HeadConfig(kind)},
        BackboneConfig(backbone, 8, 2, 4.0, 6),
        PolarizationConfig(Messages(messages)),
    )
    model = Model(config).double()
    with torch.no_grad():
        for parameter in model.representation.moves.parameters():
            parameter.mul_(20.0)
    return model


def batch() -> Molecules:
    """Four molecules, shaken out of their symmetry."""
    frames = [molecule(name) for name in NAMES]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    return Molecules.from_ase(frames, 4.0, torch.float64)


def features(molecules: Molecules) -> Polarized:
    """Random ones of every atom: four scalars, two vectors, and a displacement."""
    n = molecules.num_atoms
    points = PointFeatures(torch.randn(n, 4, dtype=torch.float64), torch.randn(n, 3, 2, dtype=torch.float64))
    return Polarized(
        points, points, torch.randn(1, n, 3, dtype=torch.float64), CONNECTIONS[Lengths.MOVING](molecules, 4.0).nuclear
    )


def arms_of(frame: ase.Atoms) -> np.ndarray:
    """Positions of the atoms from the centre of nuclear charge."""
    return frame.positions - (frame.numbers @ frame.positions) / frame.numbers.sum()


def read_out(readout: torch.nn.Module, of_every_atom: list[float]) -> None:
    """Makes a perceptron give the same numbers for every atom."""
    assert isinstance(readout, torch.nn.Sequential)
    last = readout[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor(of_every_atom))


def rotation(improper: bool) -> Tensor:
    """A rotation about no special axis, or a reflection as well."""
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    q = q * torch.linalg.det(q)
    return -q if improper else q


def transformed(values: Tensor, turn: Tensor) -> Tensor:
    """A property of the turned molecule, if it behaves as its shape says."""
    for axis in range(1, values.ndim):
        values = torch.tensordot(values, turn.t(), dims=([axis], [0])).movedim(-1, axis)
    return values


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("backbone", ["painn", "schnet", "egnn"])
@pytest.mark.parametrize("kind", HEADS)
def test_turns_with_the_molecule_and_ignores_its_place(kind: str, backbone: str, improper: bool) -> None:
    model, molecules, turn = make_model(kind, backbone=backbone), batch(), rotation(improper)
    before = model(molecules)["p"]
    moved = molecules.positions @ turn.t() + torch.tensor([3.0, -2.0, 7.0], dtype=torch.float64)
    after = model(molecules.with_positions(moved))["p"]
    number = molecules.num_atoms if HEADS[kind].per_atom else len(NAMES)
    assert before.shape == (number, *HEADS[kind].shape)
    assert before.abs().max() > 1e-6
    torch.testing.assert_close(after, transformed(before, turn), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", HEADS)
def test_a_batch_is_its_molecules(kind: str) -> None:
    model = make_model(kind)
    frames = batch().to_ase()
    together = model(Molecules.from_ase(frames, 4.0, torch.float64))["p"]
    alone = torch.cat([model(Molecules.from_ase(frame, 4.0, torch.float64))["p"] for frame in frames])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "factor"), [("extensive", 2.0), ("intensive", 1.0), ("dipole", 2.0)])
def test_two_copies_far_apart(kind: str, factor: float) -> None:
    model, one = make_model(kind), batch().to_ase()[0]
    two = one.copy()
    two.translate([50.0, 0.0, 0.0])
    single = model(Molecules.from_ase(one, 4.0, torch.float64))["p"]
    double = model(Molecules.from_ase(one + two, 4.0, torch.float64))["p"]
    torch.testing.assert_close(double, factor * single, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["dipole_balanced", "dipole_flow"])
def test_dipoles_of_different_molecules_far_apart_add_up(kind: str) -> None:
    """Of an ion and a molecule they do not, since shares of its charge know nothing of distance."""
    model, (ethanol, water, *_) = make_model(kind), batch().to_ase()
    water.translate([50.0, -20.0, 10.0])
    one, other, both = (
        model(Molecules.from_ase(frame, 4.0, torch.float64))["p"][0] for frame in (ethanol, water, ethanol + water)
    )
    torch.testing.assert_close(both, one + other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("charge", [None, [1.0, 0.0, -2.0, 0.0]])
@pytest.mark.parametrize("kind", ["dipole_balanced", "dipole_flow"])
def test_a_dipole_that_adds_up_is_that_of_its_charges(kind: str, charge: list[float] | None) -> None:
    molecules = batch()
    if charge is not None:
        molecules = replace(molecules, charge=torch.tensor(charge, dtype=torch.float64))
    torch.manual_seed(2)
    head, atoms = HEADS[kind](Widths(4, 0), ELEMENTS, 4).double(), features(molecules)
    assert isinstance(head, AdditiveDipole)
    points = PointFeatures(atoms.scalars, None)
    atoms = replace(atoms, fixed=points, moving=points, trajectory=torch.zeros_like(atoms.trajectory))
    charges, index = head.charges(atoms, molecules), molecules.molecule_index
    totals = torch.zeros(4, dtype=torch.float64).index_add(0, index, charges)
    torch.testing.assert_close(totals, torch.tensor(charge or [0.0] * 4, dtype=torch.float64), atol=1e-9, rtol=0.0)
    assert charges.abs().max() > 1e-3
    arms = torch.cat([torch.from_numpy(arms_of(frame)) for frame in molecules.to_ase()])
    moments = torch.zeros(4, 3, dtype=torch.float64).index_add(0, index, charges.unsqueeze(-1) * arms)
    torch.testing.assert_close(head(atoms, molecules), moments, rtol=1e-8, atol=1e-8)


def test_balanced_charges_come_from_neighbours_in_reach() -> None:
    """Against plain loops: an atom gives each neighbour its number times its envelope, over one plus all envelopes."""
    molecules = batch()
    torch.manual_seed(2)
    head, atoms = BalancedDipole(Widths(4, 2), ELEMENTS, 4).double(), features(molecules)
    assert isinstance(head.flow, SharedOut)
    numbers = head.flow.readout(atoms.scalars).squeeze(-1).tolist()
    edges, expected = atoms.edges, torch.zeros(molecules.num_atoms, dtype=torch.float64)
    pairs = list(zip(edges.senders.tolist(), edges.receivers.tolist(), edges.envelope.tolist(), strict=True))
    for sender, receiver, envelope in pairs:
        part = envelope * numbers[sender] / (1.0 + sum(e for s, _, e in pairs if s == sender))
        expected[receiver] += part
        expected[sender] -= part
    torch.testing.assert_close(head.charges(atoms, molecules), expected.detach())


def test_dipole_of_a_neutral_molecule_does_not_depend_on_charges_adding_up() -> None:
    model, molecules = make_model("dipole"), batch()
    before = model(molecules)["p"]
    head = model.head("p")
    assert isinstance(head, Dipole)
    last = head.charges[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.bias[0] += 3.0  # the same charge more on every atom is taken away again
    torch.testing.assert_close(model(molecules)["p"], before)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_dipole_of_a_charged_molecule_moves_with_its_charge(scale: float) -> None:
    """d mu / d Q at fixed density features is the centre of the added charge from the origin, whatever the scale."""
    model, molecules = make_model("dipole"), batch()
    model.head("p").baseline.scale.fill_(scale)
    charges = [1.0, -1.0, 2.0, 0.0]
    charged = replace(molecules, charge=torch.tensor(charges, dtype=torch.float64))
    change = model(charged)["p"] - model(molecules)["p"]
    for k, frame in enumerate(molecules.to_ase()):
        expected = torch.as_tensor(charges[k] * arms_of(frame).mean(0))
        torch.testing.assert_close(change[k], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "values", "scale"),
    [
        ("dipole", [[3.0, 0.0, 0.0], [0.0, 4.0, 5.0]], math.sqrt(50.0 / 6.0)),
        ("dipole_magnitude", [3.0, 5.0], math.sqrt(17.0)),
    ],
)
def test_dipoles_are_predicted_in_units_of_the_root_mean_square(kind: str, values: list, scale: float) -> None:
    """Of a component where there are vectors; the loss and what is predicted have the same unit."""
    model, molecules = make_model(kind), batch()
    before = model(molecules)["p"]
    model.head("p").fit(torch.tensor(values, dtype=torch.float64), torch.ones(2, 3))
    assert model.scale_of("p") == pytest.approx(scale)
    torch.testing.assert_close(model(molecules)["p"], scale * before, rtol=1e-4, atol=0.0)


def test_displacements_carry_the_dipole() -> None:
    """Moving the clouds of all atoms by x changes the dipole by minus their electrons times x."""
    model, molecules = make_model("dipole"), batch()
    head = model.head("p")
    atoms = model.represent(molecules)
    shift = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    shifted = replace(atoms, trajectory=atoms.trajectory + shift)
    assert isinstance(head, Dipole)
    electrons = head.charges(atoms.scalars)[:, 1]
    per_molecule = torch.zeros(len(NAMES), dtype=torch.float64).index_add(0, molecules.molecule_index, electrons)
    change = head(shifted, molecules) - head(atoms, molecules)
    torch.testing.assert_close(change, -per_molecule[:, None] * shift)


def test_polarizability_is_symmetric() -> None:
    alpha = make_model("polarizability")(batch())["p"]
    torch.testing.assert_close(alpha, alpha.mT)
    off_diagonal = alpha - torch.diag_embed(alpha.diagonal(dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() > 1e-6


def test_polarizability_by_hand() -> None:
    """Isotropic parts of the atoms, and the symmetric products of what their gates make of their vectors."""
    head, molecules = Polarizability(Widths(4, 2), ELEMENTS, 4).double(), batch()
    head.baseline.scale.fill_(2.0)
    head.baseline.references.copy_(torch.tensor([0.5, 1.0, 1.5]))
    read_out(head.isotropic, [0.25])
    read_out(head.gates, [0.3, -0.5, 0.7, 1.1, 0.2, -0.4])
    atoms = features(molecules)
    assert atoms.vectors is not None
    values = head(atoms, molecules)
    for k, frame in enumerate(molecules.to_ase()):
        here = molecules.molecule_index == k
        d, first, second = (x[here].numpy() for x in (atoms.displacement, *atoms.vectors.unbind(-1)))
        v, w = 0.3 * d - 0.5 * first + 0.7 * second, 1.1 * d + 0.2 * first - 0.4 * second
        products = np.einsum("ia,ib->ab", v, arms_of(frame) + w)
        isotropic = sum({"H": 0.5, "C": 1.0, "O": 1.5}[symbol] + 2.0 * 0.25 for symbol in frame.symbols)
        expected = isotropic * np.eye(3) + 2.0 * (products + products.T) / 2
        torch.testing.assert_close(values[k], torch.as_tensor(expected), rtol=1e-6, atol=1e-6)


def test_spatial_extent_starts_at_the_nuclear_second_moment() -> None:
    """Without what the network adds, every electron sits on its nucleus."""
    model, molecules = make_model("spatial_extent"), batch()
    head = model.head("p")
    assert isinstance(head, SpatialExtent)
    read_out(head.readout, [0.0, 0.0, 0.0])
    model.representation.hold_still()
    values = model(molecules)["p"]
    for k, frame in enumerate(molecules.to_ase()):
        expected = frame.numbers @ (arms_of(frame) ** 2).sum(1)
        assert values[k].item() == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    ("gained", "moved", "spread"), [(4, 0, 0), (0, 2, 0), (0, 0, 0.5)], ids=["gained", "moved", "spread"]
)
def test_spatial_extent_by_hand(gained: float, moved: float, spread: float) -> None:
    """Tenths of an electron that an atom gains, electrons at its moving point, and the spread in units of the scale."""
    head, molecules = SpatialExtent(Widths(4, 2), ELEMENTS, 4).double(), batch()
    head.baseline.scale.fill_(3.0)
    head.baseline.references.copy_(torch.tensor([0.5, 1.0, 1.5]))
    read_out(head.readout, [gained, moved, spread])
    atoms = features(molecules)
    values = head(atoms, molecules)
    for k, frame in enumerate(molecules.to_ase()):
        at_nucleus = arms_of(frame)
        at_point = at_nucleus + atoms.displacement[molecules.molecule_index == k].numpy()
        expected = sum(
            (frame.numbers[i] + 0.1 * gained - moved) * (at_nucleus[i] @ at_nucleus[i])
            + moved * (at_point[i] @ at_point[i])
            + 3.0 * spread
            + {"H": 0.5, "C": 1.0, "O": 1.5}[symbol]
            for i, symbol in enumerate(frame.symbols)
        )
        assert values[k].item() == pytest.approx(expected, rel=1e-9)


def test_scale_of_the_spatial_extent_is_how_far_atoms_differ_from_their_mean() -> None:
    head = SpatialExtent(Widths(4, 0), ELEMENTS, 4)
    composition = torch.tensor([[2.0, 0.0, 1.0], [4.0, 1.0, 0.0]])
    head.fit(torch.tensor([30.0, 70.0], dtype=torch.float64), composition)  # 10 and 14 per atom
    assert float(head.baseline.scale) == pytest.approx(2.0)
    assert head.baseline.references.tolist() == [0.0, 0.0, 0.0]


def test_references_are_those_of_least_squares_and_survive_single_precision() -> None:
    head = Extensive(Widths(4, 0), ELEMENTS, 4)
    composition = torch.tensor([[4.0, 1.0, 0.0], [2.0, 0.0, 1.0], [6.0, 2.0, 1.0], [2.0, 1.0, 1.0]])
    true = torch.tensor([-13.60123456789, -1035.123456789012, -2041.98765432109], dtype=torch.float64)
    values = composition.double() @ true
    head.fit(values, composition)
    torch.testing.assert_close(head.baseline.references, true, rtol=1e-12, atol=0.0)
    head.float().half().float()
    assert head.baseline.references.dtype == torch.float64
    torch.testing.assert_close(head.baseline.references, true, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(("kind", "atoms"), [(Extensive, [1.0, 1.0, 1.0, 1.0]), (Intensive, [1.0, 2.0, 4.0, 8.0])])
def test_scale_is_the_size_of_what_references_leave(kind: type[Head], atoms: list[float]) -> None:
    """Of a mean, they leave the same of molecules of any size."""
    head = kind(Widths(4, 0), ELEMENTS, 4)
    composition = torch.tensor([[count, 0.0, 0.0] for count in atoms])
    head.fit(torch.tensor([1.0, 3.0, 1.0, 3.0], dtype=torch.float64), composition)
    assert float(head.baseline.references[0]) == pytest.approx(2.0)
    assert float(head.baseline.scale) == pytest.approx(1.0)


def test_references_of_a_mean_are_means_over_the_atoms() -> None:
    """H 6, C 1, O 3: a head that adds nothing to its references predicts the labels that they were fitted to."""
    head, molecules = Intensive(Widths(4, 2), ELEMENTS, 4).double(), batch()
    read_out(head.readout, [0.0])
    composition = torch.tensor([[6.0, 2.0, 1.0], [2.0, 0.0, 1.0], [4.0, 1.0, 0.0], [2.0, 1.0, 1.0]])
    labels = torch.tensor([41.0 / 9.0, 5.0, 5.0, 4.0], dtype=torch.float64)
    head.fit(labels, composition.double())
    torch.testing.assert_close(head.baseline.references, torch.tensor([6.0, 1.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(head(features(molecules), molecules), labels)


def test_polarizability_scale_leaves_the_references_out() -> None:
    head = Polarizability(Widths(4, 2), ELEMENTS, 4)
    composition = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    identity = torch.eye(3, dtype=torch.float64)
    uneven = torch.diag(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64))
    head.fit(torch.stack([5.0 * identity + uneven, 9.0 * identity - uneven]), composition)
    torch.testing.assert_close(head.baseline.references[:2], torch.tensor([5.0, 9.0], dtype=torch.float64))
    assert float(head.baseline.scale) == pytest.approx(math.sqrt(2.0 / 9.0))


def test_what_references_explain_exactly_keeps_a_scale_of_one() -> None:
    """As many compositions as elements: rounding, 1e-11 eV, would be a scale in which nothing can be learned."""
    head = Extensive(Widths(4, 0), ELEMENTS, 4)
    composition = torch.tensor([[10.0, 3.0, 2.0], [11.0, 2.0, 6.0], [8.0, 7.0, 7.0]], dtype=torch.float64)
    values = composition @ torch.tensor([-13.6, -1030.1, -2040.3], dtype=torch.float64)
    head.fit(values + torch.tensor([0.3, -1.1, 0.7]), composition)
    assert float(head.baseline.scale) == 1.0


@pytest.mark.parametrize("kind", HEADS)
def test_a_constant_property_keeps_a_scale_of_one(kind: str) -> None:
    head: Head = HEADS[kind](Widths(4, 2), ELEMENTS, 4)
    composition = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    head.fit(torch.zeros(2, *HEADS[kind].shape, dtype=torch.float64), composition)
    assert float(head.baseline.scale) == 1.0
