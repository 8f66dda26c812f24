"""`make fuzz`: thousands of damaged files in processes that may crash, and a table of what came of them."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from contract import SECONDS, verdict
from valid import VALID

from neural_polarization.text import table

START = 120.0
"""Seconds that the imports of a worker may take, on a busy machine."""


@dataclass
class Tally:
    """What came of the inputs of a format."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Worker:
    """A process that judges one input after the other, and is replaced where it dies or takes too long."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(START) or self._connection.recv() != "ready":
            raise RuntimeError("a worker does not start")

    def judge(self, format: str, seed: int) -> tuple[str, float]:
        """The verdict on an input, and the seconds of processor time that it took."""
        self._before = self._seconds()
        self._connection.send((format, seed))
        start = time.monotonic()
        try:
            # Processor time counts, which a busy machine hands out slowly.
            while not self._connection.poll(1.0):
                if self._seconds() - self._before > SECONDS or time.monotonic() - start > 20 * SECONDS:
                    self.close()
                    self._start()
                    return f"no answer after {SECONDS:.0f} seconds", SECONDS
            return self._connection.recv()
        except (EOFError, ConnectionError):
            code = self._process.exitcode
            self.close()
            self._start()
            return f"the interpreter crashed (exit code {code})", 0.0

    def _seconds(self) -> float:
        """Processor time of the process so far, where the system tells it; without, only the wall clock counts."""
        try:
            words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection) -> None:
    with Path(os.devnull).open("w") as silence, TemporaryDirectory() as folder:
        os.dup2(silence.fileno(), 2)  # what RDKit and HDF5 say of damaged files
        verdict("extended XYZ", 0, Path(folder))
        connection.send("ready")
        while True:
            format, seed = connection.recv()
            start = time.process_time()
            result = verdict(format, seed, Path(folder))
            connection.send((result, time.process_time() - start))


def main() -> int:
    """Runs as many inputs as are asked for, in turns over the formats; fails where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first input of each format")
    parser.add_argument("--formats", nargs="+", default=list(VALID), choices=list(VALID))
    arguments = parser.parse_args()
    tallies = {name: Tally() for name in arguments.formats}
    worker = Worker()
    for number in range(arguments.inputs):
        format = arguments.formats[number % len(arguments.formats)]
        seed = arguments.seed + number // len(arguments.formats)
        result, seconds = worker.judge(format, seed)
        tally = tallies[format]
        tally.counts[result if result in ("accepted", "refused") else "fault"] += 1
        tally.slowest = max(tally.slowest, seconds)
        if result not in ("accepted", "refused"):
            tally.faults.append(f"{format}, seed {seed}: {result}")
            print(tally.faults[-1], file=sys.stderr, flush=True)
    worker.close()
    rows = [["format", "inputs", "accepted", "refused", "faults", "slowest"]]
    for name, tally in tallies.items():
        counts = [tally.counts[kind] for kind in ("accepted", "refused", "fault")]
        rows.append([name, *(f"{count:,}" for count in (sum(counts), *counts)), f"{tally.slowest:.1f} s"])
    totals = [sum(tally.counts[kind] for tally in tallies.values()) for kind in ("accepted", "refused", "fault")]
    rows.append(["all", *(f"{count:,}" for count in (sum(totals), *totals)), ""])
    print(table(rows))
    return 1 if totals[2] else 0


if __name__ == "__main__":
    sys.exit(main())
