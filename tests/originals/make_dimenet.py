"""Writes dimenet.safetensors: weights of PyTorch Geometric's DimeNet++, and what it makes of molecules.

Run it where torch-geometric, scipy and sympy are installed: python tests/originals/make_dimenet.py

Its blocks are called one by one, since its neighbour list needs compiled extensions and its forward sums over atoms.
Two things are not as it has them. Its roots of Bessel functions are in single precision; here they are in double. Its
envelope u(d) / d multiplies the angular functions, too; here they are multiplied by d again, which makes them eq. 6 of
the paper with the envelope of its eq. 8.
"""

import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.optimize import brentq
from torch import Tensor
from torch_geometric.nn.models import DimeNetPlusPlus, dimenet_utils

from neural_polarization.testing import distorted

CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, NUM_DEGREES, MAX_Z = 16, 2, 4.0, 6, 7, 10
MOLECULES = ("CH3CH2OH", "H2CCO")


def double_roots(n: int, k: int) -> np.ndarray:
    """The first k roots of the spherical Bessel functions of degrees below n."""
    points = np.arange(1, k + n) * np.pi
    rows = [points[:k]]
    for degree in range(1, n):
        points = np.array([brentq(dimenet_utils.Jn, a, b, (degree,), 1e-14) for a, b in itertools.pairwise(points)])
        rows.append(points[:k])
    return np.stack(rows)


def original() -> DimeNetPlusPlus:
    """The original with random biases."""
    dimenet_utils.Jn_zeros = double_roots
    network = DimeNetPlusPlus(
        hidden_channels=CHANNELS,
        out_channels=CHANNELS,
        num_blocks=NUM_LAYERS,
        int_emb_size=CHANNELS // 2,
        basis_emb_size=8,
        out_emb_channels=2 * CHANNELS,
        num_spherical=NUM_DEGREES,
        num_radial=NUM_BASIS,
        cutoff=CUTOFF,
        output_initializer="glorot_orthogonal",
    ).double()
    network.rbf.freq.data = torch.arange(1, NUM_BASIS + 1, dtype=torch.float64) * torch.pi
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter += 0.1 * torch.randn_like(parameter)
    return network


def scalars(network: DimeNetPlusPlus, numbers: Tensor, positions: Tensor) -> Tensor:
    """What its forward does, with loops for neighbours and triplets, and without the sum over atoms."""
    atoms = range(len(numbers))
    near = (torch.cdist(positions, positions) < CUTOFF).tolist()
    pairs = [(j, i) for i in atoms for j in atoms if i != j and near[j][i]]
    j, i = torch.tensor(pairs).t()
    meeting = [(a, b) for b, ji in enumerate(pairs) for a, kj in enumerate(pairs) if kj[1] == ji[0] and kj[0] != ji[1]]
    idx_kj, idx_ji = torch.tensor(meeting).t()

    lengths = (positions[i] - positions[j]).norm(dim=-1)
    first, second = (positions[i] - positions[j])[idx_ji], (positions[i] - positions[j])[idx_kj]
    angles = torch.atan2(torch.linalg.cross(first, second).norm(dim=-1), (first * second).sum(-1))
    rbf = network.rbf(lengths)
    sbf = network.sbf(lengths, angles, idx_kj) * (lengths / CUTOFF)[idx_kj].unsqueeze(-1)

    messages = network.emb(numbers, rbf, i, j)
    out = network.output_blocks[0](messages, rbf, i, num_nodes=len(numbers))
    for interaction, output in zip(network.interaction_blocks, network.output_blocks[1:], strict=True):
        messages = interaction(messages, rbf, sbf, idx_kj, idx_ji)
        out = out + output(messages, rbf, i, num_nodes=len(numbers))
    return out


def main() -> None:
    """Writes the file next to this one."""
    torch.manual_seed(0)
    network = original()
    weights = torch.randn(CHANNELS, dtype=torch.float64)
    tensors: dict[str, Tensor] = {f"state.{key}": value for key, value in network.state_dict().items()}
    tensors["state.emb.emb.weight"] = tensors["state.emb.emb.weight"][:MAX_Z]
    tensors["weights"] = weights
    for k, name in enumerate(MOLECULES):
        atoms = distorted(name)
        numbers = torch.as_tensor(atoms.numbers)
        positions = torch.as_tensor(atoms.positions).requires_grad_()
        found = scalars(network, numbers, positions)
        (gradient,) = torch.autograd.grad((found @ weights).sum(), positions)
        tensors[f"molecule{k}.scalars"], tensors[f"molecule{k}.forces"] = found, -gradient
        tensors[f"molecule{k}.atomic_numbers"], tensors[f"molecule{k}.positions"] = numbers, positions
    about = {
        "torch-geometric": version("torch-geometric"),
        "torch": torch.__version__,
        "molecules": json.dumps(MOLECULES),
    }
    save_file(
        {key: value.detach().contiguous().clone() for key, value in tensors.items()},
        Path(__file__).with_name("dimenet.safetensors"),
        metadata=about,
    )


if __name__ == "__main__":
    main()
