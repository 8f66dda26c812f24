"""What an experiment learns: its data, their split, and the untrained model."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from neural_polarization.data.batching import PreparedDataset
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.open import make_split, open_dataset
from neural_polarization.data.splits import Split
from neural_polarization.data.units import factor
from neural_polarization.models import Model, ModelConfig
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.losses import predicted_names


@dataclass(frozen=True)
class Task:
    """What an experiment learns, and the untrained model that learns it.

    Attributes:
        dataset: all of it.
        split: which part of it is for what.
        model: with references and scales from the training part.
        parts: "train", "validation" and "test", prepared for batches.
    """

    dataset: Dataset
    split: Split
    model: Model
    parts: Mapping[str, PreparedDataset]

    @property
    def units(self) -> dict[str, tuple[float, str]]:
        """Per predicted property, the factor from the customary unit to the internal one, and the former's name."""
        properties = self.dataset.properties
        return {
            name: (factor(properties[name].unit), properties[name].unit)
            for name in predicted_names(self.model)
            if name in properties
        }


def prepare(config: ExperimentConfig) -> Task:
    """Opens the data and builds the model.

    Raises:
        ValueError: for data that do not have what the heads need.
    """
    dataset = open_dataset(config.data)
    split = make_split(dataset, config.data.split)
    for name, part in split.parts.items():
        if name != "test" and len(part) == 0:
            raise ValueError(f"data.split: the {name} part is empty; give it at least one molecule")
    elements = config.model.elements or dataset.elements
    torch.manual_seed(config.training.seed)
    model = Model(ModelConfig(elements, dict(config.model.heads), config.model.backbone, config.model.polarization))
    _check_shapes(model, dataset)
    model.fit_scales(dataset.labels_of(split.train), torch.from_numpy(dataset.composition(elements, split.train)))
    if config.training.machine.precision == "64":
        model.double()
    parts = {name: dataset.subset(part).prepare(model.cutoff) for name, part in split.parts.items() if len(part)}
    return Task(dataset, split, model, parts)


def _check_shapes(model: Model, dataset: Dataset) -> None:
    for name, head in model.config.heads.items():
        kind = dataset.properties.get(name)
        if kind is not None and kind.shape != model.head(name).shape:
            raise ValueError(
                f"model.heads.{name}.kind: {head.kind!r} predicts values of shape {model.head(name).shape}, but the "
                f"labels of {name!r} have shape {kind.shape}; choose another kind"
            )
