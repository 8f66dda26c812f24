"""Progress of the trainings of a comparison, read from the files that each of them writes."""

import time
from collections.abc import Iterable

from neural_polarization.evaluation.grid import Cell
from neural_polarization.text import duration

_FIRST = 15.0  # seconds until the first line
_SHARE = 0.05  # later lines wait for this fraction of the elapsed time, so that a long comparison prints few lines


class Progress:
    """Prints one line from time to time about the running trainings.

    Args:
        total: Number of trainings of this call.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = self._said = time.monotonic()
        self._before: dict[tuple[str, int], int] = {}  # epochs of a training that an earlier call made

    def begin(self, cell: Cell) -> None:
        """Remembers what a training has behind it that now begins, or goes on."""
        self._before[cell.variant, cell.seed] = finished_epochs(cell)[0]

    def line(self, done: int, running: Iterable[Cell]) -> str | None:
        """The next line, or None if nothing runs or the last line is recent.

        Args:
            done: Number of trainings that have ended.
            running: Running trainings.
        """
        now = time.monotonic()
        cells = list(running)
        if not cells or now - self._said < max(_FIRST, _SHARE * (now - self._started)):
            return None
        self._said = now
        epochs = [finished_epochs(cell) for cell in cells]
        made, rest = float(done), float(self._total - done)  # in trainings
        for cell, (epoch, total) in zip(cells, epochs, strict=True):
            # A training that goes on first drops the rows after its last checkpoint.
            before = min(epoch, self._before.get((cell.variant, cell.seed), 0))
            made += (epoch - before) / total if total else 0.0
            rest -= epoch / total if total else 0.0
        parts = [
            f"{cell.variant}, seed {cell.seed}: epoch {epoch}" + (f"/{total}" if total else "")
            for cell, (epoch, total) in zip(cells, epochs, strict=True)
        ]
        elapsed = now - self._started
        left = f"; about {duration(elapsed * rest / made)} left" if made else ""
        return f"  {duration(elapsed)}: {'; '.join(parts)}{left}"


def finished_epochs(cell: Cell) -> tuple[int, int | None]:
    """Number of epochs that a training has finished, and of all its epochs; None for a training that counts steps."""
    total = cell.config.training.epochs if cell.config.training.steps is None else None
    file = cell.directory.metrics
    if not file.is_file():
        return 0, total
    return max(0, len(file.read_text(encoding="utf-8").splitlines()) - 1), total  # one line is the header
