"""`npol export`: a trained model as one compiled file that engines call, checked against the model itself.

The forward, the gradients that give forces and stress included, is traced into one graph of plain operations, whose
numbers of atoms and of edges are free, and that graph is compiled ahead of time.
"""

import copy
import json
import tempfile
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

import ase
import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

import neural_polarization
from neural_polarization.checkpoints import load_model
from neural_polarization.errors import reason
from neural_polarization.files import refuse_existing, replacing
from neural_polarization.finetuning import FineTuned
from neural_polarization.interfaces.exported import (
    ENDING,
    FEWEST_EDGES,
    FORMAT,
    RECORD,
    EngineInputs,
    Exported,
    ExportRecord,
    load_exported,
    machine,
)
from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.predictor import Predictor
from neural_polarization.properties import FORCES, STRESS
from neural_polarization.settings import plain
from neural_polarization.training.compilers import CompilationError, error_lines, require_compiler

_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference between exported and original, relative to the largest number: far above rounding."""

_SMALL = 0.01
"""Numbers below this, in internal units, are compared on its scale."""


def export(
    model: Predictor | str | Path,
    output: str | Path,
    double: bool = False,
    trust: Collection[str] = (),
    overwrite: bool = False,
) -> Exported:
    """Writes a model's energy, forces and stress as one compiled file, for any number of atoms and edges.

    Args:
        model: with an energy and forces: its checkpoint, or the model itself, which is copied. A model of another
            package that was polarized serves too, if its layers can be traced.
        output: ending .pt2.
        double: whether to compute in double precision.
        trust: modules of networks of one's own that may be imported (see `load_model`).
        overwrite: whether an existing file may be replaced.

    Returns:
        The exported model, loaded from its file.

    Raises:
        ValueError: for another ending, a model without forces, or one that cannot be traced.
        FileExistsError: if the file is there and `overwrite` is not set.
        CompilationError: if the compiler fails, or the compiled model is not the model.
    """
    output = Path(output)
    check_output(output, ENDING, overwrite)
    require_compiler()
    # A copy: tracing takes the gradients of the parameters away.
    model = copy.deepcopy(model) if isinstance(model, Predictor) else load_model(model, trust)[0]
    model = model.to("cpu", torch.float64 if double else None)
    program = traced(model)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"model{ENDING}"
        compile_to(draft, program, record_of(model))
        check(model, load_exported(draft))
        with replacing(output) as file:
            file.write(draft.read_bytes())
    return load_exported(output)


def check_output(path: Path, ending: str, overwrite: bool) -> None:
    """Makes sure that a file can be written, before the work is done.

    Raises:
        ValueError: for another ending.
        FileExistsError: if the file is there and `overwrite` is not set.
    """
    if path.suffix != ending:
        raise ValueError(f"{path}: the name of an exported model ends with {ending}")
    refuse_existing(path, overwrite)


def energy_of(model: Predictor) -> str:
    """The property that is the energy of a model, with forces.

    Raises:
        ValueError: if there is none.
    """
    energies = [name for name, kind in model.predictions.items() if kind.forces]
    if not energies:
        raise ValueError(
            "this model has no energy with forces, which is what engines ask for; train one with `forces: true`"
        )
    return energies[0]


def network_of(model: Predictor) -> str:
    """Name of the network of a model: that of its configuration, or of the class that adapts another package's.

    Raises:
        ValueError: for something that is no network, such as a model that was exported already.
    """
    if isinstance(model, Model):
        return model.config.backbone.name
    if isinstance(model, FineTuned):
        return type(model.network.backbone).__name__
    raise ValueError(
        f"model: {type(model).__name__} cannot be exported; give a checkpoint, a `Model` or a model of another package "
        "that `polarize` made"
    )


def traced(model: Predictor) -> ExportedProgram:
    """Energy, forces, stress and displacement of a model as one graph of `EngineInputs`.

    Args:
        model: with an energy and forces; it is set to evaluation, and its parameters need no gradients any more.

    Raises:
        ValueError: for a model without forces, or one that cannot be traced.
    """
    network, energy = network_of(model), energy_of(model)
    model.eval().requires_grad_(False)

    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        molecules = EngineInputs(*tensors).molecules()
        values, displacement = model.with_displacement(molecules, properties=[energy], stress=True)
        return values[energy], values[FORCES], values[STRESS], displacement

    example = tuple(_inputs(model, samples(model.elements)[0]))
    atoms, edges = Dim("atoms", min=3), Dim("edges", min=FEWEST_EDGES)
    free = ({0: atoms}, {0: atoms}, {1: edges}, {0: edges}, {0: atoms}, None, None, None)
    try:
        with torch.no_grad():
            graph = make_fx(forward, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
            return torch.export.export(graph, example, dynamic_shapes=free)
    except Exception as error:  # whatever a package does that is no plain operation on tensors
        raise ValueError(
            f"model: {network} cannot be traced, so it cannot be exported ({_place(error)}: "
            f"{reason(error).strip().splitlines()[0]}); if it has TorchScript, which fixes sizes, make and export it "
            "with PYTORCH_JIT=0 in the environment; otherwise give the model itself to the calculator or the engine"
        ) from error


def compile_to(path: Path, program: ExportedProgram, record: ExportRecord) -> None:
    """Compiles a traced model, with its record, into a file.

    Raises:
        CompilationError: if the compiler fails.
    """
    from torch._inductor import aoti_compile_and_package  # takes seconds

    settings = {"aot_inductor.metadata": {RECORD: json.dumps(plain(record))}}
    try:
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except Exception as error:  # compilers, linkers and torch itself each have errors of their own
        raise CompilationError(f"the model cannot be compiled: {error_lines(str(error))}") from error


def record_of(model: Predictor) -> ExportRecord:
    """What the file of a model says of itself."""
    energy = energy_of(model)
    kind = model.predictions[energy]
    return ExportRecord(
        format=FORMAT,
        version=neural_polarization.__version__,
        torch=torch.__version__,
        machine=machine(),
        precision=str(next(model.parameters()).dtype).removeprefix("torch."),
        energy=energy,
        elements=model.elements,
        cutoff=model.cutoff,
        network=network_of(model),
        sees_charge=kind.sees_charge,
        sees_spin=kind.sees_spin,
        knowledge=model.knowledge,
    )


def check(model: Predictor, exported: Predictor) -> None:
    """Compares an exported model with the original on systems of other sizes than that of the trace.

    Raises:
        CompilationError: if they differ by more than rounding.
    """
    dtype = next(model.parameters()).dtype
    (energy,) = exported.predictions
    for atoms in samples(model.elements):
        molecules = Molecules.from_ase(atoms, model.cutoff, dtype)
        periodic = molecules.volume is not None
        with torch.no_grad():
            expected, displacement = model.with_displacement(molecules, properties=[energy], stress=periodic)
        found, other = exported.with_displacement(molecules, stress=periodic)
        pairs = {**{name: (found[name], expected[name]) for name in expected}, "displacement": (other, displacement)}
        for name, (one, two) in pairs.items():
            # Total energies are compared on the scale of forces: their references are no achievement.
            sized = expected[FORCES] if name == energy else two
            allowed = _TOLERANCES[dtype] * max(float(sized.abs().max()), _SMALL)
            error = float((one - two).abs().max())
            if not error <= allowed:
                raise CompilationError(
                    f"the exported model is wrong: {name} of {len(atoms)} atoms differs from the model's own by "
                    f"{error:.1e} (allowed: {allowed:.0e}); use the model itself, and report this with its "
                    "configuration and the version of torch"
                )


def samples(elements: Sequence[str]) -> list[ase.Atoms]:
    """Systems on which an export is traced (the first) and checked: clusters, a crystal, a single atom."""
    generator = np.random.default_rng(0)
    found: list[ase.Atoms] = []
    for size in (7, 2, 12, 1):
        places = np.argwhere(np.ones((3, 3, 3)))[generator.permutation(27)[:size]]
        positions = 1.5 * places + generator.normal(0.0, 0.1, (size, 3))
        found.append(ase.Atoms([elements[k % len(elements)] for k in range(size)], positions))
    crystal = found[2].copy()
    crystal.set_cell([[4.6, 0.1, 0.0], [0.0, 4.7, 0.2], [0.1, 0.0, 4.8]])
    crystal.pbc = True
    return [*found, crystal]


def _place(error: BaseException) -> str:
    """The last line outside of torch that an error came from."""
    torch_itself = str(Path(torch.__file__).parent)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(torch_itself)
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def _inputs(model: Predictor, atoms: ase.Atoms) -> EngineInputs:
    molecules = Molecules.from_ase(atoms, model.cutoff, next(model.parameters()).dtype)
    return EngineInputs.of(molecules, atomic_numbers[model.elements[0]], model.cutoff)
