"""The compiled training step against the model itself."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ase
import ase.build
import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

import neural_polarization.training.compiled as module
from neural_polarization.architectures import BackboneConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.training.compiled import Capacity, CompiledModel, compile_training
from neural_polarization.training.tracing import inputs, trace
from small import EVERY_HEAD

SIZES = [5, 3, 4]


def needs_minutes(test: Callable[..., None]) -> Callable[..., None]:
    """The compiler starts a hundred times per graph: `make test-compiler` runs what only it can show."""
    test = pytest.mark.filterwarnings("ignore::DeprecationWarning")(test)  # torch's own, inside its compiler
    reason = "compiles for minutes; `make test-compiler` runs it"
    return pytest.mark.skipif(not os.environ.get("NPOL_TEST_COMPILER"), reason=reason)(test)


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were traced: everything but the compiler's own work, in a fraction of the time."""

    def run_as_it_is(graph: GraphModule, **_: object) -> GraphModule:
        return graph

    monkeypatch.setattr(torch, "compile", run_as_it_is)
    monkeypatch.setattr(module, "require_compiler", lambda: None)


def batch(sizes: list[int], seed: int, cutoff: float) -> Molecules:
    """Random clusters of hydrogen and oxygen, some of them with pairs beyond the cutoff."""
    generator = torch.Generator().manual_seed(seed)
    atoms = sum(sizes)
    numbers = torch.where(torch.rand(atoms, generator=generator) < 0.5, 1, 8)
    positions = 1.6 * torch.randn(atoms, 3, generator=generator, dtype=torch.float64)
    return Molecules.from_arrays(numbers, positions, cutoff, sizes)


def small(messages: str, backbone: str = "painn", heads: dict[str, HeadConfig] | None = None) -> Model:
    config = ModelConfig(
        ("H", "O"),
        heads or {"energy": HeadConfig("extensive", forces=True)},
        BackboneConfig(backbone, channels=4, num_layers=2, cutoff=4.0, num_basis=4),
        PolarizationConfig(Messages(messages)),
    )
    model = Model(config).double()
    model.head("energy").baseline.references.copy_(torch.tensor([-13.6, -2043.0]))
    model.head("energy").baseline.scale.fill_(0.7)
    return model


def gradients(model: Model, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    """Of a weighted sum of the outputs (total energies would drown the forces in squares), by `backward`."""
    model.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(5)
    weights = {name: torch.randn(v.shape, generator=generator, dtype=v.dtype) for name, v in outputs.items()}
    torch.stack([(value * weights[name]).sum() for name, value in outputs.items()]).sum().backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_same(
    model: Model, compiled: CompiledModel, molecules: Molecules, properties: tuple[str, ...] | None = None
) -> dict[str, torch.Tensor | None]:
    """Values, and gradients of the weights, which are returned."""
    expected, found = model(molecules, properties=properties), compiled(molecules)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)
    of_model, of_graph = gradients(model, expected), gradients(model, found)
    for name, gradient in of_model.items():
        other = of_graph[name]
        if gradient is None:
            assert other is None or not other.any()
        else:
            assert other is not None
            assert (other - gradient).norm() <= 1e-8 * gradient.norm(), name
    return of_model


@needs_minutes
@pytest.mark.parametrize("messages", ["plain", "both_views"])
def test_every_gradient_is_that_of_the_model(messages: str) -> None:
    model = small(messages)
    first, second = batch(SIZES, 1, model.cutoff), batch([4, 3], 2, model.cutoff)
    assert first.edge_index.shape[1] != second.edge_index.shape[1]
    compiled = compile_training(model, first)
    for molecules in (first, second, first, second):
        assert_same(model, compiled, molecules)
    assert compiled.compilations == 1
    with torch.no_grad():  # an optimizer's step: the graph holds no copy of the weights
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert_same(model, compiled, first)


@needs_minutes
def test_larger_batches_and_evaluation_get_graphs_of_their_own() -> None:
    model = small("riding", "schnet")
    compiled = compile_training(model, batch([3, 3], 1, model.cutoff))
    larger = batch([6, 5, 4, 3, 2], 3, model.cutoff)
    assert_same(model, compiled, larger)
    assert compiled.compilations == 2
    model.eval()
    expected, found = model(larger), compiled(larger)
    assert compiled.compilations == 3
    for name, value in expected.items():
        assert not found[name].requires_grad
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-10, atol=1e-10)


def error_of_graph(model: Model, molecules: Molecules, keep_detached: bool) -> float:
    """Largest relative error of a gradient through the traced graph, run as it is."""
    names, graph = trace(model, molecules, keep_detached)
    outputs = dict(zip(names, graph(*inputs(model, molecules)), strict=True))
    of_model, of_graph = gradients(model, model(molecules)), gradients(model, outputs)
    errors = [
        (gradient - (torch.zeros_like(gradient) if other is None else other)).norm() / gradient.norm()
        for gradient, other in ((gradient, of_graph[name]) for name, gradient in of_model.items())
        if gradient is not None
    ]
    return float(torch.stack(errors).max())


