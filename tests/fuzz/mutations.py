"""Ways to damage a file: bytes and words of any file, arrays and headers of those that have them."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.torch

from neural_polarization.checkpoints import _checksum as checksum
from neural_polarization.labelling.integrity import seal

NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e30",
    "-1",
    "0",
    "0.37",
    "1e-300",
    "999999999999",
    "9" * 400,
    "--1",
    "1,5",
    "",
)
WORDS = (*NUMBERS, "T", "None", "true", "null", "charge", "multiplicity=3", "Charge=1", "charge=T", "spin=x", "[]",
         "{}", "[[[[", '"', "'", "\\", "\x00", "\ufeff", "\u2028", "\x0c", "*^", "&a", "*a", "!!bool abc", "=",
         "Lattice", 'Lattice="0.1 0 0 0 0.1 0 0 0 0.1"', 'pbc="T T T"', ":R:999999999", "$$$$ ", "$$$$", "M  END",
         "Xx", "119", "energy=inf", "1j", "é", "\U0001f4a7", "\r", "\r\n", "\n", "\t")  # fmt: skip


def mutated(name: str, content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    """The content of a file after one to three mutations.

    Args:
        name: of the file, whose ending decides which mutations there are.
        content: valid.
        rng: decides everything.
        folder: for files that are changed in place.
    """
    kinds: list[Callable[[bytes, np.random.Generator, Path], bytes]] = [_bytes]
    if name.endswith((".xyz", ".sdf", ".smi", ".json", ".yaml", ".tar", ".cif", "POSCAR")):
        kinds += [_words, _words, _lines, _numbers]
    if name.endswith(".npz"):
        kinds += [_arrays, _arrays, _arrays, _members]
    if name.endswith(".h5"):
        kinds += [_groups, _groups, _groups]
    if name.endswith(".safetensors"):
        kinds += [_header, _header, _header]
    for _ in range(int(rng.integers(1, 4))):
        content = kinds[int(rng.integers(len(kinds)))](content, rng, folder)
    return content


def _bytes(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    del folder
    if not content:
        return b"\x00"
    place = int(rng.integers(len(content)))
    length = int(rng.choice([1, 1, 2, 8, 64, 1024]))
    match int(rng.integers(6)):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + content[place + length :]
        case 2:
            return content[:place] + rng.bytes(length) + content[place:]
        case 3:
            return content[:place] + rng.bytes(length) + content[place + length :]
        case 4:
            return content[:place] + 3 * content[place : place + length] + content[place + length :]
        case _:
            return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _replaced(content: bytes, pattern: bytes, by: str, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(pattern, content))
    if not found:
        return content
    one = found[int(rng.integers(len(found)))]
    return content[: one.start()] + by.encode() + content[one.end() :]


def _words(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    del folder
    return _replaced(content, rb"[^\s:=,\[\]{}\"']+", _pick(WORDS, rng), rng)


def _numbers(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    del folder
    return _replaced(content, rb"-?\d+\.?\d*(?:e-?\d+)?", _pick(NUMBERS, rng), rng)


def _lines(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    del folder
    lines = content.split(b"\n")
    one, other = (int(rng.integers(len(lines))) for _ in range(2))
    match int(rng.integers(4)):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            del lines[one]
        case 2:
            lines.insert(one, lines[other])
        case _:
            lines[one] += b" " + _pick(WORDS, rng).encode()
    return b"\n".join(lines)


_STRANGE: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda a: a.astype(str),
    lambda a: a.astype(complex),
    lambda a: a.astype(bool),
    lambda a: a.astype(object),
    lambda a: a.astype("M8[s]"),
    lambda a: a.astype(np.float16),
    lambda a: a.astype(np.int8),
    lambda a: -a,
    lambda a: 0 * a,
    lambda a: 1e300 * a,
    lambda a: a[..., None],
    lambda a: a[:-1],
    lambda a: np.concatenate([a, a]),
    lambda a: a.reshape(-1),
    lambda a: a.T,
    lambda a: a[:0],
    lambda a: np.zeros(()),
    lambda a: np.array(_pick(WORDS, np.random.default_rng(a.size))),
)


def _strange(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An array of another kind, or with one strange number."""
    try:
        if rng.random() < 0.5:
            return _STRANGE[int(rng.integers(len(_STRANGE)))](array)
        changed = array.astype(np.float64) if rng.random() < 0.5 else array.copy()
        values = [np.nan, np.inf, -1, 0, 1e30, 0.37, 300, 1e-3, 2**40]
        changed.reshape(-1)[int(rng.integers(changed.size))] = values[int(rng.integers(len(values)))]
    except (ValueError, TypeError, OverflowError, IndexError):
        return array
    return changed


