"""Fine-tune a trained SchNetPack PaiNN, polarized and as it is, for equally long.

pip install neural-polarization[schnetpack]
python examples/finetune_polarized.py ethanol.extxyz --train 500 --validation 500

Frames of one molecule or of several, with energies (eV) and forces (eV/Angstrom), in a file that ASE reads. The plain
network is trained first; all fine-tunings start from its weights, with the same optimizer and batches: plain and riding
for as many epochs, and plain for a quarter more, because a step of riding takes about that much longer. Each is
measured after its learning rate has fallen to zero.
"""

import argparse
import time
from copy import deepcopy
from dataclasses import dataclass

import ase.io
import numpy as np
import torch
import torch.utils.data.dataloader as loader
from torch import Tensor, nn

from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.molecules import Molecules

if "T_co" not in vars(loader):
    loader.T_co = vars(loader)["_T_co"]  # SchNetPack 2.0 imports a name that torch has made private since

import schnetpack.nn as snn
from schnetpack.atomistic import Atomwise, PairwiseDistances
from schnetpack.model import NeuralNetworkPotential
from schnetpack.representation import PaiNN

CUTOFF, CHANNELS, LAYERS = 5.0, 64, 3


@dataclass(frozen=True)
class Frames:
    """Structures with labels; energies without the mean of the training set."""

    atoms: list[ase.Atoms]
    energy: Tensor
    forces: list[Tensor]

    def batch(self, which: Tensor) -> tuple[Molecules, Tensor, Tensor]:
        """Molecules, energies and forces."""
        indices = which.tolist()
        molecules = Molecules.from_ase([self.atoms[k] for k in indices], CUTOFF, torch.float32)
        return molecules, self.energy[which], torch.cat([self.forces[k] for k in indices])


def labelled(atoms: list[ase.Atoms], mean: float) -> Frames:
    """Frames with their labels; `mean` is the energy per atom that is left out."""
    energy = torch.tensor([frame.get_potential_energy() - mean * len(frame) for frame in atoms])
    return Frames(atoms, energy.float(), [torch.tensor(frame.get_forces()).float() for frame in atoms])


def original(num_interactions: int = LAYERS) -> NeuralNetworkPotential:
    """A potential as SchNetPack's users make it."""
    representation = PaiNN(CHANNELS, num_interactions, snn.BesselRBF(20, CUTOFF), snn.CosineCutoff(CUTOFF))
    return NeuralNetworkPotential(representation, [PairwiseDistances()], [Atomwise(CHANNELS, output_key="energy")])


def train(module: nn.Module, frames: Frames, epochs: int, rate: float, batch_size: int, seed: int) -> None:
    """Energies and forces, Adam, a rate that falls to zero along a cosine."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), rate)
    steps = epochs * -(-len(frames.atoms) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for which in torch.randperm(len(frames.atoms), generator=generator).split(batch_size):
            molecules, energy, forces = frames.batch(which)
            out = module(molecules)
            loss = 0.05 * (out["energy"] - energy).square().mean() + 0.95 * (out["forces"] - forces).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 10.0)
            optimizer.step()
            schedule.step()


def errors(module: nn.Module, frames: Frames) -> tuple[float, float]:
    """Mean absolute errors: energy (meV), forces (meV/Angstrom)."""
    module.eval()
    of_energy, of_forces = [], []
    for which in torch.arange(len(frames.atoms)).split(100):
        molecules, energy, forces = frames.batch(which)
        out = module(molecules)
        of_energy.append((out["energy"] - energy).abs())
        of_forces.append((out["forces"] - forces).abs().flatten())
    return 1e3 * float(torch.cat(of_energy).mean()), 1e3 * float(torch.cat(of_forces).mean())


def main() -> None:
    """Trains, fine-tunes, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path")
    parser.add_argument("--train", type=int, default=500, help="frames for training")
    parser.add_argument("--validation", type=int, default=500, help="frames that errors are measured on")
    parser.add_argument("--epochs", type=int, default=60, help="of the plain network")
    parser.add_argument("--further-epochs", type=int, default=30, help="of each fine-tuning")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    frames = ase.io.read(arguments.path, ":")
    order = np.random.default_rng(arguments.seed).permutation(len(frames))
    train_frames = [frames[k] for k in order[: arguments.train]]
    validation_frames = [frames[k] for k in order[arguments.train :][: arguments.validation]]
    mean = float(np.mean([frame.get_potential_energy() / len(frame) for frame in train_frames]))
    training, validation = labelled(train_frames, mean), labelled(validation_frames, mean)
    elements = sorted({symbol for frame in training.atoms for symbol in frame.get_chemical_symbols()})

    def report(name: str, module: FineTuned) -> None:
        energy, forces = errors(module, validation)
        print(f"{name:36s} energy {energy:7.2f} meV   forces {forces:7.2f} meV/Angstrom", flush=True)

    trained = original()
    plain = polarize(trained, elements, "plain")  # SchNetPack's own layers and readout, on this library's batches
    train(plain, training, arguments.epochs, 1e-3, arguments.batch_size, arguments.seed)
    report(f"trained for {arguments.epochs} epochs", plain)
    further = arguments.further_epochs
    for messages, epochs in (("plain", further), ("plain", round(1.25 * further)), ("riding", further)):
        module = polarize(deepcopy(trained), elements, messages)
        report(f"{messages}, before fine-tuning", module)
        start = time.process_time()
        train(module, training, epochs, 5e-4, arguments.batch_size, arguments.seed + 1)
        report(f"{messages}, {epochs} epochs further ({time.process_time() - start:.0f} s)", module)


if __name__ == "__main__":
    main()
