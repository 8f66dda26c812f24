"""Models that come with the package, each a checkpoint with a card that says what it is and what it is not for."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from neural_polarization.checkpoints import Checkpoint, load_model
from neural_polarization.predictor import Predictor

_FOLDER = Path(__file__).parent

PRETRAINED: Mapping[str, Path] = MappingProxyType(
    {name: _FOLDER / f"{name}.safetensors" for name in ("small", "small_bonds")}
)
"""Every model of the package by its name; its card has the same name and ends on ".md"."""


def pretrained_path(name: str) -> Path:
    """The checkpoint of a model of the package.

    Raises:
        ValueError: for a name that no model has.
    """
    if name not in PRETRAINED:
        raise ValueError(f"pretrained model {name!r} is not known; there is {', '.join(PRETRAINED)}")
    return PRETRAINED[name]


def load_pretrained(name: str = "small") -> tuple[Predictor, Checkpoint]:
    """A model of the package, in evaluation mode on the CPU, and what was stored beside it.

    Raises:
        ValueError: for a name that no model has.

    Example:
        model, _ = load_pretrained("small")
        model.density(molecules).dipole
    """
    return load_model(pretrained_path(name))


def card(name: str) -> str:
    """What a model of the package was trained on, its errors, and what it is not for.

    Raises:
        ValueError: for a name that no model has.
    """
    return pretrained_path(name).with_suffix(".md").read_text(encoding="utf-8")
