"""What goes wrong with data, as one type: the command line shows its message without a traceback."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """A data file or a choice about it is wrong; the message says where, what was expected, and the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that ends an error about an unknown name.

    Example:
        >>> nearest("force", ["energy", "forces"])
        "did you mean 'forces'? Known: energy, forces"
    """
    names = list(known)
    near = [one for one in names if one.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names) if names else 'none'}"
