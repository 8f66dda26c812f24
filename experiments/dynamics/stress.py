"""Stress of every network beside differences of energies of cells that are really strained, neighbours found again.

    python experiments/dynamics/stress.py                       # all networks: a minute of a processor
    python experiments/dynamics/stress.py --backbones painn mace

New weights, double precision. The numbers are the largest difference of a component, relative to the largest component,
of a crystal without symmetry, of a slab and of a wire of it.
"""

import argparse

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_stress

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.model_config import Lengths, Messages, PolarizationConfig
from neural_polarization.models import HeadConfig, Model, ModelConfig

POLARIZATIONS = {
    "plain": PolarizationConfig(Messages.PLAIN),
    "riding": PolarizationConfig(Messages.RIDING),
    "moving view": PolarizationConfig(Messages.MOVING_VIEW),
    "both views": PolarizationConfig(Messages.BOTH_VIEWS),
    "moving view, nuclear": PolarizationConfig(Messages.MOVING_VIEW, lengths=Lengths.NUCLEAR),
}

PERIODIC = {"crystal": (True, True, True), "slab": (True, True, False), "wire": (True, False, False)}


def salt() -> ase.Atoms:
    """Rock salt of C and O, rattled, in a cell that is skewed at random."""
    atoms = bulk("CO", "rocksalt", a=4.5, cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.set_cell(atoms.cell.array + np.random.default_rng(1).normal(0.0, 0.1, (3, 3)), scale_atoms=True)
    return atoms


def error(backbone: str, polarization: PolarizationConfig) -> float:
    """The largest relative error of the three systems."""
    torch.manual_seed(0)
    architecture = BackboneConfig(backbone, channels=8, num_layers=2, cutoff=4.0)
    model = Model(ModelConfig(("C", "O"), {"energy": HeadConfig("extensive", forces=True)}, architecture, polarization))
    errors: list[float] = []
    for periodic in PERIODIC.values():
        atoms = salt()
        atoms.pbc = periodic
        atoms.calc = NeuralPolarizationCalculator(model.eval(), double=True)
        stress = atoms.get_stress()
        errors.append(np.abs(stress - calculate_numerical_stress(atoms, eps=1e-5)).max() / np.abs(stress).max())
    return max(errors)


def main() -> None:
    """Prints one row a network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbones", nargs="+", default=list(ARCHITECTURES))
    options = parser.parse_args()
    print("| network | " + " | ".join(POLARIZATIONS) + " |\n" + "|---" * (len(POLARIZATIONS) + 1) + "|")
    for backbone in options.backbones:
        cells = [f"{error(backbone, polarization):.0e}" for polarization in POLARIZATIONS.values()]
        print(f"| {backbone} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
