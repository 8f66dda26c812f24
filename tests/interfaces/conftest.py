"""Files that tests of predicted densities share."""

from pathlib import Path

import ase.io
import pytest

from density_models import density_model, shaken
from neural_polarization.checkpoints import save_model
from neural_polarization.models import HeadConfig


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint with a density and energies."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(density_model(energy=HeadConfig("extensive", forces=True)), path)
    return str(path)


@pytest.fixture
def water(tmp_path: Path) -> str:
    """A file with one water molecule."""
    path = tmp_path / "water.xyz"
    ase.io.write(path, shaken("H2O"))
    return str(path)
