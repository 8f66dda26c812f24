"""Numbers and tables as text for people, and numbers from the words of a command."""

import argparse
import math
from collections.abc import Sequence

LARGEST_SEED = 10**9
"""RDKit takes no seeds of more than 31 bits; to this one the numbers of molecules are added."""


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> duration(75.2), duration(3725.0), duration(4.0)
        ('1 min 15 s', '1 h 02 min', '4 s')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(number: int, noun: str) -> str:
    """A number of things, with the noun in the plural unless it is one.

    Example:
        >>> counted(1, "structure"), counted(2, "structure"), counted(20_000, "atom")
        ('1 structure', '2 structures', '20,000 atoms')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns that are as wide as their widest cell.

    Args:
        lines: the head first; as many cells in each.

    Example:
        >>> print(table([["property", "MAE"], ["energy", "3.1"]]))
        property  MAE
        energy    3.1
    """
    return "\n".join("  ".join(cells) for cells in _padded(lines))


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """The same as a table of Markdown, which is readable as it stands too.

    Example:
        >>> print(markdown_table([["property", "MAE"], ["energy", "3.1"]]))
        | property | MAE |
        | -------- | --- |
        | energy   | 3.1 |
    """
    head, *body = _padded(lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["-" * len(cell) for cell in head], *body))


def _padded(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]


def finite(word: str) -> float:
    """A finite number, as the `type` of an option of a command.

    Raises:
        ArgumentTypeError: for another one.

    Example:
        >>> finite("2.5e-3")
        0.0025
    """
    number = float(word)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{word} is no finite number")
    return number


def at_least_one(word: str) -> int:
    """A number of things, as the `type` of an option of a command.

    Raises:
        ArgumentTypeError: for less than one.

    Example:
        >>> at_least_one("8")
        8
    """
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {word}")
    return number


def seed(word: str) -> int:
    """A seed of random numbers, as the `type` of an option of a command.

    Raises:
        ArgumentTypeError: for one that a generator does not take.

    Example:
        >>> seed("42")
        42
    """
    number = int(word)
    if not 0 <= number <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {LARGEST_SEED:,}, got {word}")
    return number
