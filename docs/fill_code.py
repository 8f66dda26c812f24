"""Writes the code of examples and configurations into the pages that show it, so that it can be read anywhere.

python docs/fill_code.py

A comment before a block of code names the file and, of a script, its sections between `--8<--` marks:
<!-- code of examples/own_data.py: imports, write -->
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(<!-- code of (\S+?)(?:: ([\w, -]+))? -->\n```\w+\n).*?(^```)", re.DOTALL | re.MULTILINE)


def filled(text: str) -> str:
    """A page with the present code in each block that names its source."""
    return _BLOCK.sub(lambda found: found[1] + _code(found[2], found[3]) + found[4], text)


def _code(file: str, sections: str | None) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    if sections is None:
        return text
    return "\n".join(_section(file, text, name.strip()) for name in sections.split(","))


def _section(file: str, text: str, name: str) -> str:
    found = re.search(rf"^# --8<-- \[start:{name}\]\n(.*?)^# --8<-- \[end:{name}\]$", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{file}: has no section {name!r} between [start:{name}] and [end:{name}]")
    return found[1].strip("\n") + "\n"


if __name__ == "__main__":
    for page in sorted((ROOT / "docs").rglob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
