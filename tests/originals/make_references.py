"""Writes references.safetensors: weights, and what SchNetPack makes of them, for checks without SchNetPack.

Run it where schnetpack is installed: python tests/originals/make_references.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import schnetpack_networks as originals
import torch
from ours import CHANNELS, CUTOFF, MOLECULES, NUM_BASIS, NUM_LAYERS
from safetensors.torch import save_file
from torch import Tensor

from neural_polarization.molecules import Molecules
from neural_polarization.testing import distorted


def main() -> None:
    """Writes the file next to this one."""
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {"weights": torch.randn(CHANNELS, dtype=torch.float64)}
    for k, name in enumerate(MOLECULES):
        atoms = distorted(name)
        tensors[f"molecule{k}.atomic_numbers"] = torch.as_tensor(atoms.numbers)
        tensors[f"molecule{k}.positions"] = torch.as_tensor(atoms.positions)
    for name, make in (("painn", originals.painn), ("schnet", originals.schnet)):
        network = make(CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS).double()
        tensors |= {f"{name}.state.{key}": value.clone() for key, value in network.state_dict().items()}
        for k in range(len(MOLECULES)):
            molecules = Molecules.from_arrays(
                tensors[f"molecule{k}.atomic_numbers"], tensors[f"molecule{k}.positions"], CUTOFF
            )
            scalars, vectors, forces = originals.scalars_and_forces(network, molecules, tensors["weights"])
            tensors[f"{name}.molecule{k}.scalars"] = scalars
            tensors[f"{name}.molecule{k}.forces"] = forces
            if vectors is not None:
                tensors[f"{name}.molecule{k}.vectors"] = vectors
    about = {"schnetpack": version("schnetpack"), "torch": torch.__version__, "molecules": json.dumps(MOLECULES)}
    save_file(
        {key: value.contiguous() for key, value in tensors.items()},
        Path(__file__).with_name("references.safetensors"),
        metadata=about,
    )


if __name__ == "__main__":
    main()
