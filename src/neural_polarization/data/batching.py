"""Batches without work per molecule: neighbours are listed once, and a batch is a gather from flat arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from neural_polarization.data.cache import WORTH_KEEPING, Array, Arrays, cached
from neural_polarization.data.flat import FlatMolecules, ragged_rows, starts_of
from neural_polarization.errors import DataError
from neural_polarization.geometry import MANY_ATOMS, all_pairs, centre_of_charge, centred, neighbours
from neural_polarization.molecules import Molecules
from neural_polarization.plausibility import CLOSEST, check_positions, crowded
from neural_polarization.properties import FIELD, STRESS, Property, label_of


@final
@dataclass(frozen=True)
class Batch:
    """Some molecules and their labels.

    Attributes:
        molecules: the input of a network.
        labels: internal units, keyed by property; NaN where there is no label. One number per molecule is
            float64 (total energies need it), everything else has the type of the positions.
        indices: which molecules of the data set these are.
    """

    molecules: Molecules
    labels: dict[str, Tensor]
    indices: Int[Tensor, " molecules"]

    @property
    def has_stress(self) -> bool:
        """Whether there are labels of stress, and something with a volume, which stresses need."""
        return STRESS in self.labels and self.molecules.volume is not None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            molecules=self.molecules.to(device),
            labels={name: label.to(device) for name, label in self.labels.items()},
            indices=self.indices.to(device),
        )


@final
@dataclass(frozen=True)
class Neighbours:
    """Neighbour lists of many molecules, flat, numbered within each molecule and ordered by receiver.

    Attributes:
        counts: edges of each molecule.
        senders: atom within the molecule, in the smallest integer type that holds it.
        receivers: likewise.
        shifts: translation of each sender, Angstrom; None where nothing is periodic.
    """

    counts: Int[np.ndarray, " molecules"]
    senders: Integer[np.ndarray, " edges"]
    receivers: Integer[np.ndarray, " edges"]
    shifts: Float[np.ndarray, "edges 3"] | None = None


@final
class PreparedDataset:
    """Molecules with neighbour lists, ready to be gathered into batches.

    Args:
        name: what errors begin with.
        molecules: flat arrays.
        properties: what the labels are.
        labels: internal units, per molecule or per atom.
        cutoff: Angstrom.
        cache_directory: where neighbour lists of large sets are kept between runs; None keeps them in memory only.

    Raises:
        DataError: for two atoms at one place.
    """

    def __init__(
        self,
        name: str,
        molecules: FlatMolecules,
        properties: Mapping[str, Property],
        labels: Mapping[str, Array],
        cutoff: float,
        cache_directory: Path | None = None,
    ) -> None:
        if not cutoff > 0:
            raise ValueError(f"cutoff: expected a positive length in Angstrom, got {cutoff}")
        self.name = name
        self.cutoff = cutoff
        self.properties = dict(properties)
        self._molecules = molecules
        self._labels = dict(labels)
        self._neighbours = list_neighbours(name, molecules, cutoff, cache_directory)
        self._first_edge = starts_of(self._neighbours.counts)

    def __len__(self) -> int:
        return len(self._molecules)

    @property
    def num_edges(self) -> Int[np.ndarray, " molecules"]:
        """Edges of each molecule; with `num_atoms` what a batch costs."""
        return self._neighbours.counts

    @property
    def num_atoms(self) -> Int[np.ndarray, " molecules"]:
        """Atoms of each molecule."""
        return self._molecules.n_atoms

    def batch(self, indices: Array | Tensor | Sequence[int], dtype: torch.dtype = torch.float32) -> Batch:
        """Some of the molecules, in the order of `indices`.

        Args:
            indices: whole numbers from 0; one may occur more than once.
            dtype: floating-point type of positions and labels.

        Raises:
            IndexError: for an empty choice or an index outside of the data set.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.ndim != 1 or len(chosen) == 0:
            raise IndexError(f"indices: expected at least one molecule, got shape {chosen.shape}")
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise IndexError(
                f"indices: {self.name} has molecules 0 to {len(self) - 1}, but {int(chosen.min())} to "
                f"{int(chosen.max())} were asked for; was the split made for another data set?"
            )
        molecules, neighbours = self._molecules, self._neighbours
        sizes = molecules.n_atoms[chosen]
        atoms = ragged_rows(molecules.starts[chosen], sizes)
        num_edges = neighbours.counts[chosen]
        edges = ragged_rows(self._first_edge[chosen], num_edges)
        offsets = np.repeat(starts_of(sizes), num_edges)
        edge_index = np.empty((2, len(edges)), np.int64)
        np.add(neighbours.senders[edges], offsets, out=edge_index[0])
        np.add(neighbours.receivers[edges], offsets, out=edge_index[1])
        labels: dict[str, Tensor] = {}
        for name, values in self._labels.items():
            kind = self.properties[name]
            rows = torch.from_numpy(values[atoms if kind.per_atom else chosen])
            labels[name] = rows if not kind.per_atom and not kind.shape else rows.to(dtype)
        field = labels.pop(FIELD, None)
        shifts = neighbours.shifts
        owner = torch.from_numpy(np.repeat(np.arange(len(chosen)), sizes))
        positions = torch.from_numpy(molecules.positions[atoms])
        if dtype != torch.float64:
            positions = centred(positions, owner, len(chosen))
        if field is not None and molecules.charges is not None:
            numbers = torch.from_numpy(molecules.atomic_numbers[atoms])
            charges = torch.from_numpy(molecules.charges[chosen])
            shift = _to_coordinates(charges, field.nan_to_num(), numbers, positions, owner)
            for name in labels:
                if is_total_energy(name):
                    labels[name] = labels[name] + shift

        def of_chosen(values: Array | None) -> Tensor | None:
            return None if values is None else torch.from_numpy(values[chosen]).to(dtype)

        return Batch(
            molecules=Molecules(
                atomic_numbers=torch.from_numpy(molecules.atomic_numbers[atoms]),
                positions=positions.to(dtype),
                molecule_index=owner,
                edge_index=torch.from_numpy(edge_index),
                num_molecules=len(chosen),
                shifts=None if shifts is None else torch.from_numpy(shifts[edges]).to(dtype),
                charge=of_chosen(molecules.charges),
                spin=of_chosen(molecules.spins),
                external_field=None if field is None else field.nan_to_num(),
                volume=of_chosen(molecules.volumes if molecules.volumes.any() else None),
                cutoff=self.cutoff,
            ),
            labels=labels,
            indices=torch.from_numpy(chosen.copy()),
        )


