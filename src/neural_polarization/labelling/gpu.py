"""Calculations on a graphics processor with gpu4pyscf, if both are present."""

import importlib
from typing import Any

from .level import Level


def available() -> bool:
    """Whether gpu4pyscf can be imported and sees a device."""
    try:
        importlib.import_module("gpu4pyscf")
        return int(importlib.import_module("cupy").cuda.runtime.getDeviceCount()) > 0
    except Exception:  # with an unsuitable driver cupy raises its own errors
        return False


def check(level: Level) -> None:
    """Raises an error if a level cannot be computed on this machine's graphics processor.

    Raises:
        RuntimeError: without gpu4pyscf or without a device.
        ValueError: for a basis that mixes Cartesian d with pure f functions, which gpu4pyscf does not support.
    """
    if level.cartesian_d:
        raise ValueError(
            f"level {level}: its Cartesian d functions are projected, which gpu4pyscf cannot do; leave out "
            "--gpu, or take a basis such as def2-SVP"
        )
    if not available():
        raise RuntimeError(
            "--gpu: gpu4pyscf sees no device; install the gpu4pyscf package that fits your CUDA, or leave out --gpu"
        )


def to_gpu(scf: Any) -> Any:
    """The same calculation on the graphics processor."""
    return scf.to_gpu()


def to_cpu(scf: Any) -> Any:
    """The same calculation, with its results, in ordinary memory."""
    return scf.to_cpu()
