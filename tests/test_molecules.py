"""Batches: from and to ASE, moves between types, and every bad input with its message."""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ase
import jaxtyping
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_polarization.geometry import MANY_ATOMS
from neural_polarization.molecules import Molecules
from neural_polarization.tensors import CLASH

WATER = torch.tensor([8, 1, 1])
WATER_POSITIONS = torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])


def test_batch_of_several() -> None:
    frames = [molecule("CH3CH2OH"), molecule("H2O"), ase.Atoms("O"), molecule("CH4")]
    molecules = Molecules.from_ase(frames, cutoff=3.0)
    assert molecules.num_molecules == 4
    assert molecules.num_atoms == 9 + 3 + 1 + 5
    assert molecules.molecule_index.tolist() == [0] * 9 + [1] * 3 + [2] + [3] * 5
    owners = molecules.molecule_index[molecules.edge_index]
    assert torch.equal(owners[0], owners[1])
    assert molecules.edge_index.shape[1] == sum(len(neighbor_list("i", frame, 3.0)) for frame in frames)
    assert molecules.shifts is None and molecules.charge is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["CH4", "H2O", "CH3CH2OH", "H2"]), min_size=1, max_size=4))
def test_to_ase_and_back(names: list[str]) -> None:
    frames = [molecule(name) for name in names]
    back = Molecules.from_ase(frames, 5.0, torch.float64).to_ase()
    assert len(back) == len(frames)
    for got, expected in zip(back, frames, strict=True):
        assert (got.numbers == expected.numbers).all()
        assert (got.positions == expected.positions).all()


def test_charges_go_to_ase_and_back() -> None:
    ion, water = molecule("OH"), molecule("H2O")
    ion.info["charge"] = -1
    frames = Molecules.from_ase([ion, water], 5.0).to_ase()
    assert [frame.info["charge"] for frame in frames] == [-1.0, 0.0]
    assert Molecules.from_ase(water, 5.0).to_ase()[0].info == {}


def test_one_structure_needs_no_list() -> None:
    assert Molecules.from_ase(molecule("H2O"), 5.0).num_molecules == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types(dtype: torch.dtype) -> None:
    frame = molecule("H2O")
    frame.info["charge"] = 1
    molecules = Molecules.from_ase([frame, molecule("CH4")], 5.0, dtype)
    assert molecules.positions.dtype == dtype
    assert molecules.charge is not None and molecules.charge.tolist() == [1.0, 0.0]
    other = molecules.to(dtype=torch.float64)
    assert other.positions.dtype == torch.float64
    assert other.charge is not None and other.charge.dtype == torch.float64
    assert other.atomic_numbers.dtype == torch.long
    assert other.edge_index.dtype == torch.long
    assert other.num_molecules == 2


def test_default_type_is_torchs() -> None:
    assert Molecules.from_ase(molecule("H2O"), 5.0).positions.dtype == torch.get_default_dtype()


def test_the_cutoff_falls_the_same_way_in_every_type() -> None:
    """A distance just below the cutoff, where rounding to float32 would put it beyond."""
    cutoff = 1.1
    frame = ase.Atoms("H2", [[0.0, 0.0, 0.0], [np.nextafter(cutoff, 0.0), 0.0, 0.0]])
    assert np.float32(frame.positions[1, 0]) >= cutoff
    for dtype in (torch.float32, torch.float64):
        assert Molecules.from_ase(frame, cutoff, dtype).edge_index.shape[1] == 2


def test_positions_are_replaced_and_nothing_is_changed() -> None:
    molecules = Molecules.from_arrays(WATER, WATER_POSITIONS, 5.0)
    moved = molecules.with_positions(WATER_POSITIONS + 1.0)
    assert torch.equal(moved.edge_index, molecules.edge_index)
    assert torch.equal(molecules.positions, WATER_POSITIONS)
    with pytest.raises(AttributeError):
        molecules.num_molecules = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_periodic_systems_have_shifts() -> None:
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    molecules = Molecules.from_ase([crystal, molecule("H2O")], 4.0, torch.float64)
    assert molecules.shifts is not None
    senders, receivers = molecules.edge_index
    vectors = molecules.positions[senders] + molecules.shifts - molecules.positions[receivers]
    lengths = vectors.norm(dim=-1)
    expected = np.concatenate([neighbor_list("d", crystal, 4.0), neighbor_list("d", molecule("H2O"), 4.0)])
    assert np.allclose(sorted(lengths.tolist()), sorted(expected))


