"""A model compiled together with its forces and stress: exact, and faster by far.

A loss on forces differentiates the energy twice, which `torch.compile` refuses. The way round: the whole forward,
the gradient that gives the forces included, is traced into one graph of plain operations, and that graph is
compiled; its ordinary backward is then the second derivative. Three things need care.

- Where autograd took a saved tensor during the trace, the graph has an `aten.detach`. In the second backward those
  nodes would cut gradients (7 % error on the weights that move the points, without a warning), so they are erased:
  a model's forward has none of its own. Every graph is then checked against the model itself before it is used.
- torch fuses a few graphs wrongly (2.13, CPU: TorchMD-NET's transformer, riding, has forces that are off by 1 %).
  A graph that fails the check is compiled once more without fusing, with a warning, and checked again.
- Shapes in a graph are fixed. A batch is padded to a capacity with atoms of a molecule of their own, joined by edges
  beyond the cutoff: they send nothing, and their outputs are dropped.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers as atomic_number_of
from torch import Tensor
from torch.fx import GraphModule

from neural_polarization.models import Model
from neural_polarization.molecules import Molecules
from neural_polarization.properties import FORCES, STRESS
from neural_polarization.training.compilers import (
    BrokenCacheError,
    CompilationError,
    WrongGraphError,
    error_lines,
    remove_broken,
    require_compiler,
)
from neural_polarization.training.tracing import inputs, optional, trace

_TOLERANCES = {torch.float64: 1e-8, torch.float32: 2e-3}
"""Largest relative error of a parameter's gradient: far above rounding, far below what a cut gradient makes."""

_FLOOR = 1e-3
"""Gradients smaller than this fraction of the largest one are compared on its scale: they are rounding alone."""


@dataclass(frozen=True)
class Capacity:
    """How much a compiled graph can hold, the padding included.

    Attributes:
        molecules: one more than the most molecules of a batch.
        atoms: at least two more than the most atoms of a batch.
        edges: the most edges of a batch.
    """

    molecules: int
    atoms: int
    edges: int

    @classmethod
    def of(cls, molecules: Molecules, slack: float) -> "Capacity":
        """Capacity for batches like this one.

        Args:
            molecules: a batch.
            slack: fraction of atoms, and of edges, by which a later batch may be larger.
        """
        grow = 1.0 + slack
        return cls(
            molecules=1 << math.ceil(math.log2(molecules.num_molecules + 1)),
            atoms=_round_up(molecules.num_atoms * grow + 2),
            edges=_round_up(molecules.edge_index.shape[1] * grow),
        )

    def holds(self, molecules: Molecules) -> bool:
        """Whether a batch fits."""
        return (
            molecules.num_molecules < self.molecules
            and molecules.num_atoms + 2 <= self.atoms
            and molecules.edge_index.shape[1] <= self.edges
        )


@dataclass(frozen=True)
class _Kind:
    """What batches must share, beside a capacity, to run through the same graph."""

    training: bool
    dtype: torch.dtype
    device: torch.device
    given: tuple[bool, ...]  # which of the optional tensors are there

    @classmethod
    def of(cls, molecules: Molecules, training: bool) -> "_Kind":
        positions = molecules.positions
        given = tuple(value is not None for value in optional(molecules))
        return cls(training, positions.dtype, positions.device, given)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


class _Padding:
    """Fills batches up to a capacity: the last two atoms, far apart, take the edges that are left over."""

    def __init__(self, capacity: Capacity, kind: _Kind, atomic_number: int, cutoff: float) -> None:
        atoms, device = capacity.atoms, kind.device
        self.capacity = capacity
        self.numbers = torch.full((atoms,), atomic_number, device=device)
        self.owner = torch.full((atoms,), capacity.molecules - 1, device=device)
        self.positions = torch.zeros(atoms, 3, dtype=kind.dtype, device=device)
        self.positions[-1, 0] = 4.0 * cutoff
        self.edges = torch.tensor([[atoms - 1], [atoms - 2]], device=device).repeat(1, capacity.edges)
        self.zeros = torch.zeros(max(capacity.edges, capacity.molecules), 3, dtype=kind.dtype, device=device)

    def __call__(self, molecules: Molecules) -> Molecules:
        """The batch with its padding."""
        atoms, edges, count = molecules.num_atoms, molecules.edge_index.shape[1], molecules.num_molecules
        shifts, field = molecules.shifts, molecules.external_field
        more = self.zeros[: self.capacity.molecules - count]

        def with_zeros(value: Tensor | None) -> Tensor | None:
            return None if value is None else torch.cat([value, more[:, 0]])

        return Molecules(
            atomic_numbers=torch.cat([molecules.atomic_numbers, self.numbers[atoms:]]),
            positions=torch.cat([molecules.positions.detach(), self.positions[atoms:]]),
            molecule_index=torch.cat([molecules.molecule_index, self.owner[atoms:]]),
            edge_index=torch.cat([molecules.edge_index, self.edges[:, edges:]], 1),
            num_molecules=self.capacity.molecules,
            shifts=None if shifts is None else torch.cat([shifts, self.zeros[: self.capacity.edges - edges]]),
            charge=with_zeros(molecules.charge),
            external_field=None if field is None else torch.cat([field, more]),
            spin=with_zeros(molecules.spin),
            volume=with_zeros(molecules.volume),  # what fills up has no volume, and so no stress
            cutoff=molecules.cutoff,
        )


