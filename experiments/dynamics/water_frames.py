"""Liquid water: what the networks of `water.yaml` learn from, and 64 molecules of it for dynamics.

    python experiments/dynamics/water_frames.py contacts liquid_water_dplr_30.npz contacts.extxyz
    python experiments/dynamics/water_frames.py contacts liquid_water_dplr_30.npz contacts_3.extxyz --molecules 3
    npol label contacts.extxyz -o contacts.h5 --level PBE0/def2-SVP --accuracy fast --quantities forces  # both files
    npol pack contacts.h5 -o contacts.npz
    python experiments/dynamics/water_frames.py training liquid_water_dplr_30.npz water.extxyz \
        --contacts contacts.npz contacts_3.npz
    python experiments/dynamics/water_frames.py start liquid_water_wannier_160.npz waters.extxyz

The liquid is 30 periodic frames of 128 molecules with energies and forces (the data of DPLR, L. Zhang et al., J. Chem.
Phys. 156, 124107 (2022)). The contacts are two or three neighbours out of them, pushed together: nearer than molecules
come in the liquid, which a model of it has to know all the same, or its molecules fall into each other. Of them only
the forces are learned. The start is a frame of 64 molecules out of a dynamics of the liquid near room temperature,
which comes with the examples of the same method.
"""

import argparse
import json
from pathlib import Path

import ase
import ase.io
import numpy as np
from scipy.spatial.transform import Rotation

from neural_polarization import open_dataset

TRAIN, VALIDATION = 23, 2
"""Frames of the liquid, the first ones; the other five are for the test."""

CONTACTS, TOGETHER = {2: 400, 3: 300}, 384
"""Clusters with so many molecules, and about how many atoms of them are put into one structure."""

LARGEST = 25.0
"""Largest force on an atom of a cluster that is learned, eV/Angstrom."""

NEAREST = np.array([2.4, 1.4, 1.6])
"""Nearest contacts between molecules of the liquid, Angstrom: of two oxygens, of oxygen and hydrogen, two hydrogens."""


def liquid(source: Path) -> list[ase.Atoms]:
    """The frames of the file with their labels."""
    arrays = np.load(source)
    found: list[ase.Atoms] = []
    labels = zip(arrays["positions"], arrays["cell"], arrays["energies"], arrays["forces"], strict=True)
    for positions, cell, energy, forces in labels:
        frame = ase.Atoms(arrays["atomic_numbers"], positions.astype(np.float64), cell=cell, pbc=True)
        frame.info["energy"] = float(energy)
        frame.arrays["forces"] = forces.astype(np.float64)
        found.append(frame)
    return found


