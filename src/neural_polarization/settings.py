"""From YAML and the command line to frozen dataclasses, with errors that name the key, its line and the remedy."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from neural_polarization.yaml_loader import (
    DEEPEST,
    MOST_VALUES,
    Loader,
    Written,
    has_too_many_values,
    lines_of_keys,
    repeated_keys,
    without_words,
)

Config = TypeVar("Config")
Tree = dict[str, Any]
_LARGEST_FILE = 1_000_000


class ConfigError(ValueError):
    """A mistake in a configuration, with its place and its remedy."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a configuration came from, so that errors can point into it.

    Attributes:
        name: file, or what else to call it.
        lines: line of each dotted key.
        replaced: where the values of some dotted keys came from instead, for instance the command line.
    """

    name: str
    lines: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    replaced: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    def replacing(self, keys: Iterable[str], place: str) -> "Source":
        """The same source, where some keys have their values from another place; the place ends with the key."""
        return dataclasses.replace(self, replaced={**self.replaced, **{key: f"{place}{key}" for key in keys}})

    def at(self, key: str) -> str:
        """The place of a dotted key, or of the nearest key above it.

        Example:
            >>> source = Source("run.yaml", {"training": 3, "training.epochs": 4}).replacing(["training.seed"], "--")
            >>> source.at("training.epochs"), source.at("training.seed"), source.at("training.steps")
            ('run.yaml, line 4', '--training.seed', 'run.yaml, line 3')
        """
        above = key.split(".")
        names = [".".join(above[:size]) for size in range(len(above), 0, -1)]
        for name in names:  # a value that was replaced has nothing of the file in it
            if name in self.replaced:
                return self.replaced[name]
        for name in names:
            if name in self.lines:
                return f"{self.name}, line {self.lines[name]}"
            for inside, place in self.replaced.items():
                if inside.startswith(f"{name}."):
                    return place  # which is what made this key
        return self.name


def read_yaml(path: str | Path) -> tuple[Tree, Source]:
    """The mapping in a YAML file, and the lines of its keys.

    Raises:
        ConfigError: if the file is missing, is no YAML, does not hold a mapping, or has a key twice.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; give the YAML file of an experiment")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"{path}: has more than {_LARGEST_FILE:,} bytes; is this the YAML file of an experiment?")
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if has_too_many_values(node):
            raise ConfigError(
                f"{path}: its aliases (*name) make more than {MOST_VALUES:,} values or {DEEPEST} levels of it; write "
                "them out, or use fewer"
            )
        tree = yaml.load(text, Loader=Loader)
    except ConfigError:
        raise
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text file ({error.reason}); give the YAML file of an experiment") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; give the YAML file of an experiment") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML itself raises other errors for values that only look like what their tag says, as in !!bool abc.
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys and values such as `model:`, found {type(tree).__name__}")
    for key, first, second in repeated_keys(node):
        raise ConfigError(
            f"{path}, line {second}: the key {key!r} is given a second time, after line {first}; put everything under "
            "one of the two and remove the other"
        )
    return cast(Tree, tree), Source(str(path), dict(lines_of_keys(node)))


def read_overrides(words: Sequence[str]) -> Tree:
    """Dotted keys and values from command-line words such as `--training.epochs 10` or `--name=test`.

    Raises:
        ConfigError: for a word that is not a key, or a key without a value.
    """
    overrides: Tree = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"{word!r} is not expected here; settings are given as --dotted.key value")
        key, given, text = word[2:].partition("=")
        if not given:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"--{key} needs a value: --{key} VALUE")
            text = remaining.pop(0)
        try:
            overrides[key] = yaml.load(text, Loader=Loader)
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Value errors for what only looks like a number, as 0b_ does.
            overrides[key] = text
    return overrides


