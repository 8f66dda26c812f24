"""What every network predicts, with weights that no initialization touches; run as a script it writes that anew.

Do that only for a change that is meant to change predictions: checkpoints of before then predict something else, and
`checkpoints.FORMAT` has to be raised.
"""

import json
import zlib
from pathlib import Path

import torch
from ase.build import molecule

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules
from neural_polarization.testing.base import STANDARD

FILE = Path(__file__).with_name("pinned.json")
CHOICES = [choice.value for choice in STANDARD]
HEADS = {
    "energy": HeadConfig("extensive", forces=True),
    "dipole": HeadConfig("dipole"),
    "alpha": HeadConfig("polarizability"),
}


FORMER = ("schnet", "cgcnn", "dimenet")
"""Networks without vectors. They are pinned with the moves of version 0.1, and with today's."""
CASES = [*ARCHITECTURES, *(f"{name}, radial" for name in FORMER)]


def model_of(case: str, messages: str) -> Model:
    """A small one, its weights set by their names: of the size of a linear layer's there, and of one elsewhere."""
    name, _, move = case.partition(", ")
    move = move or ("edges" if name in FORMER else "default")
    polarization = PolarizationConfig(Messages(messages), move=move)
    model = Model(ModelConfig(("H", "C", "O"), HEADS, BackboneConfig(name, preset="small"), polarization)).double()
    with torch.no_grad():
        for path, module in model.named_modules():
            linear = isinstance(module, torch.nn.Linear)
            for part, weight in module.named_parameters(recurse=False):
                numbers = noise(weight.numel(), zlib.crc32(f"{path}.{part}".encode())).reshape(weight.shape)
                size = (3.0 / weight.shape[-1]) ** 0.5 if linear else 1.0
                weight.copy_(size * numbers if weight.ndim > 1 else 0.3 + 0.2 * numbers)
    return model


def noise(count: int, seed: int) -> torch.Tensor:
    """Numbers between -1 and 1 without order, the same with every version of every library."""
    numbers = (torch.arange(count) + seed) % 2**32
    for _ in range(2):
        numbers = ((numbers ^ (numbers >> 16)) * 0x45D9F3B) % 2**32
    return ((numbers ^ (numbers >> 16)).double() / 2**31) - 1.0


def summary(case: str, messages: str) -> dict[str, list[float] | int]:
    """Predictions for water and formaldehyde, and a number that changes with the names and shapes of the weights."""
    model = model_of(case, messages)
    frames = [molecule("H2O"), molecule("H2CO")]
    for seed, frame in enumerate(frames):
        frame.rattle(0.1, seed=seed)
    predictions = model(Molecules.from_ase(frames, model.cutoff, torch.float64))
    shapes = {path: list(value.shape) for path, value in model.state_dict().items()}
    return {
        **{key: value.detach().flatten().tolist() for key, value in predictions.items()},
        "state": zlib.crc32(json.dumps(shapes, sort_keys=True).encode()),
    }


if __name__ == "__main__":
    pins = {case: {messages: summary(case, messages) for messages in CHOICES} for case in CASES}
    FILE.write_text(json.dumps(pins, indent=1) + "\n", encoding="utf-8")
