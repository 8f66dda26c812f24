"""The README's Python runs as it stands, its commands are understood, and the files that it names are there."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from neural_polarization.cli import parser
from neural_polarization.evaluation.grid import GridConfig
from neural_polarization.settings import read_overrides
from neural_polarization.training.config import ExperimentConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPE = (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """The words of every `npol` line of the code blocks."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("npol ")]


def test_python_blocks_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert "torch.Size([4, 12, 3])" in capsys.readouterr().out
    assert set(namespace["properties"]) == {"energy", "forces"}  # type: ignore[call-overload]


@pytest.mark.parametrize("words", [*commands(README), *commands(RECIPE)], ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    _, rest = parser().parse_known_args(words)
    if words[0] in ("train", "compare"):
        kind = GridConfig if words[0] == "compare" else ExperimentConfig
        sections = {field.name for field in dataclasses.fields(kind)}
        assert {key.split(".")[0] for key in read_overrides(rest)} <= sections
    else:
        assert not rest


def test_there_are_commands() -> None:
    assert {"train", "evaluate", "predict", "compare", "sample", "label"} <= {words[0] for words in commands(README)}
    assert {"enumerate", "sample", "label", "pack"} == {words[0] for words in commands(RECIPE)}


def test_the_tree_is_the_tree() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    folder = ROOT
    for line in tree.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = ROOT / name
            assert folder.is_dir(), name
        else:
            assert (folder / name).exists(), name
    inside = {path.name for path in (ROOT / "src/neural_polarization").iterdir()}
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("    ")}
    assert inside - named <= {"__init__.py", "__pycache__", "py.typed"}