def with_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> Tree:
    """A copy of nested mappings with the values of some dotted keys replaced or added.

    A mapping changes what it names, and leaves the rest of its section as it is.

    Example:
        >>> with_overrides({"training": {"epochs": 10, "seed": 0}}, {"training.epochs": 20})
        {'training': {'epochs': 20, 'seed': 0}}
    """
    result: Tree = dict(tree)
    for key, value in overrides.items():
        head, _, rest = key.partition(".")
        if rest:
            below = result.get(head)
            result[head] = with_overrides(
                cast(Mapping[str, Any], below) if isinstance(below, Mapping) else {}, {rest: value}
            )
        elif isinstance(value, Mapping) and value and isinstance(result.get(head), Mapping):
            result[head] = with_overrides(result[head], cast(Mapping[str, Any], value))
        else:
            result[head] = value
    return result


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """The values of nested mappings by dotted keys.

    Example:
        >>> dotted({"training": {"epochs": 10, "seed": 0}})
        {'training.epochs': 10, 'training.seed': 0}
    """
    found: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found.update(dotted(cast(Mapping[str, Any], value), f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def build(kind: type[Config], tree: Mapping[str, Any], source: Source) -> Config:
    """A dataclass, with those inside it, from nested mappings.

    Args:
        kind: the dataclass.
        tree: plain values by key.
        source: where they came from.

    Raises:
        ConfigError: for an unknown key (the nearest valid one is named), a missing one, a value of another type
            than its key's, or one that the dataclass refuses.
    """
    return cast(Config, _build(kind, tree, "", source, sorted(set(valid_keys(kind)))))


def valid_keys(kind: type[Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a dataclass; `*` stands for a name that is free."""
    for name, hint in field_types(kind).items():
        key = f"{prefix}{name}"
        yield key
        inner, many = dataclass_in(hint)
        if inner is not None:
            yield from valid_keys(inner, f"{key}.*." if many else f"{key}.")


def plain(value: object) -> Any:
    """A dataclass as nested plain values, ready for YAML or JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast(Mapping[object, object], value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in cast(Sequence[object], value)]
    return value.value if isinstance(value, StrEnum) else value


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between nested plain values, as `key: one -> other`.

    Example:
        >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
        ['a.b: 1 -> 2']
    """
    found: list[str] = []
    for key in [*one, *(key for key in other if key not in one)]:
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            found += differences(cast(Tree, mine), cast(Tree, theirs), f"{prefix}{key}.")
        elif mine != theirs:
            found.append(f"{prefix}{key}: {mine} -> {theirs}")
    return found


def _build(kind: type[Any], tree: object, prefix: str, source: Source, known: list[str]) -> Any:
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"{source.at(prefix.rstrip('.'))}: {prefix.rstrip('.') or 'the file'} takes the keys "
            f"{', '.join(field_types(kind))}, not {tree!r}"
        )
    values = cast(Mapping[Any, Any], tree)
    hints = field_types(kind)
    for key in values:
        if str(key) not in hints:
            raise ConfigError(f"{source.at(prefix + str(key))}: {_unknown(prefix, str(key), list(hints), known)}")
    arguments = {
        key: _value(hints[key], value, prefix + key, source, known)
        for key, value in cast(Mapping[str, Any], values).items()
    }
    missing = [field.name for field in dataclasses.fields(kind) if _required(field) and field.name not in arguments]
    if missing:
        raise ConfigError(f"{source.at(prefix.rstrip('.'))}: the key {prefix + missing[0]!r} is missing; give a value")
    try:
        return kind(**arguments)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        # Most of these errors begin with the key that is wrong; the place is then that of the key.
        key = str(error).split(":")[0].split()[:1]
        place = prefix + key[0] if key and key[0] in hints else prefix.rstrip(".")
        raise ConfigError(f"{source.at(place)}: {prefix}{error}") from None


def _value(hint: Any, value: object, key: str, source: Source, known: list[str]) -> Any:
    inner, many = dataclass_in(hint)
    if value is None and type(None) in typing.get_args(hint):
        return None
    if inner is not None and not many:
        return _build(inner, value, f"{key}.", source, known)
    if inner is not None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source.at(key)}: {key} takes names, each with its settings, not {value!r}")
        items = cast(Mapping[Any, Any], value).items()
        # A name without settings, as in `energy:` and nothing after it, has the default ones.
        return {
            str(name): _build(inner, {} if item is None else item, f"{key}.{name}.", source, known)
            for name, item in items
        }
    if value is None and hint is not Any:  # which jsonargparse would take for every type
        raise ConfigError(
            f"{source.at(key)}: {key} must be {described(hint)}, but has no value; give one, or leave the key out"
        )
    return _leaf(hint, value, key, source)


def _leaf(hint: Any, value: object, key: str, source: Source) -> Any:
    import jsonargparse

    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _choice(hint, value, key, source)
    value = _settled(hint, value)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=_concrete(hint))
    try:
        return parser.parse_object({"value": value})["value"]
    except Exception as error:
        if not isinstance(error, (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError)):
            raise
        raise ConfigError(f"{source.at(key)}: {key} must be {described(hint)}, not {value!r}") from None


def _choice(kind: type[StrEnum], value: object, key: str, source: Source) -> StrEnum:
    """The member of that value; jsonargparse would take the names of members instead."""
    known = [choice.value for choice in kind]
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{source.at(key)}: {key} must be one of {', '.join(known)}, not {value!r}{hint}")
    return kind(value)


def _settled(hint: Any, value: object) -> object:
    """A value with its numbers as what the type takes: text as it was written, or plain numbers."""
    if isinstance(value, bool):
        return value
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if Any in members or any(Any in typing.get_args(member) for member in members):
        return value  # what is inside has a type of its own, when it is used
    if isinstance(value, int | float) and not {int, float} & set(members):
        word = value.word if isinstance(value, Written) else str(value)
        choices = [choice for member in members for choice in _choices(member)]
        if word in choices or (str in members and isinstance(value, Written)):
            return word
    return without_words(value)


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _unknown(prefix: str, key: str, siblings: list[str], known: list[str]) -> str:
    near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
    suggestion = prefix + near[0] if near else ""
    if not near:
        # The right key in the wrong place is found by its last name.
        last = key.rpartition(".")[2]
        names = {name.rpartition(".")[2]: name for name in reversed(known)}
        close = difflib.get_close_matches(last, list(names), n=1, cutoff=0.6)
        suggestion = names[close[0]] if close else ""
    hint = f"; did you mean {suggestion!r}?" if suggestion else ""
    return f"unknown key {prefix + key!r}{hint} (valid here: {', '.join(siblings)})"


def field_types(kind: type[Any]) -> dict[str, Any]:
    """Types of the fields of a dataclass, by name."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def dataclass_in(hint: Any) -> tuple[type[Any] | None, bool]:
    """The dataclass that a type holds, if any, and whether it holds many of them by name."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint, False
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            found = dataclass_in(argument)
            if found[0] is not None:
                return found
    if origin in (dict, Mapping) and len(arguments) == 2:
        inner, _ = dataclass_in(arguments[1])
        return inner, inner is not None
    return None, False


def _concrete(hint: Any) -> Any:
    """The same type with `Mapping` as `dict`, which is what YAML gives."""
    if typing.get_origin(hint) is Mapping:
        key, value = typing.get_args(hint)
        return dict[key, value]
    return hint


def described(hint: Any) -> str:
    """The type of a setting in words, as errors and the documentation name it.

    Example:
        >>> described(int | None), described(typing.Literal["csv"])
        ('a whole number or null', "one of 'csv'")
    """
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return "one of " + ", ".join(repr(choice.value) for choice in hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else described(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) in (dict, Mapping):
        return f"a mapping from names to {described(typing.get_args(hint)[1]).removeprefix('a ')}s"
    if typing.get_origin(hint) in (list, tuple):
        return f"a list of {described(typing.get_args(hint)[0]).removeprefix('a ')}s"
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Any: "a value",
    }
    return names.get(hint, str(hint))
