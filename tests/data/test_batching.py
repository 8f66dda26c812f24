"""Batches against molecules built one by one, and the cache of neighbour lists."""

from pathlib import Path

import ase
import numpy as np
import pytest
import torch

from neural_polarization.data import batching
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.flat import FlatMolecules, ragged_rows
from neural_polarization.errors import DataError
from neural_polarization.molecules import Molecules


def test_ragged_rows_with_empty_and_repeated_runs() -> None:
    rows = ragged_rows(np.array([4, 0, 4, 9]), np.array([2, 3, 2, 0]))
    assert rows.tolist() == [4, 5, 0, 1, 2, 4, 5]
    assert ragged_rows(np.array([], int), np.array([], int)).tolist() == []


@pytest.mark.parametrize("cutoff", [1.0, 2.5, 50.0])
def test_a_batch_equals_the_molecules_built_one_by_one(dataset: Dataset, cutoff: float) -> None:
    chosen = np.array([5, 0, 39, 5, 17])
    batch = dataset.prepare(cutoff).batch(chosen, dtype=torch.float64)
    expected = Molecules.from_ase([dataset.structure(int(k)) for k in chosen], cutoff, dtype=torch.float64)
    found = batch.molecules
    assert found.num_molecules == expected.num_molecules
    assert torch.equal(found.atomic_numbers, expected.atomic_numbers)
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(found.molecule_index, expected.molecule_index)
    assert torch.equal(found.edge_index, expected.edge_index)
    assert (found.edge_index[1].diff() >= 0).all()
    assert found.charge is None
    assert found.shifts is None
    assert batch.indices.tolist() == chosen.tolist()


def test_labels_follow_their_molecules_and_types(dataset: Dataset) -> None:
    chosen = torch.tensor([7, 3, 0])
    batch = dataset.prepare(3.0).batch(chosen)
    atoms = dataset.molecules.atoms_of(chosen.numpy())
    assert batch.labels["energy"].dtype == torch.float64
    assert batch.labels["energy"].isnan().tolist() == [False, True, False]
    assert batch.labels["energy"][0] == dataset.labels["energy"][7]
    assert batch.labels["dipole"].dtype == torch.float32
    assert batch.labels["dipole"].shape == (3, 3)
    expected = torch.from_numpy(dataset.labels["forces"][atoms]).float()
    torch.testing.assert_close(batch.labels["forces"], expected, equal_nan=True, rtol=0, atol=0)
    assert batch.to("cpu").molecules.positions.dtype == torch.float32


def test_a_batch_shares_no_memory_with_the_data_set(dataset: Dataset) -> None:
    prepared = dataset.prepare(3.0)
    before = dataset.labels["energy"].copy()
    batch = prepared.batch(np.arange(4))
    batch.labels["energy"].zero_()
    batch.molecules.positions.zero_()
    np.testing.assert_array_equal(dataset.labels["energy"], before)
    assert dataset.molecules.positions.any()


def test_chunks_do_not_change_the_neighbours(flat: FlatMolecules, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batching.list_neighbours("test", flat, 2.5)
    assert [c.stop for c in flat.chunks(pairs=1)] == list(range(1, 41))
    assert sum(1 for _ in flat.chunks()) == 1
    chunks = FlatMolecules.chunks
    monkeypatch.setattr(FlatMolecules, "chunks", lambda self: chunks(self, 60))
    parts = batching.list_neighbours("test", flat, 2.5)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.senders, parts.senders)
    np.testing.assert_array_equal(whole.receivers, parts.receivers)


def test_periodic_and_charged_structures_next_to_molecules() -> None:
    rng = np.random.default_rng(1)
    salt = ase.Atoms("NaCl", [[0.1, 0, 0], [2.8, 0.2, 0]], cell=5.6 * np.eye(3), pbc=True)
    ion = ase.Atoms("OH", [[0, 0, 0], [0.97, 0, 0]])
    ion.info["charge"] = -1.0
    charged = salt.copy()
    charged.info["charge"] = 2.0
    structures = [salt, ion, charged]
    flat = FlatMolecules.checked(
        "test",
        np.array([2, 2, 2]),
        np.concatenate([s.numbers for s in structures]),
        np.concatenate([s.positions for s in structures]),
        charges=np.array([0.0, -1.0, 2.0]),
        cells=np.stack([s.cell.array if s.pbc.all() else np.full((3, 3), np.nan) for s in structures]),
    )
    data = Dataset("test", flat, {}, {})
    for chosen in (np.array([2, 1, 0]), np.array([1, 2]), rng.permutation(3)):
        found = data.prepare(4.5).batch(chosen, torch.float64).molecules
        expected = Molecules.from_ase([structures[k] for k in chosen], 4.5, torch.float64)
        assert torch.equal(found.edge_index, expected.edge_index)
        assert found.shifts is not None
        assert expected.shifts is not None
        assert torch.equal(found.shifts, expected.shifts)
        assert found.charge is not None
        assert expected.charge is not None
        assert torch.equal(found.charge, expected.charge)
    assert data.structure(0).pbc.all()
    assert data.structure(1).info["charge"] == -1.0


