"""Structures of the data sets in fields.

    npol sample C=O --frames 240 --seed 3 -o formaldehyde.extxyz
    python experiments/response/structures.py frames formaldehyde.extxyz

writes formaldehyde_240.extxyz (the frames of a dynamics in random order: 160 train, 20 validation, 60 test) and
formaldehyde_test.extxyz (the first 40 of the test part, which get Born charges); ethanol in the same way.

    python experiments/response/structures.py small data/small_molecules.npz small.extxyz

writes small_220.extxyz (ten frames of each of the 22 molecules with one or two atoms other than hydrogen, one frame of
every molecule and then the next) and small_born.extxyz (two displaced frames of each, which get Born charges).
"""

import argparse
from pathlib import Path

import ase
import numpy as np
from ase.io import read, write

FRAMES = 10
"""Frames of each small molecule."""

PARTS = ("train", "validation", "test")


def frames_of_one(source: Path) -> None:
    """Writes both files of one molecule beside the source."""
    frames = read(source, ":")
    assert isinstance(frames, list)
    order = np.random.default_rng(0).permutation(len(frames))
    chosen = [frames[k] for k in order]
    for place, frame in enumerate(chosen):
        frame.info["split"] = "train" if place < 160 else "validation" if place < 180 else "test"
    write(source.with_name(f"{source.stem}_{len(chosen)}.extxyz"), chosen)
    write(source.with_name(f"{source.stem}_test.extxyz"), chosen[180:220])


def small(source: Path, target: Path) -> None:
    """Writes both files beside the target."""
    arrays = np.load(source)
    ends = np.cumsum(arrays["n_atoms"])
    chosen: list[tuple[int, ase.Atoms]] = []
    for end, size, smiles, frame, part in zip(
        ends, arrays["n_atoms"], arrays["smiles"], arrays["frame"], arrays["split"], strict=True
    ):
        rows = slice(end - size, end)
        numbers = arrays["atomic_numbers"][rows]
        if (numbers > 1).sum() > 2 or frame >= FRAMES:
            continue
        info = {"smiles": str(smiles), "frame": int(frame), "split": PARTS[part]}
        chosen.append((int(frame), ase.Atoms(numbers, arrays["positions"][rows], info=info)))
    chosen.sort(key=lambda pair: pair[0])
    write(target.with_name(f"{target.stem}_{len(chosen)}.extxyz"), [atoms for _, atoms in chosen])
    write(target.with_name(f"{target.stem}_born.extxyz"), [atoms for frame, atoms in chosen if frame in (1, 2)])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("frames", "small"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=Path("small.extxyz"))
    known = parser.parse_args()
    if known.what == "frames":
        frames_of_one(known.source)
    else:
        small(known.source, known.target)


if __name__ == "__main__":
    main()
