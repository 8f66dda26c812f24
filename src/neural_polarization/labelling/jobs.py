"""Labels for many structures, with worker processes or a Dask cluster, progress, and restart."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import ase

from ..text import counted, duration
from .calculation import Labels, Request, WarmStart, compute
from .store import LabelStore, structure_key

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One structure to be labelled, with the labels that the file has of it already."""

    key: str
    atoms: ase.Atoms
    request: Request
    stored: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Result of a job: labels, or the reason why there are none."""

    job: Job
    labels: Labels
    reason: str
    seconds: float


@dataclass(frozen=True)
class Summary:
    """Counts of a run.

    Attributes:
        done: Number of structures that were labelled in this run.
        failed: Number of structures that got no labels in this run.
        skipped: Number of structures that occurred twice or were in the file already, with labels or as failed.
        labelled: Number of structures with labels in the file now, from this run or an earlier one.
        lacking: Number of those that lack a quantity that was asked for, which could not be computed.
    """

    done: int
    failed: int
    skipped: int
    labelled: int
    lacking: int = 0


_warm = WarmStart()


def perform(job: Job) -> Outcome:
    """Computes one job. A failure becomes the reason in the outcome, not an exception."""
    start = time.process_time()
    try:
        labels, reason = compute(job.atoms, job.request, job.key, _warm, job.stored), ""
    except Exception as error:  # a molecule must never stop the others
        labels, reason = {}, f"{type(error).__name__}: {error}"
    return Outcome(job, labels, reason, time.process_time() - start)


Engine: TypeAlias = Callable[[Iterable[Job]], Iterator[Outcome]]
"""Performs jobs and yields their outcomes, in any order, as they finish."""


def run(
    structures: Sequence[ase.Atoms],
    request: Request,
    path: Path,
    engine: Engine,
    retry_failed: bool = False,
    report: Callable[[str], None] | None = None,
) -> Summary:
    """Labels structures and writes the labels to a file, without computing again what is in the file already.

    A structure that lacks a quantity gets this quantity: its density matrix, where the file has it, is the first guess,
    and its other labels stay. They stay too if the calculation fails; the file then keeps the reason.

    Args:
        structures: Structures in the order in which they should be computed.
        request: Level, accuracy and quantities to compute.
        path: HDF5 file, which is made or continued.
        engine: Engine that performs the jobs: `processes(...)`, `dask_cluster(...)` or `serial`.
        retry_failed: Whether structures and quantities that are recorded as failed are tried again.
        report: Function that is called with one line per structure. By default it prints to standard error.
    """
    tell = report or _to_stderr
    done = failed = 0
    with LabelStore(path, request) as store:
        missing: list[tuple[str, ase.Atoms]] = []
        seen: set[str] = set()
        keys = [structure_key(atoms, request) for atoms in structures]
        for key, atoms in zip(keys, structures, strict=True):
            if key in seen or not store.missing(key, retry_failed):
                continue
            seen.add(key)
            missing.append((key, atoms))
        skipped = len(structures) - len(missing)
        if skipped:
            tell(f"left out {skipped} of {counted(len(structures), 'structure')}: in {path} already, or there twice")
        start = time.monotonic()
        jobs = (
            Job(key, atoms, replace(request, quantities=store.to_compute(key, retry_failed)), store.labels(key))
            for key, atoms in missing
        )
        for outcome in engine(jobs):
            key, atoms = outcome.job.key, outcome.job.atoms
            if outcome.reason:
                failed += 1
                store.add_failure(key, atoms, outcome.reason, outcome.seconds)
            else:
                done += 1
                store.add(key, atoms, outcome.labels, outcome.seconds)
            finished = done + failed
            left = (time.monotonic() - start) / finished * (len(missing) - finished)
            tell(
                f"{finished}/{len(missing)} {atoms.get_chemical_formula()} {outcome.seconds:.1f} s"
                + (f" FAILED: {outcome.reason}" if outcome.reason else "")
                + f", {duration(left)} left"
            )
        labelled = sum(store.labelled(key) for key in keys)
        lacking = sum(bool(store.lacking(key)) for key in keys)
    return Summary(done, failed, skipped, labelled, lacking)


def serial(jobs: Iterable[Job]) -> Iterator[Outcome]:
    """Performs one job after the other in this process."""
    return map(perform, jobs)


def processes(workers: int) -> Engine:
    """An engine of worker processes with one thread each.

    Raises:
        ValueError: for fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")

    def engine(jobs: Iterable[Job]) -> Iterator[Outcome]:
        # Libraries read the number of threads when they are loaded, so it has to be in the child's environment before.
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        try:
            with ProcessPoolExecutor(
                workers, mp_context=multiprocessing.get_context("spawn"), initializer=_worker, initargs=(os.getpid(),)
            ) as pool:
                yield from _as_completed(pool, jobs, workers)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    return engine


def _as_completed(pool: ProcessPoolExecutor, jobs: Iterable[Job], workers: int) -> Iterator[Outcome]:
    waiting = iter(jobs)
    running: set[Future[Outcome]] = set()
    try:
        while True:
            # Only a few jobs are submitted at a time, so that an interrupt has little to cancel and the order is about
            # kept.
            while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                running.add(pool.submit(perform, job))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process died, most likely for lack of memory; everything before is stored: run the same "
            "command again with fewer --workers"
        ) from None
    finally:
        for future in running:
            future.cancel()


def dask_cluster(scheduler: str | None, workers: int = 1) -> Engine:
    """An engine on a Dask cluster.

    SLURM, PBS, Kubernetes and SSH clusters are started with dask-jobqueue, dask-kubernetes or
    `dask.distributed.SSHCluster`; their workers need this package with the extra `dft`.

    Args:
        scheduler: Address of the scheduler, such as "tcp://10.0.0.1:8786"; None starts a local cluster.
        workers: Number of workers of the local cluster.

    Raises:
        ImportError: without Dask.
    """

    def engine(jobs: Iterable[Job]) -> Iterator[Outcome]:
        try:
            from dask.distributed import Client, LocalCluster, as_completed
        except ImportError:
            raise ImportError("a cluster needs Dask: pip install 'neural-polarization[cluster]'") from None
        local: Any = None
        if scheduler is None:
            local = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
        client: Any = Client(local if local is not None else scheduler)
        try:
            client.run(_one_thread)
            futures = client.map(perform, list(jobs), pure=False)
            for future in as_completed(futures):
                yield future.result()
                future.release()
        finally:
            client.close()
            if local is not None:
                local.close()

    return engine


def _one_thread() -> None:
    from pyscf import lib

    lib.num_threads(1)


def _worker(parent: int) -> None:
    """Prepares a worker process so that it ends with its parent, even if the parent is killed."""
    _one_thread()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
