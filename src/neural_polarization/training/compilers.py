"""C++ compilers, from the outside: whether there is one, what it says, and what a killed one leaves behind."""

import os
import re
import shutil
from pathlib import Path


class CompilationError(RuntimeError):
    """A model cannot be compiled here, or the compiled model is not the model."""


class WrongGraphError(CompilationError):
    """A compiled graph does not give what the model gives."""


class BrokenCacheError(RuntimeError):
    """The compiler's cache held an unfinished file, which has been removed."""


def require_compiler() -> None:
    """Makes sure that there is a C++ compiler.

    Raises:
        RuntimeError: if there is none.
    """
    wanted = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([wanted] if wanted else ["g++", "clang++", "cl"])):
        missing = f"{wanted!r}, which the environment variable CXX names, is" if wanted else "g++ and clang++ are"
        raise RuntimeError(
            f"a compiled training needs a C++ compiler: {missing} not there; install g++ (or set CXX to a "
            "compiler), or train without compilation"
        )


def error_lines(text: str, most: int = 3) -> str:
    """What a compiler says that is wrong, without the rest of its output.

    Example:
        >>> error_lines("C++ compile error\\n\\nCommand: g++ a.cpp\\na.cpp:1: error: no such type\\n  1 | int x")
        'a.cpp:1: error: no such type'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\b(fatal error|error|undefined reference|cannot find)\b:?", line)]
    named = [line for line in wrong if "compile error" not in line.lower()] or wrong or lines
    return "; ".join(line[:300] for line in named[:most])


def remove_broken(text: str) -> list[Path]:
    """Removes files that an error names, if they are in the compiler's cache and unfinished.

    A training that is killed while it compiles leaves an empty object or library, on which every later one fails.

    Returns:
        The files that were removed.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    cache = Path(cache_dir()).resolve()
    named = {Path(word) for word in re.findall(r"[^\s'\":]+\.(?:so|o|pyd|dll|obj|cubin|gch|pch)\b", text)}
    broken = [path for path in sorted(named) if path.resolve().is_relative_to(cache) and _is_unfinished(path)]
    for path in broken:
        path.unlink(missing_ok=True)
    return broken


def _is_unfinished(path: Path) -> bool:
    """Whether a file is empty, or was cut short, so that its last bytes were never written."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    if size < 64:
        return True
    with path.open("rb") as file:
        header = file.read(64)
    if not header.startswith(b"\x7fELF"):
        return not any(header)
    # The table of sections ends an ELF file: its place, the size of an entry and their number are in the header.
    table, entry, count = (
        int.from_bytes(header[40:48], "little"),
        int.from_bytes(header[58:60], "little"),
        int.from_bytes(header[60:62], "little"),
    )
    return table + entry * count > size
