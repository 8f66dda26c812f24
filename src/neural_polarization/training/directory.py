"""The directory of a run: what is in it, and whether a run may begin, go on, or must not touch it."""

import json
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import yaml

from neural_polarization.files import locked, remove_leftovers, write_text
from neural_polarization.settings import ConfigError, differences, plain, read_yaml
from neural_polarization.training.config import ExperimentConfig

FREE = (
    "output",
    "training.checkpoint_seconds",
    "training.logger",
    *(f"training.machine.{name}" for name in ("accelerator", "devices", "nodes", "strategy", "threads", "num_workers")),
)
"""Settings that do not change what is computed, so that a resumed run, or another run of one grid, may have others."""


LATER: Mapping[str, Any] = MappingProxyType({"references": {}, "isolated_atoms": "references"})
"""Settings of a training that came after release 0.1.0, as its runs had them."""


@dataclass(frozen=True)
class RunDirectory:
    """Where the files of a run are.

    Attributes:
        path: the directory.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The experiment with every setting."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def resume(self) -> Path:
        """All that a run needs to continue: one that was interrupted, or a finished one that gets more epochs."""
        return self.path / "resume.ckpt"

    @property
    def model(self) -> Path:
        """The best model, safetensors."""
        return self.path / "model.safetensors"

    @property
    def result(self) -> Path:
        """Errors and costs; exists when the run is finished."""
        return self.path / "result.json"

    @property
    def finished(self) -> bool:
        """Whether the run is."""
        return self.result.is_file()

    @property
    def started(self) -> bool:
        """Whether a run has left more here than its configuration."""
        return any(file.exists() for file in self._written)

    @property
    def _written(self) -> tuple[Path, ...]:
        """What a run writes beside its configuration."""
        return (self.metrics, self.resume, self.model, self.result)

    @property
    def busy(self) -> bool:
        """Whether another process is training here."""
        try:
            with self.locked(wait=0.0):
                return False
        except RuntimeError:
            return True

    def read_result(self) -> dict[str, Any]:
        """The contents of `result`.

        Raises:
            ValueError: if it is damaged.
        """
        try:
            return cast("dict[str, Any]", json.loads(self.result.read_text(encoding="utf-8")))
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.result}: not valid JSON ({error}); delete it to run that training again") from None

    def resumable(self, config: ExperimentConfig, overwrite: bool) -> bool:
        """Whether a run is to be continued here; nothing is changed.

        A run that was interrupted continues with the same configuration, and any run with more epochs or steps.

        Raises:
            FileExistsError: if a finished run or somebody else's files are there, and `overwrite` is not set.
            ConfigError: if the interrupted run there had another configuration.
        """
        if overwrite:
            return False
        if self.finished:
            return self._continues_finished(config)
        files = sorted(file.name for file in self.path.iterdir()) if self.path.is_dir() else []
        others = [name for name in files if not name.startswith(".") and name != self.config.name]
        if not self.config.exists():
            if others:
                raise FileExistsError(
                    f"{self.path}: the directory is not empty ({', '.join(others[:3])}) and holds no run; give "
                    "another `output`"
                )
            return False
        before, now = self._before_and_now(config)
        if not others and _has_every_setting(before, now):
            return False  # a run that ended before its first epoch: there is nothing to keep
        changed = _changes(before, now)
        if changed and not _is_longer(before, now):
            raise ConfigError(
                f"{self.path}: an unfinished run with another configuration is there ({'; '.join(changed)}); undo "
                "these changes to resume it, give another `output`, or --overwrite to begin anew"
            )
        return self.resume.is_file()

    def _continues_finished(self, config: ExperimentConfig) -> bool:
        remedy = "give another `output`, or --overwrite to delete it"
        if not self.config.is_file() or not _is_longer(*self._before_and_now(config)):
            changed = self.changes(config) if self.config.is_file() else []
            what = f" with another configuration ({'; '.join(changed)})" if changed else ""
            raise FileExistsError(
                f"{self.path}: a finished run is there{what}; train it on with more epochs (--training.epochs N) and "
                f"the same other settings, {remedy}"
            )
        if not self.resume.is_file():
            raise FileExistsError(
                f"{self.path}: a finished run is there, but not {self.resume.name}, which is needed to train it on; "
                f"begin a new run from its weights (start_from: {self.model}), or {remedy}"
            )
        return True

    def length_change(self, config: ExperimentConfig) -> str:
        """How the length of a run that is continued changes, as `training.epochs: 200 -> 400`; empty if it does not."""
        if not self.config.is_file():
            return ""
        before, now = self._before_and_now(config)
        return "; ".join(_changes(before, now)) if _is_longer(before, now) else ""

    def changes(self, config: ExperimentConfig) -> list[str]:
        """What a configuration sets otherwise than that of the run here, of what changes the numbers."""
        return _changes(*self._before_and_now(config))

    def _before_and_now(self, config: ExperimentConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        before, _ = read_yaml(self.config)
        return before, json.loads(json.dumps(plain(config)))

    def clear(self) -> None:
        """Deletes the run that is here, all of it: what is left of one keeps another from beginning."""
        for file in (self.config, *self._written):
            file.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Removes what a run that was killed was writing; whoever calls this has the lock."""
        for file in (self.config, *self._written):
            remove_leftovers(file)
        self.resume.with_suffix(".new").unlink(missing_ok=True)

    def begin(self, config: ExperimentConfig, overwrite: bool) -> None:
        """Makes the directory ready for a run; only what `resumable` has allowed may begin.

        Args:
            config: of the run; written if no run is there, so that one that is continued keeps its own, or if it is
                longer than the run that is there.
            overwrite: whether a run that is there is deleted.
        """
        self._remove_leftovers()
        if overwrite:
            self.clear()
        longer = bool(self.length_change(config))
        if longer:
            self.result.unlink(missing_ok=True)  # from here on the run is an unfinished one, whatever happens
        if longer or not self.started:
            write_text(self.config, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))

    @contextmanager
    def locked(self, wait: float = 2.0) -> Generator[None]:
        """Keeps a second process from writing into the same run; the lock goes with the process.

        Args:
            wait: seconds to wait for another process: one that only asks whether the run is `busy` has it for an
                instant, one that trains for long.

        Raises:
            RuntimeError: if another process still has it then.
        """
        with ExitStack() as lock:
            try:
                lock.enter_context(locked(self.path / ".lock", wait))
            except BlockingIOError:
                raise RuntimeError(
                    f"{self.path}: another process is training here; wait for it or give another `output`"
                ) from None
            yield


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    training = before.get("training")
    if isinstance(training, Mapping):
        before = {**before, "training": {**LATER, **cast("Mapping[str, Any]", training)}}
    return [line for line in differences(before, now) if not line.startswith(FREE)]


def _is_longer(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the only difference is a larger number of epochs or, in a run of so many steps, of steps."""
    training = cast("Mapping[str, Any]", before.get("training") or {})
    key = "epochs" if now["training"]["steps"] is None else "steps"
    former, number = training.get(key), now["training"][key]
    changed = _changes(before, now)
    return isinstance(former, int) and number > former and all(line.startswith(f"training.{key}: ") for line in changed)


def _has_every_setting(tree: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a configuration was written by a run: one that a person wrote leaves most settings out."""
    training = tree.get("training")
    return (
        tree.keys() == config.keys() and isinstance(training, Mapping) and training.keys() == config["training"].keys()
    )
