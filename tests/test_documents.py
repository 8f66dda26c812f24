"""README and docs: the Python runs as it stands, commands are understood, links lead somewhere, numbers agree."""

import argparse
import csv
import re
import runpy
import shlex
import shutil
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.calculators.singlepoint import SinglePointCalculator

from neural_polarization.architectures import BackboneConfig
from neural_polarization.checkpoints import save_model
from neural_polarization.cli import main, parser
from neural_polarization.evaluation.grid import read_grid
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.response import Response
from neural_polarization.settings import Source, build, read_overrides, read_yaml, with_overrides
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.user_networks import look_beside

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "experiments/LOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIGURATION["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = {".run(1000)": ".run(2)", ".run(fmax=0.05, steps=50)": ".run(fmax=0.05, steps=1)"}
SHORTER[".run(fmax=0.01, steps=100)"] = ".run(fmax=0.01, steps=1)"
"""What would take minutes, as it is run here."""
MODEL = "runs/demo/moving_view/seed_0/model.safetensors"
FIELDS = "runs/fields/model.safetensors"


def text_of(page: Path) -> str:
    """A page with the snippets that it includes."""

    def included(found: re.Match[str]) -> str:
        path, _, section = found[1].partition(":")
        text = (ROOT / path).read_text(encoding="utf-8")
        if section:
            text = text.split(f"[start:{section}]")[1].split("\n", 1)[1].rsplit(f"[end:{section}]", 1)[0]
            text = text.rsplit("\n", 1)[0]
        return text

    return re.sub(r'^--8<-- "(.*?)"$', included, page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def blocks(page: Path, language: str | None = None) -> list[tuple[str, str]]:
    """Code of a page's fenced blocks, each with the package that it needs ("" for none)."""
    comments = r"^(?:<!-- needs: (\w+) -->\n+)?(?:<!-- code of [^\n]* -->\n)?"
    fence = re.compile(comments + r"```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(found[1] or "", found[3]) for found in fence.finditer(text_of(page)) if language in (None, found[2])]


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of every line of the code blocks that calls a program."""
    lines = [line.strip() for _, code in blocks(page) for line in code.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(f"{program} ")]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("documents")
    heads = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
    (folder / MODEL).parent.mkdir(parents=True)
    torch.manual_seed(0)  # molecules stay together with these weights
    save_model(Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig("painn", channels=8))), folder / MODEL)
    responding = {**heads, "dipole": HeadConfig("dipole_flow"), "polarizability": HeadConfig("polarizability_bonds")}
    backbone = BackboneConfig("painn", channels=8)
    in_fields = ModelConfig(("H", "C", "O"), responding, backbone, response=Response.PUSH_DUAL)
    save_model(Model(in_fields), folder / FIELDS)
    look_beside(ROOT / "examples" / "own_network")
    own = Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig("my_network:MyNetwork", channels=8)))
    save_model(own, folder / "runs" / "own_network" / "model.safetensors")
    frames = [ase.build.molecule("CH3CH2OH") for _ in range(2)]
    for frame in frames:
        frame.calc = SinglePointCalculator(frame, energy=-1.0, forces=np.zeros((9, 3)))
    ase.io.write(folder / "molecules.extxyz", frames)
    if find_spec("schnetpack") is not None:  # what its users have saved
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another package
            original = runpy.run_path(str(ROOT / "examples/finetune_polarized.py"))["original"]
            torch.save(original(), folder / "best_model")
    return folder


def test_pages_show_the_code_as_it_is() -> None:
    filled = runpy.run_path(str(ROOT / "docs" / "fill_code.py"))["filled"]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text == filled(text), f"{name_of(page)}: run `python docs/fill_code.py`"


WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and page.parent.name != "data"]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs_in_order(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["page"])
    options = {"data": str(ROOT / "data/ethanol.npz"), "frames": 20, "epochs": 1, "steps": 2, "temperature": 300.0}
    moving = page.stem in ("dynamics", "simulate", "fields")
    options |= {"checkpoint": FIELDS if page.stem == "fields" else MODEL, "device": "cpu"}
    options |= {"structure": None, "strength": 0.2}  # of fields.py
    options["output"] = f"{page.stem}{'.traj' * moving}"
    options["output"] += ".extxyz" * (page.stem == "own_data")
    namespace: dict[str, object] = {"__name__": page.stem, "arguments": argparse.Namespace(**options)}
    for needs, code in blocks(page, "python"):
        if needs and find_spec(needs) is None:
            pytest.skip(f"{needs} is not installed; make test-adapters runs this page beside it")
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "spectrum: the mode at")  # of random weights
            if needs:
                warnings.simplefilter("ignore")
            exec(compile(code, name_of(page), "exec"), namespace)


SCRIPTS = {
    "own_data.py": ["--frames", "10", "--output", "script.extxyz"],
    "train_in_python.py": ["--epochs", "1", "--frames", "20", "--output", "script.safetensors"],
    "dynamics.py": [MODEL, "--steps", "2", "--output", "script.traj"],
    "simulate.py": [MODEL, "--steps", "2", "--output", "pressure_script.traj"],
    "fields.py": [FIELDS, "--steps", "2", "--output", "in_field.traj"],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_examples_run(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", [name, *SCRIPTS[name]])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert (folder / SCRIPTS[name][-1]).stat().st_size > 100
    assert capsys.readouterr().out


def test_own_data_works_in_the_order_of_its_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs/own_data.md"
    monkeypatch.chdir(folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    monkeypatch.setattr("sys.argv", ["own_data.py", "--frames", "30"])
    runpy.run_path(str(ROOT / "examples/own_data.py"), run_name="__main__")
    done = commands(page, "npol")
    for words in done:
        shorter = ["1" if word == "20" else word for word in words]
        assert main([*shorter, "--model.backbone.channels", "8"] if words[0] == "train" else shorter) == 0
    assert [words[0] for words in done] == ["train", "info", "evaluate", "predict", "predict"]
    (frame,) = ase.io.read(folder / "predictions.extxyz", ":1")
    assert frame.arrays["displacement"].shape == (9, 3)
    assert "forces" in capsys.readouterr().out


NPOL = [(page, words) for page in PAGES for words in commands(page, "npol")]


@pytest.mark.parametrize(("page", "words"), NPOL, ids=[f"{name_of(page)}: {' '.join(words)}" for page, words in NPOL])
def test_commands_are_understood(page: Path, words: list[str]) -> None:
    known, rest = parser().parse_known_args(words)
    if words[0] == "train":
        tree, source = read_yaml(ROOT / known.config)
        assert build(ExperimentConfig, with_overrides(tree, read_overrides(rest)), source).data.path
    elif words[0] == "compare":
        grid = read_grid(ROOT / known.grid, read_overrides(rest))
        assert set(known.only or ()) <= set(grid.config.variants)
    elif words[0] == "evaluate":
        assert all(key.startswith("data.") for key in read_overrides(rest))
    else:
        assert not [word for word in rest if word.startswith("-")]


def test_there_are_commands() -> None:
    found = {words[0] for _, words in NPOL}
    assert found >= {"train", "evaluate", "predict", "compare", "info", "sample", "enumerate", "label", "pack"}
    assert len(WITH_PYTHON) >= 6


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_scripts_and_targets_are_there(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands(page, "make"):
        assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), f"make {words[0]}"
    for words in [*commands(page, "python"), *commands(page, "sh")]:
        if not words[0].startswith("-"):
            assert (ROOT / words[0]).is_file(), words[0]
    for words in commands(page, "pip"):
        for extra in re.findall(r"neural-polarization\[(.*?)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_yaml_is_understood(page: Path) -> None:
    for _, code in blocks(page, "yaml"):
        tree = yaml.safe_load(code)
        if "data" in tree and "model" in tree:
            assert build(ExperimentConfig, tree, Source(name_of(page), {})).model.heads


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings; pages of the API are made by the site, whose build checks them."""
    for target in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if path.startswith(("api/", "../api/")):
            continue
        file = page.parent / path
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}, target


def test_readme_is_short() -> None:
    text = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(text.split()) <= 800


def test_readme_has_the_numbers_of_the_chart() -> None:
    with (ROOT / "docs/pictures/results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = [line for line in README.splitlines() if line.startswith("| ") and "±" in line]
    assert len(table) == 5
    for number, row in enumerate(rows):
        place = ("wider", "deeper", "moving view").index(row["network"])
        cell = table[number // 3].replace("*", "").split("|")[2 + place].strip()
        expected = f"{float(row['ratio']):.2f} ± {max(0.0, float(row['deviation'])):.2f}"
        assert cell.split(" (")[0] == expected, row
        if row["network"] == "deeper":
            assert cell.endswith(f"({float(row['step']):.1f})")


def test_the_address_of_the_repository_stands_in_one_place() -> None:
    address = PROJECT["urls"]["Repository"]
    owner = address.removeprefix("https://")
    files = [*PAGES, *ROOT.glob("*.md"), ROOT / "mkdocs.yml", ROOT / "docs/hooks.py", ROOT / "CITATION.cff"]
    files += [path for path in (ROOT / ".github").rglob("*") if path.is_file()]
    assert [name_of(path) for path in files if owner in path.read_text(encoding="utf-8")] == []
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = set(re.findall(r"[\w.]*github\w*\.com/([\w-]+/[\w-]+)", pyproject))
    assert found == {owner.removeprefix("github.com/")}


def test_links_of_the_package_index_are_whole() -> None:
    text = README
    for rule in CONFIGURATION["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) == len(re.findall(r"\]\((.*?)\)", README)) > 10
    assert all(link.startswith("https://") for link in links)


def test_the_tree_is_the_tree() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    folder = ROOT
    for line in tree.removeprefix("text").strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = ROOT / name
            assert folder.is_dir(), name
        else:
            assert (folder / name).exists(), name
    inside = {path.name for path in (ROOT / "src/neural_polarization").iterdir()}
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("    ")}
    assert inside - named <= {"__init__.py", "__pycache__", "py.typed"}
