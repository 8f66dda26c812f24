"""A room imports only from rooms above it: the order in which the library can be read."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "neural_polarization"

# From the top down; each may import from those before it. Some of them are still to come.
ROOMS = [
    "files",
    "text",
    "yaml_loader",
    "settings",
    "units",
    "errors",
    "properties",
    "metrics",
    "geometry",
    "plausibility",
    "charges",
    "tensors",
    "molecules",
    "structures",
    "layers",
    "backbones",
    "adapters",
    "user_networks",
    "architectures",
    "moves",
    "messages",
    "electronic",
    "polarization",
    "contacts",
    "facts",
    "references",
    "knowledge",
    "predictor",
    "response",
    "field_derivatives",
    "density",
    "heads",
    "model_config",
    "models",
    "checkpoints",
    "finetuning",
    "pretrained",
    "data",
    "labelling",
    "training",
    "evaluation",
    "interfaces",
    "view",
    "testing",
    "cli",
]

FILES = sorted(PACKAGE.rglob("*.py"))


def _imported(path: Path) -> list[tuple[str, int]]:
    """Modules of the package that a file imports, without the package's name, and the line of each."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = ["neural_polarization", *path.relative_to(PACKAGE).parts[:-1]]
            start = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            # `from package import room` names the room among the imported names.
            whole = module == "neural_polarization"
            names = [f"{module}.{alias.name}" for alias in node.names] if whole else [module]
        found += [
            (name.removeprefix("neural_polarization."), node.lineno)
            for name in names
            if name.startswith("neural_polarization.")
        ]
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_only_from_rooms_above(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):
        return
    assert own in ROOMS, f"{own} is not a room of the order above; where does it belong?"
    for module, line in _imported(path):
        room = module.split(".")[0]
        if room not in ROOMS:
            continue  # a name of the package itself, such as its version
        assert ROOMS.index(room) <= ROOMS.index(own), (
            f"{path.name}:{line} imports {module}: {own} stands above {room} and may not know of it"
        )


def test_the_check_sees_imports() -> None:
    seen = {module for module, _ in _imported(PACKAGE / "polarization.py")}
    assert {"geometry", "molecules", "moves", "backbones.protocol"} <= seen
