"""YAML without surprises: numbers remember how they were written, and aliases that multiply are found early."""

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

import yaml

_MERGE = "tag:yaml.org,2002:merge"  # `<<`, which takes in another mapping, may stand more than once
MOST_VALUES = 20_000
DEEPEST = 100
"""Far above any configuration."""


class Written:
    """A number with the word that it was written as, for keys that take text: 007, 1_000, or the 1.10 of a name."""

    word: str


class Whole(Written, int):
    """A whole number."""


class Real(Written, float):
    """One with a fraction."""


_Number = TypeVar("_Number", Whole, Real)


def _with_word(number: _Number, node: yaml.ScalarNode) -> _Number:
    number.word = str(node.value)
    return number


class Loader(yaml.SafeLoader):
    """YAML without surprises: numbers remember how they were written, a date is text, and 010 is ten, not eight."""

    def whole(self, node: yaml.ScalarNode) -> Whole:
        digits = str(node.value).replace("_", "")
        return _with_word(Whole(digits if digits.lstrip("+-").isdigit() else self.construct_yaml_int(node)), node)

    def real(self, node: yaml.ScalarNode) -> Real:
        return _with_word(Real(self.construct_yaml_float(node)), node)

    def text(self, node: yaml.ScalarNode) -> str:
        return str(node.value)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.whole)
Loader.add_constructor("tag:yaml.org,2002:float", Loader.real)
Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.text)


def has_too_many_values(node: yaml.Node | None) -> bool:
    """Whether aliases (&name, *name) multiply beyond `MOST_VALUES`, or lead back to themselves.

    Args:
        node: what `yaml.compose` made of the file; an alias is the same object again.

    Example:
        >>> has_too_many_values(yaml.compose("a: &a [*a]")), has_too_many_values(yaml.compose("a: [1, 2]"))
        (True, False)
    """
    waiting: list[tuple[yaml.Node, int]] = [] if node is None else [(node, 0)]
    seen = 0
    while waiting:
        current, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            return True
        if isinstance(current, yaml.MappingNode):
            pairs = cast("list[tuple[yaml.Node, yaml.Node]]", current.value)
            waiting += [(one, depth + 1) for pair in pairs for one in pair]
        elif isinstance(current, yaml.SequenceNode):
            waiting += [(one, depth + 1) for one in cast("list[yaml.Node]", current.value)]
    return False


def repeated_keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int, int]]:
    """Keys that a mapping has twice, with both lines: YAML takes the last, and loses what stands under the first."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(cast("list[yaml.Node]", node.value)):
            yield from repeated_keys(item, f"{prefix}{index}.")
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        line = key.start_mark.line + 1
        if key.tag != _MERGE and str(key.value) in first:
            yield f"{prefix}{key.value}", first[str(key.value)], line
        first[str(key.value)] = line
        yield from repeated_keys(value, f"{prefix}{key.value}.")


def lines_of_keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The line of every key, by its dotted name."""
    if isinstance(node, yaml.MappingNode):
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from lines_of_keys(value, f"{name}.")


def without_words(value: object) -> object:
    """The same value with plain numbers, which have forgotten how they were written."""
    if isinstance(value, Whole):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return {key: without_words(item) for key, item in cast(Mapping[object, object], value).items()}
    if isinstance(value, list):
        return [without_words(item) for item in cast(list[object], value)]
    return value