@pytest.mark.parametrize("messages", ["riding", "both_views"])
def test_detached_nodes_would_cut_second_derivatives(messages: str) -> None:
    # If the first line stops failing, torch has mended its traces, and erasing the nodes is not needed any more.
    model = small(messages)
    molecules = batch(SIZES, 1, model.cutoff)
    assert error_of_graph(model, molecules, keep_detached=True) > 1e-2
    assert error_of_graph(model, molecules, keep_detached=False) < 1e-8


@pytest.mark.parametrize("backbone", ["painn", "schnet", "egnn"])
def test_traced_graph_with_every_head(backbone: str) -> None:
    model = small("both_views", backbone, EVERY_HEAD)
    assert error_of_graph(model, batch(SIZES, 1, model.cutoff), keep_detached=False) < 1e-8


@pytest.mark.parametrize("messages", ["plain", "both_views"])
def test_padding_changes_nothing(messages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {
        "energy": HeadConfig("extensive", forces=True),
        "gap": HeadConfig("intensive"),
        "dipole": HeadConfig("dipole"),
    }
    model = small(messages, heads=heads)
    without_compiler(monkeypatch)
    molecules = batch(SIZES, 1, model.cutoff)
    charged = replace(molecules, charge=torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64))
    compiled = compile_training(model, molecules, slack=0.5)
    for each in (molecules, charged, batch([4, 2], 2, model.cutoff), batch([1], 3, model.cutoff)):
        assert_same(model, compiled, each)
    assert compiled.compilations == 2  # with and without charges


def test_padding_keeps_the_images_of_periodic_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("both_views")
    without_compiler(monkeypatch)
    molecules = batch(SIZES, 1, model.cutoff)
    steps = 0.1 * torch.randn(molecules.num_atoms, 3, dtype=torch.float64)
    senders, receivers = molecules.edge_index
    periodic = replace(molecules, shifts=steps[senders] - steps[receivers])
    compiled = compile_training(model, periodic, slack=0.5)
    for each in (periodic, molecules):
        assert_same(model, compiled, each)
    assert compiled.compilations == 2  # with and without images


@pytest.mark.parametrize("messages", Messages)
def test_stress_of_a_batch_with_and_without_cells(messages: Messages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of a loss on stress are the model's own; a molecule among crystals has no stress and does no harm."""
    model = small(messages)
    without_compiler(monkeypatch)
    crystal = ase.Atoms("OH", [[0.0, 0.0, 0.0], [1.1, 0.2, 0.1]], cell=[3.1, 3.3, 3.5], pbc=True)
    water = ase.build.molecule("H2O")
    molecules = Molecules.from_ase([crystal, water, crystal], model.cutoff, torch.float64)
    compiled = compile_training(model, molecules, slack=0.5, stress=True)
    for each in (molecules, Molecules.from_ase(crystal, model.cutoff, torch.float64)):
        found, expected = compiled(each)["stress"], model(each, stress=True)["stress"]
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-10, atol=1e-12)
        slopes = [
            torch.autograd.grad(stress.nan_to_num().square().sum(), list(model.parameters()), materialize_grads=True)
            for stress in (found, expected)
        ]
        for one, other in zip(*slopes, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    assert "stress" not in compiled(Molecules.from_ase(water, model.cutoff, torch.float64))


def test_every_new_graph_has_twice_the_slack_and_the_smallest_that_fits_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small("plain", "schnet")
    without_compiler(monkeypatch)
    few, many = batch([3, 3], 1, model.cutoff), batch([6, 5, 4, 3, 2], 3, model.cutoff)
    compiled = compile_training(model, few, slack=0.2)
    assert_same(model, compiled, many)
    capacities = [step.padding.capacity for step in compiled._steps]
    assert capacities == [Capacity.of(few, 0.2), Capacity.of(many, 0.4)]
    compiled._steps.reverse()
    for molecules, capacity in zip((few, many), capacities, strict=True):
        step = compiled._find(molecules)
        assert step is not None and step.padding.capacity == capacity
    assert compiled(few)["energy"].requires_grad
    with torch.no_grad():
        assert not compiled(few)["energy"].requires_grad


def test_a_graph_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("both_views")
    without_compiler(monkeypatch)
    monkeypatch.setattr(module, "trace", partial(trace, keep_detached=True))
    again = pytest.warns(RuntimeWarning, match="compiled again without fusing")
    with again, pytest.raises(RuntimeError, match="compiled model is wrong"):
        compile_training(model, batch(SIZES, 1, model.cutoff))


def test_a_graph_that_fusing_makes_wrong_is_compiled_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("riding")
    without_compiler(monkeypatch)

    def wrong_where_it_fuses(graph: GraphModule, options: dict[str, Any], **_: object) -> Callable[..., list[Tensor]]:
        factor = 1.0 if options.get("max_fusion_size") == 1 else 1.01
        return lambda *arguments: [factor * output for output in graph(*arguments)]

    monkeypatch.setattr(torch, "compile", wrong_where_it_fuses)
    molecules = batch(SIZES, 1, model.cutoff)
    with pytest.warns(RuntimeWarning, match=r"output 'energy' differs from .*compiled again without fusing"):
        compiled = compile_training(model, molecules)
    assert_same(model, compiled, molecules)
    assert compiled.compilations == 1


@needs_minutes
@pytest.mark.filterwarnings("ignore:the compiled model is wrong:RuntimeWarning")
def test_a_network_that_torch_fuses_wrongly() -> None:
    """TorchMD-NET's transformer, riding: torch 2.13 makes wrong forces of it on a CPU."""
    heads = {"energy": HeadConfig("extensive", forces=True)}
    backbone = BackboneConfig("torchmd_et", channels=64, num_layers=3, cutoff=5.0)
    torch.manual_seed(0)
    model = Model(ModelConfig(("H", "C", "O"), heads, backbone, PolarizationConfig(Messages.RIDING)))
    ethanols = [ase.build.molecule("CH3CH2OH") for _ in range(5)]
    for seed, ethanol in enumerate(ethanols):
        ethanol.rattle(0.1, seed=seed)
    molecules = Molecules.from_ase(ethanols, model.cutoff, torch.float32)
    compiled, expected = compile_training(model, molecules)(molecules), model(molecules)
    for name in ("energy", "forces"):
        torch.testing.assert_close(compiled[name], expected[name], rtol=1e-5, atol=1e-5)


def test_an_unknown_element_is_named_by_a_graph_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("plain")
    without_compiler(monkeypatch)
    molecules = batch(SIZES, 1, model.cutoff)
    compiled = compile_training(model, molecules)
    with pytest.raises(ValueError, match="atom 0 is C"):
        compiled(replace(molecules, atomic_numbers=torch.full_like(molecules.atomic_numbers, 6)))
    assert compiled.compilations == 1


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("plain")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="needs a C\\+\\+ compiler"):
        compile_training(model, batch(SIZES, 1, model.cutoff))