def is_total_energy(name: str) -> bool:
    """Whether a label is the energy that an ion in a field has about an origin: "energy" or a synonym."""
    return label_of(name) == "energy"


def _to_coordinates(
    charges: Float[Tensor, " molecules"],
    fields: Float[Tensor, "molecules 3"],
    numbers: Int[Tensor, " atoms"],
    positions: Float[Tensor, "atoms 3"],
    owner: Int[Tensor, " atoms"],
) -> Float[Tensor, " molecules"]:
    """What the energies of ions in fields gain, eV, when their origin is that of the coordinates: -Q F.c.

    Labels are about the centre of nuclear charge c, as dipoles are; a model's energy, whose gradient the forces are, is
    about the origin of the coordinates.
    """
    centres = centre_of_charge(numbers, positions.to(torch.float64), owner, len(charges))
    return -charges.to(torch.float64) * (fields.to(torch.float64) * centres).sum(-1)


def list_neighbours(
    name: str, molecules: FlatMolecules, cutoff: float, cache_directory: Path | None = None
) -> Neighbours:
    """Neighbours of all molecules, from the cache where they were made before.

    Args:
        name: what errors begin with.
        molecules: flat arrays.
        cutoff: Angstrom.
        cache_directory: see `PreparedDataset`.

    Raises:
        DataError: for two atoms at one place.
    """
    periodic = bool(molecules.periodic.any())
    keys = {"counts", "senders", "receivers"} | ({"shifts"} if periodic else set())

    def valid(arrays: Arrays) -> bool:
        return (
            set(arrays) == keys
            and len(arrays["counts"]) == len(molecules)
            and int(arrays["counts"].sum()) == len(arrays["senders"]) == len(arrays["receivers"])
        )

    if molecules.num_pairs < WORTH_KEEPING:
        cache_directory = None
    file = f"neighbours-1-{molecules.content_hash[:32]}-{float(cutoff)!r}"
    arrays = cached(cache_directory, file, lambda: _search(name, molecules, cutoff), valid)
    return Neighbours(arrays["counts"], arrays["senders"], arrays["receivers"], arrays["shifts"] if periodic else None)


