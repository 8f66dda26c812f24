"""What a model was trained on: which compositions its references are right for, and what lies outside."""

import warnings
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from neural_polarization.errors import DataError
from neural_polarization.facts import Facts
from neural_polarization.knowledge import (
    Departure,
    OutsideTrainingWarning,
    TrainingKnowledge,
    Watch,
    by_pairs,
)
from neural_polarization.molecules import Molecules
from neural_polarization.references import FITTED, GIVEN, ISOLATED, References, references_of
from neural_polarization.settings import Source, build, plain

ELEMENTS = ("H", "C", "O")
ETHANOL = TrainingKnowledge(
    structures=100,
    elements={"H": 600, "C": 200, "O": 100},
    references={"energy": References(dict.fromkeys(ELEMENTS, -1.0), dict.fromkeys(ELEMENTS, FITTED), ((6, 2, 1),))},
    ranges={"energy": (-4210.0, -4205.5)},
    contacts={"H-H": (1.6, 0.0), "H-C": (1.0, 1.2), "H-O": (0.93, 1.1), "C-C": (1.5, 1.6), "C-O": (1.3, 1.5)},
    largest_molecule=9,
    charges=(0.0,),
    periodic=(False,),
)


def batch(*structures: ase.Atoms) -> Molecules:
    return Molecules.from_ase(list(structures), 5.0, torch.float64)


def fitted(rows: list[list[int]], known: dict[str, str] | None = None) -> References:
    composition = torch.tensor(rows, dtype=torch.float64)
    return references_of(ELEMENTS, torch.zeros(len(ELEMENTS)), known or {}, composition)


def test_the_span_of_compositions() -> None:
    ethanol = fitted([[6, 2, 1]] * 5)
    assert ethanol.compositions == ((6, 2, 1),) and ethanol.rank == 1
    assert ethanol.covers({"H": 6, "C": 2, "O": 1})
    assert ethanol.covers({"H": 12, "C": 4, "O": 2})  # two of them far apart
    for strange in ({"H": 2, "O": 1}, {"H": 4, "C": 1}, {"H": 8, "C": 3}):  # the three of FAULTS 1.1
        assert not ethanol.covers(strange)
    assert not ethanol.covers({"H": 3, "N": 1}) and not ethanol.covers({"N": 2})
    homologues = fitted([[4, 1, 0], [6, 2, 0], [8, 3, 0]])  # methane, ethane, propane: two unknowns
    assert homologues.rank == 2
    assert homologues.covers({"H": 10, "C": 4}) and not homologues.covers({"H": 2, "O": 1})
    everything = fitted([[2, 0, 1], [4, 1, 0], [4, 1, 1], [6, 2, 1]])
    assert everything.rank == 3 and everything.covers({"H": 1, "C": 7, "O": 3})


def test_values_that_are_known_extend_the_span() -> None:
    references = fitted([[6, 2, 1]], {"H": GIVEN, "C": ISOLATED})
    assert references.rank == 3
    assert references.sources == {"H": GIVEN, "C": ISOLATED, "O": FITTED}
    assert not fitted([[6, 2, 1]], {"H": GIVEN}).covers({"H": 8, "C": 3})


def test_large_compositions_are_no_rounding() -> None:
    references = fitted([[600, 200, 100], [601, 200, 100]])
    assert references.rank == 2
    assert references.covers({"H": 1}) and not references.covers({"O": 1})


@pytest.mark.parametrize(
    ("atoms", "departures"),
    [
        (molecule("CH3CH2OH"), ()),
        (molecule("H2O"), (Departure.COMPOSITION,)),
        (molecule("C3H8"), (Departure.COMPOSITION, Departure.SIZE)),
        (molecule("H2"), (Departure.COMPOSITION, Departure.DISTANCE, Departure.GAP)),
        (molecule("O2"), (Departure.COMPOSITION, Departure.GAP)),  # no O-O was seen
        (molecule("O"), (Departure.COMPOSITION, Departure.GAP)),
    ],
)
def test_molecules_outside(atoms: ase.Atoms, departures: tuple[Departure, ...]) -> None:
    found = ETHANOL.outside(batch(molecule("CH3CH2OH"), atoms))
    assert {k: one.departures for k, one in found.items()} == ({1: departures} if departures else {})