def test_capacity_leaves_room_for_its_own_atoms_and_molecule() -> None:
    molecules = batch([4, 3], 1, 4.0)
    capacity = Capacity.of(molecules, slack=0.0)
    assert capacity.molecules > 2
    assert capacity.atoms >= 9
    assert capacity.holds(molecules)
    assert not capacity.holds(batch([3] * capacity.molecules, 1, 4.0))


def test_of_a_failing_compiler_only_its_errors_are_shown() -> None:
    """FAULTS 3: one line of 200,000 characters."""
    text = (
        "backend='inductor' raised:\nCppCompileError: C++ compile error\n\nCommand:\ng++ main.cpp -o main.so "
        + "-I/usr/include " * 5000
        + "\n\nOutput:\nmain.cpp: In function 'kernel':\nmain.cpp:3:5: error: 'foo' was not declared\n    3 | foo();\n"
        "main.cpp:9:1: fatal error: bar.h: No such file\n"
    )
    assert module.error_lines(text) == (
        "main.cpp:3:5: error: 'foo' was not declared; main.cpp:9:1: fatal error: bar.h: No such file"
    )
    assert len(module.error_lines("x" * 200_000)) <= 300


def test_unfinished_files_of_the_compilers_cache_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 3: a training that was killed while it compiled left an empty object, on which every later one failed."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "ab"
    folder.mkdir(parents=True)
    whole = Path(next(iter((Path(torch.__file__).parent / "lib").glob("libc10*.so")))).read_bytes()
    (folder / "cab.o").write_bytes(b"")
    (folder / "cut.so").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.so").write_bytes(whole)
    (tmp_path / "mine.so").write_bytes(b"")
    for named, removed in (
        (f"{folder}/cab.o: file not recognized: file is empty", [folder / "cab.o"]),
        (f"OSError: {folder}/cut.so: file too short", [folder / "cut.so"]),
        (f"OSError: {folder}/whole.so: undefined symbol: f", []),
        (f"OSError: {tmp_path}/mine.so: file too short", []),
        (f"OSError: {folder}/gone.so: file too short", []),
    ):
        assert module.remove_broken(named) == removed
    assert sorted(path.name for path in folder.iterdir()) == ["whole.so"]


def test_after_a_broken_cache_the_step_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "require_compiler", lambda: None)
    monkeypatch.setattr(module, "remove_broken", lambda text: [Path("a.o")] if "file is empty" in text else [])
    attempts: list[str] = []

    def fails(texts: list[str]) -> Callable[..., Callable[..., None]]:
        def compiler(graph: object, **_: object) -> Callable[..., Any]:
            def run(*tensors: torch.Tensor) -> Any:
                attempts.append("run")
                if texts:
                    raise OSError(texts.pop(0))
                return graph(*tensors)  # type: ignore[operator]

            return run

        return compiler

    monkeypatch.setattr(torch, "compile", fails(["a.o: file is empty"]))
    model = small("riding")
    CompiledModel(model).prepare(batch([3, 4], 0, model.cutoff))
    assert len(attempts) == 2
    monkeypatch.setattr(torch, "compile", fails(["g++: error: unknown option"] * 3))
    with pytest.raises(module.CompilationError, match=r"cannot be compiled: g\+\+: error: unknown option; repair"):
        CompiledModel(model).prepare(batch([3, 4], 0, model.cutoff))