def write_training(options: argparse.Namespace) -> None:
    """The liquid and the contacts, and beside them the split into parts."""
    frames = liquid(options.source)
    parts = {
        "train": list(range(TRAIN)),
        "validation": list(range(TRAIN, TRAIN + VALIDATION)),
        "test": list(range(TRAIN + VALIDATION, len(frames))),
    }
    for contacts in options.contacts:
        clusters = _labelled(contacts)
        number = -(-len(clusters) * len(clusters[0]) // TOGETHER)
        together = [_apart(clusters[k::number]) for k in range(number)]
        parts["train"] += list(range(len(frames), len(frames) + len(together)))
        frames += together
    ase.io.write(options.output, frames)
    options.output.with_suffix(".json").write_text(json.dumps({"by": "structure"} | parts))


def _labelled(contacts: Path) -> list[ase.Atoms]:
    """Clusters with their forces, without those whose forces are far above what a liquid has."""
    dataset = open_dataset(contacts)
    clusters: list[ase.Atoms] = []
    for row in range(len(dataset)):
        cluster = dataset.structure(row)
        cluster.arrays["forces"] = dataset.labels_of(np.array([row]))["forces"].numpy()
        if np.linalg.norm(cluster.arrays["forces"], axis=1).max() < LARGEST:
            clusters.append(cluster)
    return clusters


def _apart(clusters: list[ase.Atoms]) -> ase.Atoms:
    """Clusters that do not see each other as one structure, so that all structures have about as many atoms."""
    whole = ase.Atoms()
    for number, cluster in enumerate(clusters):
        cluster.translate(20.0 * np.array(np.unravel_index(number, (4, 4, 4))))
        whole += cluster
    return whole


def write_start(options: argparse.Namespace) -> None:
    """The first frame of the validation part, whose O-H bonds are 0.92 to 1.04 Angstrom long."""
    arrays = np.load(options.source)
    positions, cell = arrays["validation_positions"][0], arrays["validation_cell"][0]
    ase.io.write(options.output, ase.Atoms(arrays["atomic_numbers"], positions.astype(np.float64), cell=cell, pbc=True))


def write_contacts(options: argparse.Namespace) -> None:
    """Clusters of molecules at contacts that are nearer than any in the liquid, each without a cell."""
    random = np.random.default_rng(options.molecules - 2)
    frames = liquid(options.source)
    drawn = random.integers(TRAIN, size=CONTACTS[options.molecules]).tolist()
    ase.io.write(options.output, [_pushed(frames[k], options.molecules, random) for k in drawn])


def _molecules(frame: ase.Atoms) -> np.ndarray:
    """Oxygen and hydrogens of each molecule (molecules, 3)."""
    oxygens, hydrogens = (np.flatnonzero(frame.numbers == number) for number in (8, 1))
    rows = [[o, *hydrogens[np.argsort(frame.get_distances(o, hydrogens, mic=True))[:2]]] for o in oxygens]
    return np.array(rows)


def _pushed(frame: ase.Atoms, size: int, random: np.random.Generator) -> ase.Atoms:
    """A molecule and some of its four nearest ones, which come as near as a drawn share of `NEAREST` allows.

    Every second one of the others is turned, and comes from a direction that is drawn.
    """
    molecules = _molecules(frame)
    first = random.integers(len(molecules))
    oxygens = frame.get_distances(molecules[first, 0], molecules[:, 0], mic=True)
    others = random.choice(np.argsort(oxygens)[1:5], size - 1, replace=False)
    atoms = molecules[[first, *others]].ravel()
    cluster = ase.Atoms(frame.numbers[atoms], frame.get_distances(atoms[0], atoms, mic=True, vector=True))
    for begin in range(3, 3 * size, 3):
        moved = slice(begin, begin + 3)
        if random.uniform() < 0.5:
            turn = Rotation.random(rng=random).as_matrix()
            start = cluster.positions[moved]
            cluster.positions[moved] = (start - start[0]) @ turn + 3.5 * turn[0]
        between = cluster.positions[moved] - cluster.positions[:begin, None]
        hydrogens = (cluster.numbers[:begin, None] == 1).astype(int) + (cluster.numbers[moved] == 1)
        towards = -between[:3].mean((0, 1)) / np.linalg.norm(between[:3].mean((0, 1)))
        steps = np.arange(-4.0, 3.0, 0.01)
        distances = np.linalg.norm(between + steps[:, None, None, None] * towards, axis=-1)
        too_near = (distances < NEAREST[hydrogens] * random.uniform(0.6, 1.0)).any((1, 2))
        cluster.positions[moved] += steps[max(np.argmax(too_near) - 1, 0)] * towards
    cluster.rattle(random.uniform(0.02, 0.14), rng=random)
    return cluster


def main() -> None:
    """Writes one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = {"training": write_training, "start": write_start, "contacts": write_contacts}
    parser.add_argument("kind", choices=list(kinds))
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--molecules", type=int, choices=list(CONTACTS), default=2, help="of a contact")
    parser.add_argument("--contacts", type=Path, nargs="+", default=[], help="packed labels of contacts, for training")
    options = parser.parse_args()
    kinds[options.kind](options)


if __name__ == "__main__":
    main()
