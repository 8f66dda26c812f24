"""A step of dynamics in ASE: models of this library, exported, and of other packages, side by side.

    python benchmarks/engines.py                        # PaiNN, 16 channels: minutes, most of them the compiler's
    python benchmarks/engines.py --network egnn --messages riding --systems 1 100
    python benchmarks/engines.py --messages plain riding --no-export --peers schnetpack --systems 1 w64

A step is new positions, neighbours, energy and forces, through the calculator. The forms take turns, step by step, so
that whatever else the machine does slows all alike; a ratio is the median over the rounds of a form's time by that of
the first form in the same round. Times are of the processor, so that other work counts less. `energy` is the step of
the first form without derivatives. Systems are clusters of ethanols and boxes of water (192, 1,536 atoms).

A peer is a network of another package in the package's own calculator, with as many channels and layers, the same
cutoff and new weights. Each package needs an environment of its own, beside this library (`pip install -e
'.[schnetpack]'`).
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.build import molecule
from ase.calculators.calculator import Calculator

from neural_polarization.architectures import BackboneConfig
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.export import export
from neural_polarization.interfaces.exported import load_exported
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

ELEMENTS = ("H", "C", "O")

CUTOFF = 5.0
"""Angstrom."""


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


def mace(options: argparse.Namespace) -> Calculator:
    """MACE with vectors, degrees up to 2 in the messages and correlation 3."""
    from mace import modules
    from mace.calculators import MACECalculator
    from mace.modules.models import o3

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=options.layers,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps(f"{options.channels}x0e+{options.channels}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=20.0,
        atomic_numbers=[1, 6, 8],
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return MACECalculator(models=model, device="cpu", default_dtype="float32")


def nequip(options: argparse.Namespace) -> Calculator:
    """NequIP with degrees up to 1, not compiled."""
    from nequip.ase import NequIPCalculator
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    default = torch.get_default_dtype()
    set_global_state()
    model = NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        r_max=CUTOFF,
        type_names=list(ELEMENTS),
        num_layers=options.layers,
        l_max=1,
        num_features=options.channels,
        avg_num_neighbors=20.0,
    )
    torch.set_default_dtype(default)  # which the package changes for the whole process
    transforms = [ChemicalSpeciesToAtomTypeMapper(list(ELEMENTS)), NeighborListTransform(CUTOFF)]
    return NequIPCalculator(model.eval(), "cpu", transforms=transforms)


def schnetpack(options: argparse.Namespace) -> Calculator:
    """SchNetPack's PaiNN."""
    import torch.utils.data.dataloader as loader

    if "T_co" not in vars(loader):  # SchNetPack 2.0 imports a name that torch has made private since
        loader.T_co = loader._T_co
    import schnetpack.atomistic as parts
    from schnetpack import nn
    from schnetpack.interfaces import SpkCalculator
    from schnetpack.model import NeuralNetworkPotential
    from schnetpack.representation import PaiNN
    from schnetpack.transform import MatScipyNeighborList

    class OfModel(SpkCalculator):
        def _load_model(self, model_file: Any) -> Any:
            return model_file  # a whole model is a file that torch.load refuses by default

    network = PaiNN(options.channels, options.layers, nn.GaussianRBF(20, CUTOFF), nn.CosineCutoff(CUTOFF))
    outputs = [parts.Atomwise(options.channels, output_key="energy"), parts.Forces()]
    model = NeuralNetworkPotential(network, [parts.PairwiseDistances()], outputs)
    return OfModel(model.eval(), MatScipyNeighborList(CUTOFF), energy_unit="eV")


