"""Trainings, labellings and comparisons that are killed without warning: nothing is lost, and the weights are the same.

`NPOL_KILLS=7 pytest tests/test_kills.py` kills each of the three seven times; otherwise each is killed once.
"""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import yaml
from ase.io import write
from safetensors.torch import load_file

from neural_polarization.labelling.store import read_labels
from waters import experiment, write_experiment

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("NPOL_KILLS", "1"))
AHEAD = 12
"""Structures that are left when a labelling starts: more than are finished before a busy machine gets to the kill."""
PATIENCE = 1200.0  # seconds until a process must have made progress, on a busy machine


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "neural_polarization.cli", *words]


def start(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """A process with its children in a group of their own, so that one signal ends all of them."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, env=environment, start_new_session=True)


def killed(words: list[str], log: Path, progress: Callable[[], int], rng: np.random.Generator) -> bool:
    """Starts a command and kills it at a random moment after its next progress; whether it was still running then."""
    before, process = progress(), start(words, log)
    deadline = time.monotonic() + PATIENCE
    while progress() <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(float(rng.uniform(0.0, 0.15)))
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def finish(words: list[str], log: Path) -> str:
    process = start(words, log)
    assert process.wait(timeout=PATIENCE) == 0, log.read_text()
    return log.read_text()


def rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open() as lines:
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(lines)]


def no_leftovers(folder: Path) -> None:
    assert [file.name for file in folder.iterdir() if file.name.startswith(".") or file.suffix == ".new"] == []


def same_weights(one: Path, other: Path) -> None:
    weights, others = load_file(one), load_file(other)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert np.array_equal(value.numpy(), others[name].numpy()), name


def test_killed_trainings_end_with_the_weights_of_a_whole_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 15 * (KILLS + 1), "checkpoint_seconds": 0.0}
    words = command("train", str(write_experiment(tmp_path, **settings)))
    run, log, rng = tmp_path / "run", tmp_path / "train.log", np.random.default_rng(0)
    finish([*words, "--output", str(tmp_path / "whole")], log)
    count = 0
    for _ in range(KILLS):
        saved = len(rows(run / "metrics.csv"))
        count += killed(
            words, log, lambda: (run / "resume.ckpt").stat().st_mtime_ns if (run / "resume.ckpt").exists() else 0, rng
        )
        assert len(rows(run / "metrics.csv")) >= saved  # what was finished stays finished
    finish(words, log)
    assert count == KILLS
    same_weights(tmp_path / "whole" / "model.safetensors", run / "model.safetensors")
    assert rows(tmp_path / "whole" / "metrics.csv") == rows(run / "metrics.csv")
    no_leftovers(run)


def test_killed_comparisons_end_with_the_weights_of_whole_trainings(tmp_path: Path) -> None:
    base = experiment(tmp_path, epochs=15 * (KILLS + 1), checkpoint_seconds=0.0)
    del base["name"], base["output"]
    grid = {
        "name": "waters",
        "output": str(tmp_path / "grid"),
        "seeds": [0],
        "base": base,
        "variants": {"plain": {"set": {"model.polarization.messages": "plain"}}, "polarized": {}},
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    words = command("compare", str(tmp_path / "grid.yaml"), "--jobs", "2")
    log, rng = tmp_path / "compare.log", np.random.default_rng(1)

    def progress() -> int:
        files = tmp_path.glob("grid/*/seed_0/resume.ckpt")
        return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)

    count = sum(killed(words, log, progress, rng) for _ in range(KILLS))
    finish(words, log)
    assert count == KILLS
    for variant in ("plain", "polarized"):
        cell, whole = tmp_path / "grid" / variant / "seed_0", tmp_path / variant
        finish(command("train", str(cell.with_suffix(".yaml")), "--output", str(whole), "--quiet"), log)
        same_weights(whole / "model.safetensors", cell / "model.safetensors")
        no_leftovers(cell)
    assert (tmp_path / "grid" / "table.md").is_file()


def test_killed_labellings_lose_no_label(tmp_path: Path) -> None:
    source, path, log = tmp_path / "molecules.extxyz", tmp_path / "labels.h5", tmp_path / "label.log"
    words = command("label", str(source), "-o", str(path), "--level", "PBE/3-21G", "--quantities", "forces")
    rng = np.random.default_rng(2)

    def labels() -> dict[str, float]:
        return {record.key: float(record.labels["energy"]) for record in read_labels(path)} if path.is_file() else {}

    def reported() -> int:
        """Structures that were reported as finished, in all starts; each counts those that are left."""
        return len(re.findall(r"^\d+/\d+ ", log.read_text(errors="replace"), re.MULTILINE)) if log.is_file() else 0

    def leave(number: int) -> int:
        """Leaves so many structures without labels; the number of all."""
        total = len(labels()) + number
        write(source, [ase.Atoms("OHH", [[0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24 - 0.002 * k]]) for k in range(total)])
        return total

    kept: dict[str, float] = {}
    count = total = 0
    for _ in range(KILLS):
        total = leave(AHEAD)
        count += killed(words, log, reported, rng)
        time.sleep(0.5)  # the worker sees that its parent is gone
        now = labels()
        assert kept.items() <= now.items()  # no label is lost, and none is computed again
        assert len(now) > len(kept)
        kept = now
    finish(words, log)
    assert count == KILLS
    assert kept.items() <= labels().items() and len(labels()) == total
