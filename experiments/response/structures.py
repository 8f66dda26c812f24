"""Structures of the data sets in fields.

    npol sample C=O --frames 240 --seed 3 -o formaldehyde.extxyz
    python experiments/response/structures.py frames formaldehyde.extxyz

writes formaldehyde_240.extxyz (the frames of a dynamics in random order: 160 train, 20 validation, 60 test) and
formaldehyde_test.extxyz (the first 40 of the test part, which get Born charges); ethanol in the same way.

    python experiments/response/structures.py small data/small_molecules.npz small.extxyz

writes small_220.extxyz (ten frames of each of the 22 molecules with one or two atoms other than hydrogen, one frame of
every molecule and then the next) and small_born.extxyz (two displaced frames of each, which get Born charges).

    python experiments/response/structures.py dimers dimers.extxyz

writes dimers_120.extxyz: water dimers, 80 train, 10 validation, 30 test.
"""

import argparse
from pathlib import Path

import ase
import numpy as np
from ase.io import read, write
from scipy.spatial.transform import Rotation

FRAMES = 10
"""Frames of each small molecule."""

PARTS = ("train", "validation", "test")

DIMERS = 120

WATER = 0.947 * np.array([[0.0, 0.0, 0.0], [0.7960, 0.0, 0.6053], [-0.7960, 0.0, 0.6053]])
"""The minimum of HF/6-31G(d), Angstrom: O H H, bonds of 0.947, an angle of 105.5 degrees."""


def part(place: int, count: int) -> str:
    """Part of the structure at a place in a random order: 8 of 12 train, 1 is for validation, 3 are the test."""
    return PARTS[0 if 12 * place < 8 * count else 1 if 12 * place < 9 * count else 2]


def frames_of_one(source: Path) -> None:
    """Writes both files of one molecule beside the source."""
    frames = read(source, ":")
    assert isinstance(frames, list)
    order = np.random.default_rng(0).permutation(len(frames))
    chosen = [frames[k] for k in order]
    for place, frame in enumerate(chosen):
        frame.info["split"] = part(place, len(chosen))
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


def dimers(target: Path) -> None:
    """Writes the file of water dimers beside the target, O H H O H H in each.

    Two of three dimers are near a hydrogen bond. The first molecule points one of its bonds along x at the oxygen of
    the second, whose hydrogens point away, 55 degrees between its bisector and x. Both are turned at random about x,
    then by three normal angles of 20 degrees. The distance of the oxygens is uniform from 2.6 to 3.6 Angstrom. In the
    other dimers both orientations are random, and the distance is uniform from 2.6 to 4 Angstrom. Every coordinate of
    every atom is displaced by a normal 0.03 Angstrom. Dimers with a distance below 1.5 (O-H) or 1.6 Angstrom (H-H)
    between the molecules are drawn again.
    """
    rng = np.random.default_rng(0)
    along_bond, away = (Rotation.from_euler("y", angle, degrees=True) for angle in (37.25, 35.0))
    chosen: list[ase.Atoms] = []
    while len(chosen) < DIMERS:
        if len(chosen) % 3 < 2:
            turns = [Rotation.from_euler("x", rng.uniform(0.0, 360.0), degrees=True) * to for to in (along_bond, away)]
            turns = [Rotation.from_rotvec(rng.normal(0.0, 20.0, 3), degrees=True) * turn for turn in turns]
            distance = rng.uniform(2.6, 3.6)
        else:
            turns = [Rotation.random(rng=rng) for _ in range(2)]
            distance = rng.uniform(2.6, 4.0)
        first, second = (turn.apply(WATER) + rng.normal(0.0, 0.03, (3, 3)) for turn in turns)
        second += [distance, 0.0, 0.0]
        between = np.linalg.norm(first[:, None] - second, axis=-1)
        if between[1:, 1:].min() < 1.6 or min(between[0, 1:].min(), between[1:, 0].min()) < 1.5:
            continue
        info = {"smiles": "O.O", "frame": len(chosen)}
        chosen.append(ase.Atoms("OH2OH2", np.concatenate([first, second]), info=info))
    for place, k in enumerate(rng.permutation(DIMERS)):
        chosen[k].info["split"] = part(place, len(chosen))
    write(target.with_name(f"{target.stem}_{len(chosen)}.extxyz"), chosen)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("frames", "small", "dimers"))
    parser.add_argument("source", type=Path, help="what is read; of dimers, what is written")
    parser.add_argument("target", type=Path, nargs="?", default=Path("small.extxyz"))
    known = parser.parse_args()
    if known.what == "frames":
        frames_of_one(known.source)
    elif known.what == "dimers":
        dimers(known.source)
    else:
        small(known.source, known.target)


if __name__ == "__main__":
    main()