def torchmd(options: argparse.Namespace) -> Calculator:
    """TorchMD-NET's equivariant transformer, not compiled."""
    from torchmdnet.calculators import TMDNETCalculator
    from torchmdnet.models.model import create_model

    arguments = {
        "model": "equivariant-transformer",
        "embedding_dimension": options.channels,
        "num_layers": options.layers,
        "num_rbf": 20,
        "rbf_type": "expnorm",
        "trainable_rbf": False,
        "activation": "silu",
        "attn_activation": "silu",
        "num_heads": 8,
        "distance_influence": "both",
        "neighbor_embedding": True,
        "vector_cutoff": True,
        "cutoff_lower": 0.0,
        "cutoff_upper": CUTOFF,
        "max_z": 20,
        "max_num_neighbors": 128,
        "precision": 32,
        "derivative": False,
        "output_model": "Scalar",
        "reduce_op": "sum",
        "prior_model": None,
        "atom_filter": -1,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.ckpt"  # the package's calculator reads a file
        torch.save({"hyper_parameters": arguments, "state_dict": create_model(arguments).state_dict()}, file)
        return TMDNETCalculator(str(file), max_num_neighbors=128)


PEERS: dict[str, Callable[[argparse.Namespace], Calculator]] = {
    "mace": mace,
    "nequip": nequip,
    "schnetpack": schnetpack,
    "torchmd": torchmd,
}
"""Other packages' calculators, by the name of the extra that installs the package."""


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", default="painn")
    kinds = [choice.value for choice in Messages]
    parser.add_argument("--messages", nargs="+", default=["moving_view"], choices=kinds, help="the first is exported")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--systems", nargs="+", default=["1", "10", "100"], choices=list(SYSTEMS))
    parser.add_argument("--file", type=Path, help="an exported model that is kept, and taken if it is there")
    parser.add_argument("--no-export", action="store_true")
    parser.add_argument("--peers", nargs="+", default=[], choices=list(PEERS))
    return parser.parse_args()


def model_of(options: argparse.Namespace, messages: str) -> Model:
    """A new model."""
    torch.manual_seed(0)
    backbone = BackboneConfig(options.network, channels=options.channels, num_layers=options.layers, cutoff=CUTOFF)
    heads = {"energy": HeadConfig("extensive", forces=True)}
    return Model(ModelConfig(ELEMENTS, heads, backbone, PolarizationConfig(Messages(messages)))).eval()


def exported(options: argparse.Namespace, model: Model, folder: Path) -> Path:
    """The file of a model."""
    file = options.file or folder / "model.pt2"
    if file.exists():
        load_exported(file)
    else:
        started = time.process_time()
        export(model, file)
        print(f"exported in {time.process_time() - started:.0f} s")
    return file


def peers(options: argparse.Namespace) -> dict[str, Calculator]:
    """Calculators of other packages; a missing package is said."""
    found: dict[str, Calculator] = {}
    for name in options.peers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages and what they import
            try:
                found[name] = PEERS[name](options)
            except ImportError as error:
                print(f"{name}: left out, its package does not import ({error}): pip install -e '.[{name}]'")
    return found


def main() -> None:
    """Prints a row per system."""
    options = parsed()
    torch.set_num_threads(1)
    print(
        f"{options.network}, {options.channels} channels, {options.layers} layers, cutoff {CUTOFF} Angstrom; one "
        f"thread, PyTorch {torch.__version__}, {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory() as folder:
        models = {messages: model_of(options, messages) for messages in options.messages}
        first = next(iter(models.values()))
        forms: dict[str, Calculator] = {name: NeuralPolarizationCalculator(model) for name, model in models.items()}
        if not options.no_export:
            forms["exported"] = NeuralPolarizationCalculator(exported(options, first, Path(folder)))
        forms |= peers(options)
        columns = "".join(f"{name:>15} {'ratio':>6}" for name in forms)
        print(f"{'system':>8} {'atoms':>6} {'edges':>8} {columns} {'energy':>12}")
        for name in options.systems:
            row(name, SYSTEMS[name](), first, forms, options.rounds)


def row(name: str, atoms: ase.Atoms, model: Model, forms: dict[str, Calculator], rounds: int) -> None:
    """Times one system and prints its row."""
    atoms.info["charge"] = 0  # which TorchMD-NET's calculator reads
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
    reference = seconds[next(iter(forms))]
    cells = ""
    for form in forms:
        ratio = statistics.median(one / other for one, other in zip(seconds[form], reference, strict=True))
        cells += f"{1e3 * statistics.median(seconds[form]):>12.1f} ms {ratio:>6.2f}"
    energy = 1e3 * statistics.median(seconds["energy"])
    print(f"{name:>8} {len(atoms):>6,} {molecules.edge_index.shape[1]:>8,} {cells} {energy:>9.1f} ms", flush=True)


if __name__ == "__main__":
    main()
