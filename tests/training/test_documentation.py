"""The texts of all settings: complete, sentences, current, and read back as the defaults."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from neural_polarization.architectures import ARCHITECTURES
from neural_polarization.cli import main
from neural_polarization.evaluation.grid import GridConfig
from neural_polarization.heads import HEADS
from neural_polarization.settings import Source, build, dataclass_in, field_types, valid_keys
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.documentation import (
    attribute_texts,
    default_experiment,
    defaults_yaml,
    settings_of,
    settings_page,
)

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def classes(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for hint in field_types(kind).values():
        inner, _ = dataclass_in(hint)
        if inner is not None:
            yield from classes(inner)


@pytest.mark.parametrize("kind", [*classes(ExperimentConfig), *classes(GridConfig)], ids=lambda kind: kind.__name__)
def test_every_setting_is_explained_in_sentences(kind: type[Any]) -> None:
    texts = attribute_texts(kind)
    assert list(texts) == [field.name for field in dataclasses.fields(kind)]
    for name, text in texts.items():
        assert text[0].isupper() and text.endswith(".") and len(text.split()) >= 3, f"{name}: {text}"
        assert not text.startswith(("Of ", "For each of")), f"{name}: {text}"


def test_every_key_is_there_once_with_its_type_and_default() -> None:
    found = {setting.key: setting for setting in settings_of(ExperimentConfig)}
    assert list(found) == list(valid_keys(ExperimentConfig))
    assert found["training.epochs"].type == "a whole number" and found["training.epochs"].default == "100"
    assert found["model.polarization.lengths"].type == "one of 'moving', 'nuclear'"
    assert found["model.heads.*.kind"].default == "required"
    assert found["training.machine"].is_section and found["training.machine"].default == ""
    assert all(name in found["model.backbone.name"].meaning for name in ARCHITECTURES)
    assert all(name in found["model.heads.*.kind"].meaning for name in HEADS)


def test_the_defaults_are_read_back_as_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--defaults"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text == defaults_yaml()
    assert build(ExperimentConfig, yaml.safe_load(text), Source("defaults")) == default_experiment()
    lines = text.splitlines()
    keys = [k for k, line in enumerate(lines) if line.strip() and not line.strip().startswith("#")]
    assert sum(lines[k - 1].strip().startswith("#") for k in keys) == len(keys) - 1, "all but the head's name"
    assert max(map(len, lines)) <= 110


def test_the_help_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "--overwrite" in text
    for setting in settings_of(ExperimentConfig):
        value = "" if setting.is_section else f"  {setting.type}; "
        assert f"\n  {setting.key}{value}" in text, setting.key
        assert setting.meaning in " ".join(text.split()), setting.key


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `python docs/make_configuration.py`"


def test_a_docstring_without_attributes() -> None:
    assert attribute_texts(type("Bare", (), {"__doc__": "Nothing.\n\nRaises:\n    ValueError: never."})) == {}
    assert attribute_texts(type("Bare", (), {})) == {}
    assert sys.flags.optimize < 2, "docstrings are read"
