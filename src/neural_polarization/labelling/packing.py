"""From files of labels to the compact data sets that are trained on."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_arrays
from ..properties import DEFINITIONS, Property
from .level import Level
from .mean_field import Accuracy, build_molecule
from .properties.density import sample_density, unpack_matrix
from .store import Record, read_description, read_labels


@dataclass(frozen=True)
class Packed:
    """Counts of what was written."""

    structures: int
    molecules: int
    polarizabilities: int
    densities: int
    failed: int


_NO_MATTER = frozenset({"max_cycles", "max_memory"})
"""Settings of the accuracy that decide whether there is a result, not which."""


def pack(
    sources: Sequence[Path],
    target: Path,
    densities: Path | None = None,
    points: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> Packed:
    """Write the labels of one or more files as flat arrays; failed structures are left out.

    Structures with the same SMILES (or, without one, the same formula) are frames of one molecule, and a molecule
    is in one part of the split with all its frames: about a tenth in validation, a tenth in test, drawn from the
    name so that it stays where it is when the set grows.

    Args:
        sources: files of `npol label`, of one level, accuracy and field.
        target: .npz, readable by `neural_polarization.data`.
        densities: .npz for densities (where a file has density matrices) and orbital centroids.
        points: of each density sample.
        seed: of split and samples.
        overwrite: whether files that are there may be replaced, other than the sources.

    Raises:
        ValueError: where the files are of different levels, accuracies or fields, no structure has labels, or a file
            to be written has another ending, is one of the sources, or is both files.
        FileExistsError: where a file to be written is there and `overwrite` is not set.
    """
    for output in (target, densities):
        if output is not None:
            check_output(output, sources, overwrite)
    if densities is not None and densities.resolve() == target.resolve():
        raise ValueError(f"{densities}: densities are a file of their own; give them another path than the data set")
    description = _description(sources)
    everything = [record for source in sources for record in read_labels(source)]
    records = [record for record in everything if not record.reason]
    if not records:
        raise ValueError(f"{', '.join(str(source) for source in sources)}: no structure has labels")
    common = {
        "level": np.array(description["level"]),
        "accuracy": np.array(description["accuracy"]),
        "field": np.array(json.loads(description["field"]), np.float64),
    }
    arrays = _main_arrays(records, seed) | common
    with_density = [index for index, record in enumerate(records) if "density_matrix" in record.labels]
    # Whatever fails has failed before anything is written.
    files = [(target, arrays)]
    if densities is not None:
        level = Level.parse(description["level"])
        files.append((densities, _density_arrays(records, with_density, level, points, seed) | common))
    for path, content in files:
        write_arrays(path, content, compress=True)
    return Packed(
        structures=len(records),
        molecules=len(np.unique(arrays["molecule"])),
        polarizabilities=sum("polarizability" in record.labels for record in records),
        densities=len(with_density),
        failed=len(everything) - len(records),
    )


def check_output(path: Path, sources: Sequence[Path], overwrite: bool) -> None:
    """Raises where a packed file cannot be written: the arguments are those of `pack`.

    Raises:
        ValueError: for another ending, or one of the sources.
        FileExistsError: where the file is there and `overwrite` is not set.
    """
    if path.resolve() in {source.resolve() for source in sources}:
        raise ValueError(f"{path}: is one of the files of labels, which would be lost; give another path")
    if path.suffix != ".npz":
        raise ValueError(f"{path}: expected the ending .npz")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; give another path, or --overwrite")


def _description(sources: Sequence[Path]) -> dict[str, str]:
    """What files of labels say about themselves, if they say the same."""
    if not sources:
        raise ValueError("no file of labels is given; make one with 'npol label'")
    first, description = sources[0], read_description(sources[0])
    made = _made(description)
    for source in sources[1:]:
        other = _made(read_description(source))
        different = [f"{name} ({other[name]}, {made[name]})" for name in made if other[name] != made[name]]
        if different:
            raise ValueError(
                f"{source}: its labels differ from those of {first} in {', '.join(different)}; they cannot be one data "
                "set: pack them apart"
            )
    return description


def _made(description: Mapping[str, str]) -> dict[str, Any]:
    """How labels were made: level, field, and what of the accuracy changes them."""
    accuracy = {name: value for name, value in json.loads(description["accuracy"]).items() if name not in _NO_MATTER}
    return {"level": description["level"], "field": description["field"], **accuracy}


def _main_arrays(records: Sequence[Record], seed: int) -> dict[str, np.ndarray]:
    names = [str(record.atoms.info.get("smiles", record.atoms.get_chemical_formula())) for record in records]
    numbering = {name: number for number, name in enumerate(dict.fromkeys(names))}
    arrays: dict[str, np.ndarray] = {
        "n_atoms": np.array([len(record.atoms) for record in records], np.int32),
        "atomic_numbers": np.concatenate([record.atoms.numbers for record in records]).astype(np.uint8),
        "positions": np.concatenate([record.atoms.positions for record in records]),
        "molecule": np.array([numbering[name] for name in names], np.int32),
        "split": np.array([_part(name, seed) for name in names], np.int8),
        "smiles": np.array(names),
        "frame": np.array([int(record.atoms.info.get("frame", 0)) for record in records], np.int32),
    }
    charges = np.array([float(record.atoms.info.get("charge", 0)) for record in records])
    spins = np.array([float(record.atoms.info.get("spin", 0)) for record in records])
    arrays |= {name: values for name, values in (("charge", charges), ("spin", spins)) if values.any()}
    table: dict[str, dict[str, Any]] = {}
    for name, definition in DEFINITIONS.items():
        if not definition.trainable or not any(name in record.labels for record in records):
            continue
        kind = definition.property
        rows = [_row(record, kind) for record in records]
        values = np.concatenate(rows) if kind.per_atom else np.array(rows)
        arrays[name] = values if name == "energy" else values.astype(np.float32)
        table[name] = {
            "unit": kind.unit,
            "shape": list(kind.shape),
            "per_atom": kind.per_atom,
            "meaning": definition.meaning,
        }
    arrays["properties"] = np.array(json.dumps(table))
    return arrays


def _row(record: Record, kind: Property) -> np.ndarray:
    missing = np.full((len(record.atoms), *kind.shape) if kind.per_atom else kind.shape, np.nan)
    return np.asarray(record.labels.get(kind.name, missing), dtype=np.float64)


def _part(name: str, seed: int) -> int:
    """0 train, 1 validation or 2 test, by a number that belongs to the name."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4]) / 2**32
    return 0 if draw < 0.8 else 1 if draw < 0.9 else 2


