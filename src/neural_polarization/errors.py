"""What goes wrong with data, as one type whose message the command line shows, and how errors are worded."""

import difflib
import importlib.util
import zlib
from collections.abc import Iterable


class DataError(ValueError):
    """A data file or a choice about it is wrong; the message says where, what was expected, and the remedy."""


class TrustError(ValueError):
    """A checkpoint needs a module that its reader has not allowed to be imported; the message says how to allow it."""


UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    StopIteration,
    ArithmeticError,
    AssertionError,
    MemoryError,
    SyntaxError,
    zlib.error,
)
"""What ASE's and other readers raise for files that they do not understand."""


def reason(error: BaseException) -> str:
    """The message of an error of another library, with its kind where the message alone says too little.

    Example:
        >>> reason(KeyError("Jx")), reason(StopIteration()), reason(ValueError("no number"))
        ("KeyError: 'Jx'", 'StopIteration', 'no number')
    """
    if isinstance(error, KeyError):
        return f"{type(error).__name__}: {error}"
    return str(error) or type(error).__name__


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


def require(module: str, extra: str, purpose: str) -> None:
    """Makes sure that an optional package is there.

    Args:
        module: as it is imported.
        extra: of this package, which brings it.
        purpose: what needs it.

    Raises:
        ImportError: naming the extra.

    Example:
        >>> require("no_such_package", "dft", "labels")
        Traceback (most recent call last):
            ...
        ImportError: labels need no_such_package: pip install 'neural-polarization[dft]'
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{purpose} need {module}: pip install 'neural-polarization[{extra}]'")
