"""A look at liquid water: the polarization and the polarizability of a periodic cell from heads that add up.

    python experiments/response/liquid_water.py dipole liquid_water_wannier_160.npz --kind dipole_flow
    python experiments/response/liquid_water.py polarizability liquid_water_polar_120.npz

64 molecules in a cell. The first file has four times the mean displacement of the Wannier centres of every oxygen
(Angstrom), so that a molecule has the dipole sum_H (r_H - r_O) - 2 of that (e*Angstrom), and the cell the sum of them:
one branch of its polarization, smooth in the positions, as that of the head is. The second file has a polarizability
of each molecule (Angstrom^3). Only sums over the cell are learned. PaiNN riding, 16 channels, two layers, one cell a
step. Beside the network: the same dipole along the bisector of every molecule, with one fitted length, and the mean
polarizability.
"""

import argparse
import time
from pathlib import Path

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_polarization.architectures import BackboneConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

CUTOFF = 4.0

Array = NDArray[np.float64]


def bisectors(positions: Array, cell: Array) -> Array:
    """Sum of both O-H vectors of every molecule, Angstrom; atoms stand as O, H, H."""
    arms = positions.reshape(-1, 3, 3)[:, 1:] - positions.reshape(-1, 3, 3)[:, :1]
    arms -= np.round(arms @ np.linalg.inv(cell)) @ cell
    assert np.linalg.norm(arms, axis=-1).max() < 1.5, "the hydrogens of an oxygen are not the two after it"
    return arms.sum(1)


def read(path: Path, part: str, name: str) -> tuple[list[Molecules], Tensor, Tensor]:
    """Cells, the property of each, and what stands beside the network, before it is fitted."""
    arrays = np.load(path)
    cells, found, simple = list[Molecules](), list[Array](), list[Array]()
    labels = arrays[f"{part}_atomic_{name}"].astype(np.float64)
    for positions, cell, label in zip(arrays[f"{part}_positions"], arrays[f"{part}_cell"], labels, strict=True):
        water = ase.Atoms(arrays["atomic_numbers"], positions.astype(np.float64), cell=cell, pbc=True)
        cells.append(Molecules.from_ase(water, CUTOFF, torch.float32))
        if name == "dipole":
            along = bisectors(water.positions, water.cell.array).sum(0)
            found.append(along - 2.0 * label.sum(0))
            simple.append(along)
        else:
            found.append(0.5 * (label + label.transpose(0, 2, 1)).sum(0))
            simple.append(np.eye(3))
    return cells, torch.tensor(np.array(found)), torch.tensor(np.array(simple))


def main() -> None:
    """Trains one head and prints errors of the cells that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("dipole", "polarizability"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--kind", default=None, help="of the head; default dipole_flow or polarizability_bonds")
    parser.add_argument("--steps", type=int, default=240)
    known = parser.parse_args()
    kind = known.kind or {"dipole": "dipole_flow", "polarizability": "polarizability_bonds"}[known.name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.process_time()
    cells, labels, simple = read(known.source, "training", known.name)
    backbone = BackboneConfig("painn", 16, 2, CUTOFF, 12)
    polarization = PolarizationConfig(Messages.RIDING)
    model = Model(ModelConfig(("H", "O"), {known.name: HeadConfig(kind)}, backbone, polarization))
    composition = torch.tensor([[128.0, 64.0]]).repeat(len(cells), 1)
    model.fit_scales({known.name: labels}, composition)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, known.steps)
    generator = torch.Generator().manual_seed(0)
    scale = labels.std()
    for _ in range(known.steps):
        k = int(torch.randint(len(cells), (), generator=generator))
        error = (model.train()(cells[k], properties=[known.name])[known.name][0] - labels[k]) / scale
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
        schedule.step()
    factor = (simple * labels).sum() / simple.square().sum()
    cells, labels, simple = read(known.source, "validation", known.name)
    with torch.no_grad():
        found = torch.stack([model.eval()(one, properties=[known.name])[known.name][0] for one in cells])
    for title, values in (("nothing", 0.0 * labels), ("simple", factor * simple), (kind, found)):
        print(f"{title}: {float((values - labels).square().mean().sqrt()):.4g} of each component of the cell")
    print(f"factor of the simple one {float(factor):.4g}; {time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
