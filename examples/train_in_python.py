"""Train in Python, with a loop and a loss of your own, on the repository's DFT labels of ethanol.

python examples/train_in_python.py --epochs 20
"""

import argparse

# --8<-- [start:imports]
from pathlib import Path

import torch

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.data.sources import make_split, open_dataset
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig

# --8<-- [end:imports]

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--data", default=str(Path(__file__).parent.parent / "data" / "ethanol.npz"), metavar="FILE.npz")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--frames", type=int, default=240, help="number of frames that train")
parser.add_argument("--output", default="ethanol.safetensors", metavar="FILE.safetensors")
arguments = parser.parse_args()
torch.manual_seed(0)

# --8<-- [start:data]
split = SplitConfig(train=arguments.frames, validation=60, test=60)
dataset = open_dataset(DataConfig(format="packed", path=arguments.data, split=split))
parts = make_split(dataset, split)
print(dataset)  # labels are in eV, eV/Angstrom and e*Angstrom
# --8<-- [end:data]

# --8<-- [start:model]
config = ModelConfig(
    elements=dataset.elements,
    heads={"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole_flow")},
    backbone=BackboneConfig("painn", channels=32),
    polarization=PolarizationConfig(Messages.MOVING_VIEW),
)
model = Model(config)
# Reference energies of the elements and scales of the labels, from the frames that train:
composition = torch.from_numpy(dataset.composition(dataset.elements, parts.train))
model.fit_scales(dataset.labels_of(parts.train), composition)
# --8<-- [end:model]

# --8<-- [start:loop]
training = dataset.subset(parts.train).prepare(model.cutoff)  # neighbour lists, computed once
testing = dataset.subset(parts.test).prepare(model.cutoff)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(arguments.epochs):
    for which in torch.randperm(len(training)).split(10):
        batch = training.batch(which.numpy(), torch.float32)
        predictions = model(batch.molecules)  # {"energy": eV, "forces": eV/Angstrom, "dipole": e*Angstrom}
        errors = {name: (predictions[name] - batch.labels[name]).square().mean() for name in predictions}
        loss = 0.05 * errors["energy"] + errors["forces"] + 0.1 * errors["dipole"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.4f}", flush=True)
# --8<-- [end:loop]

# --8<-- [start:test]
model.eval()
batch = testing.batch(range(len(testing)), torch.float32)
with torch.no_grad():
    predictions = model(batch.molecules)
error = (predictions["forces"] - batch.labels["forces"]).abs().mean()
print(f"mean absolute error of the forces on {len(testing)} other frames: {1000 * error:.0f} meV/Angstrom")
save_model(model, arguments.output)
# --8<-- [end:test]
