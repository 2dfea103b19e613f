"""The speed of the family's other models: to listen, speak, translate and write.

One step is 80 ms of sound or, for a text model, one token. Measured are the time of a
step, the time from the start to the first sound (word, token), and the memory as an
hour of steps goes by.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ..audio import FRAME, SAMPLE_RATE
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.quantize import nbytes
from ..codec import NativeCodec
from ..engines.stt import STTModel
from ..engines.text import TextModel
from ..engines.tts import TTSModel
from ..errors import ConfigError
from ..utils.trace import Timing, Trace
from .family_models import Model, Translator, loaded_model, random_model
from .sequences import shipped_recordings
from .timing import FRAME_MS, Loop, process_peak

HOUR = 45_000  # steps of 80 ms
SAMPLES = 12  # measurements of memory in an hour
TEXT = "some words that are said one after another for as long as it takes "
PROMPT_WORDS = 64


class TaskRun(Protocol):
    """One stream of a model's work."""

    def step(self) -> bool:
        """Do one step; true if it gave a result: sound, a word, a token."""
        ...


class ListeningRun:
    """Speech to text: it hears a frame of noise."""

    def __init__(self, stt: STTModel):
        self._session = stt.session()
        self._rng = np.random.default_rng(0)

    def step(self) -> bool:
        pcm = 0.1 * self._rng.standard_normal(FRAME, dtype=np.float32)
        return bool(self._session.feed(pcm))


class SpeakingRun:
    """Text to speech: a frame of sound, of an endless text."""

    def __init__(self, tts: TTSModel):
        voices = [] if tts.multi_speaker else shipped_recordings()[:1]
        self._session = tts.session(voices)
        self._frames: Iterator[Any] = iter(())

    def step(self) -> bool:
        while (frame := next(self._frames, None)) is None:
            self._frames = self._session.feed(TEXT)
        return len(frame) > 0


class TranslatingRun:
    """Speech to speech: it hears a frame of noise and says one."""

    def __init__(self, model: Translator):
        self._loop = Loop(model.lm, NativeCodec(model.mimi, 1), 1)

    def step(self) -> bool:
        trace = Trace()
        self._loop.frame(trace)
        return "decode" in trace.summary()


class WritingRun:
    """Text: a token, after a prompt of 64 words."""

    def __init__(self, model: TextModel):
        self._model = model
        self._pieces: Iterator[str] = iter(())

    def step(self) -> bool:
        while next(self._pieces, None) is None:  # it may end by itself
            prompt = " ".join((TEXT * PROMPT_WORDS).split()[:PROMPT_WORDS])
            self._pieces = self._model.complete(
                prompt, HOUR, temp=0.8, top_k=25, seed=0
            )
        return True


def begin(model: Model) -> TaskRun:
    """A new stream of a model's work."""
    if isinstance(model, STTModel):
        return ListeningRun(model)
    if isinstance(model, TTSModel):
        return SpeakingRun(model)
    return WritingRun(model) if isinstance(model, TextModel) else TranslatingRun(model)


@dataclass(frozen=True)
class TaskResult:
    """Outcome of one task.

    Attributes:
        label: task, model and device.
        step: time of a step.
        first_s: from the start to the first sound, word or token, with the weights
            loaded.
        weights: bytes.
        memory: during the hour: (minutes, bytes of all arrays, the process's peak).
    """

    label: dict[str, str]
    step: Timing
    first_s: float
    weights: int
    memory: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def times_real_time(self) -> float | None:
        """How many times faster than real time; None for text."""
        return None if self.label["task"] == "text" else FRAME_MS / self.step.p50_ms

    def to_json(self) -> dict[str, Any]:
        return {
            **self.label,
            "step_p50_ms": self.step.p50_ms,
            "step_p95_ms": self.step.p95_ms,
            "step_max_ms": self.step.max_ms,
            "steps_per_s": 1000 / self.step.p50_ms,
            "times_real_time": self.times_real_time,
            "first_s": self.first_s,
            "weights_bytes": self.weights,
            "memory": [
                {"minutes": minutes, "arrays_bytes": arrays, "process_peak_bytes": peak}
                for minutes, arrays, peak in self.memory
            ],
        }


def measure(
    model: Model,
    label: dict[str, str],
    steps: int = 50,
    hour: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> TaskResult:
    """Time a stream's steps after a warm-up; with ``hour``, run 45,000 more steps.

    Args:
        tell: called with the progress of the hour.
    """
    warm = begin(model)
    while not warm.step():
        pass
    begun = time.perf_counter()
    run = begin(model)
    while not run.step():
        pass
    first_s = time.perf_counter() - begun
    trace = Trace()
    for _ in range(steps):
        with trace.stage("step"):
            run.step()
    memory = []
    for look in an_hour(run) if hour else ():
        memory.append(look)
        tell(f"{' '.join(label.values())}, {look[0]:.0f} min of sound")
    return TaskResult(label, trace.summary()["step"], first_s, nbytes(model.lm), memory)


def an_hour(run: TaskRun, steps: int = HOUR) -> Iterator[tuple[float, int, int]]:
    """Run this many more steps; (minutes of sound, bytes of arrays, peak of
    process)."""
    each = max(1, steps // SAMPLES)
    for done in range(1, steps + 1):
        run.step()
        if done % each == 0:
            minutes = done * FRAME / SAMPLE_RATE / 60
            yield round(minutes, 1), mx.get_active_memory(), process_peak()


HEAD = (
    "task, model, device",
    "step",
    "p95",
    "max",
    "a second",
    "x live",
    "first",
    "GB",
)


def row(result: TaskResult) -> list[str]:
    """Cells for ``HEAD``; milliseconds, the first sound in seconds."""
    live = result.times_real_time
    return [
        " ".join(result.label.values()),
        *(f"{ms:.1f}" for ms in (result.step.p50_ms, result.step.p95_ms)),
        f"{result.step.max_ms:.1f}",
        f"{1000 / result.step.p50_ms:.1f}",
        "-" if live is None else f"{live:.1f}",
        f"{result.first_s:.2f}",
        f"{result.weights / 1e9:.2f}",
    ]


def memory_line(result: TaskResult) -> str:
    """How memory developed during the hour."""
    shown = [result.memory[i] for i in (0, len(result.memory) // 2, -1)]
    parts = [
        f"{arrays / 2**20:.1f} MiB of arrays, {peak / 2**20:.1f} MiB peak of the "
        f"process after {minutes:.0f} min"
        for minutes, arrays, peak in shown
    ]
    return f"{' '.join(result.label.values())}: {'; '.join(parts)}"


def run_tasks(
    info: CheckpointInfo | None,
    tasks: Sequence[str],
    size: str,
    steps: int = 50,
    hour: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[TaskResult]:
    """Measure a checkpoint's own task, or random models for several, on this device.

    ``tell``: as in ``measure``.

    Raises: ConfigError for an unknown task, or one that is not the checkpoint's.
    """
    device = mx.default_device().type.name
    if info is not None:
        task, model = loaded_model(info)
        if tasks and list(tasks) != [task]:
            raise ConfigError(f"{info.name} is for the task {task}: leave --task out.")
        label = {"task": task, "model": info.name, "device": device}
        yield measure(model, label, steps, hour, tell)
        return
    for task in tasks:
        label = {"task": task, "model": size, "device": device}
        yield measure(random_model(task, size), label, steps, hour, tell)
        mx.clear_cache()
