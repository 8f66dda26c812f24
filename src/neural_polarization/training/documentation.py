"""What every setting of an experiment is: type, default and meaning, read from the dataclasses themselves.

`npol train --help`, `npol train --defaults` and docs/configuration.md all come from here.
"""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from neural_polarization.data.config import DataConfig
from neural_polarization.models import HeadConfig
from neural_polarization.settings import dataclass_in, described, field_types, plain
from neural_polarization.training.config import ExperimentConfig, ModelSection

_WIDTH = 100
_REQUIRED = "required"


@dataclass(frozen=True)
class Setting:
    """One key of an experiment's YAML file.

    Attributes:
        key: Dotted key; `*` stands for a name that is free.
        type: Kind of its value, in words; empty for a section.
        default: Its default as YAML; "required" where there is none, empty for a section.
        meaning: What it means, in sentences.
    """

    key: str
    type: str
    default: str
    meaning: str

    @property
    def is_section(self) -> bool:
        """Whether further keys stand below it, and it has no value of its own."""
        return not self.type


def settings_of(kind: type[Any], prefix: str = "") -> Iterator[Setting]:
    """Every setting of a dataclass and of those inside it, in the order in which they are declared.

    Args:
        kind: the dataclass, with an `Attributes:` section in its docstring.
        prefix: what stands before its keys.
    """
    meanings = attribute_texts(kind)
    hints = field_types(kind)
    for field in dataclasses.fields(kind):
        inner, many = dataclass_in(hints[field.name])
        key = f"{prefix}{field.name}"
        words, default = ("", "") if inner else (described(hints[field.name]), _default(field))
        yield Setting(key, words, default, meanings.get(field.name, ""))
        if inner is not None:
            yield from settings_of(inner, f"{key}.*." if many else f"{key}.")


def attribute_texts(kind: type[Any]) -> dict[str, str]:
    """The text of each attribute in the `Attributes:` section of a class's docstring.

    Example:
        >>> attribute_texts(Setting)["key"]
        'Dotted key; `*` stands for a name that is free.'
    """
    section = re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", inspect.getdoc(kind) or "", re.MULTILINE)
    if section is None:
        return {}
    found = re.findall(r"^(\w+): (.*(?:\n +.*)*)", textwrap.dedent(section[1]), re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def default_experiment() -> ExperimentConfig:
    """An experiment with every default, and one head for energies and forces, since a model needs at least one."""
    return ExperimentConfig(ModelSection({"energy": HeadConfig("extensive", forces=True)}), DataConfig())


def settings_help() -> str:
    """All settings as text for a terminal."""
    lines = ["settings, as keys in FILE.yaml or as --dotted.key VALUE (* is a name that you choose):"]
    for setting in settings_of(ExperimentConfig):
        value = "" if setting.is_section else f"  {setting.type}; {_with_default(setting)}"
        lines.append(f"\n  {setting.key}{value}")
        lines += _wrapped(setting.meaning, " " * 6)
    return "\n".join(lines) + "\n"


def defaults_yaml() -> str:
    """A configuration with every default and a comment above each; it is read back as `default_experiment`."""
    head = [
        "# Every setting of `npol train` with its default. Set data.path, choose the heads, and delete what you do",
        "# not change.",
    ]
    return "\n".join([*head, *_yaml(default_experiment(), 0)]) + "\n"


def settings_page() -> str:
    """All settings as a page of the documentation."""
    parts = [
        "# Configuration\n\n"
        "Every setting of an experiment. `npol train FILE.yaml` reads them from a YAML file, and `--dotted.key VALUE` "
        "changes one on the command line. `npol train --defaults` prints a file with all of them. `*` stands for a "
        "name that you choose, such as that of a property. This page is made by `python docs/make_configuration.py`."
    ]
    tables: dict[str, list[str]] = {}  # fields of one section may stand before and after a section within it
    for setting in settings_of(ExperimentConfig):
        if setting.is_section:
            continue
        section, _, key = setting.key.rpartition(".")
        default = _REQUIRED if setting.default == _REQUIRED else f"`{setting.default}`"
        cells = (f"`{key}`", setting.type, default, setting.meaning)
        row = "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
        tables.setdefault(section, []).append(row)
    parts += ["\n".join([_heading(section), *rows]) for section, rows in tables.items()]
    return "\n\n".join(parts) + "\n"


def _heading(section: str) -> str:
    meanings = {setting.key: setting.meaning for setting in settings_of(ExperimentConfig)}
    title = f"`{section}`" if section else "The experiment"
    text = meanings.get(section.removesuffix(".*"), "")
    below = f"{text}\n\n" if text else ""
    return f"## {title}\n\n{below}| key | value | default | meaning |\n|---|---|---|---|"


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return _flow(field.default)
    return _REQUIRED if field.default_factory is dataclasses.MISSING else _flow(field.default_factory())


def _with_default(setting: Setting) -> str:
    return setting.default if setting.default == _REQUIRED else f"default {setting.default}"


def _flow(value: object) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(plain(value), default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("...").strip()


def _wrapped(text: str, before: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=before, subsequent_indent=before, break_on_hyphens=False)


def _yaml(config: Any, depth: int) -> list[str]:
    """The lines of a dataclass, each key below its comment."""
    meanings, hints, lines = attribute_texts(type(config)), field_types(type(config)), list[str]()
    pad = "  " * depth
    for field in dataclasses.fields(config):
        value: Any = getattr(config, field.name)
        inner, many = dataclass_in(hints[field.name])
        words = "" if inner else f" ({described(hints[field.name])})"
        lines += _wrapped(f"{meanings[field.name]}{words}", f"{pad}# ")
        if inner is None:
            lines.append(f"{pad}{field.name}: {_flow(value)}")
        elif value is None:
            keys = ", ".join(f"{one.name}: {_default(one)}" for one in dataclasses.fields(inner))
            lines += [f"{pad}# For instance {field.name}: {{{keys}}}", f"{pad}{field.name}: {_flow(value)}"]
        elif not many:
            lines += [f"{pad}{field.name}:", *_yaml(value, depth + 1)]
        elif value:
            lines.append(f"{pad}{field.name}:")
            for name, item in value.items():
                lines += [f"{pad}  {name}:", *_yaml(item, depth + 2)]
        else:
            keys = ", ".join(f"{one.name}: {_default(one)}" for one in dataclasses.fields(inner))
            lines += [f"{pad}# For instance {field.name}: {{NAME: {{{keys}}}}}", f"{pad}{field.name}: {_flow(value)}"]
    return lines
