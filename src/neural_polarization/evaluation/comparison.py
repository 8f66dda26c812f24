"""`npol compare`: trains a grid of variants and seeds, resumably, and puts their errors and costs side by side."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import yaml

from neural_polarization.data.sources import open_dataset
from neural_polarization.evaluation.grid import FOUND, Cell, Grid
from neural_polarization.evaluation.matching import deeper, parameters, step_seconds, wider
from neural_polarization.evaluation.progress import Progress
from neural_polarization.evaluation.tables import Table, make_table, write_table
from neural_polarization.files import remove_leftovers, write_json, write_text
from neural_polarization.settings import differences, plain
from neural_polarization.text import duration
from neural_polarization.training.callbacks import load_resume_file
from neural_polarization.training.directory import RunDirectory
from neural_polarization.training.learned import changed_files, files_beside, fingerprint
from neural_polarization.training.task import prepare

_POLL = 0.2  # seconds between two checks of the running trainings
_GRACE = 10.0  # seconds for a training to end by itself after SIGTERM


@dataclass(frozen=True)
class Costs:
    """Costs of the variants, measured before they are trained.

    Attributes:
        found: Settings that were found for each variant, by dotted key: width, depth, number of steps.
        parameters: Number of parameters of each variant.
        step_seconds: Time of a training step of each variant in seconds, measured in turns on one thread.
    """

    found: dict[str, dict[str, Any]]
    parameters: dict[str, int]
    step_seconds: dict[str, float]


@dataclass(frozen=True)
class Learned:
    """What a training learned from.

    Attributes:
        content_hash: SHA-256 of structures and labels; None where the training does not say it.
        files: That of the files beside the data, by key (`learned.files_beside`).
    """

    content_hash: str | None
    files: Mapping[str, str]


@dataclass
class Running:
    """A training that runs in a process of its own."""

    cell: Cell
    process: "subprocess.Popen[str]"
    log: IO[str]
    started: float


def compare(
    grid: Grid, jobs: int = 1, overwrite: bool = False, only: Sequence[str] | None = None
) -> tuple[Table, list[str]]:
    """Runs the missing trainings of a grid and writes the table.

    Finished trainings are skipped and interrupted ones are resumed, so the same call continues a grid that was killed.
    A second process may work on the same grid at the same time.

    Args:
        grid: Variants and seeds.
        jobs: Number of trainings at a time, each a process with one thread.
        overwrite: Whether results of another configuration may be replaced.
        only: Variants to train in this call, by default all. The table has every finished variant.

    Returns:
        The table, and a line for each training that failed.

    Raises:
        FileExistsError: if there are results of another configuration.
        ValueError: if a name in `only` is no variant, or `jobs` is below one.
        RuntimeError: if no training is finished, because all trainings failed.
    """
    if jobs < 1:
        raise ValueError(f"--jobs: expected at least 1, got {jobs}")
    wanted = tuple(grid.config.variants) if only is None else tuple(only)
    for name in wanted:
        if name not in grid.config.variants:
            raise ValueError(f"--only: {name!r} is not a variant (there are {', '.join(grid.config.variants)})")
    grid.output.mkdir(parents=True, exist_ok=True)
    for name in ("costs.json", "table.md", "table.csv", "table.json", "ratios.png"):
        remove_leftovers(grid.output / name, older=3600.0)  # another process may work on the same grid
    costs = measure(grid, overwrite)
    cells = [cell for cell in grid.cells(costs.found) if cell.variant in wanted]
    _check_former(cells, overwrite)
    check_data(cells, overwrite)
    failures = _train([cell for cell in cells if not cell.directory.finished], costs, jobs, len(cells))
    if failures and not any(cell.directory.finished for cell in grid.cells(costs.found)):
        raise RuntimeError(f"all trainings failed: {'; '.join(failures)}")
    table = tabulate(grid, costs)
    write_table(table, grid.output)
    return table, failures


def tabulate(grid: Grid, costs: Costs) -> Table:
    """The table of the finished trainings.

    Raises:
        ValueError: if no training is finished.
    """
    results: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in grid.config.variants}
    for cell in grid.cells(costs.found):
        if cell.directory.finished:
            results[cell.variant][cell.seed] = cell.directory.read_result()
    hashes = {result["content_hash"] for of in results.values() for result in of.values() if "content_hash" in result}
    if len(hashes) > 1 and len({json.dumps(plain(cell.config.data)) for cell in grid.cells(costs.found)}) == 1:
        raise ValueError(
            f"{grid.output}: its trainings learned from {len(hashes)} different contents of one file, so that their "
            "ratios mean nothing; continue the comparison with --overwrite to train those of other data anew"
        )
    if not any(results.values()):
        raise ValueError(f"{grid.output}: no training of this grid is finished; run `npol compare` to train them")
    return make_table(
        grid.config.name,
        grid.config.reference,
        results,
        costs.parameters,
        costs.step_seconds,
        {
            name: ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in costs.found.get(name, {}).items())
            for name in results
        },
    )


def measure(grid: Grid, overwrite: bool = False) -> Costs:
    """Measures the costs of the variants, and finds the sizes of variants that have to match another.

    Both are kept in `costs.json`, because a continued grid must use the same sizes. If variants are added to a grid,
    steps are measured again, because only times of one run can be compared.

    Raises:
        FileExistsError: if there are results of other data, another base, or a variant that has changed.
    """
    file = grid.output / "costs.json"
    wanted = json.loads(
        json.dumps({"base": _sizes(grid.base), "variants": plain(grid.config.variants), "minutes": grid.config.minutes})
    )
    found: dict[str, dict[str, Any]] = {}
    if file.is_file():
        stored = cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
        former = cast("dict[str, Any]", stored["of"])
        common = [name for name in wanted["variants"] if name in former["variants"]]
        before, now = ({**of, "variants": {name: of["variants"][name] for name in common}} for of in (former, wanted))
        if before == now:
            found = stored["found"]
            if wanted["variants"].keys() <= stored["step_seconds"].keys():
                return Costs(found, stored["parameters"], stored["step_seconds"])
            wanted["variants"] = {**former["variants"], **wanted["variants"]}
        elif not overwrite and any(grid.output.glob("*/seed_*/config.yaml")):
            raise FileExistsError(
                f"{grid.output}: trainings of another grid are there ({'; '.join(differences(before, now))}); "
                "give another `output`, or --overwrite to replace them"
            )
    _say("measuring the cost of each variant, step by step in turns ...")
    costs = _measured(grid, found)
    write_json(
        file,
        {"of": wanted, "found": costs.found, "parameters": costs.parameters, "step_seconds": costs.step_seconds},
    )
    for name in grid.config.variants:
        sizes = "".join(f", {key} {value}" for key, value in costs.found.get(name, {}).items())
        _say(
            f"  {name}: {costs.parameters[name]:,} parameters, {1000 * costs.step_seconds[name]:.1f} ms per step{sizes}"
        )
    return costs


def _measured(grid: Grid, former: Mapping[str, dict[str, Any]]) -> Costs:
    """Costs of all variants, with sizes from earlier calls and new ones where they are missing."""
    found = {name: dict(sizes) for name, sizes in former.items()}
    names = list(grid.config.variants)
    experiments = {name: grid.experiment(name, found.get(name, {})) for name in names}
    task = prepare(experiments[grid.config.reference])
    elements, training_set = task.model.config.elements, task.dataset.subset(task.split.train)
    densities = task.densities.get("train")
    for name, variant in grid.config.variants.items():
        if variant.match is None or name in former:
            continue
        other = experiments[variant.match.variant]
        if variant.match.cost == "parameters":
            at_least = parameters(other, elements)
            found[name] = {FOUND["parameters"]: wider(experiments[name], elements, at_least)}
        else:
            found[name] = {FOUND["time"]: deeper(experiments[name], other, training_set, elements, densities)}
        experiments[name] = grid.experiment(name, found[name])
    seconds = step_seconds(experiments, training_set, elements, densities)
    if grid.config.minutes is not None:
        for name in names:
            steps = max(1, math.floor(60 * grid.config.minutes / seconds[name]))
            found.setdefault(name, {}).setdefault("training.steps", steps)
    return Costs(found, {name: parameters(experiments[name], elements) for name in names}, seconds)


def _sizes(base: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the base that decides the costs."""
    training = cast("Mapping[str, Any]", base.get("training", {}))
    return {
        "model": base.get("model"),
        "data": base.get("data"),
        "batch_size": training.get("batch_size"),
        "losses": training.get("losses"),
    }


