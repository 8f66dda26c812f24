"""Writes torchmd_et.safetensors: weights of TorchMD-NET's equivariant transformer, and what it makes of molecules.

Run it where torchmd-net is installed: python tests/originals/make_torchmd_et.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torchmdnet.models.torchmd_et import TorchMD_ET
from torchmdnet.models.utils import ExpNormalSmearing

from neural_polarization.testing import distorted

CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, NUM_HEADS, MAX_Z = 16, 3, 4.0, 8, 4, 10
MOLECULES = ("CH3CH2OH", "H2CCO")


def original() -> TorchMD_ET:
    """The original with random weights, biases and norms."""
    network = TorchMD_ET(
        hidden_channels=CHANNELS,
        num_layers=NUM_LAYERS,
        num_rbf=NUM_BASIS,
        trainable_rbf=False,
        num_heads=NUM_HEADS,
        cutoff_upper=CUTOFF,
        max_z=MAX_Z,
        vector_cutoff=True,
        dtype=torch.float64,
    )
    # It keeps its radial functions in single precision otherwise.
    network.distance_expansion = ExpNormalSmearing(0.0, CUTOFF, NUM_BASIS, trainable=False, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def main() -> None:
    """Writes the file next to this one."""
    torch.manual_seed(0)
    network = original()
    weights = torch.randn(CHANNELS, dtype=torch.float64)
    tensors: dict[str, Tensor] = {f"state.{key}": value for key, value in network.state_dict().items()}
    tensors["weights"] = weights
    for k, name in enumerate(MOLECULES):
        atoms = distorted(name)
        numbers = torch.as_tensor(atoms.numbers)
        positions = torch.as_tensor(atoms.positions).requires_grad_()
        scalars, vectors, *_ = network(numbers, positions, torch.zeros_like(numbers))
        (gradient,) = torch.autograd.grad((scalars @ weights).sum(), positions)
        found = {"scalars": scalars, "vectors": vectors, "forces": -gradient}
        inputs = {"atomic_numbers": numbers, "positions": positions}
        tensors |= {f"molecule{k}.{key}": value for key, value in (found | inputs).items()}
    about = {"torchmd-net": version("torchmd-net"), "torch": torch.__version__, "molecules": json.dumps(MOLECULES)}
    save_file(
        {key: value.detach().contiguous() for key, value in tensors.items()},
        Path(__file__).with_name("torchmd_et.safetensors"),
        metadata=about,
    )


if __name__ == "__main__":
    main()