def _search(name: str, molecules: FlatMolecules, cutoff: float) -> Arrays:
    """Chunks of small molecules by all pairs at once; large and periodic ones one by one by cell lists."""
    largest = int(molecules.n_atoms.max())
    small_type = np.uint8 if largest <= 256 else np.int32
    anywhere_periodic = bool(molecules.periodic.any())
    counts: list[Array] = []
    pieces: list[Array] = []
    shifts: list[Array] = []
    for chunk in molecules.chunks():
        sizes = molecules.n_atoms[chunk]
        first = int(molecules.starts[chunk.start])
        positions = torch.from_numpy(molecules.positions[first : first + int(sizes.sum())])
        owner = np.repeat(np.arange(len(sizes)), sizes)
        # One molecule at a time only where one fills a chunk or repeats in space.
        if molecules.periodic[chunk].any() or int(sizes.max()) >= MANY_ATOMS:
            found = [_search_one(name, molecules, k, cutoff) for k in range(chunk.start, chunk.stop)]
            starts = starts_of(sizes)
            index = np.concatenate([e + o for (e, _), o in zip(found, starts, strict=True)], axis=1)
            moved = np.concatenate([s for _, s in found])
        else:
            index = all_pairs(positions, torch.from_numpy(owner), cutoff).numpy()
            moved = np.zeros((index.shape[1] if anywhere_periodic else 0, 3))
        points = positions.numpy()
        between = points[index[0]] - points[index[1]]
        if anywhere_periodic:
            between += moved
        squares = (between**2).sum(1)
        if len(squares) and squares.min() < CLOSEST**2:
            edge = int(np.argmin(squares))
            k = int(owner[index[1, edge]])
            one, other = sorted((index[:, edge] - int(starts_of(sizes)[k])).tolist())
            raise DataError(f"{name}: molecule {chunk.start + k}: {crowded(one, other, float(squares[edge]) ** 0.5)}")
        local = np.arange(len(owner)) - np.repeat(starts_of(sizes), sizes)
        counts.append(np.bincount(owner[index[1]], minlength=len(sizes)))
        pieces.append(local[index].astype(small_type))
        shifts.append(moved)
    edges = np.concatenate(pieces, axis=1)
    arrays = {"counts": np.concatenate(counts), "senders": edges[0], "receivers": edges[1]}
    return arrays | ({"shifts": np.concatenate(shifts)} if anywhere_periodic else {})


def _search_one(name: str, molecules: FlatMolecules, k: int, cutoff: float) -> tuple[Array, Array]:
    first, size = int(molecules.starts[k]), int(molecules.n_atoms[k])
    positions = torch.from_numpy(molecules.positions[first : first + size])
    cell = molecules.lattice(k)
    check_positions(positions.numpy(), f"{name}: molecule {k}", cell)
    index, shifts = neighbours(positions, None if cell is None else torch.from_numpy(cell), cutoff)
    return index.numpy(), shifts.numpy()
