"""Which molecules train, which choose, which judge: reproducible, stored, and without leakage."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, final

import numpy as np
from jaxtyping import Int

from neural_polarization.data.cache import Array
from neural_polarization.errors import DataError

Size: TypeAlias = int | float | None
"""A number of structures (or groups), a fraction of them, or None for what is left or customary."""

PARTS = ("train", "validation", "test")


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the structures in each part of a data set.

    Attributes:
        train: what the weights are fitted to.
        validation: what chooses between epochs and settings.
        test: what is reported.
        by: "group" where all structures of one molecule are in one part, "structure" where they may spread.
        content_hash: of the data set that the indices belong to (`Dataset.content_hash`); empty if not known.
    """

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]
    by: Literal["structure", "group"] = "structure"
    content_hash: str = ""

    def __eq__(self, other: object) -> bool:
        """Whether the same structures are in the same parts of the same data set."""
        if not isinstance(other, Split):
            return NotImplemented
        same = all(np.array_equal(part, other.parts[name]) for name, part in self.parts.items())
        return same and (self.by, self.content_hash) == (other.by, other.content_hash)

    def __hash__(self) -> int:
        """Equal splits have equal hashes."""
        return hash((self.by, self.content_hash, len(self.train), len(self.validation), len(self.test)))

    @property
    def parts(self) -> dict[str, Int[np.ndarray, " part"]]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to_json(self) -> str:
        """Plain JSON; `from_json` restores the same split."""
        parts = {name: part.tolist() for name, part in self.parts.items()}
        return json.dumps({"by": self.by, "content_hash": self.content_hash} | parts)

    @classmethod
    def from_json(cls, text: str) -> "Split":
        """The split that `to_json` wrote.

        Raises:
            DataError: for anything else.
        """
        try:
            values = json.loads(text)
            parts = {name: np.array(_indices(name, values[name]), np.int64) for name in PARTS}
            return cls.from_arrays(parts, values["by"], str(values.get("content_hash", "")))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"not a split ({error!r}); expected an object with the lists train, validation and test and "
                '"by", as Split.to_json writes it'
            ) from None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], by: str, content_hash: str = "") -> "Split":
        """The split from its three arrays, for instance those of a checkpoint.

        Raises:
            DataError: for a missing part, something else than whole numbers, or an unknown `by`.
        """
        if by not in ("structure", "group"):
            raise DataError(f'by: expected "structure" or "group", got {by!r}')
        missing = [name for name in PARTS if name not in arrays]
        if missing:
            raise DataError(f"a split needs the arrays {', '.join(PARTS)}; {missing[0]} is missing")
        for name in PARTS:
            if arrays[name].ndim != 1 or (arrays[name].size and arrays[name].dtype.kind not in "iu"):
                raise DataError(f"the split's {name} part should be a list of whole numbers")
            indices, counts = np.unique(arrays[name], return_counts=True)
            if (counts > 1).any():
                raise DataError(f"the split's {name} part has the index {indices[np.argmax(counts)]} twice")
            if len(indices) and indices[0] < 0:
                raise DataError(f"the split's {name} part has the index {indices[0]}; expected 0 or more")
        train, validation, test = (arrays[name].astype(np.int64) for name in PARTS)
        return cls(train, validation, test, "group" if by == "group" else "structure", content_hash)

    def remapped(self, kept: Int[np.ndarray, " kept"], total: int) -> "Split":
        """The same split of a subset that holds the structures `kept` out of `total`."""
        position = np.full(total, -1)
        position[kept] = np.arange(len(kept))
        train, validation, test = (
            (new := position[part])[new >= 0] for part in (self.train, self.validation, self.test)
        )
        return Split(train, validation, test, self.by)


def _indices(name: str, part: object) -> list[int]:
    """A part as a list of whole numbers; true, "1" and 1.0 are none."""
    if not isinstance(part, list):
        raise TypeError(f"{name} is no list")
    values = cast("list[object]", part)
    strange = [value for value in values if type(value) is not int]
    if strange:
        raise TypeError(f"{name} holds {strange[0]!r}, expected indices of structures (0, 1, 2, ...)")
    return cast("list[int]", values)


