"""Damaged files of every format, a few of each; `make fuzz` runs ten thousand."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from contract import SECONDS, damaged, original, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valid import VALID

pytest.importorskip("rdkit")

EXAMPLES = int(os.environ.get("NPOL_FUZZ_EXAMPLES", "20"))
"""Inputs of each format; more of them with NPOL_FUZZ_EXAMPLES=1000."""


@pytest.mark.parametrize("format", VALID)
def test_valid_files_are_accepted(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contract.damaged", lambda format, seed, folder: original(format))
    assert verdict(format, 0, tmp_path) == "accepted"


@pytest.mark.slow
@pytest.mark.parametrize("format", VALID)
def test_damaged_files(format: str, tmp_path: Path) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**32 - 1))
    def holds(seed: int) -> None:
        with watchdog():
            result = verdict(format, seed, tmp_path)
        assert result in ("accepted", "refused"), f"{format}, seed {seed}: {result}"

    holds()


def test_one_seed_gives_one_file(tmp_path: Path) -> None:
    for format in VALID:
        if format not in (
            "HDF5 labels",
            "HDF5 labels of 0.1",
            "packed npz",
            "QM9 npz",
            "rMD17 npz",
        ):  # these hold times of writing
            assert damaged(format, 3, tmp_path) == damaged(format, 3, tmp_path)


@contextmanager
def watchdog() -> Generator[None]:
    """Ends what takes too much processor time, where the system has such a clock."""
    if not hasattr(signal, "ITIMER_PROF"):
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"no answer after {SECONDS:.0f} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