def _check_former(cells: list[Cell], overwrite: bool) -> None:
    for cell in cells:
        if not (cell.directory.config.is_file() and cell.directory.started):
            continue
        changed = cell.directory.changes(cell.config)
        if not changed:
            continue
        if not overwrite:
            raise FileExistsError(
                f"{cell.directory.path}: a training with another configuration is there ({'; '.join(changed)}); give "
                "another `output`, or --overwrite to train it anew"
            )
        cell.directory.clear()


def check_data(cells: Sequence[Cell], overwrite: bool) -> None:
    """Makes sure that every training that is here learned from the data that are there now.

    Raises:
        FileExistsError: for one that did not; ratios of models of different data would mean nothing.
    """
    present: dict[str, Learned] = {}
    for cell in cells:
        before, data = learned_from(cell.directory), cell.config.data
        if before is None:
            continue
        key = json.dumps(plain(data), sort_keys=True)
        if key not in present:
            present[key] = Learned(fingerprint(open_dataset(data)), files_beside(data))
        now = present[key]
        others = changed_files(before.files, now.files)
        if before.content_hash in (None, now.content_hash) and not others:
            continue
        if not overwrite:
            what = f"another file of {' and of '.join(others)}"
            if not others:
                what = (
                    f"other contents of {data.path} ({str(before.content_hash)[:12]}, now {str(now.content_hash)[:12]})"
                )
            raise FileExistsError(
                f"{cell.directory.path}: this training learned from {what}; put the former file back, give another "
                "`output`, or --overwrite to train it anew"
            )
        cell.directory.clear()


