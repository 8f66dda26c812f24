"""An exported model: one compiled file of energies, forces and stresses, which runs without the network's code.

The file is a program. Load only files from sources that you trust.
"""

import copy
import json
import platform
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase.data import atomic_numbers
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural_polarization import polarization
from neural_polarization.architectures import look_up
from neural_polarization.checkpoints import load_model
from neural_polarization.knowledge import TrainingKnowledge
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import PredictedProperty, Predictor
from neural_polarization.properties import FORCES, STRESS
from neural_polarization.settings import Source, build

FORMAT = 1
"""Version of what an exported file is called with and what it says of itself."""

ENDING = ".pt2"
"""How the name of an exported file ends."""

RECORD = "neural_polarization"
"""Name of the record among the metadata of a file."""

FEWEST_EDGES = 4
"""Pairs of atoms that stand beside every system: graphs treat numbers of zero and one apart, and never meet them so."""


class EngineInputs(NamedTuple):
    """What an exported graph is called with: one system, and two distant atoms that fill it up."""

    atomic_numbers: Int[Tensor, " atoms"]
    positions: Float[Tensor, "atoms 3"]
    edge_index: Int[Tensor, "2 edges"]
    shifts: Float[Tensor, "edges 3"]
    molecule_index: Int[Tensor, " atoms"]
    volume: Float[Tensor, "2"]
    charge: Float[Tensor, "2"]
    spin: Float[Tensor, "2"]

    @classmethod
    def of(cls, molecules: Molecules, ghost: int, cutoff: float) -> "EngineInputs":
        """The inputs for a batch of one system.

        Args:
            molecules: one system.
            ghost: atomic number of the two atoms that are added, as a second system.
            cutoff: of the model, Angstrom; the two are farther apart, and pass no messages.
        """
        positions, count = molecules.positions, molecules.num_atoms
        places = positions.new_zeros(2, 3)
        places[1, 0] = 4.0 * cutoff
        pair = torch.tensor([[count, count + 1], [count + 1, count]], device=positions.device)
        nothing = positions.new_zeros(1)

        def two(value: Tensor | None, missing: float) -> Tensor:
            return torch.cat([nothing + missing if value is None else value, nothing])

        shifts = molecules.shifts
        if shifts is None:
            shifts = positions.new_zeros(molecules.edge_index.shape[1], 3)
        numbers = molecules.atomic_numbers
        return cls(
            torch.cat([numbers, numbers.new_full((2,), ghost)]),
            torch.cat([positions.detach(), places]),
            torch.cat([molecules.edge_index, pair.repeat(1, FEWEST_EDGES // 2)], 1),
            torch.cat([shifts, shifts.new_zeros(FEWEST_EDGES, 3)]),
            torch.cat([molecules.molecule_index, molecules.molecule_index.new_ones(2)]),
            two(molecules.volume, 0.0),
            two(molecules.charge, 0.0),
            two(molecules.spin, float("nan")),
        )

    def molecules(self) -> Molecules:
        """The two systems as a batch."""
        return Molecules(
            self.atomic_numbers,
            self.positions,
            self.molecule_index,
            self.edge_index,
            num_molecules=2,
            shifts=self.shifts,
            charge=self.charge,
            spin=self.spin,
            volume=self.volume,
        )


@dataclass(frozen=True)
class ExportRecord:
    """What an exported file says of itself.

    Attributes:
        format: version of the record and of the inputs.
        version: of this library.
        torch: version of PyTorch, whose compiled files run in the same version only.
        machine: kind of processor, and its vector instructions.
        precision: "float32" or "float64", of everything but the energy.
        energy: name of the property that is the energy.
        elements: symbols of the elements that it is for.
        cutoff: Angstrom.
        network: name of the network.
        sees_charge: whether the energy depends on the total charge.
        sees_spin: whether it depends on the number of unpaired electrons.
        knowledge: what the model was trained on.
    """

    format: int
    version: str
    torch: str
    machine: str
    precision: str
    energy: str
    elements: tuple[str, ...]
    cutoff: float
    network: str
    sees_charge: bool = False
    sees_spin: bool = False
    knowledge: TrainingKnowledge | None = None


Run = Callable[..., list[Tensor]]
"""Energy, forces, stress and displacement of `EngineInputs`."""


class Exported(Predictor):
    """A model in a compiled file: energies, forces and stresses, one system after the other. It cannot be trained.

    Args:
        record: what the file says of itself.
        run: its program.
        path: where it is, for errors.
    """

    def __init__(self, record: ExportRecord, run: Run, path: Path) -> None:
        super().__init__()
        self.record = record
        self.knowledge = record.knowledge
        self.path = path
        self._run = run
        self._ghost = atomic_numbers[record.elements[0]]
        # Of the type and the device that the file computes with: this is where others look for them.
        self.like = nn.Parameter(torch.zeros((), dtype=getattr(torch, record.precision)), requires_grad=False)

    @property
    def cutoff(self) -> float:
        """Distance below which nuclei are neighbours, Angstrom."""
        return self.record.cutoff

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols of the elements that it is for."""
        return self.record.elements

    @property
    def predictions(self) -> Mapping[str, PredictedProperty]:
        """The energy, with forces and stress."""
        record = self.record
        return {
            record.energy: PredictedProperty(forces=True, sees_charge=record.sees_charge, sees_spin=record.sees_spin)
        }

    def compute(
        self, molecules: Molecules, names: Collection[str]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """The energy, if `names` has it, and the displacement of each moving point, Angstrom."""
        return self.with_displacement(molecules, False, names)

    def with_displacement(
        self,
        molecules: Molecules,
        forces: bool = True,
        properties: Collection[str] | None = None,
        stress: bool = False,
    ) -> tuple[dict[str, Tensor], Float[Tensor, "atoms 3"]]:
        """What is asked for, as `Predictor.with_displacement` gives it, and no tensor has a graph.

        Raises:
            ValueError: for another property than the energy, an element that the file does not know, an electric field,
                or molecules of another floating-point type.
        """
        names = tuple(self.predictions if properties is None else properties)
        for name in names:
            look_up(self.predictions, name, "properties")
        self._check(molecules)
        found: list[list[Tensor]] = []
        with torch.no_grad():
            for number in range(molecules.num_molecules):
                inputs = EngineInputs.of(_one(molecules, number), self._ghost, self.cutoff)
                energy, *of_atoms = self._run(*inputs)
                found.append([energy[:1], of_atoms[0][:-2], of_atoms[1][:1], of_atoms[2][:-2]])
        energy, force, of_cell, displacement = (torch.cat(values) for values in zip(*found, strict=True))
        values = {self.record.energy: energy, FORCES: force, STRESS: of_cell}
        wanted = {*names, *([FORCES] if names and forces else []), *([STRESS] if names and stress else [])}
        return {name: value for name, value in values.items() if name in wanted}, displacement

    def require(self, double: bool, device: torch.device) -> None:
        """Makes sure that the file computes as somebody wants it.

        Raises:
            ValueError: for another precision or device.
        """
        if double and self.record.precision != "float64":
            raise ValueError(
                f"{self.path}: was exported in single precision, and double precision was asked for; export the model "
                "with --double"
            )
        if device.type != "cpu":
            raise ValueError(f"{self.path}: was exported for the CPU, not for {device}; leave the device out")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Exported":
        """The same object: nothing in it changes."""
        return self

    def __reduce__(self) -> tuple[Callable[[Path], Predictor], tuple[Path]]:
        """A pickle holds where the file is, not the program: another process loads it from there."""
        return load_predictor, (self.path.resolve(),)

    def _check(self, molecules: Molecules) -> None:
        if molecules.external_field is not None:
            raise ValueError(f"external_field: {self.path} was exported without fields; use the .safetensors file")
        if molecules.positions.dtype != self.like.dtype:
            raise ValueError(
                f"{self.path}: computes in {self.record.precision}, the molecules are in {molecules.positions.dtype}; "
                "convert them with `Molecules.to`"
            )
        known = torch.tensor([atomic_numbers[symbol] for symbol in self.elements])
        if not bool(torch.isin(molecules.atomic_numbers, known).all()):
            raise ValueError(f"{self.path}: the molecules have other elements than {', '.join(self.elements)}")


def _one(molecules: Molecules, number: int) -> Molecules:
    """One molecule of a batch."""
    if molecules.num_molecules == 1:
        return molecules
    atoms = (molecules.molecule_index == number).nonzero()[:, 0]
    edges = molecules.molecule_index[molecules.edge_index[1]] == number

    def own(value: Tensor | None, rows: Tensor | slice) -> Tensor | None:
        return None if value is None else value[rows]

    this = slice(number, number + 1)
    return replace(
        molecules,
        atomic_numbers=molecules.atomic_numbers[atoms],
        positions=molecules.positions[atoms],
        molecule_index=molecules.molecule_index[atoms] - number,
        edge_index=molecules.edge_index[:, edges] - atoms[0],
        num_molecules=1,
        shifts=own(molecules.shifts, edges),
        charge=own(molecules.charge, this),
        spin=own(molecules.spin, this),
        volume=own(molecules.volume, this),
    )


def machine() -> str:
    """Processor and vector instructions that compiled files depend on."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def read_record(path: str | Path) -> ExportRecord:
    """What an exported file says of itself, without running anything of it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no exported file of this library, or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such exported model; make one with `npol export`")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("_metadata.json")]
            values = json.loads(json.loads(archive.read(names[0]))[RECORD])
    except (zipfile.BadZipFile, IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: is no model that `npol export` wrote, or it is damaged ({type(error).__name__}); export it again"
        ) from None
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{path}: was exported in format {values.get('format')} by version {values.get('version')}; this library "
            f"reads format {FORMAT}: export the model again with `npol export`"
        )
    return build(ExportRecord, values, Source(f"{path}: its record"))


def load_exported(path: str | Path) -> Exported:
    """Reads an exported model. The file is a program: load only what you trust.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `read_record`, and if it was made with another PyTorch or for another processor.
    """
    path = Path(path)
    record = read_record(path)
    here = {"PyTorch": (record.torch, torch.__version__), "the processor": (record.machine, machine())}
    for what, (there, now) in here.items():
        if there != now:
            raise ValueError(
                f"{path}: was exported for {what} {there}, and here is {now}; compiled files run nowhere else: export "
                "the model again on this machine with `npol export`"
            )
    from torch._inductor import aoti_load_package  # takes a second

    return Exported(record, aoti_load_package(str(path)), path)


def load_predictor(path: str | Path, trust: Collection[str] = ()) -> Predictor:
    """A model in evaluation mode: from an exported file (.pt2), or from a checkpoint.

    Args:
        path: the file.
        trust: modules of networks of one's own that a checkpoint may import (see `load_model`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `load_exported` and `load_model`.
    """
    return load_exported(path).eval() if Path(path).suffix == ENDING else load_model(path, trust)[0]


def for_simulation(
    model: Predictor | str | Path,
    device: torch.device,
    double: bool = False,
    trust: Collection[str] = (),
    save_memory: bool = False,
) -> Predictor:
    """A model in evaluation mode on a device, for an engine that asks it in each step.

    Args:
        model: a model, which is copied, its checkpoint, or an exported file (.pt2).
        device: where to compute.
        double: whether to compute in double precision.
        trust: modules of networks of one's own that a checkpoint may import (see `load_model`).
        save_memory: whether to take less memory and more time (`polarization.save_memory`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `load_predictor`, or for an exported model of another device or precision, or with `save_memory`.
    """
    # A copy: whoever gave the model may go on training it, in its own precision.
    loaded = copy.deepcopy(model) if isinstance(model, Predictor) else load_predictor(model, trust)
    if isinstance(loaded, Exported):
        loaded.require(double, device)
    else:
        loaded = loaded.to(device, torch.float64 if double else None)
    if save_memory:
        polarization.save_memory(loaded)
    return loaded.eval()