def _in_inference_mode(molecules: Molecules) -> Molecules:
    with torch.inference_mode(), molecules.differentiable() as copy:
        return copy


@pytest.mark.parametrize("copied", [lambda molecules: molecules.to(dtype=torch.float64), _in_inference_mode])
def test_copies_have_shifts_charges_and_fields(copied: Callable[[Molecules], Molecules]) -> None:
    crystal = Molecules.from_ase(bulk("NaCl", "rocksalt", a=5.64, cubic=True), 4.0, torch.float32)
    field = torch.tensor([[0.1, 0.2, 0.3]])
    molecules = dataclasses.replace(crystal, charge=torch.ones(1), external_field=field)
    copy = copied(molecules)
    for name, value in vars(copy).items():
        expected = getattr(molecules, name)
        if isinstance(value, torch.Tensor):
            assert value.dtype == (copy.positions.dtype if expected.is_floating_point() else torch.long)
            assert torch.equal(value.double(), expected.double())
        else:
            assert value == expected


@pytest.mark.parametrize("pbc", [True, (True, False, True)])
def test_atoms_far_outside_of_their_cell_come_back_and_others_stay(pbc: bool | tuple[bool, bool, bool]) -> None:
    """A molecule about a corner of its box is not cut."""
    box = molecule("CH3CH2OH", cell=[[15.0, 0.2, 0.0], [0.0, 15.2, 0.3], [0.4, 0.0, 15.4]], pbc=pbc)
    assert (box.positions < 0.0).any() and (box.positions > 0.0).any()
    here = Molecules.from_ase(box, 4.0, torch.float64)
    np.testing.assert_array_equal(here.positions, box.positions)
    assert here.shifts is not None and not here.shifts.any()
    away = box.copy()
    away.positions[2] += [1000, 0, -30] @ box.cell.array
    there = Molecules.from_ase(away, 4.0, torch.float64)
    assert (there.positions - here.positions).abs().max() < 50.0
    assert torch.equal(there.edge_index, here.edge_index)


def test_large_molecules_come_from_cell_lists() -> None:
    frame = molecule("C60") * (1, 1, 1)
    frame.set_cell([10.0, 10.0, 10.0])
    big = frame * (3, 2, 1)
    big.pbc = False
    assert len(big) >= MANY_ATOMS
    molecules = Molecules.from_ase(big, 3.0)
    assert molecules.shifts is None
    assert molecules.edge_index.shape[1] == len(neighbor_list("i", big, 3.0))


