"""What `mkdocs build` does beside its configuration: files of the root in pages, links out of docs/, the API pages."""

import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "neural_polarization"
_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
_INCLUDE = re.compile(r'^--8<-- "([^":]+)(?::([\w-]+))?"$', re.MULTILINE)
_MARK = re.compile(r"^<!-- --8<-- \[(?:start|end):[\w-]+\] -->\n", re.MULTILINE)


def repository() -> str:
    """The address of the repository; pyproject.toml is the one place where it stands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def rooms() -> dict[str, list[str]]:
    """Modules to document by the room that they belong to, such as `heads`; private ones are left out."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if any(name.startswith("_") for name in names):
            continue
        room = names[0] if names else "neural_polarization"
        found.setdefault(room, []).append(".".join(("neural_polarization", *names)))
    return {room: sorted(modules) for room, modules in sorted(found.items())}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the repository and one API page per room to the navigation."""
    config.repo_url = repository()
    config.repo_name = "Source"
    assert config.nav is not None
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"].append({"API": [{room: f"api/{room}.md"} for room in rooms()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Makes the API pages; mkdocstrings fills them from the docstrings."""
    for room, modules in rooms().items():
        blocks = "\n\n".join(f"::: {module}" for module in modules)
        files.append(File.generated(config, f"api/{room}.md", content=f"# {room}\n\n{blocks}\n"))
    return files


def with_included(markdown: str) -> str:
    """A page of docs/ with the text of lines such as `--8<-- "README.md:install"`, whose links start at the root."""

    def text_of(line: re.Match[str]) -> str:
        text = (ROOT / line[1]).read_text(encoding="utf-8")
        if line[2]:
            text = text.split(f"[start:{line[2]}] -->\n")[1].split(f"<!-- --8<-- [end:{line[2]}]")[0]
        return re.sub(r"(\]\()(?!https?:|#)", r"\1../", _MARK.sub("", text))

    return _INCLUDE.sub(text_of, markdown)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Includes files of the root, and points links that leave docs/, such as ../configs/qm9.yaml, to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def outside(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        if target.startswith("docs/"):
            return f"{link[1]}{posixpath.relpath(target, posixpath.join('docs', folder))}"
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"docs/{page.file.src_uri}: the link {link[2]} leads to no file of the repository")
        return f"{link[1]}{repository()}/blob/main/{target}"

    return _LINK.sub(outside, with_included(markdown))