def test_charges_contacts_and_cells_outside() -> None:
    ion, squeezed, crystal = molecule("CH3CH2OH"), molecule("CH3CH2OH"), molecule("CH3CH2OH")
    ion.info["charge"] = 1
    squeezed.positions *= 0.8
    crystal.set_cell([6.0, 6.0, 6.0])
    crystal.pbc = True
    box = molecule("CH3CH2OH")
    box.set_cell([40.0, 40.0, 40.0])  # nothing is seen of the other cells
    box.pbc = True
    assert [one.departures for one in ETHANOL.outside(batch(ion)).values()] == [(Departure.CHARGE,)]
    assert [one.departures for one in ETHANOL.outside(batch(squeezed)).values()] == [(Departure.DISTANCE,)]
    assert [one.departures for one in ETHANOL.outside(batch(crystal)).values()] == [(Departure.PERIODICITY,)]
    assert ETHANOL.outside(batch(box)) == {}
    assert replace(ETHANOL, charges=(0.0, 1.0)).outside(batch(ion)) == {}


def test_fields_outside() -> None:
    """In V/nm, for instance; a model that learned without fields says nothing of their strength."""
    inside, pulled = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    inside.info["external_field"], pulled.info["external_field"] = [0.0, 0.6, 0.8], [0.0, 3.0, 4.0]
    learned = replace(ETHANOL, strongest_field=1.0)
    found = learned.outside(batch(molecule("CH3CH2OH"), inside, pulled))
    assert {k: one.departures for k, one in found.items()} == {2: (Departure.FIELD,)}
    with pytest.warns(OutsideTrainingWarning, match=r"a field of 5 V/Angstrom \(C2H6O\): the training had at most 1"):
        Watch().tell(learned, found.values())
    assert ETHANOL.outside(batch(pulled)) == {}


def test_a_file_in_bohr_lies_outside() -> None:
    """All distances are 1.89 times too long, which no check of the shortest distances could know."""
    longer = molecule("CH3CH2OH")
    longer.positions *= 1.8897
    found = ETHANOL.outside(batch(molecule("CH3CH2OH"), longer))
    assert {k: one.departures for k, one in found.items()} == {1: (Departure.GAP,)}
    said = r"H-O 1\.8\d\d Angstrom \(at most 1\.100 there\).* \(C2H6O\); are positions in Angstrom \(not"
    with pytest.warns(OutsideTrainingWarning, match=said):
        Watch().tell(ETHANOL, found.values())


def test_early_checkpoints_have_one_range_for_all_elements() -> None:
    early = {key: value for key, value in plain(ETHANOL).items() if key not in ("contacts", "lone")}
    read = build(TrainingKnowledge, by_pairs(early | {"distances": [0.93, 1.6]}), Source("early"))
    assert read.contacts is not None and set(read.contacts.values()) == {(0.93, 1.6)}
    assert set(read.contacts) == {"H-H", "H-C", "H-O", "C-C", "C-O", "O-O"}
    assert build(TrainingKnowledge, by_pairs(plain(ETHANOL)), Source("now")) == ETHANOL


def test_contacts_are_those_of_two_elements() -> None:
    """Atoms of other elements were as near, and as far apart, in the training."""
    squeezed, stretched, broken = (molecule("CH3CH2OH") for _ in range(3))
    squeezed.set_distance(0, 1, 1.34, fix=1)  # the carbon atoms: other atoms were as near
    stretched.set_distance(2, 3, 1.45, fix=0)  # O-H: carbon atoms were as far from each other
    broken.set_distance(2, 3, 20.0, fix=0)
    found = ETHANOL.outside(batch(molecule("CH3CH2OH"), squeezed, stretched, broken))
    assert {k: set(one.near) | set(one.far) for k, one in found.items()} == {1: {"C-C"}, 2: {"H-O"}, 3: {"H"}}
    assert found[1].near["C-C"] == pytest.approx(1.34) and found[2].far["H-O"] == pytest.approx(1.45)
    with pytest.warns(OutsideTrainingWarning) as said:
        Watch().tell(ETHANOL, found.values())
    text = str(said[0].message)
    assert "atoms nearer than in the training: C-C 1.340 Angstrom (at least 1.500 there) (C2H6O)" in text
    assert "H-O 1.450 Angstrom (at most 1.100 there), H without a neighbour (C2H6O)" in text
    assert replace(ETHANOL, lone=("H",)).outside(batch(broken)) == {}


