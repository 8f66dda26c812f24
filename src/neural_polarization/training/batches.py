"""The order of batches as a pure function of seed and epoch, and a loader of prepared batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from neural_polarization.data.batching import Batch, PreparedDataset
from neural_polarization.text import counted


class BatchOrder(Sampler[NDArray[np.int64]]):
    """Indices of the molecules of every batch of an epoch.

    Which molecules are in which batch depends on seed and epoch alone: a resumed run sees the same batches, and
    so does one on another number of processes, each of which gets its share of every batch.

    Args:
        length: number of molecules.
        batch_size: molecules per batch, over all processes.
        shuffle_seed: seed of the shuffling; None keeps the order of the data.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: if there are fewer molecules in some batch than processes.

    Example:
        >>> [batch.tolist() for batch in BatchOrder(5, batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, length: int, batch_size: int, shuffle_seed: int | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        # Shuffled, batches of nearly equal size are drawn: the smallest one decides.
        smallest = min(length, batch_size) if shuffle_seed is None else length // max(-(-length // batch_size), 1)
        if smallest < world_size:
            raise ValueError(
                f"{counted(smallest, 'molecule')} per batch cannot be shared by {world_size} processes; take "
                "larger batches (or parts of the data), or fewer processes"
            )
        self.length, self.batch_size, self.seed = length, batch_size, shuffle_seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches of this process."""
        if self.seed is None:
            return -(-len(self._share()) // (self.batch_size // self.world_size))
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Batches of this process."""
        if self.seed is None:
            share, size = self._share(), self.batch_size // self.world_size
            for start in range(0, len(share), size):
                yield share[start : start + size]
            return
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        # Batches of nearly equal size: a last one with a single molecule would be all noise.
        for batch in np.array_split(order, len(self)):
            yield batch[self.rank :: self.world_size]

    def _share(self) -> NDArray[np.int64]:
        return np.array_split(np.arange(self.length), self.world_size)[self.rank]


class _Batches(Dataset[Batch]):
    """Prepared molecules by arrays of their indices."""

    def __init__(self, prepared: PreparedDataset, dtype: torch.dtype) -> None:
        self._prepared, self._dtype = prepared, dtype

    def __getitem__(self, indices: NDArray[np.int64]) -> Batch:
        return self._prepared.batch(indices, self._dtype)


def batch_loader(
    prepared: PreparedDataset, order: BatchOrder, dtype: torch.dtype, num_workers: int = 0
) -> DataLoader[Batch]:
    """Batches in that order; the trainer's `set_epoch` reaches the order through the loader's sampler."""
    return DataLoader(
        _Batches(prepared, dtype),
        batch_size=None,
        sampler=order,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


def largest_batch(prepared: PreparedDataset, order: BatchOrder, epochs: int, dtype: torch.dtype) -> tuple[Batch, float]:
    """The batch with the most edges in a training, and the fraction by which another one has more atoms.

    It depends on what decides the batches alone, so that a resumed training finds the same one.
    """
    most_edges, most_atoms, largest = -1, 0, np.arange(1)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for indices in order:
            edges, atoms = int(prepared.num_edges[indices].sum()), int(prepared.num_atoms[indices].sum())
            most_atoms = max(most_atoms, atoms)
            if edges > most_edges:
                most_edges, largest = edges, indices
    order.set_epoch(0)
    batch = prepared.batch(largest, dtype)
    return batch, max(0.0, most_atoms / batch.molecules.num_atoms - 1.0)


def _as_it_is(batch: Any) -> Any:
    return batch
