"""Every example in `configs` is understood by the command that it is for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from neural_polarization.data.config import DataConfig
from neural_polarization.data.sources import make_split, open_dataset
from neural_polarization.evaluation.grid import read_grid
from neural_polarization.settings import ConfigError, build, plain, read_overrides, read_yaml
from neural_polarization.training.config import ExperimentConfig

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


@pytest.mark.parametrize("name", ["demo.yaml", "demo_full.yaml", "fields.yaml"])
def test_the_data_of_an_example_have_all_parts(name: str) -> None:
    """Configurations whose data are in the repository: their split is there, and does not leak."""
    tree, source = read_yaml(ROOT / "configs" / name)
    config = build(DataConfig, tree.get("base", tree)["data"], source)
    data = open_dataset(replace(config, path=str(ROOT / config.path)))
    assert all(len(part) for part in make_split(data, config.split).parts.values())


GRID = """
base:
  data: {path: x.npz}
  model: {heads: {energy: {kind: extensive}}}
  training: {machine: {precision: 64}, epochs: 3}
variants:
  plain: {set: {model.polarization.messages: plain}}
  single: {set: {training.machine.precision: 32}}
"""


def test_numbers_of_a_grid_arrive_as_text_and_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    grid = read_grid(tmp_path / "grid.yaml", read_overrides(["--base.training.epochs", "5", "--base.name", "007"]))
    for name, precision in (("plain", "64"), ("single", "32")):
        config = grid.experiment(name)
        assert (config.training.machine.precision, config.name) == (precision, "007")
        assert yaml.safe_load(yaml.safe_dump(plain(config)))["training"]["epochs"] == 5
    assert json.loads(json.dumps(grid.base))["training"]["epochs"] == 5


def test_a_grid_with_a_key_twice(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID + "  plain: {set: {training.epochs: 4}}\n")
    with pytest.raises(ConfigError, match=r"grid\.yaml, line 9: the key 'variants\.plain' .* after line 7"):
        read_grid(tmp_path / "grid.yaml", {})


def test_there_are_examples() -> None:
    assert len(FILES) >= 4
