"""Devices that commands and the calculator compute on."""

import torch


def checked_device(name: torch.device | str) -> torch.device:
    """A device that is there.

    Args:
        name: "cpu", "cuda" (or "gpu", as configurations call it), or "cuda:1" for the second one.

    Raises:
        ValueError: for another kind of device, or one that PyTorch does not see.

    Example:
        >>> checked_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device("cuda" if name == "gpu" else name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is not known; expected cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {str(device)!r} is not supported; expected cpu, cuda or cuda:N")
    there = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= there:
        raise ValueError(
            f"device {str(device)!r}: PyTorch {torch.__version__} sees {there} CUDA devices; take cpu, or install "
            "PyTorch for the CUDA of this machine"
        )
    return device
