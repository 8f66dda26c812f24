"""Which model and which structures a command is about: options that commands share."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import ase

from neural_polarization.checkpoints import Checkpoint, load_model
from neural_polarization.interfaces.commands import trusted
from neural_polarization.interfaces.devices import checked_device
from neural_polarization.interfaces.prediction import from_smiles
from neural_polarization.predictor import Predictor
from neural_polarization.pretrained import load_pretrained
from neural_polarization.structures import is_of_structures, read_structures


def checkpoint_and_files(known: argparse.Namespace, rest: Sequence[str]) -> tuple[str | None, list[str]]:
    """The checkpoint, None for a model of the package, and the files of structures.

    Args:
        known: with `checkpoint`, `structures`, `smiles` and `pretrained`.
        rest: words after an option, which argparse does not count with the others.

    Raises:
        ValueError: for no model, or no structure.
    """
    words = [str(word) for word in (known.checkpoint, *known.structures, *rest) if word is not None]
    checkpoint = None
    if known.pretrained is None:
        if not words:
            raise ValueError("no model: give the .safetensors file of one, or --pretrained small (or small_bonds)")
        checkpoint, *words = words
        if is_of_structures(Path(checkpoint)):
            raise ValueError(
                f"no model: {checkpoint} is a file of structures; give the .safetensors file of a model before it, or "
                "--pretrained small (or small_bonds)"
            )
    elif words and Path(words[0]).suffix == ".safetensors":
        raise ValueError(f"{words[0]} and --pretrained {known.pretrained} are two models; give one of them")
    if not words and not known.smiles:
        raise ValueError("no structure: give a file of structures, or --smiles 'CCO'")
    return checkpoint, words


def chosen_model(known: argparse.Namespace, checkpoint: str | None) -> tuple[Predictor, Checkpoint]:
    """The model that was chosen, on the device that was chosen."""
    device = checked_device(known.device)
    trust = trusted(known)
    model, stored = load_pretrained(known.pretrained) if checkpoint is None else load_model(checkpoint, trust)
    return model.to(device), stored


def chosen_structures(known: argparse.Namespace, files: Sequence[str]) -> tuple[list[ase.Atoms], list[str]]:
    """Structures of SMILES, then those of files, and what errors call each of them."""
    structures = [from_smiles(smiles) for smiles in known.smiles]
    names = [f"--smiles {smiles}" for smiles in known.smiles]
    for file in files:
        of_file = read_structures(file)
        structures += of_file
        names += [f"{file}: structure {k}" for k in range(len(of_file))]
    return structures, names
