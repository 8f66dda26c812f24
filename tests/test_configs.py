"""Every example in `configs` is understood by the command that it is for."""

from pathlib import Path

import pytest

from neural_polarization.evaluation.grid import read_grid
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.parsing import build, read_yaml

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").glob("*.yaml")) + sorted((ROOT / "experiments").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_it_is_understood(path: Path) -> None:
    tree, source = read_yaml(path)
    if "variants" in tree:
        grid = read_grid(path, {})
        assert len(grid.cells({})) == len(grid.config.variants) * len(grid.config.seeds)
    else:
        assert build(ExperimentConfig, tree, source).model.heads


def test_there_are_examples() -> None:
    assert len(FILES) >= 4