def _arrays(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    del folder
    try:
        with np.load(io.BytesIO(content), allow_pickle=True) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception:  # whatever an earlier mutation has left
        return content
    names = list(arrays)
    if not names:
        return content
    name = names[int(rng.integers(len(names)))]
    match int(rng.integers(5)):
        case 0:
            del arrays[name]
        case 1:
            arrays[_pick(("charge", "total_charge", "multiplicity", "cell", "isolated", "energy"), rng)] = arrays[name]
        case _:
            arrays[name] = _strange(np.asarray(arrays[name]), rng)
    stream = io.BytesIO()
    try:
        np.savez(stream, **arrays)
    except (ValueError, TypeError, OverflowError):
        return content
    return stream.getvalue()


def _members(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    """The header of an array claims another shape or type than the array has."""
    del folder
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # whatever an earlier mutation has left
        return content
    names = list(members)
    if not names:
        return content
    name = names[int(rng.integers(len(names)))]
    members[name] = (
        _replaced(members[name][:128], rb"\d+", _pick(("1000000000000", "-1", "0", "3"), rng), rng)
        + members[name][128:]
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return stream.getvalue()


def _groups(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    path = folder / "changed.h5"
    path.write_bytes(content)
    try:
        with h5py.File(path, "r+") as file:
            structures: Any = file["structures"]
            names = list(structures)
            group = structures[names[int(rng.integers(len(names)))]]
            match int(rng.integers(5)):
                case 0:
                    attributes = file.attrs if rng.random() < 0.4 else group.attrs
                    del attributes[_pick(list(attributes), rng)]
                case 1:
                    attributes = file.attrs if rng.random() < 0.4 else group.attrs
                    attributes[_pick(list(attributes), rng)] = _pick(WORDS, rng)
                case 2:
                    del group[_pick(list(group), rng)]
                case _:
                    key = _pick(list(group), rng)
                    values = _strange(np.asarray(group[key][()]), rng)
                    del group[key]
                    group[key] = values
    except Exception:  # h5py refuses what it cannot store, or what an earlier mutation has left
        return content
    if content.startswith(b"neural-polarization"):
        seal(path)  # whoever wrote this meant it
    return path.read_bytes()


def _header(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    """The JSON header of a checkpoint: words of the description of the model inside. The checksum is right."""
    del folder
    if len(content) < 8:
        return content
    size = struct.unpack("<Q", content[:8])[0]
    try:
        header = json.loads(content[8 : 8 + size])
        entries = header["__metadata__"]
        text = entries["neural_polarization"].encode()
        changed = _numbers(text, rng, Path()) if rng.random() < 0.5 else _words(text, rng, Path())
        entries["neural_polarization"] = changed.decode(errors="replace")
        if rng.random() < 0.9:
            contents = safetensors.torch.load(content)
            entries["neural_polarization.checksum"] = checksum(entries["neural_polarization"], contents)
        else:
            del entries["neural_polarization.checksum"]
    except Exception:  # whatever an earlier mutation has left
        return content
    new = json.dumps(header).encode()
    new += b" " * (-len(new) % 8)
    return struct.pack("<Q", len(new)) + new + content[8 + size :]
