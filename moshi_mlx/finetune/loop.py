"""The loop: steps, evaluations, checkpoints, and a stop that loses nothing."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

from ..errors import ConfigError
from .examples import Batch
from .ranks import Ranks
from .run_folder import Progress, RunFolder
from .settings import TrainSettings
from .step import StepResult, TrainingStep, number
from .stopping import StopRequest
from .trainable import Arrays

Line = dict[str, Any]  # a line of metrics.jsonl


class Numbered(Protocol):
    """Micro-batches by number."""

    def __getitem__(self, number: int, /) -> Batch: ...


@dataclass
class Training:
    """A training, which continues from the last checkpoint in its folder.

    Args:
        batches: this process's rows of each micro-batch.
        valid: this process's rows of the batches for evaluation; may be empty.
        folder: for the first process, None for the others.
        export: writes what was learnt into a folder, for other programs.
        tell: called with each line of metrics.jsonl.
    """

    settings: TrainSettings
    step: TrainingStep
    batches: Numbered
    valid: Callable[[], Iterable[Batch]]
    folder: RunFolder | None
    ranks: Ranks
    export: Callable[[Path], None]
    tell: Callable[[Line], None] = lambda _: None

    def run(self) -> Progress:
        """Train to the end, or until a signal asks to stop.

        Raises: ConfigError if the loss becomes NaN; CheckpointError if something cannot
            be written; KeyboardInterrupt after Ctrl-C.
        """
        settings = self.settings
        progress = self._restored()
        asked = False
        with StopRequest() as stop:
            if not progress.step:
                self._evaluate(progress)
            while progress.step < settings.iters and not asked:
                self._take(progress)
                last = progress.step == settings.iters
                if last or _due(progress.step, settings.steps_per_eval):
                    self._evaluate(progress)
                asked = self.ranks.any(bool(stop.signal))
                if last or asked or _due(progress.step, settings.save_every):
                    self._save(progress)
            if asked and progress.step < settings.iters:
                self.tell({"stopped": progress.step})
        if stop.signal:
            stop.obey()
        return progress

    def _take(self, progress: Progress) -> None:
        """One step."""
        settings, begun = self.settings, time.perf_counter()
        count = settings.grad_accumulation_steps
        first = progress.step * count
        done = self.step(
            progress.step, [self.batches[n] for n in range(first, first + count)]
        )
        if not done.finite:
            self._refuse(progress)
        took = time.perf_counter() - begun
        progress.step += 1
        progress.tokens += done.tokens
        progress.seconds += took
        self._note(_line(progress, done, took))

    def _refuse(self, progress: Progress) -> None:
        newest = self.folder.newest() if self.folder else None
        kept = f" {newest.name} is as it was." if newest else ""
        raise ConfigError(
            f"the loss is not a number in step {progress.step + 1}: begin again with "
            f"a lower --learning-rate than {self.settings.learning_rate:g}.{kept}"
        )

    def _evaluate(self, progress: Progress) -> None:
        """Measure the loss on unseen data; the best model so far is published."""
        most = self.settings.val_batches
        batches = islice(self.valid(), most if most >= 0 else None)
        found = [[number(x) for x in self.step.losses(codes)] for codes in batches]
        if not found:
            return
        loss, text, audio = (
            sum(values) / len(found) for values in list(zip(*found, strict=True))[:3]
        )
        self._note(
            {
                "step": progress.step,
                "valid_loss": loss,
                "valid_text_loss": text,
                "valid_audio_loss": audio,
            }
        )
        better = progress.best is None or loss < progress.best
        if progress.step and better and math.isfinite(loss):
            progress.best = loss
            if self.folder is not None:
                self.folder.publish(self.export)

    def _save(self, progress: Progress) -> None:
        if self.folder is None:
            return
        self.folder.save(progress, self._arrays(), self.export)
        if progress.best is None:  # without evaluation, the newest counts as the best
            self.folder.publish(self.export)

    def _note(self, line: Line) -> None:
        if self.folder is not None:
            self.folder.note(line)
        self.tell(line)

    def _restored(self) -> Progress:
        """The state of the training; every process takes the first one's arrays."""
        found = self.folder.restore() if self.folder is not None else None
        progress = Progress() if found is None else found[0]
        if not self.ranks.any(progress.step > 0):
            self._put(self.ranks.same(self._arrays()))
            return progress
        progress.step = round(number(self.ranks.add(mx.array(float(progress.step)))))
        self._put(self.ranks.same(self._arrays() if found is None else found[1]))
        self.step.optimizer.state["step"] = mx.array(progress.step, mx.uint64)
        return progress

    def _arrays(self) -> Arrays:
        """The trained arrays, and the optimiser's means."""
        state = self.step.optimizer.state
        arrays = {}
        for name, array in self.step.trainable.arrays.items():
            arrays[f"trained.{name}"] = array
            arrays[f"mean.{name}"] = state[name]["m"]
            arrays[f"square.{name}"] = state[name]["v"]
        return arrays

    def _put(self, arrays: Arrays) -> None:
        state, trainable = self.step.optimizer.state, self.step.trainable
        for name in trainable.arrays:
            trainable.arrays[name] = arrays[f"trained.{name}"]
            state[name]["m"] = arrays[f"mean.{name}"]
            state[name]["v"] = arrays[f"square.{name}"]
        trainable.put(trainable.arrays)


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _line(progress: Progress, done: StepResult, seconds: float) -> Line:
    return {
        "step": progress.step,
        "loss": done.loss,
        "text_loss": done.text_loss,
        "audio_loss": done.audio_loss,
        "grad_norm": done.grad_norm,
        "learning_rate": done.rates.rate,
        "tokens": progress.tokens,
        "tokens_per_second": done.tokens / seconds,
        "peak_memory_gb": mx.get_peak_memory() / 1e9,
    }
