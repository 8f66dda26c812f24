"""The directory of a run: what is in it, and whether a run may begin, go on, or must not touch it."""

import fcntl
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from neural_polarization.files import replacing
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.parsing import ConfigError, differences, plain, read_yaml

_FREE = ("output", "training.machine", "training.checkpoint_seconds", "training.logger")
"""Settings that do not change what is computed, so that a resumed run may have others."""


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
        """All that an interrupted run needs to continue."""
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
    def busy(self) -> bool:
        """Whether another process is training here."""
        try:
            with self.locked():
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

    def begin(self, config: ExperimentConfig, overwrite: bool) -> bool:
        """Makes the directory ready; returns whether an interrupted run is to be continued.

        Raises:
            FileExistsError: if a finished run or somebody else's files are there, and `overwrite` is not set.
            ConfigError: if the interrupted run there had another configuration.
        """
        ours = (self.config, self.metrics, self.resume, self.model, self.result)
        if overwrite:
            for file in ours:
                file.unlink(missing_ok=True)
        if self.finished:
            raise FileExistsError(
                f"{self.path}: a finished run is there; give another `output`, or --overwrite to lose it"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            others = sorted(file.name for file in self.path.iterdir() if not file.name.startswith("."))
            if others and not overwrite:
                raise FileExistsError(
                    f"{self.path}: the directory is not empty ({', '.join(others[:3])}) and holds no run; give "
                    "another `output`"
                )
            write_text(self.config, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))
            return False
        before, _ = read_yaml(self.config)
        changed = [
            line for line in differences(before, json.loads(json.dumps(plain(config)))) if not line.startswith(_FREE)
        ]
        if changed:
            raise ConfigError(
                f"{self.path}: an unfinished run with another configuration is there ({'; '.join(changed)}); undo "
                "these changes to resume it, give another `output`, or --overwrite to begin anew"
            )
        return self.resume.is_file()

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keeps a second process from writing into the same run; the lock goes with the process.

        Raises:
            RuntimeError: if another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RuntimeError(
                    f"{self.path}: another process is training here; wait for it or give another `output`"
                ) from None
            yield


def write_text(path: Path, text: str) -> None:
    """Writes a file that is complete or not there at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes plain values as JSON, complete or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