def learned_from(directory: RunDirectory) -> Learned | None:
    """What a finished or interrupted training learned from; None where there is none."""
    if directory.finished:
        stored = directory.read_result()
    elif directory.resume.is_file():
        stored = load_resume_file(directory.resume)
    else:
        return None
    return Learned(stored.get("content_hash"), stored.get("files", {}))


def _train(todo: list[Cell], costs: Costs, jobs: int, total: int) -> list[str]:
    if total > len(todo):
        _say(f"{total - len(todo)} of {total} trainings are finished already")
    if todo:
        _say(f"{len(todo)} trainings, {jobs} at a time; each writes what it learns from, and how it goes, to a log")
    done = 0
    queue, running, failures = list(todo), list[Running](), list[str]()
    progress = Progress(len(todo))
    with _interruptible(running):
        while queue or running:
            free = [cell for cell in queue if not cell.directory.busy]
            while free and len(running) < jobs:
                cell = free.pop(0)
                queue.remove(cell)
                if not cell.directory.finished:  # another process may have finished it since the list was made
                    progress.begin(cell)
                    running.append(start(cell))
                    _say(f"{cell.variant}, seed {cell.seed}: started; details: {cell.log}")
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                item.log.close()
                if not item.cell.directory.finished and item.cell.directory.busy:
                    queue.append(item.cell)  # another process has just begun the same cell
                    continue
                done += 1
                what = _outcome(item)
                if not item.cell.directory.finished:
                    failures.append(what)
                _say(f"[{total - len(queue) - len(running)}/{total}] {what}")
            line = progress.line(done, [item.cell for item in running])
            if line:
                _say(line)
            time.sleep(_POLL)
    return failures


@contextlib.contextmanager
def _interruptible(running: list[Running]) -> Generator[None]:
    """Ends the running trainings when the grid ends for any reason, SIGTERM included.

    Raises:
        SystemExit: on SIGTERM.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    in_main = threading.current_thread() is threading.main_thread()  # only the main thread may set handlers
    former = signal.signal(signal.SIGTERM, end) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, former)
        for item in running:
            item.process.terminate()
        for item in running:
            try:
                item.process.wait(_GRACE)
            except subprocess.TimeoutExpired:  # a compiling process ignores SIGTERM; it can resume
                item.process.kill()
                item.process.wait()
            item.log.close()


def start(cell: Cell) -> Running:
    """Starts the training of a cell."""
    write_text(cell.file, yaml.safe_dump(plain(cell.config), sort_keys=False, allow_unicode=True))
    log = cell.log.open("a", encoding="utf-8")
    command = [sys.executable, "-m", "neural_polarization.cli", "train", str(cell.file)]
    # Without this glibc returns every large temporary to the system, which slows a training on a CPU.
    memory = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, env={**memory, **os.environ, **threads}
    )
    return Running(cell, process, log, time.monotonic())


def _outcome(item: Running) -> str:
    cell, spent = item.cell, duration(time.monotonic() - item.started)
    if not cell.directory.finished:
        lines = Path(cell.log).read_text(encoding="utf-8").strip().splitlines()
        why = lines[-1] if lines else f"it ended with code {item.process.returncode}"
        return f"{cell.variant}, seed {cell.seed}: FAILED after {spent}: {why} (all of it: {cell.log})"
    result = cell.directory.read_result()
    part = result.get("test", result["validation"])
    errors = [f"{name} {error['mae']:.4g} {result['units'][name]}" for name, error in list(part.items())[:3]]
    return f"{cell.variant}, seed {cell.seed}: {', '.join(errors)} in {spent}"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
