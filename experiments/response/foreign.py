"""A trained model of another package learns its response to fields, from dipoles in fields.

    pip install neural-polarization[schnetpack]          (or [torchmd])
    python experiments/response/foreign.py schnetpack data/formaldehyde_fields.npz

The package's own model is trained on energies and forces without fields. Then it is polarized (`response: push_dual`),
its weights are held, and only what is new learns, from dipoles of the same geometries without a field and in one. The
numbers are of the test part: polarizability and Born charges had no label.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.utils.data.dataloader as loader
from torch import Tensor, nn

from neural_polarization.data.batching import Batch, PreparedDataset
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.packed import read_packed
from neural_polarization.field_derivatives import born_charges
from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.predictor import Predictor
from neural_polarization.response import Response
from neural_polarization.units import factor

ELEMENTS = ("H", "C", "O")
CUTOFF, CHANNELS = 5.0, 32
BATCH = 10


def schnetpack() -> nn.Module:
    """A PaiNN potential as SchNetPack's users make it."""
    if "T_co" not in vars(loader):
        loader.T_co = vars(loader)["_T_co"]  # SchNetPack 2.0 imports a name that torch has made private since
    import schnetpack.nn as snn
    from schnetpack.atomistic import Atomwise, PairwiseDistances
    from schnetpack.model import NeuralNetworkPotential
    from schnetpack.representation import PaiNN

    layers = PaiNN(CHANNELS, 2, snn.BesselRBF(20, CUTOFF), snn.CosineCutoff(CUTOFF))
    return NeuralNetworkPotential(layers, [PairwiseDistances()], [Atomwise(CHANNELS, output_key="energy")])


def torchmd() -> nn.Module:
    """An equivariant transformer as `torchmd-train` makes it."""
    from torchmdnet.models.model import create_model

    settings = {
        "model": "equivariant-transformer",
        "embedding_dimension": CHANNELS,
        "num_layers": 2,
        "num_rbf": 20,
        "rbf_type": "expnorm",
        "trainable_rbf": False,
        "activation": "silu",
        "attn_activation": "silu",
        "neighbor_embedding": True,
        "num_heads": 4,
        "distance_influence": "both",
        "cutoff_lower": 0.0,
        "cutoff_upper": CUTOFF,
        "vector_cutoff": True,
        "max_z": 20,
        "max_num_neighbors": 32,
        "reduce_op": "sum",
        "output_model": "Scalar",
        "derivative": True,
        "atom_filter": -1,
        "prior_model": None,
        "precision": 32,
    }
    return create_model(settings)


PACKAGES = {"schnetpack": schnetpack, "torchmd": torchmd}


Loss: TypeAlias = Callable[[nn.Module, Batch], Tensor]


def learn(module: nn.Module, weights: list[nn.Parameter], data: PreparedDataset, loss: Loss, steps: int) -> None:
    """Adam, with a rate that falls to zero."""
    optimizer = torch.optim.Adam(weights, 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = data.batch(torch.randint(len(data), (BATCH,), generator=generator), torch.float32)
        optimizer.zero_grad()
        loss(module, batch).backward()
        nn.utils.clip_grad_norm_(weights, 10.0)
        optimizer.step()
        schedule.step()


def of_forces(module: nn.Module, batch: Batch) -> Tensor:
    """Squared errors of energies and forces."""
    out = module(replace(batch.molecules, external_field=None))
    errors = out["energy"] - batch.labels["energy"], out["forces"] - batch.labels["forces"]
    return 0.05 * errors[0].square().mean() + errors[1].square().mean()


def of_dipoles(module: nn.Module, batch: Batch) -> Tensor:
    """Squared errors of dipoles."""
    out = module(batch.molecules, forces=False, properties=["dipole"])
    return 100.0 * (out["dipole"] - batch.labels["dipole"]).square().mean()


def errors(module: Predictor, free: Batch, inside: Batch) -> dict[str, float]:
    """Errors of the test part; dipoles in mD, the rest in percent of the root mean square."""
    found: dict[str, float] = {}
    for name, batch in (("dipole", free), ("dipole in a field", inside)):
        dipole = module(batch.molecules, forces=False, properties=["dipole"])["dipole"].detach()
        found[name] = float((dipole - batch.labels["dipole"]).abs().mean()) / factor("mD")
    tensors = module(free.molecules, forces=False, properties=["polarizability"])["polarizability"].detach()
    charges = born_charges(module, free.molecules)  # pyright: ignore[reportArgumentType]
    for name, values in (("polarizability", tensors), ("born_charges", charges)):
        label = free.labels[name]
        known = ~label.isnan()
        miss = (values - label)[known].square().mean() / label[known].square().mean()
        found[f"{name}, %"] = 100.0 * float(miss.sqrt())
    return found


def parts(source: Path) -> dict[str, PreparedDataset]:
    """Training and test geometries, without fields and in them; energies less their mean."""
    everything = read_packed(source)
    inside = np.nan_to_num(everything.labels["external_field"]).any(-1)
    split = everything.splits["stored"]
    mean = float(everything.labels["energy"][split.train].mean())
    labels = {**everything.labels, "energy": everything.labels["energy"] - mean}
    dataset = Dataset(everything.name, everything.molecules, everything.properties, labels, groups=everything.groups)
    chosen = {
        "train": split.train[~inside[split.train]],
        "train in fields": split.train,
        "test": split.test[~inside[split.test]],
        "test in fields": split.test[inside[split.test]],
    }
    return {name: dataset.subset(rows).prepare(CUTOFF) for name, rows in chosen.items()}


def main() -> None:
    """Trains, polarizes, trains the response, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=sorted(PACKAGES))
    parser.add_argument("labels", type=Path)
    parser.add_argument("--steps", type=int, default=200, help="of either training; default 200")
    known = parser.parse_args()
    warnings.simplefilter("ignore")  # of the packages
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.process_time()
    data = parts(known.labels)
    original = PACKAGES[known.package]()
    plain: FineTuned = polarize(original, ELEMENTS, "plain")  # the package's own network, weights and all
    learn(plain.train(), list(original.parameters()), data["train"], of_forces, known.steps)
    free = data["test"].batch(range(len(data["test"])), torch.float32)
    inside = data["test in fields"].batch(range(len(data["test in fields"])), torch.float32)
    before = plain.eval()(replace(free.molecules, external_field=None))
    module = polarize(original, ELEMENTS, response=Response.PUSH_DUAL)
    assert module.response is not None
    new = [*module.heads.parameters(), *module.response.parameters()]
    start_errors = errors(module.eval(), free, inside)
    learn(module.train(), new, data["train in fields"], of_dipoles, known.steps)
    after = module.eval()(free.molecules, properties=["energy"])
    changes = {name: float((after[name] - before[name]).abs().max()) for name in ("energy", "forces")}
    assert changes["energy"] == 0.0
    print(
        f"{known.package}: without a field, energies of {len(free.indices)} structures are unchanged bit for bit, "
        f"forces within {changes['forces']:.0e} eV/A"
    )
    for title, found in (("before", start_errors), ("learned", errors(module, free, inside))):
        print(f"{title}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    size = free.labels["dipole"].abs().mean() / factor("mD")
    forces = (before["forces"] - free.labels["forces"]).abs().mean() / factor("meV/Angstrom")
    print(f"for comparison: mean component of a dipole {float(size):.0f} mD; error of forces {float(forces):.0f} meV/A")
    count = sum(weight.numel() for weight in new)
    print(f"{count} new weights; {time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
