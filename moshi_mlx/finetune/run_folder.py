"""The folder of a training: what it has learnt, and everything needed to continue.

::

    RUN/lora.safetensors, config.json      the best adapters so far, in Kyutai's form
    RUN/settings.json                      how they are trained
    RUN/metrics.jsonl                      a line for each step and each evaluation
    RUN/checkpoints/checkpoint_000050/     the newest ones, each whole
        consolidated/lora.safetensors, config.json
        state.safetensors, state.json      arrays in float32, optimiser, place

A checkpoint is written under another name and then renamed, so an existing one is
complete, whatever ended the process.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import DISK_FULL, CheckpointError, ConfigError
from ..utils.json_text import read_json
from ..utils.tensor_files import read_tensors, save_tensors
from ..utils.whole_files import write_whole
from .settings import TrainSettings, flag
from .trainable import Arrays

_NAME = re.compile(r"checkpoint_(\d+)")
Export = Callable[[Path], None]  # writes what was learnt into a folder


@dataclass
class Progress:
    """The state of a training.

    Attributes:
        step: number of steps done.
        best: lowest loss of an evaluation, None before the first.
        tokens: number of tokens trained on.
        seconds: training time.
        metrics: bytes of metrics.jsonl that belong to these steps.
    """

    step: int = 0
    best: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    metrics: int = 0


class RunFolder:
    """A training's folder.

    Args:
        path: the folder.
        settings: of the training.
        resume: continue a training in the folder.

    Raises: ConfigError for a training that is there and not to be resumed, or was begun
        with other settings; CheckpointError where nothing can be written.
    """

    def __init__(self, path: Path, settings: TrainSettings, resume: bool):
        self.path = path
        self.settings = settings
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        newest = self.newest()
        begun = (path / "settings.json").is_file()
        if begun and resume:
            self._check_same(read_json(path / "settings.json"))
        elif begun and newest is not None:
            step = int(_NAME.fullmatch(newest.name)[1])  # type: ignore[index]
            raise ConfigError(
                f"{str(path)!r} holds a training of {step} steps: go on with it with "
                "--resume, or name another --adapter-path."
            )
        elif not begun and (path / "config.json").exists():
            raise ConfigError(
                f"{str(path)!r} holds a model or other adapters, whose config.json a "
                "training would replace: name another --adapter-path."
            )
        with self._writing("the settings"):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            text = json.dumps(settings.all(), indent=1)
            write_whole(path / "settings.json", text + "\n")

    def newest(self) -> Path | None:
        """The newest checkpoint, or None."""
        found = [p for p in self.checkpoints.glob("*") if _NAME.fullmatch(p.name)]
        return max(found, default=None, key=lambda p: p.name)

    def restore(self) -> tuple[Progress, Arrays] | None:
        """The state of the training, and its arrays; None if it starts now.

        Lines of metrics.jsonl about later steps are removed: those steps will be
        repeated.
        """
        newest = self.newest()
        if newest is None:
            with self._writing("metrics.jsonl"):
                self.metrics.write_bytes(b"")
            return None
        progress = Progress(**read_json(newest / "state.json"))
        arrays = read_tensors(newest / "state.safetensors")
        mx.eval(arrays)  # the file may be removed soon
        with self._writing("metrics.jsonl"), self.metrics.open("ab") as file:
            file.truncate(min(progress.metrics, self.metrics.stat().st_size))
        return progress, arrays

    def note(self, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with self._writing("metrics.jsonl"), self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self, progress: Progress, arrays: Arrays, export: Export) -> Path:
        """Write a checkpoint, and remove those that are too old."""
        name = f"checkpoint_{progress.step:06d}"
        begun, there = self.checkpoints / f".{name}.part", self.checkpoints / name
        if there.exists():  # it has the same content
            return there
        progress.metrics = self.metrics.stat().st_size
        with self._writing(f"the checkpoint of step {progress.step}"):
            shutil.rmtree(begun, ignore_errors=True)  # left by a killed run
            try:
                (begun / "consolidated").mkdir(parents=True)
                save_tensors(begun / "state.safetensors", arrays)
                (begun / "state.json").write_text(json.dumps(asdict(progress)) + "\n")
                export(begun / "consolidated")
                for file in begun.rglob("*"):
                    _to_disk(file)
                os.replace(begun, there)
                _to_disk(self.checkpoints)
            finally:
                shutil.rmtree(begun, ignore_errors=True)
        found = [p for p in self.checkpoints.glob("*") if _NAME.fullmatch(p.name)]
        for old in sorted(found)[: -self.settings.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return there

    def publish(self, export: Export) -> None:
        """Make the results so far the folder's own adapters."""
        begun = self.path / ".best.part"
        with self._writing("the best adapters"):
            shutil.rmtree(begun, ignore_errors=True)
            try:
                begun.mkdir()
                export(begun)
                for file in sorted(begun.iterdir()):  # config.json comes first
                    _to_disk(file)
                    os.replace(file, self.path / file.name)
            finally:
                shutil.rmtree(begun, ignore_errors=True)

    def _check_same(self, old: dict[str, Any]) -> None:
        for name, value in self.settings.fixed().items():
            if name in old and old[name] != value:
                raise ConfigError(
                    f"the training in {str(self.path)!r} was begun with {flag(name)} "
                    f"{old[name]} and not {value}: resume it with the same, or name "
                    "another --adapter-path."
                )

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            newest = self.newest()
            kept = f"{newest.name} is whole" if newest else "none is there yet"
            words = error.strerror or str(error)
            advice = "correct that, or name another --adapter-path"
            if error.errno in DISK_FULL or "space" in words:
                words = "the disk is full"
                advice = "make room, and go on with --resume"
            raise CheckpointError(
                f"{what} cannot be written to {str(self.path)!r}: {words}. Of the "
                f"checkpoints, {kept}: {advice}."
            ) from error


def _to_disk(path: Path) -> None:
    """Make the system write a file, or a folder's entries, to disk now."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
