"""YAML without surprises: numbers remember how they were written, and aliases that multiply are found early."""

from typing import TypeVar, cast

import yaml

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