def _density_arrays(
    records: Sequence[Record], with_density: Sequence[int], level: Level, points: int, seed: int
) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    samples = [_sampled(records[index], level, points, generator) for index in with_density]
    matrices = [records[index].labels["density_matrix"] for index in with_density]
    localized = [index for index, record in enumerate(records) if "centroid_positions" in record.labels]
    arrays: dict[str, np.ndarray] = {
        "density_structure": np.array(with_density, np.int32),
        "n_points": np.array([len(sample[1]) for sample in samples], np.int32),
        "points": _joined((sample[0] for sample in samples), np.float32, (0, 3)),
        "weights": _joined((sample[1] for sample in samples), np.float32, (0,)),
        "density": _joined((sample[2] for sample in samples), np.float32, (0,)),
        "n_matrix": np.array([len(matrix) for matrix in matrices], np.int32),
        "density_matrix": _joined(matrices, np.float32, (0,)),
        "centroid_structure": np.array(localized, np.int32),
        "n_centroids": np.array([len(records[index].labels["centroid_positions"]) for index in localized], np.int32),
    }
    kinds: tuple[tuple[str, type[np.generic], tuple[int, ...]], ...] = (
        ("positions", np.float32, (0, 3)),
        ("occupations", np.float32, (0,)),
        ("spreads", np.float32, (0,)),
        ("owners", np.int16, (0, 2)),
    )
    for name, kind, empty in kinds:
        values = (records[index].labels[f"centroid_{name}"] for index in localized)
        arrays[f"centroid_{name}"] = _joined(values, kind, empty)
    return arrays


def _sampled(
    record: Record, level: Level, points: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points drawn from a quadrature grid, with weights that make sums estimates of integrals.

    A point of weight w and density n is drawn with a probability that grows as w sqrt(n): between the density
    itself, which would put most points at the nuclei, and even coverage of space. The weights are scaled so that
    the sample holds the molecule's electrons exactly.
    """
    molecule = build_molecule(record.atoms, level, Accuracy())
    sample = sample_density(molecule, unpack_matrix(record.labels["density_matrix"]))
    chance = _inclusion(sample.weights * np.sqrt(np.maximum(sample.values, 0)), points)
    # Systematic sampling: every point is met with exactly its chance, and neighbours are not met twice.
    steps = generator.random() + np.arange(round(float(chance.sum())))
    drawn = np.unique(np.minimum(np.searchsorted(np.cumsum(chance), steps), len(chance) - 1))
    weights = sample.weights[drawn] / chance[drawn]
    weights *= molecule.nelectron / (weights @ sample.values[drawn])
    return sample.points[drawn], weights, sample.values[drawn]


def _inclusion(sizes: np.ndarray, number: int) -> np.ndarray:
    """Chances in proportion to sizes, none above one, that sum to `number` (or to as many as there are)."""
    if number >= len(sizes):
        return np.ones(len(sizes))
    certain = np.zeros(len(sizes), bool)
    while True:
        chance = sizes * (number - certain.sum()) / sizes[~certain].sum()
        above = ~certain & (chance > 1)
        if not above.any():
            return np.where(certain, 1.0, chance)
        certain |= above


def _joined(parts: Iterable[np.ndarray], kind: type[np.generic], empty: tuple[int, ...]) -> np.ndarray:
    found = list(parts)
    return np.concatenate(found).astype(kind) if found else np.zeros(empty, kind)
