"""From files of labels to the compact data sets that are trained on."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from neural_polarization.properties import FIELD

from ..data.density_structures import structure_arrays
from ..data.splits import PARTS
from ..files import refuse_existing, write_arrays
from ..properties import DEFINITIONS, Property
from ..structures.smiles import canonical_smiles
from ..units import BOHR
from .expansion import fit_density, fit_error, fitting_shells, rounded
from .level import Level
from .mean_field import Accuracy, build_molecule
from .properties.density import unpack_matrix
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
    seed: int = 0,
    overwrite: bool = False,
) -> Packed:
    """Write the labels of one or more files as flat arrays; failed structures are left out.

    Structures with the same SMILES in any spelling (or, without one, the same formula) are frames of one molecule, and
    a molecule is in one part of the split with all its frames: about a tenth in validation, a tenth in test, drawn from
    the name so that it stays where it is when the set grows. A structure whose `atoms.info` has "split" is in the part
    that this names: train, validation or test.

    Args:
        sources: files of `npol label`, of one level, accuracy and field.
        target: .npz, readable by `neural_polarization.data`.
        densities: .npz for densities (where a file has density matrices) and orbital centroids.
        seed: of the split.
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
    field = np.array(json.loads(description["field"]), np.float64)
    records = [_in_field(record, field) for record in everything if not record.reason]
    if not records:
        raise ValueError(f"{', '.join(str(source) for source in sources)}: no structure has labels")
    common = {
        "level": np.array(description["level"]),
        "accuracy": np.array(description["accuracy"]),
        "field": field,
    }
    arrays = _main_arrays(records, seed) | common
    with_density = [index for index, record in enumerate(records) if "density_matrix" in record.labels]
    # Whatever fails has failed before anything is written.
    files = [(target, arrays)]
    if densities is not None:
        level = Level.parse(description["level"])
        files.append((densities, _density_arrays(records, with_density, level) | common))
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
    refuse_existing(path, overwrite)


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
    names = [_name(record) for record in records]
    numbering = {name: number for number, name in enumerate(dict.fromkeys(names))}
    arrays: dict[str, np.ndarray] = {
        "n_atoms": np.array([len(record.atoms) for record in records], np.int32),
        "atomic_numbers": np.concatenate([record.atoms.numbers for record in records]).astype(np.uint8),
        "positions": np.concatenate([record.atoms.positions for record in records]),
        "molecule": np.array([numbering[name] for name in names], np.int32),
        "split": np.array([_part_of(record, name, seed) for record, name in zip(records, names, strict=True)], np.int8),
        "smiles": np.array(names),
        "frame": np.array([_frame(record) for record in records], np.int32),
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


def _in_field(record: Record, field: np.ndarray) -> Record:
    """The record with the field of the whole file among its labels, unless its structure has one of its own."""
    if not field.any() or FIELD in record.labels:
        return record
    return replace(record, labels={**record.labels, FIELD: field})


def _name(record: Record) -> str:
    """The molecule that a structure is of, whatever the spelling of its SMILES."""
    smiles = record.atoms.info.get("smiles")
    return record.atoms.get_chemical_formula() if smiles is None else canonical_smiles(str(smiles))


def _frame(record: Record) -> int:
    """The number of a geometry of its molecule; what a file calls a frame and is no number counts as none."""
    frame = record.atoms.info.get("frame", 0)
    return int(frame) if isinstance(frame, int | float | np.integer) and abs(frame) < 2**31 else 0


def _row(record: Record, kind: Property) -> np.ndarray:
    missing = np.full((len(record.atoms), *kind.shape) if kind.per_atom else kind.shape, np.nan)
    return np.asarray(record.labels.get(kind.name, missing), dtype=np.float64)


def _part_of(record: Record, name: str, seed: int) -> int:
    """The part that the structure names, or else the one that belongs to its molecule's name."""
    named = record.atoms.info.get("split")
    if named is None:
        return _part(name, seed)
    if named not in PARTS:
        raise ValueError(f"{name}: split is {named!r}; expected {', '.join(PARTS)}, or no word about it")
    return PARTS.index(named)


def _part(name: str, seed: int) -> int:
    """0 train, 1 validation or 2 test, by a number that belongs to the name."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4]) / 2**32
    return 0 if draw < 0.8 else 1 if draw < 0.9 else 2


def density_arrays(molecules: Iterable[Any], matrices: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Fitted densities as flat arrays (`data.densities` reads them).

    Args:
        molecules: PySCF's molecules.
        matrices: packed density matrix of each.
    """
    fitted: list[np.ndarray] = []
    errors: list[float] = []
    elements: set[str] = set()
    for molecule, matrix in zip(molecules, matrices, strict=True):
        density_matrix = unpack_matrix(matrix)
        fitted.append(rounded(molecule, fit_density(molecule, density_matrix)))
        errors.append(fit_error(molecule, density_matrix, fitted[-1]))
        elements |= set(molecule.elements)
    shells = {atomic_numbers[element]: fitting_shells(element) for element in elements}
    numbers = sorted(shells)
    flat = [shell for number in numbers for shell in shells[number]]
    return {
        "basis_elements": np.array(numbers, np.uint8),
        "basis_n_shells": np.array([len(shells[number]) for number in numbers], np.int32),
        "basis_degrees": np.array([degree for degree, _ in flat], np.int8),
        "basis_exponents": np.array([exponent / BOHR**2 for _, exponent in flat], np.float64),
        "n_coefficients": np.array([len(coefficients) for coefficients in fitted], np.int32),
        "coefficients": _joined(fitted, np.float32, (0,)),
        "fit_error": np.array(errors, np.float32),
    }


def _density_arrays(records: Sequence[Record], with_density: Sequence[int], level: Level) -> dict[str, np.ndarray]:
    chosen = [records[index] for index in with_density]
    molecules = (build_molecule(record.atoms, level, Accuracy()) for record in chosen)
    fitted = density_arrays(molecules, (record.labels["density_matrix"] for record in chosen))
    localized = [index for index, record in enumerate(records) if "centroid_positions" in record.labels]
    arrays: dict[str, np.ndarray] = {
        "density_structure": np.array(with_density, np.int32),
        **structure_arrays([record.atoms.numbers for record in chosen], [record.atoms.positions for record in chosen]),
        **fitted,
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


def _joined(parts: Iterable[np.ndarray], kind: type[np.generic], empty: tuple[int, ...]) -> np.ndarray:
    found = list(parts)
    return np.concatenate(found).astype(kind) if found else np.zeros(empty, kind)