def test_sizes_have_to_add_up() -> None:
    with pytest.raises(ValueError, match="sizes: the molecules have 4 atoms together, but atomic_numbers has 3"):
        Molecules.from_arrays(WATER, WATER_POSITIONS, 5.0, sizes=[3, 1])


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """As users run the library: tests check shapes and types of every call before the library does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charge": torch.ones(1)}, r"charge: has shape \(1,\); expected \(2,\), one number for each of the 2"),
        ({"charge": torch.tensor(1.0)}, r"charge: has shape \(\); expected \(2,\)"),
        ({"charge": 1}, r"charge: is of type int; expected a tensor of floating-point numbers"),
        ({"spin": torch.zeros(2, 1)}, r"spin: has shape \(2, 1\); expected \(2,\)"),
        ({"external_field": torch.zeros(3)}, r"external_field: has shape \(3,\); expected \(2, 3\), the field along x"),
        ({"positions": torch.zeros(3, 6)}, r"positions: has shape \(3, 6\); expected \(6, 3\), x, y, z for each"),
        ({"positions": torch.zeros(6, 3).long()}, r"positions: has type torch\.int64; expected floating-point numbers"),
        ({"positions": np.zeros((6, 3))}, r"positions: is of type ndarray; expected a tensor .*torch\.as_tensor"),
        ({"atomic_numbers": torch.ones(2, 3).long()}, r"atomic_numbers: has shape \(2, 3\); expected \(atoms,\)"),
        ({"atomic_numbers": torch.ones(6)}, r"atomic_numbers: has type torch\.float32; expected whole numbers"),
        ({"sizes": [7, -1]}, r"molecule 1 has no atoms"),
        ({"spin": torch.tensor([0.0, 1.0])}, r"molecule 1: H2O with charge \+0 has 10 electrons, which cannot have 1"),
        ({"spin": torch.tensor([-2.0, 0.0])}, r"molecule 0: H2O .* which cannot have -2 unpaired; give spin=0"),
        ({"spin": torch.tensor([0.0, 2.0]), "charge": torch.ones(2)}, r"molecule 0: H2O with charge \+1 .* spin=1"),
        ({"external_field": torch.tensor([[0.0] * 3, [float("nan")] * 3])}, "external_field: that of molecule 1"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "atomic_numbers": WATER.repeat(2), "positions": WATER_POSITIONS.repeat(2, 1), "cutoff": 5.0, "sizes": [3, 3]
    }  # fmt: skip
    Molecules.from_arrays(**right, spin=torch.tensor([2.0, float("nan")]), charge=torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match=f"^{message}"):
        Molecules.from_arrays(**{**right, **changes})


def test_short_whole_numbers_are_atomic_numbers() -> None:
    """Eight bits would pick atoms as a mask does."""
    molecules = Molecules.from_arrays(WATER.to(torch.int8), WATER_POSITIONS, 5.0)
    assert molecules.atomic_numbers.dtype == torch.long


def test_empty_molecule() -> None:
    with pytest.raises(ValueError, match="molecule 1 has no atoms; leave empty molecules out"):
        Molecules.from_arrays(WATER, WATER_POSITIONS, 5.0, sizes=[3, 0])
    with pytest.raises(ValueError, match="structure 1: molecule 0 has no atoms"):
        Molecules.from_ase([molecule("H2O"), ase.Atoms()], 5.0)


def test_no_structures() -> None:
    with pytest.raises(ValueError, match="structures: the list is empty"):
        Molecules.from_ase([], 5.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_position_that_is_not_a_number(value: float) -> None:
    positions = WATER_POSITIONS.clone()
    positions[1, 2] = value
    with pytest.raises(ValueError, match=r"atom 1 has position .* must be a finite number of Angstrom"):
        Molecules.from_arrays(WATER, positions, 5.0)


@pytest.mark.parametrize("number", [0, -1, 119])
def test_no_such_element(number: int) -> None:
    with pytest.raises(ValueError, match=f"atom 2 has atomic number {number}; elements are 1 to 118"):
        Molecules.from_arrays(torch.tensor([8, 1, number]), WATER_POSITIONS, 5.0)


def test_two_atoms_at_one_place() -> None:
    positions = WATER_POSITIONS.clone()
    positions[2] = positions[0] + 0.5 * CLASH
    with pytest.raises(ValueError, match=r"atoms 0 and 2 are at one place .* remove one of them"):
        Molecules.from_arrays(WATER, positions, 5.0)


def test_same_place_in_different_molecules_is_fine() -> None:
    molecules = Molecules.from_arrays(WATER.repeat(2), WATER_POSITIONS.repeat(2, 1), 5.0, sizes=[3, 3])
    assert molecules.edge_index.shape[1] == 12


def test_atom_that_sits_on_its_neighbours_image() -> None:
    crystal = ase.Atoms("H2", [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]], cell=[4.0, 4.0, 4.0], pbc=True)
    with pytest.raises(ValueError, match=r"atoms 0 and 1 are .* at one place"):
        Molecules.from_ase(crystal, 3.0)


PARTLY = [pbc for pbc in itertools.product([False, True], repeat=3) if any(pbc)]


@pytest.mark.parametrize("pbc", PARTLY, ids=["".join("FT"[along] for along in pbc) for pbc in PARTLY])
@pytest.mark.parametrize("vacuum", [True, False], ids=["three vectors", "vectors where it repeats"])
def test_slabs_and_wires_repeat_in_their_directions(pbc: tuple[bool, bool, bool], vacuum: bool) -> None:
    """Neighbours are those of ASE's own search; the volume is that of ASE's cell, where it has one."""
    cell = np.array([[4.0, 0.0, 0.0], [1.0, 4.5, 0.0], [0.3, 0.2, 5.0]])
    points = np.array([[0.0, 0.0, 0.0], [1.2, 1.0, 6.1], [0.5, 2.0, -2.3], [8.0, 1.0, 1.0]])
    system = ase.Atoms("H4", points, cell=cell if vacuum else cell * np.array(pbc)[:, None], pbc=pbc)
    molecules = Molecules.from_ase([system, molecule("H2O")], 5.5, torch.float64)
    assert molecules.shifts is not None
    senders, receivers = molecules.edge_index
    vectors = (molecules.positions[senders] + molecules.shifts - molecules.positions[receivers]).numpy()
    i, j, expected = neighbor_list("ijD", system, 5.5)
    first = (receivers < 4).numpy()
    found = np.column_stack([receivers[first], senders[first], vectors[first]])
    wanted = np.column_stack([i, j, expected])
    np.testing.assert_allclose(_sorted(found), _sorted(wanted), atol=1e-12)
    if vacuum or all(pbc):
        assert molecules.volume is not None and molecules.volume.tolist() == pytest.approx([system.get_volume(), 0.0])
    else:
        assert molecules.volume is None


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.round(6).T[::-1])]


def test_directions_without_a_lattice_vector() -> None:
    for cell in ([3.0, 0.0, 20.0], [[3.0, 0.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.0, 9.0]]):
        slab = ase.Atoms("H", cell=cell, pbc=[True, True, False])
        with pytest.raises(
            ValueError, match=r"structure 0: is periodic.*(no vector there|no volume); give its Lattice"
        ):
            Molecules.from_ase(slab, 2.0)
    close = ase.Atoms("H2", [[0.1, 0.0, 0.0], [2.9, 0.0, 0.0]], cell=[3.0, 0.0, 0.0], pbc=[True, False, False])
    with pytest.raises(ValueError, match=r"structure 0: atoms 0 and 1 are 0\.200 Angstrom apart"):
        Molecules.from_ase(close, 2.0)
    close.positions[1, 1] = 0.9  # a wire is thin as it likes
    assert Molecules.from_ase(close, 2.0).edge_index.shape[1] == 2


def test_a_strained_batch_is_that_of_strained_structures() -> None:
    """Positions, translations, volume and neighbours of cells that are really strained; zero changes no bit."""
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    crystal.rattle(0.1, seed=0)
    frames = [crystal, molecule("H2O"), crystal]
    molecules = Molecules.from_ase(frames, 4.0, torch.float64)
    strain = 1e-3 * torch.randn(3, 3, 3, dtype=torch.float64)
    found = molecules.strained(strain)
    expected: list[ase.Atoms] = []
    for frame, of_frame in zip(frames, strain.numpy(), strict=True):
        other = frame.copy()
        deformation = np.eye(3) + (of_frame + of_frame.T) / 2
        other.positions = frame.positions @ deformation
        other.cell[:] = frame.cell.array @ deformation
        expected.append(other)
    again = Molecules.from_ase(expected, 4.0, torch.float64)
    assert torch.equal(found.edge_index, again.edge_index)
    assert found.shifts is not None and again.shifts is not None
    assert found.volume is not None and again.volume is not None
    for one, other in ((found.positions, again.positions), (found.shifts, again.shifts), (found.volume, again.volume)):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    same = molecules.strained(torch.zeros_like(strain))
    assert torch.equal(same.positions, molecules.positions)
    assert same.shifts is not None and molecules.shifts is not None and torch.equal(same.shifts, molecules.shifts)


def test_errors_name_the_structure() -> None:
    broken = molecule("H2O")
    broken.positions[0] = np.nan
    with pytest.raises(ValueError, match="structure 2: atom 0 has position"):
        Molecules.from_ase([molecule("H2O"), molecule("CH4"), broken], 5.0)


def test_periodic_without_a_cell() -> None:
    with pytest.raises(ValueError, match=r"structure 0: is periodic, but its cell .* has no volume"):
        Molecules.from_ase(ase.Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.7]], pbc=True), 3.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan")])
def test_cutoff_has_to_be_a_length(cutoff: float) -> None:
    with pytest.raises(ValueError, match="cutoff must be a positive length in Angstrom"):
        Molecules.from_arrays(WATER, WATER_POSITIONS, cutoff)


@pytest.mark.parametrize("charge", [11.0, -11.0, float("nan")])
def test_charges_of_more_than_all_protons(charge: float) -> None:
    water = molecule("H2O")
    numbers, positions = torch.as_tensor(water.numbers), torch.as_tensor(water.positions)
    with pytest.raises(ValueError, match=r"molecule 0: charge is .* for 10 protons; expected a total charge in units"):
        Molecules.from_arrays(numbers, positions, 5.0, charge=torch.tensor([charge]).to(positions))


def test_what_is_no_structure_is_named() -> None:
    with pytest.raises(TypeError, match=r"structures: number 1 is a str, not ase\.Atoms"):
        inspect.unwrap(Molecules.from_ase.__func__)(Molecules, [molecule("H2O"), "water.xyz"], 5.0)
    with pytest.raises(ValueError, match=r"dtype: torch\.int64 is no floating-point type"):
        Molecules.from_ase(molecule("H2O"), 5.0, torch.int64)
    with pytest.raises(ValueError, match="names: 1 names are given for 2 structures"):
        Molecules.from_ase([molecule("H2O")] * 2, 5.0, names=["a"])
