"""Writes nequip.safetensors: weights of the nequip package's layers, and what they make of molecules.

Run it where nequip is installed: python tests/originals/make_nequip.py
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from neural_polarization.backbones.nequip import features_of_layers
from neural_polarization.layers.irreps import NEIGHBOURS
from neural_polarization.molecules import Molecules
from neural_polarization.testing import distorted

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from nequip.data import AtomicDataDict
    from nequip.model import FullNequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()

CHANNELS, NUM_LAYERS, CUTOFF, NUM_BASIS, LMAX = 3, 5, 4.0, 6, 2  # pseudoscalars are made by the third layer
ATOMIC_NUMBERS = (1, 6, 8)
MOLECULES = ("CH3CH2OH", "H2CCO")


def original() -> Any:
    """The original with features of both parities; what it makes of its last layer is not used."""
    hidden = features_of_layers(CHANNELS, LMAX, NUM_LAYERS, both_parities=True)[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FullNequIPGNNModel(
            seed=0,
            model_dtype="float64",
            r_max=CUTOFF,
            type_names=["H", "C", "O"],
            radial_mlp_depth=[3] * NUM_LAYERS + [1],
            radial_mlp_width=[64] * NUM_LAYERS + [1],
            feature_irreps_hidden=[*map(str, hidden), "1x0e"],
            irreps_edge_sh=LMAX,
            type_embed_num_features=CHANNELS,
            num_bessels=NUM_BASIS,
            polynomial_cutoff_p=6,
            avg_num_neighbors=NEIGHBOURS,
            learnable_shift=True,  # self-connections in the first layer, too, as in the paper
            do_derivatives=False,
        )


def main() -> None:
    """Writes the file next to this one."""
    torch.manual_seed(0)
    network = original()
    modules = dict(network.named_modules())
    layers = [next(m for name, m in modules.items() if name.endswith(f"layer{k}_convnet")) for k in range(NUM_LAYERS)]
    embedding = next(m for name, m in modules.items() if name.endswith("type_embed"))
    tensors: dict[str, Tensor] = {}
    parts = [("embedding", embedding), *((f"layer{k}", layer) for k, layer in enumerate(layers))]
    with torch.no_grad():
        for prefix, part in parts:
            for name, parameter in part.named_parameters():
                tensors[f"state.{prefix}.{name}"] = parameter.float()  # exact in half the room
                parameter.copy_(parameter.float())

    after: list[Tensor] = []
    for layer in layers:
        layer.register_forward_hook(lambda _m, _i, out: after.append(out[AtomicDataDict.NODE_FEATURES_KEY]))
    tensors["weights"] = torch.randn(NUM_LAYERS, CHANNELS, dtype=torch.float64)
    for k, name in enumerate(MOLECULES):
        atoms = distorted(name)
        molecules = Molecules.from_ase([atoms], CUTOFF, torch.float64)
        positions = molecules.positions.clone().requires_grad_()
        senders, receivers = molecules.edge_index
        after.clear()
        network(
            {
                AtomicDataDict.POSITIONS_KEY: positions,
                AtomicDataDict.ATOM_TYPE_KEY: torch.tensor([ATOMIC_NUMBERS.index(number) for number in atoms.numbers]),
                AtomicDataDict.EDGE_INDEX_KEY: torch.stack([receivers, senders]),
            }
        )
        energy = sum((one[:, :CHANNELS] @ w).sum() for one, w in zip(after, tensors["weights"], strict=True))
        (gradient,) = torch.autograd.grad(energy, positions)
        tensors |= {f"molecule{k}.layer{layer}": one for layer, one in enumerate(after)}
        tensors |= {f"molecule{k}.forces": -gradient, f"molecule{k}.positions": positions}
        tensors[f"molecule{k}.atomic_numbers"] = torch.as_tensor(atoms.numbers)
    about = {"nequip": version("nequip"), "torch": torch.__version__, "molecules": json.dumps(MOLECULES)}
    save_file(
        {key: value.detach().contiguous().clone() for key, value in tensors.items()},
        Path(__file__).with_name("nequip.safetensors"),
        metadata=about,
    )


if __name__ == "__main__":
    main()
