"""`npol export --to metatomic`: a trained model as one file that engines with metatomic read.

Among these are ASE, torch-sim, i-PI, and LAMMPS or GROMACS that were built with it. The engine takes derivatives of the
energy, forces and stress, by itself. The file computes in double precision, so that total energies keep their digits.
"""

import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Dict, List, Optional  # noqa: UP035 (TorchScript knows no others)

import numpy as np
import torch
from ase.data import atomic_numbers
from metatensor.torch import Labels, TensorBlock, TensorMap  # pyright: ignore[reportMissingImports]
from metatomic.torch import (  # pyright: ignore[reportMissingImports]
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)
from metatomic_ase import MetatomicCalculator  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

import neural_polarization
from neural_polarization.checkpoints import load_model
from neural_polarization.files import replacing
from neural_polarization.interfaces.export import check_output, energy_of, samples
from neural_polarization.interfaces.prediction import predict
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.training.compilers import CompilationError

TOLERANCE = 1e-7
"""Largest difference between exported and original, relative to the largest number."""


class Energy(nn.Module):
    """The energy of a model as a function of tensors, which can be traced.

    Args:
        model: with an energy that is a sum over atoms.
        name: of the energy.
    """

    def __init__(self, model: Model, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, types: Tensor, positions: Tensor, edges: Tensor, shifts: Tensor, others: Tensor) -> Tensor:
        """Energy of the atoms that are 0 in `others`, and of those that are 1, eV."""
        molecules = Molecules(types, positions, others, edges, 2, shifts=shifts)
        return self.model.compute(molecules, [self.name])[0][self.name]


class Engine(nn.Module):
    """A traced energy as metatomic calls it.

    Args:
        energy: from atomic numbers, positions, neighbours, shifts and the group of each atom to the energy of the two
            groups: atoms whose energy is asked for, and others, which are neighbours only.
        cutoff: Angstrom.
    """

    def __init__(self, energy: torch.jit.ScriptModule, cutoff: float) -> None:
        super().__init__()
        self.energy = energy
        self.neighbors = NeighborListOptions(cutoff=cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return [self.neighbors]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        found: List[Tensor] = []  # noqa: UP006
        for number, system in enumerate(systems):
            types = system.types.to(torch.int64)
            others = torch.zeros_like(types)
            if selected_atoms is not None:
                others = torch.ones_like(types)
                of_system = selected_atoms.column("system") == number
                others[selected_atoms.column("atom")[of_system].to(torch.int64)] = 0
            block = system.get_neighbor_list(self.neighbors)
            pairs = block.samples
            edges = torch.stack([pairs.column("second_atom"), pairs.column("first_atom")]).to(torch.int64)
            images = torch.stack(
                [pairs.column("cell_shift_a"), pairs.column("cell_shift_b"), pairs.column("cell_shift_c")], dim=1
            )
            shifts = images.to(system.positions.dtype) @ system.cell
            found.append(self.energy(types, system.positions, edges, shifts, others)[:1])
        values = torch.stack(found)
        device = values.device
        blocks = TensorBlock(
            values=values,
            samples=Labels(["system"], torch.arange(len(systems), device=device).reshape(-1, 1)),
            components=torch.jit.annotate(List[Labels], []),  # noqa: UP006
            properties=Labels(["energy"], torch.zeros(1, 1, dtype=torch.int64, device=device)),
        )
        key = Labels(["_"], torch.zeros(1, 1, dtype=torch.int64, device=device))
        return {"energy": TensorMap(key, [blocks])}


def export_metatomic(
    checkpoint: str | Path, output: str | Path, trust: Collection[str] = (), overwrite: bool = False
) -> None:
    """Writes a checkpoint's energy as a file for metatomic, when it is checked against the model.

    Args:
        checkpoint: of a model with an energy that is a sum over atoms, and forces.
        output: ending .pt.
        trust: modules of networks of one's own that may be imported (see `load_model`).
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: for another ending, or a model whose energy an engine cannot ask for.
        FileExistsError: if the file is there and `overwrite` is not set.
        CompilationError: if the exported model is not the model.
    """
    output = Path(output)
    check_output(output, ".pt", overwrite)
    model, _ = load_model(checkpoint, trust)
    model = model.double().eval().requires_grad_(False)
    name = energy_of(model)
    if not model.head(name).of_atoms:
        raise ValueError(f"{name}: engines ask for the energy of some atoms, and this one is no sum over atoms")
    if model.predictions[name].sees_charge or model.predictions[name].sees_spin:
        raise ValueError("metatomic has no charge and no spin, which are inputs of this model; use the checkpoint")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is old; what it says of branches on shapes does not matter here
        draft = Path(folder) / "model.pt"
        _engine(model, name).save(str(draft))
        _check(model, name, draft)
        with replacing(output) as file:
            file.write(draft.read_bytes())


def _learned(model: Model) -> list[str]:
    """Elements that engines may ask for: a model may name others, which no training structure had."""
    missing = () if model.knowledge is None else model.knowledge.missing_elements
    return [symbol for symbol in model.elements if symbol not in missing]


def _engine(model: Model, name: str) -> AtomisticModel:
    molecules = Molecules.from_ase(samples(_learned(model))[0], model.cutoff, torch.float64)
    shifts = torch.zeros(molecules.edge_index.shape[1], 3, dtype=torch.float64)
    tensors = molecules.atomic_numbers, molecules.positions, molecules.edge_index, shifts, molecules.molecule_index
    traced = torch.jit.trace(Energy(model, name), tensors, check_trace=False)
    layers = len(list(model.representation.backbone.layers))
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="system")},
        atomic_types=[atomic_numbers[symbol] for symbol in _learned(model)],
        interaction_range=(layers + 1) * model.cutoff,  # moves see the features of neighbours after the last layer
        length_unit="angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    description = f"{model.config.backbone.name}, {model.config.polarization.messages} messages"
    metadata = ModelMetadata(
        name="neural-polarization", description=f"{description}, version {neural_polarization.__version__}"
    )
    assert isinstance(traced, torch.jit.ScriptModule)
    return AtomisticModel(Engine(traced, model.cutoff).eval(), metadata, capabilities)


def _check(model: Model, name: str, path: Path) -> None:
    """Compares energies, forces and stresses through metatomic's own calculator with the model's."""
    calculator = MetatomicCalculator(str(path), device="cpu", check_consistency=True)
    for atoms in samples(_learned(model)):
        (expected,) = predict(model, [atoms])
        atoms.calc = calculator
        assert expected.forces is not None
        pairs = {
            "energy": (atoms.get_potential_energy(), expected.properties[name], np.abs(expected.forces).max()),
            "forces": (atoms.get_forces(), expected.forces, np.abs(expected.forces).max()),
        }
        if expected.stress is not None:
            pairs["stress"] = (atoms.get_stress(), expected.stress, np.abs(expected.stress).max())
        for what, (one, other, size) in pairs.items():
            error = float(np.abs(one - other).max())
            if not error <= TOLERANCE * max(float(size), 0.01):
                raise CompilationError(
                    f"the exported model is wrong: {what} of {len(atoms)} atoms differs by {error:.1e}; use the "
                    "checkpoint, and report this with the model's configuration and the version of torch"
                )
