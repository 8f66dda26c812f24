"""A step of dynamics in ASE: a model as it is, and the same model exported, side by side.

    python benchmarks/engines.py                        # PaiNN, 16 channels: minutes, most of them the compiler's
    python benchmarks/engines.py --network egnn --messages riding --systems 1 100

A step is new positions, neighbours, energy and forces, through the calculator. The forms take turns, step by step, so
that whatever else the machine does slows both alike; a ratio is the median over the rounds of the ratio in one round.
Times are of the processor, so that other work counts less. `energy` is the same step without derivatives. Systems are
clusters of ethanols and boxes of water (192, 1,536 atoms).
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.export import export
from neural_polarization.interfaces.exported import load_exported
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

ELEMENTS = ("H", "C", "O")


def grid_of(part: ase.Atoms, count: int, spacing: float, periodic: bool) -> ase.Atoms:
    """Molecules in random orientations on a cubic grid."""
    side = round(np.ceil(count ** (1 / 3)))
    generator = np.random.default_rng(0)
    whole = ase.Atoms(cell=[side * spacing] * 3, pbc=periodic)
    for place in np.argwhere(np.ones((side, side, side)))[:count]:
        copy = part.copy()
        copy.rotate(generator.uniform(0, 360), generator.normal(size=3))
        copy.translate(spacing * place)
        whole += copy
    return whole


SYSTEMS: dict[str, Callable[[], ase.Atoms]] = {
    "1": lambda: molecule("CH3CH2OH"),
    "10": lambda: grid_of(molecule("CH3CH2OH"), 10, 5.0, periodic=False),
    "100": lambda: grid_of(molecule("CH3CH2OH"), 100, 5.0, periodic=False),
    "w64": lambda: grid_of(molecule("H2O"), 64, 3.1, periodic=True),
    "w512": lambda: grid_of(molecule("H2O"), 512, 3.1, periodic=True),
}
"""Ethanols, and boxes of water, by their names on the command line."""


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", default="painn")
    parser.add_argument("--messages", default="moving_view", choices=[choice.value for choice in Messages])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--systems", nargs="+", default=["1", "10", "100"], choices=list(SYSTEMS))
    parser.add_argument("--file", type=Path, help="an exported model that is kept, and taken if it is there")
    return parser.parse_args()


def both(options: argparse.Namespace, folder: Path) -> tuple[Model, Path]:
    """A new model, and the file of the same model."""
    torch.manual_seed(0)
    backbone = BackboneConfig(options.network, channels=options.channels, num_layers=3, cutoff=5.0)
    heads = {"energy": HeadConfig("extensive", forces=True)}
    model = Model(ModelConfig(ELEMENTS, heads, backbone, PolarizationConfig(Messages(options.messages)))).eval()
    file = options.file or folder / "model.pt2"
    if file.exists():
        load_exported(file)
    else:
        save_model(model, folder / "model.safetensors")
        started = time.process_time()
        export(folder / "model.safetensors", file)
        print(f"exported in {time.process_time() - started:.0f} s")
    return model, file


def main() -> None:
    """Prints a row per system."""
    options = parsed()
    torch.set_num_threads(1)
    print(
        f"{options.network}, {options.channels} channels, 3 layers, cutoff 5 Angstrom, {options.messages}; one thread, "
        f"PyTorch {torch.__version__}, {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory() as folder:
        model, file = both(options, Path(folder))
        forms = {"as it is": NeuralPolarizationCalculator(model), "exported": NeuralPolarizationCalculator(file)}
        print(f"{'system':>8} {'atoms':>6} {'edges':>8} {'as it is':>12} {'exported':>12} {'ratio':>7} {'energy':>12}")
        for name in options.systems:
            row(name, SYSTEMS[name](), model, forms, options.rounds)


def row(name: str, atoms: ase.Atoms, model: Model, forms: dict[str, NeuralPolarizationCalculator], rounds: int) -> None:
    """Times one system and prints its row."""
    generator = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {form: [] for form in (*forms, "energy")}
    molecules = Molecules.from_ase(atoms, model.cutoff)
    for turn in range(rounds + 2):  # the first two warm up
        atoms.positions += generator.normal(0.0, 0.001, (len(atoms), 3))
        for form, calculator in forms.items():
            started = time.process_time()
            calculator.calculate(atoms, ["energy", "forces"])
            seconds[form].append(time.process_time() - started)
        started = time.process_time()
        with torch.no_grad():
            model(Molecules.from_ase(atoms, model.cutoff), forces=False)
        seconds["energy"].append(time.process_time() - started)
        if turn == 1:
            seconds = {form: [] for form in seconds}
    medians = {form: statistics.median(values) for form, values in seconds.items()}
    slow, fast = seconds["as it is"], seconds["exported"]
    ratio = statistics.median(one / other for one, other in zip(slow, fast, strict=True))
    print(
        f"{name:>8} {len(atoms):>6,} {molecules.edge_index.shape[1]:>8,} {1e3 * medians['as it is']:>9.1f} ms "
        f"{1e3 * medians['exported']:>9.1f} ms {ratio:>7.1f} {1e3 * medians['energy']:>9.1f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
