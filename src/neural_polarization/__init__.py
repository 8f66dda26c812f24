"""Neural Polarization: a moving electron-cloud point for every atom, around any equivariant network.

    import neural_polarization as npol

    trained = npol.fit("config.yaml")
    npol.predict(trained.model, atoms)  # {"energy": ..., "forces": ..., "displacement": ...}

The names of `__all__` are imported when they are first used, so that this import alone takes no time. Everything else
keeps the path of its module.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neural_polarization.architectures import BackboneConfig
    from neural_polarization.backbones.protocol import Backbone
    from neural_polarization.checkpoints import load_model, save_model
    from neural_polarization.finetuning import polarize
    from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
    from neural_polarization.interfaces.front import Trained, fit, open_dataset, predict
    from neural_polarization.messages import Lengths, Messages
    from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
    from neural_polarization.molecules import Molecules
    from neural_polarization.polarization import NeuralPolarization

__version__ = "0.2.0"

__all__ = [
    "Backbone",
    "BackboneConfig",
    "HeadConfig",
    "Lengths",
    "Messages",
    "Model",
    "ModelConfig",
    "Molecules",
    "NeuralPolarization",
    "NeuralPolarizationCalculator",
    "PolarizationConfig",
    "Trained",
    "fit",
    "load_model",
    "open_dataset",
    "polarize",
    "predict",
    "save_model",
]

_MODULES = {
    "Backbone": "backbones.protocol",
    "BackboneConfig": "architectures",
    "HeadConfig": "models",
    "Lengths": "messages",
    "Messages": "messages",
    "Model": "models",
    "ModelConfig": "models",
    "Molecules": "molecules",
    "NeuralPolarization": "polarization",
    "NeuralPolarizationCalculator": "interfaces.ase_calculator",
    "PolarizationConfig": "models",
    "Trained": "interfaces.front",
    "fit": "interfaces.front",
    "load_model": "checkpoints",
    "open_dataset": "interfaces.front",
    "polarize": "finetuning",
    "predict": "interfaces.front",
    "save_model": "checkpoints",
}


def __getattr__(name: str) -> object:
    """A name of the table, imported at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = vars(importlib.import_module(f"{__name__}.{_MODULES[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
