"""Processor time of a training step of each kind of response, with and without labels of the polarizability.

    python experiments/response/steps.py data/formaldehyde_fields.npz

Batches of ten geometries of formaldehyde in fields, PaiNN riding with 32 channels and two layers, one thread. The
median of the steps after the first few; kinds take turns, so that other work on the machine disturbs all alike.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.batching import Batch
from neural_polarization.data.packed import read_packed
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.response import Response
from neural_polarization.text import markdown_table
from neural_polarization.training.config import LossConfig, TrainingConfig
from neural_polarization.training.module import Learner

HEADS = {
    "energy": HeadConfig("extensive", forces=True),
    "dipole": HeadConfig("dipole_flow"),
    "polarizability": HeadConfig("polarizability_bonds"),
}
LABELS = {
    "energy, forces": ("energy", "forces"),
    "and dipoles": ("energy", "forces", "dipole"),
    "and polarizabilities, one direction": ("energy", "forces", "dipole", "polarizability"),
    "and polarizabilities": ("energy", "forces", "dipole", "polarizability"),
}
"""What has labels, for each column of the table."""


class Step:
    """A training step of one kind."""

    def __init__(self, response: Response, column: str, batch: Batch) -> None:
        torch.manual_seed(0)
        backbone = BackboneConfig("painn", 32, 2, 5.0, 20)
        config = ModelConfig(("H", "C", "O"), HEADS, backbone, PolarizationConfig(Messages.RIDING), response)
        model = Model(config).train()
        losses = {name: LossConfig() for name in (*LABELS[column], "polarizability")}
        losses["polarizability"] = LossConfig(directions="one" if column.endswith("direction") else "all")
        self.learner = Learner(model, TrainingConfig(losses=losses), 100)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        self.batch = replace(batch, labels={name: batch.labels[name] for name in LABELS[column]})
        self.seconds: list[float] = []

    def __call__(self) -> None:
        """One step, timed."""
        start = time.process_time()
        self.optimizer.zero_grad()
        self.learner.training_step(self.batch, 0).backward()
        self.optimizer.step()
        self.seconds.append(time.process_time() - start)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    known = parser.parse_args()
    torch.set_num_threads(1)
    dataset = read_packed(known.labels)
    inside = np.flatnonzero(np.nan_to_num(dataset.labels["external_field"]).any(-1))[:10]
    batch = dataset.subset(inside).prepare(5.0).batch(np.arange(10))
    alpha = torch.ones(10, 3, 3)  # its value does not matter, and no structure in a field has a label
    batch = replace(batch, labels={**batch.labels, "polarizability": alpha})
    kinds = [response for response in Response if response is not Response.NONE]
    steps = {(kind, column): Step(kind, column, batch) for kind in kinds for column in LABELS}
    for _ in range(known.rounds):
        for step in steps.values():
            step()
    rows = [["response", *LABELS]]
    for kind in kinds:
        times = [1e3 * float(np.median(steps[kind, column].seconds[3:])) for column in LABELS]
        cells = [f"{value:.0f} ms ({value / times[0]:.2f})" for value in times]
        rows.append([f"`{kind.value}`", *cells])
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
