"""What every adapter's tests ask of a polarized model that starts from a trained one."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase.build import bulk
from torch import Tensor, nn

from neural_polarization.finetuning import FineTuned, polarize
from neural_polarization.molecules import Molecules
from neural_polarization.testing import ELEMENTS, distorted

FRAMES = [distorted("CH3CH2OH"), distorted("H2CO"), distorted("CH4"), distorted("H2O", seed=3)]
"""Structures whose predictions are compared."""


def batch(cutoff: float, dtype: torch.dtype = torch.float64) -> Molecules:
    """`FRAMES` with the neighbours of a cutoff."""
    return Molecules.from_ase(FRAMES, cutoff, dtype)


def crystals(cutoff: float) -> Molecules:
    """Two periodic structures."""
    cells = [bulk("CO", "rocksalt", a=size, cubic=True) for size in (4.0, 4.4)]
    for seed, cell in enumerate(cells):
        cell.rattle(0.1, seed=seed)
    return Molecules.from_ase(cells, cutoff, torch.float64)


def assert_same_predictions(
    module: FineTuned, molecules: Molecules, energy: Tensor, forces: Tensor, tolerance: float = 1e-8
) -> None:
    """Energies and forces are the trained model's, to `tolerance` of the largest of either."""
    got = module.eval()(molecules)
    for name, expected in (("energy", energy), ("forces", forces)):
        expected = expected.detach().reshape(got[name].shape)
        assert expected.abs().max() > 1e-3, f"{name}: nothing to compare"
        error = float((got[name].detach() - expected).abs().max() / expected.abs().max())
        print(f"{name}: differs by {error:.1e}")
        assert error < tolerance, f"{name}: differs by {error:.1e}"


def assert_learns(module: FineTuned, molecules: Molecules) -> None:
    """A loss of forces reaches every move that a later layer sees, and a few steps displace the points."""
    module.train()
    target = 0.9 * module(molecules)["forces"].detach()
    start = module.network(molecules).trajectory
    assert (start == 0.0).all(), "a point moved before training"
    optimizer = torch.optim.Adam(module.network.moves.parameters(), 1e-3)
    losses: list[float] = []
    for _ in range(3):
        optimizer.zero_grad()
        out = module(molecules)
        loss = (out["forces"] - target).square().mean() + 0.0 * out["energy"].sum()
        loss.backward()
        losses.append(float(loss.detach()))
        for move in list(module.network.moves)[:-1]:  # no layer comes after the last move
            assert any((p.grad != 0.0).any() for p in move.parameters() if p.grad is not None), "a move learns nothing"
        optimizer.step()
    assert losses[-1] < losses[0], f"the loss goes from {losses[0]} to {losses[-1]}"
    assert (module.network(molecules).trajectory != 0.0).any(), "no point moves after training"


def assert_saved(make: Callable[[int], FineTuned], molecules: Molecules) -> None:
    """Weights of a module, written and read back into one made from other weights, give its numbers."""
    one, other = make(0), make(1)
    with torch.no_grad():
        for parameter in one.network.moves.parameters():
            parameter.add_(0.01)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    expected = one.eval()(molecules)["energy"]
    assert not torch.allclose(other.eval()(molecules)["energy"], expected)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(molecules)["energy"], expected)


def assert_single_precision(trained: nn.Module, molecules: Molecules, energy: Tensor, forces: Tensor) -> None:
    """A model in float32, as most are trained, starts with its predictions too, and its new parts are float32."""
    module = polarize(trained, ELEMENTS)
    assert_same_predictions(module, molecules, energy, forces, 1e-4)
    assert module(molecules)["forces"].dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in module.network.moves.parameters())


def assert_untouched(trained: nn.Module, molecules: Molecules) -> None:
    """Polarizing a model and a backward pass patch nothing of its package or of itself, and copy no parameter."""
    package = type(trained).__module__.split(".")[0]
    before, own = _contents(package), _parts(trained)
    module = polarize(trained, ELEMENTS).train()
    module(molecules)["forces"].square().sum().backward()
    after = _contents(package)
    changed = [name for name, value in before.items() if after.get(name) is not value]
    assert before and not changed, f"patched: {', '.join(changed)}"
    assert _parts(trained) == own, "parts of the model itself were patched"
    copied = {id(parameter) for parameter in trained.parameters()} - {
        id(parameter) for parameter in module.parameters()
    }
    names = [name for name, parameter in trained.named_parameters() if id(parameter) in copied]
    assert not names, f"not shared: {', '.join(names)}"


# Checks of shapes at run time would look at sizes that a trace leaves open, so each trace is a process of its own.
TRACE = """
import warnings
warnings.simplefilter("ignore")  # of the packages
import torch
import {file}
from neural_polarization.interfaces.export import check, record_of, traced
from neural_polarization.interfaces.exported import Exported
torch.set_num_threads(1)
torch.manual_seed(0)
module = eval({model!r}, vars({file}))
with torch.no_grad():
    for parameter in module.network.moves.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
program = traced(module).module()
check(module, Exported(record_of(module), lambda *inputs: list(program(*inputs)), "traced"))
"""


def assert_traced(file: str, model: str) -> None:
    """One graph has energies, forces and stresses of clusters, a crystal and a single atom, once points have moved.

    Args:
        file: the tests, without `.py`.
        model: an expression in names of that file. Functions in TorchScript fix sizes, so they are plain Python here.
    """
    done = _traced(file, model, {"PYTORCH_JIT": "0"})
    assert done.returncode == 0, done.stderr[-3000:]


def assert_not_traced(file: str, model: str, why: str) -> None:
    """A model that cannot be traced is refused with what stands in the way."""
    done = _traced(file, model, {})
    assert done.returncode != 0, "it can be traced now; say so in docs/adapters.md"
    last = done.stderr.strip().splitlines()[-1]
    assert "cannot be traced, so it cannot be exported" in last and why in last, done.stderr[-3000:]


def _traced(file: str, model: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command, folder = [sys.executable, "-c", TRACE.format(file=file, model=model)], Path(__file__).parent
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def _contents(package: str) -> dict[str, Any]:
    """What the loaded modules of a package, and the classes in them, consist of."""
    found: dict[str, Any] = {}
    for module, loaded in list(sys.modules.items()):
        if module.split(".")[0] == package:
            for name, value in list(vars(loaded).items()):
                found[f"{module}.{name}"] = value
                if isinstance(value, type) and value.__module__.split(".")[0] == package:
                    found |= {f"{module}.{name}.{attribute}": own for attribute, own in vars(value).items()}
    return found


def _parts(model: nn.Module) -> dict[str, Any]:
    """Kind, attributes and number of hooks of every module of a model."""
    return {
        name: (type(part), sorted(vars(part)), len(part._forward_hooks), len(part._forward_pre_hooks))
        for name, part in model.named_modules()
    }