def save_split(split: Split, path: str | Path) -> None:
    """Writes a split as JSON."""
    Path(path).write_text(split.to_json() + "\n")


def load_split(path: str | Path) -> Split:
    """Reads what `save_split` wrote.

    Raises:
        DataError: for another kind of file.
    """
    try:
        return Split.from_json(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file; expected a split in JSON") from None
    except (DataError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: {error}") from None


def random_split(
    identity: Int[np.ndarray, " structures"],
    train: Size = None,
    validation: Size = None,
    test: Size = None,
    seed: int = 0,
) -> Split:
    """Structures at random. Of structures that are the same only one is used, so that none is in two parts.

    Args:
        identity: a number for each structure, the same for structures that are the same (`identities`).
        train: a number, a fraction, or None for all that is left.
        validation: a number or a fraction; None means a tenth.
        test: likewise.
        seed: the same seed gives the same split.

    Raises:
        DataError: where the parts need more structures than there are, or one of them would be empty.

    Example:
        >>> random_split(np.arange(10), train=5, validation=2, test=0.2, seed=1).train.shape
        (5,)
    """
    order = np.random.default_rng(seed).permutation(len(identity))
    _, first = np.unique(identity[order], return_index=True)
    repeats = len(first) < len(identity)
    what = "different structures" if repeats else "structures"
    note = f" (of {len(identity):,}, the others repeat one of them)" if repeats else ""
    return _cut(order[np.sort(first)], train, validation, test, what, "structure", note)


def group_split(
    groups: Int[np.ndarray, " structures"],
    train: Size = None,
    validation: Size = None,
    test: Size = None,
    seed: int = 0,
) -> Split:
    """Whole groups (molecules with all of their geometries) at random; sizes count groups.

    Args:
        groups: the group of each structure.
        train: a number of groups, a fraction of them, or None for all that is left.
        validation: a number or a fraction; None means a tenth.
        test: likewise.
        seed: the same seed gives the same split.

    Raises:
        DataError: as for `random_split`.
    """
    return _whole_split(groups, train, validation, test, seed, "groups", "group")


def geometry_split(
    identity: Int[np.ndarray, " structures"],
    train: Size = None,
    validation: Size = None,
    test: Size = None,
    seed: int = 0,
) -> Split:
    """Geometries at random, each with all its structures: the same geometry in several electric fields.

    Args:
        identity: a number for each structure, the same for structures of one geometry (`identities`).
        train: a number of geometries, a fraction of them, or None for all that is left.
        validation: a number or a fraction; None means a tenth.
        test: likewise.
        seed: the same seed gives the same split.

    Raises:
        DataError: as for `random_split`.

    Example:
        >>> in_two_fields = np.repeat(np.arange(10), 2)
        >>> geometry_split(in_two_fields, train=5, validation=2, test=0.2, seed=1).train.shape
        (10,)
    """
    return _whole_split(identity, train, validation, test, seed, "geometries", "structure")


def _whole_split(
    numbers: Int[np.ndarray, " structures"],
    train: Size,
    validation: Size,
    test: Size,
    seed: int,
    what: str,
    by: Literal["structure", "group"],
) -> Split:
    """Structures with one number stay together."""
    names = np.unique(numbers)
    chosen = _cut(np.random.default_rng(seed).permutation(names), train, validation, test, what, by)
    rows = [np.flatnonzero(np.isin(numbers, part)) for part in chosen.parts.values()]
    return Split(rows[0], rows[1], rows[2], by)


def published_split(
    train_set: Int[np.ndarray, " train"],
    test_set: Int[np.ndarray, " test"],
    train: Size = None,
    validation: Size = None,
    test: Size = None,
    seed: int = 0,
) -> Split:
    """A published pair of training and test set; validation structures are taken from the training set.

    Args:
        train_set: published training set.
        test_set: published test set.
        train: how many of the training set; None means all that validation leaves.
        validation: how many of the training set; None means a twentieth.
        test: how many of the test set; None means all of them.
        seed: which of the training set train and which validate.

    Raises:
        DataError: as for `random_split`.
    """
    order = np.random.default_rng(seed).permutation(train_set)
    given = {"train": train, "validation": 0.05 if validation is None else validation, "test": 0}
    counts = _counts(given, len(order), "structures of the published training set")
    if test is None:
        judged = test_set
    else:
        number = _counts({"test": test}, len(test_set), "structures of the published test set")["test"]
        judged = np.random.default_rng(seed).permutation(test_set)[:number]
    # As in `_cut`: with one seed a smaller training part is contained in a larger one.
    learned, choosing = order[: counts["train"]], order[len(order) - counts["validation"] :]
    return _trainable(Split(learned.astype(np.int64), choosing.astype(np.int64), judged.astype(np.int64)))


def stored_split(split: Split, train: Size = None, validation: Size = None, test: Size = None, seed: int = 0) -> Split:
    """A stored split, or some structures of each of its parts.

    Args:
        split: as it was stored.
        train: how many of its training part; None means all.
        validation: likewise.
        test: likewise.
        seed: which of each part.

    Raises:
        DataError: where a part has fewer structures than are asked for.
    """
    kept: list[Int[np.ndarray, " part"]] = []
    for (name, part), size in zip(split.parts.items(), (train, validation, test), strict=True):
        if size is None:
            kept.append(part)
            continue
        number = _counts({name: size}, len(part), f"structures of the stored {name} part")[name]
        kept.append(np.random.default_rng(seed).permutation(part)[:number])
    return _trainable(Split(kept[0], kept[1], kept[2], split.by, split.content_hash))


def _cut(
    order: Int[np.ndarray, " things"],
    train: Size,
    validation: Size,
    test: Size,
    what: str,
    by: Literal["structure", "group"],
    note: str = "",
) -> Split:
    given: dict[str, Size] = {
        "train": train,
        "validation": 0.1 if validation is None else validation,
        "test": 0.1 if test is None else test,
    }
    counts = _counts(given, len(order), what, note)
    for name, size in {"train": train, "validation": validation, "test": test}.items():
        if size and not counts[name]:
            raise DataError(
                f"split.{name}: {size} of {len(order):,} {what} is less than one half, and the part would be empty; "
                "give a larger fraction, or a whole number"
            )
    # Test and validation come from the end: with one seed they stay the same while the training part grows.
    n, t, v = len(order), counts["test"], counts["validation"]
    return _trainable(Split(order[: counts["train"]], order[n - t - v : n - t], order[n - t :], by))


def _counts(given: Mapping[str, Size], total: int, what: str, note: str = "") -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, size in given.items():
        if size is None:
            continue
        if isinstance(size, float) and not 0.0 <= size <= 1.0:
            raise DataError(f"split.{name}: {size} is neither a fraction (0.0 to 1.0) nor a whole number of {what}")
        if size < 0:
            raise DataError(f"split.{name}: {size} is negative; give a number of {what} or a fraction of them")
        counts[name] = round(size * total) if isinstance(size, float) else size
    excess = sum(counts.values()) - total
    if 0 < excess < len(counts) and all(isinstance(size, float) for size in given.values() if size):
        counts[max(counts, key=lambda name: counts[name])] -= excess  # fractions that were rounded up
    elif excess > 0:
        asked = " + ".join(f"{count} ({name})" for name, count in counts.items() if count)
        raise DataError(
            f"split: {asked} are asked for, {excess} too many: the number of {what} is {total:,}{note}; make a part "
            "smaller"
        )
    for name, size in given.items():
        if size is None:
            counts[name] = total - sum(counts.values())
    return counts


def _trainable(split: Split) -> Split:
    if len(split.train) == 0:
        raise DataError("split.train: no structure is left to train on; make validation or test smaller")
    return split
