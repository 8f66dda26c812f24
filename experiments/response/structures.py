"""Structures of `data/formaldehyde_fields.npz`: the frames of a dynamics in random order, each with its part.

    npol sample C=O --frames 240 --seed 3 -o formaldehyde.extxyz
    python experiments/response/structures.py formaldehyde.extxyz

writes formaldehyde_240.extxyz (160 train, 20 validation, 60 test) and formaldehyde_test.extxyz (the first 40 of the
test part, which get Born charges).
"""

import sys
from pathlib import Path

import numpy as np
from ase.io import read, write


def main(source: Path) -> None:
    """Writes both files beside the source."""
    frames = read(source, ":")
    assert isinstance(frames, list)
    order = np.random.default_rng(0).permutation(len(frames))
    chosen = [frames[k] for k in order]
    for place, frame in enumerate(chosen):
        frame.info["split"] = "train" if place < 160 else "validation" if place < 180 else "test"
    write(source.with_name("formaldehyde_240.extxyz"), chosen)
    write(source.with_name("formaldehyde_test.extxyz"), chosen[180:220])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
