"""Measures which structures every network tells apart, by number of layers, with and without polarization.

A network with random weights tells a pair of structures apart if any of its pooled scalars differ by more than
rounding errors in float64. Every seed draws new weights. If no weights separate a pair, training cannot do so either.
If almost all weights separate it, the result does not depend on chance.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig, look_up
from neural_polarization.evaluation.expressiveness.cases import ELEMENTS, Case, all_cases
from neural_polarization.evaluation.expressiveness.symmetry import SymmetryErrors, symmetry_errors
from neural_polarization.files import write_json
from neural_polarization.layers import sum_by_index
from neural_polarization.messages import Messages
from neural_polarization.moves import Move
from neural_polarization.polarization import NeuralPolarization, Polarized

SEPARATED = 1e-12
"""Relative difference above which a pair counts as told apart; rounding errors in float64 stay below 1e-14."""

CHOICES = (Messages.PLAIN, Messages.RIDING, Messages.BOTH_VIEWS)
"""The choices of messages that are measured: without polarization, its cheapest form, and its full form."""

_GROWN = 250.0
"""Factor of a new network's moves, so that displacements are some tenths of an Angstrom, as after training."""


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement.

    Attributes:
        backbones: Names of networks, from `ARCHITECTURES`.
        seeds: Number of draws of the weights.
        max_layers: Largest number of layers.
    """

    backbones: tuple[str, ...] = tuple(ARCHITECTURES)
    seeds: int = 10
    max_layers: int = 4

    def __post_init__(self) -> None:
        for name in self.backbones:
            look_up(ARCHITECTURES, name, "backbones")
        for what, value in (("seeds", self.seeds), ("max_layers", self.max_layers)):
            if value < 1:
                raise ValueError(f"{what}: at least 1, not {value}")


@dataclass(frozen=True)
class Cell:
    """Results of one network.

    Attributes:
        differences: Relative differences of the two structures of each case, one for every seed.
        symmetry: Largest symmetry errors over the seeds.
    """

    differences: Mapping[str, tuple[float, ...]]
    symmetry: SymmetryErrors

    def told_apart(self, case: str) -> float:
        """Fraction of the seeds that tell the case apart."""
        return float(np.mean([difference > SEPARATED for difference in self.differences[case]]))


Results = dict[tuple[str, str, int], Cell]
"""Results of networks by architecture, messages and number of layers."""


def measure(settings: Settings, path: Path, report: Callable[[str], object] = print) -> Results:
    """Measures all networks, except those whose results are in the file already.

    Args:
        settings: Settings of the measurement.
        path: JSON file that keeps finished results.
        report: Function that is called with one line about every finished network.
    """
    cases = all_cases()
    done = read_results(path, settings.seeds) if path.is_file() else {}
    for name in settings.backbones:
        for messages in CHOICES:
            for num_layers in range(1, settings.max_layers + 1):
                key = (name, messages.value, num_layers)
                if key not in done:
                    done[key] = _measure(name, messages, num_layers, settings.seeds, cases)
                    _write_results(done, settings.seeds, path)
            report(f"{name}, {messages.value}: done")
    return done


def least_layers(results: Results, name: str, messages: Messages, case: str) -> int | None:
    """The smallest number of layers with which every seed tells the case apart; None if no number does."""
    layers = sorted(layers for backbone, choice, layers in results if (backbone, choice) == (name, messages.value))
    return next((n for n in layers if results[name, messages.value, n].told_apart(case) == 1.0), None)


def make_network(name: str, messages: Messages, num_layers: int, seed: int) -> NeuralPolarization[Any]:
    """A small network in float64 with random weights, whose moves are as large as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        species = len(ELEMENTS) * messages.points
        backbone = BackboneConfig(name, num_layers=num_layers, preset="small").build(species)
        network: NeuralPolarization[Any] = NeuralPolarization(backbone, ELEMENTS, messages).double()
    for move in network.moves:
        assert isinstance(move, Move)
        move.enlarge(_GROWN)
    return network


def _measure(name: str, messages: Messages, num_layers: int, seeds: int, cases: Sequence[Case]) -> Cell:
    differences: dict[str, list[float]] = {case.name: [] for case in cases}
    errors: list[SymmetryErrors] = []
    for seed in range(seeds):
        network = make_network(name, messages, num_layers, seed)
        with torch.no_grad():
            for case in cases:
                differences[case.name].append(_difference(network, case))
            errors.append(symmetry_errors(network))
    return Cell({name: tuple(values) for name, values in differences.items()}, SymmetryErrors.worst(errors))


def _difference(network: NeuralPolarization[Any], case: Case) -> float:
    points: Polarized = network(case.molecules)
    atoms = case.molecules.num_atoms // 2
    if case.centre is None:
        first, second = sum_by_index(points.scalars, case.molecules.molecule_index, 2) / atoms
        return _relative(first, second, points.scalars)
    both = torch.tensor([case.centre, case.centre + atoms])
    of_displacement = _relative(points.trajectory[:, both[0]], points.trajectory[:, both[1]], points.trajectory)
    if points.vectors is None:
        return of_displacement
    return max(of_displacement, _relative(points.vectors[both[0]], points.vectors[both[1]], points.vectors))


def _relative(first: Tensor, second: Tensor, scale: Tensor) -> float:
    largest = float(scale.abs().max())
    return float((first - second).abs().max()) / largest if largest > 0.0 else 0.0


def read_results(path: Path, seeds: int) -> Results:
    """Results that were stored with the same number of seeds and the same cases.

    Raises:
        ValueError: if the file is damaged.
    """
    names = [case.name for case in all_cases()]
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["seeds"] != seeds or stored["cases"] != names:
            return {}
        return {
            (cell["backbone"], cell["messages"], cell["num_layers"]): Cell(
                {name: tuple(values) for name, values in cell["differences"].items()},
                SymmetryErrors(**cell["symmetry"]),
            )
            for cell in stored["cells"]
        }
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a file of `npol expressiveness` ({error}); delete it to start anew") from error


def _write_results(results: Results, seeds: int, path: Path) -> None:
    cells = [
        {
            "backbone": name,
            "messages": messages,
            "num_layers": num_layers,
            "differences": {case: list(values) for case, values in cell.differences.items()},
            "symmetry": dataclasses.asdict(cell.symmetry),
        }
        for (name, messages, num_layers), cell in results.items()
    ]
    write_json(path, {"seeds": seeds, "cases": [case.name for case in all_cases()], "cells": cells})
