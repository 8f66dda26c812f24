"""Trains a network on electron densities, alone or with other properties, and measures it on unseen molecules.

    python experiments/density/train.py --centres moving --size small --seed 0 -o runs/density/moving_small_0
    python experiments/density/train.py --heads energy dipole polarizability hirshfeld_charges --channels 48 \\
        --steps 2200 --card -o runs/density/of_everything

The cards of the package's models (src/neural_polarization/pretrained) say how those were made.

It writes OUTPUT.safetensors and OUTPUT.json with the errors, or with --card OUTPUT.md. Weights are the averaged ones of
the last step: neither the validation nor the test molecules choose anything, and both count as unseen.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from card import write_card
from sources import Data, read
from torch.optim.swa_utils import get_ema_multi_avg_fn

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.density.expansion import Gaussians
from neural_polarization.files import write_json
from neural_polarization.heads.density import DensityConfig
from neural_polarization.messages import Messages
from neural_polarization.metrics import in_units
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import predicted_names
from neural_polarization.settings import plain
from neural_polarization.training.config import LossConfig
from neural_polarization.training.densities import DensityBatch, by_molecule, density_errors, dipole_differences
from neural_polarization.training.experiment import errors_of
from neural_polarization.training.learned import completed
from neural_polarization.training.losses import Losses

HEADS = {
    "energy": HeadConfig("extensive", forces=True),
    "dipole": HeadConfig("dipole_flow"),
    "polarizability": HeadConfig("polarizability"),
    "hirshfeld_charges": HeadConfig("atomic_charges"),
}
LOSSES = {
    "energy": LossConfig(weight=0.05),
    "forces": LossConfig(weight=1.0),
    "dipole": LossConfig(weight=0.3),
    "polarizability": LossConfig(weight=0.3),
    "hirshfeld_charges": LossConfig(weight=0.3),
}
UNSAID = ("output", "report", "card")

ExtraLoss = Callable[[tuple[Gaussians, ...], Molecules, np.ndarray[Any, Any]], torch.Tensor]
"""Of the learned functions of a batch, its molecules, and the rows of these in the data."""

DENSITY_WEIGHT = 50.0
"""Default weight of the normalized error, 0.02 of which is what the other terms are at the end of a training."""


def elements_of(data: Data) -> tuple[str, ...]:
    """Chemical symbols of the structures that train, in the order of the periodic table."""
    numbers = data.dataset.subset(data.parts["train"]).molecules.atomic_numbers
    return tuple(chemical_symbols[number] for number in np.unique(numbers))


def build(arguments: argparse.Namespace, data: Data) -> Model:
    """The untrained model, with references and scales of the training molecules."""
    torch.manual_seed(arguments.seed)
    elements = elements_of(data)
    config = ModelConfig(
        elements,
        {name: HEADS[name] for name in arguments.heads},
        BackboneConfig(arguments.backbone, arguments.channels, 3, arguments.cutoff, 20),
        PolarizationConfig(Messages(arguments.messages)),
        density=DensityConfig(arguments.centres, arguments.size),
    )
    model = Model(config)
    train = data.parts["train"]
    model.fit_scales(data.dataset.labels_of(train), torch.from_numpy(data.dataset.composition(elements, train)))
    assert model.knowledge is not None
    of_training = data.dataset.subset(train).prepare(model.cutoff)
    model.knowledge = completed(model.knowledge, model, data.dataset, of_training)
    return model


def train(model: Model, data: Data, arguments: argparse.Namespace, extra: ExtraLoss | None = None) -> Model:
    """The model with the average of its weights over the last steps.

    Args:
        model: untrained.
        data: that it learns from.
        arguments: of the command.
        extra: one more term of the loss.
    """
    generator = np.random.default_rng(arguments.seed)
    of_training = data.points.of_structures(data.parts["train"])
    losses = Losses({n: LOSSES[n] for n in predicted_names(model) if n in LOSSES}, model) if arguments.heads else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=1e-4, fused=True)
    averaged = copy.deepcopy(model)
    started, of_epoch = time.perf_counter(), []
    order = np.array([], np.int64)
    for step in range(arguments.steps):
        rate = min(1.0, (step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / arguments.steps)))
        optimizer.param_groups[0]["lr"] = arguments.learning_rate * rate
        if len(order) < arguments.batch_size:
            order = np.concatenate([order, generator.permutation(len(of_training))])
        chosen, order = order[: arguments.batch_size], order[arguments.batch_size :]
        loss = torch.zeros(())
        if arguments.density_weight:
            points = of_training.subset(chosen)
            batch = DensityBatch.of(data.prepared, points.drawn(arguments.points, generator))
            assert model.density_head is not None
            learned = model.density_head.deformation(model.represent(batch.molecules), batch.molecules)
            error = batch.errors(learned).mean()
            loss = arguments.density_weight * error
            if arguments.dipole_weight:
                dipoles = torch.from_numpy(data.dataset.labels["dipole"][points.structures])
                difference = dipole_differences(learned, batch.molecules, dipoles)
                loss = loss + arguments.dipole_weight * difference.abs().mean()
            if extra is not None:
                loss = loss + extra(learned, batch.molecules, points.structures)
            of_epoch.append(float(error.detach()))
        if losses is not None:
            rows = generator.choice(data.parts["train"], arguments.batch_size, replace=False)
            labelled = data.prepared.batch(rows)
            sums = losses.sums(model(labelled.molecules), labelled.labels)
            loss = loss + sum((total / count.clamp(min=1) for total, count in sums.values()), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        if not torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0).isfinite():
            # Features are polynomials of high degree, which a molecule of an unusual kind can drive beyond all bounds.
            print(f"step {step + 1}: the gradient is not finite, left out", flush=True)
            continue
        optimizer.step()
        decay = min(arguments.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(model.parameters()), step)
        if (step + 1) % arguments.report == 0:
            seconds = (time.perf_counter() - started) / (step + 1)
            of_density = f"error of the density {100 * np.mean(of_epoch):.2f} %, " if of_epoch else ""
            print(f"step {step + 1}: {of_density}{seconds:.2f} s a step", flush=True)
            of_epoch.clear()
    return averaged


def measure(model: Model, data: Data) -> dict[str, Any]:
    """Errors on the validation and test molecules, which training has not seen, and on those of the training."""
    result: dict[str, Any] = {"parameters": sum(weight.numel() for weight in model.parameters())}
    model.eval()
    for part, rows in data.parts.items():
        points = data.points.of_structures(rows)
        errors = density_errors(model, data.prepared, points)
        groups = data.dataset.groups[points.structures]
        of_molecules = by_molecule(errors, groups)
        result[part] = {
            "densities": len(points),
            "molecules": len(np.unique(groups)),
            "density_nmae_percent": 100 * float(np.mean(list(of_molecules.values()))),
            "density_nmae_percent_of_structures": 100 * float(errors.mean()),
            "free_atoms_percent": 100 * float(points.free_atoms.mean()),
            "of_molecules_percent": {str(group): 100 * error for group, error in of_molecules.items()},
        }
        if part == "validation":
            result["distance_of_functions"] = distances(model, data, points.structures)
        if model.config.heads:
            of_part = errors_of(model, data.dataset.subset(rows).prepare(model.cutoff))
            result[part] |= in_units(of_part, data.dataset.properties)
    return result


def distances(model: Model, data: Data, rows: np.ndarray[Any, Any]) -> dict[str, float]:
    """Mean distance of an atom's functions from its nucleus by element, Angstrom."""
    assert model.density_head is not None
    centres = model.density_head.centres
    with torch.no_grad():
        molecules = data.prepared.batch(rows).molecules
        places = centres.places(model.represent(molecules).displacement, molecules)
    lengths = (places - molecules.positions).norm(dim=-1)
    numbers = molecules.atomic_numbers
    return {chemical_symbols[z]: float(lengths[numbers == z].mean()) for z in numbers.unique().tolist()}