@dataclass(frozen=True)
class _Step:
    """One compiled graph: the tensors of the model's state and of a padded batch -> outputs in order of `names`."""

    kind: _Kind
    padding: _Padding
    names: list[str]
    graph: Callable[..., list[Tensor]]


class CompiledModel:
    """A model that runs compiled; made by `compile_training`.

    Calling it gives what calling the model gives, in the model's present mode. In training mode the outputs can be
    differentiated with respect to the model's parameters (not to positions); in evaluation mode they carry no
    gradient. The parameters are the model's own: an optimizer's steps and loaded weights take effect at once. On a GPU
    a step is one CUDA graph; differentiate the outputs of one call before the next call.

    A batch that no graph can hold, and the first one in evaluation mode, compiles a new graph (a minute or more on
    a CPU); each new one leaves twice as much slack as the one before, so there are few.

    Args:
        model: what is compiled.
        slack: fraction by which batches may be larger than the first one.
        stress: whether stresses are predicted, of batches in which something has a volume.
        properties: which properties are predicted, by default all. Derivatives by a field that nobody asks for would
            make the graph several times as large.

    Attributes:
        compilations: number of graphs so far.
    """

    def __init__(
        self, model: Model, slack: float = 0.02, stress: bool = False, properties: tuple[str, ...] | None = None
    ) -> None:
        self.model = model
        self.stress = stress
        self.properties = properties
        self.compilations = 0
        self._slack = slack
        self._steps: list[_Step] = []

    def __call__(self, molecules: Molecules) -> dict[str, Tensor]:
        """The properties in their internal units, by name, and "forces": the same as `Model.forward`.

        Raises:
            ValueError: for an element that the model does not know.
            RuntimeError: if a new graph is needed and cannot be made, or does not reproduce the model.
        """
        self.model.representation.species(molecules.atomic_numbers)  # the graph cannot check its input
        step = self._find(molecules) or self._add(molecules)
        return self._run(step, molecules)

    def prepare(self, molecules: Molecules) -> None:
        """Compiles what batches like this one need, unless it is there."""
        if self._find(molecules) is None:
            self._add(molecules)

    def _find(self, molecules: Molecules) -> _Step | None:
        kind = _Kind.of(molecules, self.model.training)
        fitting = [s for s in self._steps if s.kind == kind and s.padding.capacity.holds(molecules)]
        return min(fitting, key=lambda step: step.padding.capacity.edges, default=None)

    def _add(self, molecules: Molecules) -> _Step:
        kind = _Kind.of(molecules, self.model.training)
        require_compiler()
        before = sum(step.kind == kind for step in self._steps)
        capacity = Capacity.of(molecules, self._slack * 2**before)
        number = atomic_number_of[self.model.config.elements[0]]
        padding = _Padding(capacity, kind, number, self.model.cutoff)
        stress = self.stress and molecules.volume is not None
        names, graph = trace(self.model, padding(molecules), stress=stress, properties=self.properties)
        try:
            step = self._compiled(molecules, kind, padding, names, graph)
        except BrokenCacheError:  # and what was broken is gone
            torch.compiler.reset()
            step = self._compiled(molecules, kind, padding, names, graph)
        except WrongGraphError as error:
            warnings.warn(
                f"{str(error).partition(';')[0]}, where torch fuses operations; it is compiled again without fusing, "
                "and a step takes about 1.4 times as long",
                RuntimeWarning,
                stacklevel=2,
            )
            step = self._compiled(molecules, kind, padding, names, graph, fuses=False)
        self._steps.append(step)
        self.compilations += 1
        return step

    def _compiled(
        self,
        molecules: Molecules,
        kind: _Kind,
        padding: _Padding,
        names: list[str],
        graph: GraphModule,
        fuses: bool = True,
    ) -> _Step:
        """A step that is compiled and checked.

        Raises:
            BrokenCacheError: if an earlier training was killed while it compiled.
            WrongGraphError: if the compiled graph does not give what the model gives.
            CompilationError: if the compiler fails.
        """
        # The shapes are in the graph, and a new one is made for others: nothing is left for Dynamo to generalise.
        # On a GPU the kernels are too short to be launched one by one: all of a step is replayed as one CUDA graph.
        options: dict[str, str | int | bool | Callable[..., object]] = {"triton.cudagraphs": kind.on_gpu}
        if not fuses:
            options["max_fusion_size"] = 1
        step = _Step(kind, padding, names, torch.compile(graph, fullgraph=True, dynamic=False, options=options))
        try:
            self._check(step, molecules)
        except CompilationError:
            raise
        except Exception as error:  # compilers, linkers and torch itself each have errors of their own
            removed = remove_broken(str(error))
            if removed:
                raise BrokenCacheError(f"{', '.join(map(str, removed))}: empty, removed") from error
            raise CompilationError(
                f"the training step cannot be compiled: {error_lines(str(error))}; repair the compiler (or set CXX to "
                "another one), or train with training.compile: false"
            ) from error
        return step

    def _run(self, step: _Step, molecules: Molecules) -> dict[str, Tensor]:
        if step.kind.on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.set_grad_enabled(step.kind.training and torch.is_grad_enabled()):
            outputs = step.graph(*inputs(self.model, step.padding(molecules)))
            if step.kind.on_gpu:  # the next call writes to the same memory
                outputs = [output.clone() for output in outputs]
            lengths = {FORCES: molecules.num_atoms}  # the one output per atom; all others are per molecule
            return {
                name: output[: lengths.get(name, molecules.num_molecules)]
                for name, output in zip(step.names, outputs, strict=True)
            }

    def _check(self, step: _Step, molecules: Molecules) -> None:
        """Compares outputs, and in training every parameter's gradient, with those of the model itself."""
        with torch.enable_grad():
            stress = self.stress and molecules.volume is not None
            expected = self.model(molecules, properties=self.properties, stress=stress)
            found = self._run(step, molecules)
            for outputs in (expected, found):
                if STRESS in outputs:
                    outputs[STRESS] = outputs[STRESS].nan_to_num()  # that of a molecule
            pairs = {f"output {name!r}": (expected[name].detach(), found[name].detach()) for name in expected}
            floors = dict.fromkeys(pairs, 0.0)
            if step.kind.training:
                names = [name for name, p in self.model.named_parameters() if p.requires_grad]
                gradients = dict(
                    zip(names, zip(self._gradients(expected), self._gradients(found), strict=True), strict=True)
                )
                floors.update(dict.fromkeys(names, _FLOOR * max(float(a.norm()) for a, _ in gradients.values())))
                pairs.update(gradients)
        tolerance = _TOLERANCES.get(step.kind.dtype, 2e-2)
        for name, (a, b) in pairs.items():
            size = max(float(a.norm()), floors[name])
            error = float((a - b).norm())
            if not error <= tolerance * size:
                raise WrongGraphError(
                    f"the compiled model is wrong: {name} differs from the model's own by {error:.1e}, of {size:.1e} "
                    f"(allowed: {tolerance:.0e} of it); train without compilation, and report this with the "
                    "model's configuration and the version of torch"
                )

    def _gradients(self, outputs: dict[str, Tensor]) -> list[Tensor]:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(0)
        weighted = [
            (value * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)).sum().double()
            for value in outputs.values()
        ]
        # A parameter that the outputs do not depend on gets zeros.
        return list(torch.autograd.grad(torch.stack(weighted).sum(), parameters, materialize_grads=True))


def compile_training(
    model: Model,
    example: Molecules,
    slack: float = 0.02,
    stress: bool = False,
    properties: tuple[str, ...] | None = None,
) -> CompiledModel:
    """Compiles a model for training, forces included.

    Args:
        model: on its device and in its floating-point type, in training mode.
        example: a batch of the usual size, better a large one; it sets the size of the first graph.
        slack: fraction by which later batches may be larger without a new compilation.
        stress: whether stresses are learned.
        properties: which properties are learned, by default all.

    Returns:
        What takes the place of the model in a training loop; see `CompiledModel`.

    Raises:
        RuntimeError: if there is no C++ compiler, or the compiled model does not reproduce the model.

    Example:
        >>> compiled = compile_training(model, batch)  # doctest: +SKIP
        >>> predictions = compiled(batch)  # doctest: +SKIP
        >>> loss(predictions).backward()  # doctest: +SKIP
    """
    compiled = CompiledModel(model, slack, stress, properties)
    compiled.prepare(example)
    return compiled


def _round_up(size: float) -> int:
    """To a grid with steps of 3 to 6 %, so that later runs find their graph in the compiler's cache."""
    step = 1 << max(0, math.floor(math.log2(max(size, 1.0))) - 4)
    return math.ceil(size / step) * step