def test_molecules_beyond_the_range_of_a_byte() -> None:
    rng = np.random.default_rng(2)
    sizes = np.array([280, 3, 320])  # the last one is searched by cell lists
    lattice = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 3)
    positions = np.concatenate([1.5 * lattice[:n] + rng.uniform(-0.1, 0.1, (n, 3)) for n in sizes])
    data = Dataset("test", FlatMolecules.checked("test", sizes, np.full(603, 6), positions), {}, {})
    found = data.prepare(2.0).batch(np.array([2, 0, 1]), torch.float64).molecules
    expected = Molecules.from_ase([data.structure(k) for k in (2, 0, 1)], 2.0, torch.float64)
    count = len(found.atomic_numbers)
    # Cell lists order the senders of one receiver in their own way.
    keys = [set((index[1] * count + index[0]).tolist()) for index in (found.edge_index, expected.edge_index)]
    assert keys[0] == keys[1]
    assert found.edge_index.shape == expected.edge_index.shape
    assert (found.edge_index[1].diff() >= 0).all()


@pytest.mark.parametrize("indices", [[], [40], [-1, 2], [[0, 1]]])
def test_indices_outside_of_the_data_set(dataset: Dataset, indices: list[int]) -> None:
    with pytest.raises(IndexError, match="indices"):
        dataset.prepare(3.0).batch(np.array(indices, int))


def test_two_atoms_at_one_place_are_named(flat: FlatMolecules) -> None:
    positions = flat.positions.copy()
    first = int(flat.starts[11])
    assert flat.n_atoms[11] > 2
    positions[first + 2] = positions[first] + 1e-5
    data = Dataset("a file", FlatMolecules.checked("a file", flat.n_atoms, flat.atomic_numbers, positions), {}, {})
    with pytest.raises(DataError, match=r"a file: molecule 11: atoms 0 and 2 are .* at one place"):
        data.prepare(3.0)


def test_neighbours_are_kept_on_disk_and_damage_is_repaired(
    flat: FlatMolecules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batching.list_neighbours("test", flat, 2.5, tmp_path)
    assert list(tmp_path.iterdir()) == []  # so small a set is not worth a file
    monkeypatch.setattr(batching, "WORTH_KEEPING", 0)
    fresh = batching.list_neighbours("test", flat, 2.5, tmp_path)
    (file,) = tmp_path.iterdir()
    searches: list[float] = []
    search = batching._search

    def counted(name: str, molecules: FlatMolecules, cutoff: float) -> batching.Arrays:
        searches.append(cutoff)
        return search(name, molecules, cutoff)

    monkeypatch.setattr(batching, "_search", counted)
    again = batching.list_neighbours("test", flat, 2.5, tmp_path)
    assert searches == []
    np.testing.assert_array_equal(again.senders, fresh.senders)

    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (whole[:100], bytes(flipped), b"", b"no archive at all"):
        file.write_bytes(damaged)
        searches.clear()
        with pytest.warns(UserWarning, match="is damaged"):
            again = batching.list_neighbours("test", flat, 2.5, tmp_path)
        assert searches == [2.5]
        np.testing.assert_array_equal(again.senders, fresh.senders)
        assert file.read_bytes() == whole

    batching.list_neighbours("test", flat, 3.5, tmp_path)  # another cutoff, another file
    batching.list_neighbours("test", flat.subset(np.arange(5)), 2.5, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_crystals_that_differ_only_in_their_cells_do_not_share_kept_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WORTH_KEEPING", 0)
    for edge, neighbours in ((3.0, 6), (2.0, 26), (5.0, 0)):  # of a simple cubic lattice, within 3.5 Angstrom
        cell = edge * np.eye(3)[None]
        crystal = FlatMolecules.checked("test", np.array([1]), np.array([2]), np.zeros((1, 3)), cells=cell)
        assert batching.list_neighbours("test", crystal, 3.5, tmp_path).counts.tolist() == [neighbours]


def test_a_cache_that_cannot_be_written_does_no_harm(
    flat: FlatMolecules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WORTH_KEEPING", 0)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert len(batching.list_neighbours("test", flat, 2.5, blocked / "cache").counts) == len(flat)


def test_one_preparation_per_cutoff(dataset: Dataset) -> None:
    assert dataset.prepare(3.0) is dataset.prepare(3.0)
    assert dataset.prepare(3.0) is not dataset.prepare(4.0)
    with pytest.raises(ValueError, match="cutoff"):
        dataset.prepare(0.0)
