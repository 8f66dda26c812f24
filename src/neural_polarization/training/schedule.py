"""The learning rate as a function of the step."""

import math

from neural_polarization.training.config import ScheduleConfig


class Schedule:
    """Factor on the learning rate: a linear warm-up times a decay.

    Its only state, that of the plateau, consists of plain numbers, so that it can stand in a resume file.

    Args:
        config: warm-up and decay.
        total_steps: number of steps of the whole training.

    Example:
        >>> schedule = Schedule(ScheduleConfig(warmup_steps=10, decay="cosine", final=0.0), total_steps=110)
        >>> [round(schedule(step), 3) for step in (0, 9, 60, 110)]
        [0.1, 1.0, 0.5, 0.0]
    """

    def __init__(self, config: ScheduleConfig, total_steps: int) -> None:
        self._config = config
        self._total = max(total_steps, 1)
        self._reduction = 1.0
        self._best = math.inf
        self._worse = 0

    def __call__(self, step: int) -> float:
        """Factor for the step with this number, counted from zero."""
        config = self._config
        # A warm-up that is longer than a tenth of the training would leave no training.
        warmup = min(config.warmup_steps, self._total // 10)
        factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
        match config.decay:
            case "none":
                return factor
            case "plateau":
                return factor * self._reduction
            case "cosine":
                done = min(max(step - warmup, 0) / max(self._total - warmup, 1), 1.0)
                return factor * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done)))

    def validated(self, loss: float) -> None:
        """Tells the plateau how a validation went."""
        if self._config.decay != "plateau":
            return
        if loss < self._best:
            self._best, self._worse = loss, 0
            return
        self._worse += 1
        if self._worse > self._config.patience:
            self._reduction = max(self._reduction * self._config.factor, self._config.final)
            self._worse = 0

    def state(self) -> dict[str, float]:
        """What a resume file has to keep."""
        return {"reduction": self._reduction, "best": self._best, "worse": float(self._worse)}

    def restore(self, state: dict[str, float]) -> None:
        """The inverse of `state`."""
        self._reduction, self._best, self._worse = state["reduction"], state["best"], int(state["worse"])