def finish(model: Model, data: Data, arguments: argparse.Namespace, seconds: float, command: str) -> None:
    """Measures a trained model and writes it, its errors, and its card where that is asked for.

    Args:
        model: as it was trained.
        data: that it was trained on.
        arguments: of the command.
        seconds: that the training took.
        command: that is named on the card.
    """
    settings = {name: value for name, value in vars(arguments).items() if name not in UNSAID}
    result = measure(model, data) | {"seconds": seconds, "settings": settings}
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"name": output.name, "properties": plain(data.dataset.properties), **result}
    save_model(model, output.with_suffix(".safetensors"), metadata)
    if arguments.card:
        write_card(output.with_suffix(".md"), model, data, settings, command)
    else:
        write_json(output.with_suffix(".json"), result)
    print(json.dumps(result, indent=1))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["data/small_molecules.npz"])
    parser.add_argument("--densities", nargs="+", default=["data/small_molecules_densities.npz"], help="one of each")
    parser.add_argument("--centres", default="moving")
    parser.add_argument("--size", default="full")
    parser.add_argument("--backbone", default="painn")
    parser.add_argument("--messages", default="riding")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--heads", nargs="*", default=[], choices=list(HEADS), help="what is learned beside densities")
    parser.add_argument(
        "--density-weight", type=float, default=DENSITY_WEIGHT, help="in the loss; 0 learns the heads alone"
    )
    parser.add_argument(
        "--dipole-weight", type=float, default=0.0, help="in the loss, of the dipole of the density, e*Angstrom"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--points", type=int, default=500, help="of each density in a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.995, help="of the average of the weights")
    parser.add_argument("--report", type=int, default=100, help="steps between two lines")
    parser.add_argument("--card", action="store_true", help="write OUTPUT.md with errors by size and element")
    parser.add_argument("-o", "--output", required=True, help="without an ending")
    return parser


def main() -> None:
    """Reads the arguments, trains, measures and writes."""
    arguments = parser().parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    data = read(arguments.data, arguments.densities, arguments.cutoff)
    model = train(build(arguments, data), data, arguments)
    finish(model, data, arguments, time.perf_counter() - started, " ".join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
