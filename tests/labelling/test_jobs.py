"""Many structures: failures, restarts after a kill, worker processes, a Dask cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.io import write

from neural_polarization.labelling import jobs as running
from neural_polarization.labelling.calculation import Labels, Request
from neural_polarization.labelling.jobs import Job, Outcome, dask_cluster, perform, processes, run, serial
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import Accuracy
from neural_polarization.labelling.store import read_labels

REQUEST = Request(Level.parse("HF/STO-3G"), quantities=("forces",))


def stretched(number: int) -> list[ase.Atoms]:
    return [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(number)]


def test_progress_failures_and_skipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(atoms: ase.Atoms, request: Request, key: str, warm: object, stored: Labels) -> Labels:
        if atoms.get_distance(0, 1) > 0.715:
            raise ArithmeticError("no density here")
        return {"energy": np.array(-1.0), "forces": np.zeros((2, 3))}

    monkeypatch.setattr(running, "compute", compute)
    path, lines = tmp_path / "labels.h5", []
    structures = stretched(3)
    summary = run([*structures, structures[0]], REQUEST, path, serial, report=lines.append)
    assert (summary.done, summary.failed, summary.skipped, summary.labelled) == (2, 1, 1, 3)
    assert "left out 1 of 4 structures: in" in lines[0]
    assert lines[1].startswith("1/3 H2 ") and lines[1].endswith(" left")
    assert "FAILED: ArithmeticError: no density here" in lines[3]
    assert [record.reason for record in read_labels(path)] == ["", "", "ArithmeticError: no density here"]
    again = run(structures, REQUEST, path, serial, report=lines.append)
    assert (again.done, again.failed, again.skipped, again.labelled) == (0, 0, 3, 2)
    retried = run(structures, REQUEST, path, serial, retry_failed=True, report=lines.append)
    assert (retried.done, retried.failed, retried.skipped) == (0, 1, 2)


def test_a_quantity_that_is_added_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """It starts from the stored density matrix, and a failure loses nothing."""
    path = tmp_path / "labels.h5"
    structures = stretched(2)
    with_density = replace(REQUEST, quantities=("charges", "density"))
    assert run(structures, with_density, path, serial, report=lambda _: None).done == 2
    before = {record.key: record.labels for record in read_labels(path)}

    def fails(jobs: Iterable[Job]) -> Iterator[Outcome]:
        for job in jobs:
            np.testing.assert_array_equal(job.stored["density_matrix"], before[job.key]["density_matrix"])
            yield Outcome(job, {}, "NotConvergedError: no", 1.0)

    summary = run(structures, REQUEST, path, fails, report=lambda _: None)
    assert (summary.failed, summary.labelled) == (2, 2)
    failed = list(read_labels(path))
    assert [(record.reason, record.not_added) for record in failed] == [("", {"forces": "NotConvergedError: no"})] * 2
    summary = run(structures, REQUEST, path, serial, report=lambda _: None)
    assert (summary.done, summary.skipped, summary.lacking) == (0, 2, 2), "they failed before"
    other = replace(REQUEST, quantities=("forces", "polarizability"))
    summary = run(structures, other, path, serial, report=lambda _: None)
    assert (summary.done, summary.lacking) == (2, 2), "what did not fail before is added"
    assert all({"polarizability"} < set(record.labels) and record.not_added for record in read_labels(path))
    summary = run(structures[::-1], REQUEST, path, serial, retry_failed=True, report=lambda _: None)
    assert (summary.done, summary.skipped, summary.lacking) == (2, 0, 0)
    assert not any(record.not_added for record in read_labels(path))
    after = {record.key: record.labels for record in read_labels(path)}
    alone = run(structures, REQUEST, tmp_path / "alone.h5", serial, report=lambda _: None)
    assert alone.done == 2
    for record in read_labels(tmp_path / "alone.h5"):
        both = after[record.key]
        assert set(both) == set(before[record.key]) | {"forces", "polarizability"}
        for name in ("hirshfeld_charges", "mulliken_charges", "density_matrix"):
            np.testing.assert_array_equal(both[name], before[record.key][name])
        np.testing.assert_allclose(both["forces"], record.labels["forces"], atol=1e-4)
        np.testing.assert_allclose(both["energy"], record.labels["energy"], atol=1e-6)
    for record in read_labels(path):
        np.testing.assert_array_equal(record.labels["energy"], before[record.key]["energy"])
    assert [record.key for record in read_labels(path)] == list(before)
    assert run(structures, REQUEST, path, serial, report=lambda _: None).skipped == 2


def test_a_molecule_that_cannot_converge_does_not_stop_the_others() -> None:
    hopeless = replace(REQUEST, accuracy=Accuracy(max_cycles=1))
    water = ase.Atoms("OHH", [[0, 0, 0], [0, 0, 3.0], [0, 2.0, 0.0]])
    outcome = perform(Job("key", water, hopeless))
    assert outcome.reason.startswith("NotConvergedError: HF/STO-3G did not converge in 1 iterations")
    assert outcome.labels == {}


@pytest.mark.slow
def test_worker_processes_and_dask_give_the_same_labels(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    structures = stretched(3)
    engines = {"serial": serial, "processes": processes(1), "dask": dask_cluster(None, 1)}
    energies: dict[str, list[float]] = {}
    for name, engine in engines.items():
        path = tmp_path / f"{name}.h5"
        summary = run(structures, REQUEST, path, engine, report=lambda _: None)
        assert (summary.done, summary.failed) == (3, 0)
        energies[name] = sorted(float(record.labels["energy"]) for record in read_labels(path))
    np.testing.assert_allclose(energies["processes"], energies["serial"], atol=1e-6)
    np.testing.assert_allclose(energies["dask"], energies["serial"], atol=1e-6)


@pytest.mark.slow
def test_kill_in_the_middle_and_restart(tmp_path: Path) -> None:
    """SIGKILL of the parent: what was reported is in the file, the worker ends too, a restart does the rest."""
    source, path = tmp_path / "molecules.extxyz", tmp_path / "labels.h5"
    structures = [ase.Atoms("OHH", [[0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24 - 0.01 * k]]) for k in range(8)]
    write(source, structures)
    command = [
        sys.executable,
        "-c",
        "import argparse, sys\n"
        "from neural_polarization.labelling.commands import add_parsers\n"
        "parser = argparse.ArgumentParser()\n"
        "add_parsers(parser.add_subparsers())\n"
        "arguments = parser.parse_args()\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(arguments.run(arguments))\n",
        "label",
        str(source),
        "-o",
        str(path),
        "--level",
        "PBE/3-21G",
        "--quantities",
        "forces",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    reported = 0
    while reported < 2:
        line = process.stderr.readline()
        assert line, "the command ended before its time"
        reported += line[:1].isdigit() and "/8 " in line
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    time.sleep(0.2)
    saved = list(read_labels(path))
    assert 2 <= len(saved) <= 7
    restarted = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert f"{8 - len(saved)} labelled, 0 failed, {len(saved)} were there already" in restarted.stdout
    assert len(list(read_labels(path))) == 8


def test_wrong_number_of_workers() -> None:
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        processes(0)


def test_workers_leave_the_threads_of_this_process_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert list(processes(1)(iter(()))) == []
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ
