"""Expansions that the library does not have, trained beside those of `compare.py`.

    python experiments/density/variants.py FOLDER --variants squares pairs --sizes spd full --seeds 0 1 2

`squares` is a density that is nowhere negative (`squares.py`; 128 functions of l up to 2 on each atom, whatever the
size), `pairs` has its functions on two points of every atom along an axis without a sign (`pairs.py`). Files and errors
are as those of `compare.py`, whose table shows them beside what is in the same folder.
"""

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import cast

import torch
from compare import DATA, table
from pairs import PairsHead
from sources import read
from squares import SquaresHead
from torch import nn
from train import build, measure, parser, train

from neural_polarization.heads.density import SIZES, DensityHead
from neural_polarization.models import ModelConfig


def head(variant: str, size: str, scalars: int, model: ModelConfig) -> nn.Module:
    """The head of a variant, in place of a `DensityHead`."""
    elements, channels, cutoff = model.elements, model.backbone.channels, model.backbone.cutoff
    if variant == "squares":
        return SquaresHead(elements, scalars, channels, cutoff)
    return PairsHead(elements, scalars, channels, cutoff, SIZES[size])


def main() -> None:
    """Trains what is missing, and prints the table."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("folder", type=Path)
    own.add_argument("--variants", nargs="*", default=["squares", "pairs"], choices=["squares", "pairs"])
    own.add_argument("--sizes", nargs="*", default=["spd", "full"])
    own.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    arguments, rest = own.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data = None
    choices = [(v, s) for v, s in product(arguments.variants, arguments.sizes) if v != "squares"]
    choices += [("squares", "products")] * ("squares" in arguments.variants)
    for seed, (variant, size) in product(arguments.seeds, choices):
        path = arguments.folder / f"painn-riding-{size}-{variant}-{seed}.json"
        if path.exists():
            continue
        settings = parser().parse_args(["--seed", str(seed), "-o", "", "--steps", "800", "--points", "250", *rest])
        data = data or read(DATA, [file.replace(".npz", "_densities.npz") for file in DATA], settings.cutoff)
        started = time.process_time()
        model = build(settings, data)
        assert model.density_head is not None
        scalars = model.density_head.on_atoms.of_receiver.in_features
        # Either has what training and measuring need of a `DensityHead`.
        model.density_head = cast(DensityHead, head(variant, size, scalars, model.config))
        result = measure(train(model, data, settings), data)
        result |= {"processor_seconds": time.process_time() - started, "settings": vars(settings)}
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
        print(path.stem, file=sys.stderr, flush=True)
    print("\n".join(table(arguments.folder)))


if __name__ == "__main__":
    main()