@pytest.mark.parametrize(
    ("energy", "force", "outside"),
    [
        (-9.0, 3.0, False),
        (-9.0 + 9 * 0.29, 3.0, False),  # one width of the range above it: per atom 0.1 + 0.2
        (-9.0 + 9 * 0.31, 3.0, True),
        (-9.0 - 9 * 0.31, 3.0, True),
        (-9.0, 9.9, False),
        (-9.0, 10.1, True),  # twice the largest of the training
    ],
)
def test_predictions_far_from_the_labels(energy: float, force: float, outside: bool) -> None:
    knowledge = replace(ETHANOL, ranges={"forces": (0.1, 5.0)}, per_atom={"energy": (-0.1, 0.1)})
    forces = torch.zeros(12, 3, dtype=torch.float64)
    forces[10, 1] = force
    # The references do not cover water, whose energy is not compared.
    predictions = {"energy": torch.tensor([energy, 1000.0], dtype=torch.float64), "forces": forces}
    found = knowledge.outside(batch(molecule("CH3CH2OH"), molecule("H2O")), predictions)
    assert found[1].departures == (
        (Departure.COMPOSITION, Departure.PREDICTION) if force > 10 else (Departure.COMPOSITION,)
    )
    assert (0 in found) == (outside and force < 10)
    if 0 in found:
        assert found[0].departures == (Departure.PREDICTION,)
        with pytest.raises(DataError, match=r"which have forces up to 5 eV/Angstrom and energy per atom from -0\.1 to"):
            Watch(strict=True).tell(knowledge, [found[0]])


def test_nothing_is_compared_with_what_is_not_known() -> None:
    ion = molecule("C3H8")
    ion.info["charge"] = 2
    assert TrainingKnowledge().outside(batch(ion)) == {}


def test_facts_against_numpy() -> None:
    water, copper = molecule("H2O"), bulk("Cu", cubic=True)
    facts = Facts.of(batch(water, ase.Atoms("He")))
    bonds, ranges = water.get_distances(0, [1, 2]), facts.contacts.ranges()
    np.testing.assert_allclose(ranges["H-O"], [bonds.min(), bonds.max()], rtol=1e-12)
    np.testing.assert_allclose(ranges["H-H"], [water.get_distance(1, 2), 0.0], rtol=1e-12)
    assert set(ranges) == {"H-O", "H-H"} and facts.contacts.lone.tolist() == [[2, 1]]
    assert facts.sizes.tolist() == [3, 1]
    assert not facts.periodic.any()
    lattice = Facts.of(batch(copper))
    np.testing.assert_allclose(lattice.contacts.ranges()["Cu-Cu"], 3.61 / 2**0.5, rtol=1e-10)
    assert lattice.periodic.all()


def test_each_thing_is_said_once() -> None:
    watch = Watch()
    found = list(ETHANOL.outside(batch(molecule("H2O"), molecule("CH4"), molecule("H2O"))).values())
    with pytest.warns(OutsideTrainingWarning) as said:
        watch.tell(ETHANOL, found)
    assert len(said) == 1
    text = str(said[0].message)
    assert "composition H2O, CH4: the training determines 1 of 3 independent reference values" in text
    assert "energy may be wrong by any amount" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.tell(ETHANOL, found)
    with pytest.warns(OutsideTrainingWarning, match=r"composition H3N: "):
        watch.tell(ETHANOL, list(ETHANOL.outside(batch(molecule("NH3"))).values()))
    with pytest.raises(DataError, match=r"composition H2O, CH4.*strict"):
        Watch(strict=True).tell(ETHANOL, found)


def test_what_is_said_of_ions() -> None:
    ion = molecule("CH3CH2OH")
    ion.info["charge"] = 1
    with pytest.warns(OutsideTrainingWarning, match=r"charge \+1 \(C2H6O\): the training had 0 only, and energy and d"):
        Watch().tell(ETHANOL, list(ETHANOL.outside(batch(ion)).values()), ["energy"])


def test_plain_values_and_back() -> None:
    assert build(TrainingKnowledge, plain(ETHANOL), Source("test")) == ETHANOL
    assert build(TrainingKnowledge, plain(TrainingKnowledge()), Source("test")) == TrainingKnowledge()
