"""A live conversation: sound, model thread and recording put together."""

import queue
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..audio.framing import FRAME_MS
from ..documents.recording import Recording
from ..engines.line import Answer, Session
from ..engines.queue import Dropped
from ..engines.thread import ModelThread
from ..errors import MoshiError
from ..utils.trace import Trace, percentile
from .devices import DEAD_S
from .sound import Sound, SoundOptions

_NEWEST = 375  # frames for percentiles: 30 s


@dataclass(frozen=True)
class Figures:
    """The figures of a conversation; times in milliseconds, levels are rms of 0 to 1.

    Attributes:
        elapsed_s: since it started.
        frames: heard by the model.
        lag_p50, lag_p95: from a frame's last sample to its answer, in the last 30 s.
        step_p50, step_p95: the model's part of that.
        waiting: sound that waits for the model.
        buffered: sound that waits for the loudspeaker.
        jitter: how long the loudspeaker waits beyond the fastest frames.
        dropped: the user's frames that the model never heard.
        device: latency that microphone and loudspeaker report.
        gaps: times the loudspeaker ran out during speech.
        echo_delay: from loudspeaker to microphone, None if no echo was heard.
        memory_mib: of the process.
    """

    elapsed_s: float
    frames: int
    lag_p50: float
    lag_p95: float
    step_p50: float
    step_p95: float
    waiting: float
    buffered: float
    jitter: float
    dropped: Dropped
    device: float
    gaps: int
    echo_delay: float | None
    heard_level: float
    played_level: float
    muted: bool
    volume: float
    paused: bool
    mic_is_dead: bool
    memory_mib: float

    @property
    def response_ms(self) -> float:
        """From a sample in the air to the sample that answers it, at the median.

        It includes the sample's frame, the computation and the wait for the
        loudspeaker. The model's acoustic delay (one frame) and the devices' own latency
        come on top.
        """
        return FRAME_MS + self.lag_p50 + self.jitter

    def to_dict(self) -> dict[str, Any]:
        """The figures of the whole conversation, ready for JSON; the names have
        units."""
        return {
            "elapsed_s": round(self.elapsed_s, 2),
            "frames": self.frames,
            "lag_ms": {"p50": round(self.lag_p50, 1), "p95": round(self.lag_p95, 1)},
            "step_ms": {"p50": round(self.step_p50, 1), "p95": round(self.step_p95, 1)},
            "dropped": {"silent": self.dropped.silent, "spoken": self.dropped.spoken},
            "gaps": self.gaps,
            "buffer_ms": round(self.jitter, 1),
            "response_ms": round(self.response_ms, 1),
            "device_ms": round(self.device, 1),
            "echo_delay_ms": _rounded(self.echo_delay),
            "memory_bytes": round(self.memory_mib * 2**20),
        }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


class Conversation:
    """Talks until it is stopped. All methods may be called from any thread.

    Args:
        thread: owns the model.
        make: makes the session, on that thread.
        options: of the sound.
        on_text: called on the model thread with every piece of text.
        on_notice: called with a sentence for the user, on any thread.
        on_end: called if the conversation cannot continue, with the reason.
        recording: gets both sides and the text.
        trace: gets the stages outside the session.
        sound: makes its ears and mouth; by default the devices'. Others are for
            measuring.
    """

    def __init__(
        self,
        thread: ModelThread,
        make: Callable[[], Session],
        options: SoundOptions,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_end: Callable[[Exception], None],
        recording: Recording | None = None,
        trace: Trace | None = None,
        sound: type[Sound] = Sound,
    ):
        self.sound = sound(options, self._on_frame, on_notice, on_end)
        self.line = thread.open(make, self._on_answer, on_end)
        self.step_ms: deque[float] = deque(maxlen=100_000)
        self._on_text = on_text
        self._recorder = None if recording is None else _Recorder(recording, on_notice)
        self._trace = trace
        self._lags: deque[float] = deque(maxlen=_NEWEST)
        self._steps: deque[float] = deque(maxlen=_NEWEST)
        self._frames = 0
        self._dropped = Dropped()
        self._began_at = time.perf_counter()

    def start(self) -> None:
        """Open the devices and talk. Raises: AudioError if there is none."""
        if self._recorder is not None:
            self._recorder.start()
        self.sound.start()
        self._began_at = time.perf_counter()

    def stop(self) -> None:
        """Give the devices back, close the files."""
        self.sound.stop()
        self.line.close()
        if self._recorder is not None:
            self._recorder.stop()

    def restart(self, on_restart: Callable[[], None] = lambda: None) -> None:
        """Start a new conversation with the same settings.

        Args:
            on_restart: called from another thread after the last text of the old
                conversation and before the first of the new one.
        """

        def mark(renewed: "Future[None]") -> None:
            if renewed.exception() is not None:
                return
            if self._recorder is not None:
                self._recorder.restart()
            on_restart()

        self.line.restart().add_done_callback(mark)
        self.sound.hush()

    def snapshot(self) -> Figures:
        """The current figures."""
        lags, steps = list(self._lags), list(self._steps)
        jitter = self.sound.jitter
        delay_s = self.sound.echo_delay_s
        return Figures(
            elapsed_s=time.perf_counter() - self._began_at,
            frames=self._frames,
            lag_p50=percentile(lags, 50) if lags else 0.0,
            lag_p95=percentile(lags, 95) if lags else 0.0,
            step_p50=percentile(steps, 50) if steps else 0.0,
            step_p95=percentile(steps, 95) if steps else 0.0,
            waiting=self.line.waiting_ms,
            buffered=1000 * jitter.waiting_s if jitter else 0.0,
            jitter=1000 * jitter.target_s if jitter else 0.0,
            dropped=self._dropped,
            device=1000 * self.sound.ends.latency_s,
            gaps=jitter.gaps if jitter else 0,
            echo_delay=None if delay_s is None else 1000 * delay_s,
            heard_level=self.sound.heard_level,
            played_level=self.sound.played_level,
            muted=self.sound.muted,
            volume=self.sound.volume,
            paused=self.sound.paused,
            mic_is_dead=self.sound.silent_s > DEAD_S,
            memory_mib=memory_mib(),
        )

    def _on_frame(self, frame: np.ndarray, heard_at: float) -> None:
        self.line.put(frame, heard_at)

    def _on_answer(self, answer: Answer) -> None:
        reply = answer.reply
        if reply.pcm is not None:
            self.sound.play(reply.pcm, answer.heard_at)
        self._frames += 1
        self._lags.append(1000 * answer.lag_s)
        self._steps.append(1000 * answer.step_s)
        self.step_ms.append(1000 * answer.step_s)
        if self._trace is not None:
            self._trace.add("wait", answer.heard_at, answer.began_at)
        if self._recorder is not None:
            missed = answer.dropped.total - self._dropped.total
            self._recorder.add(missed, answer.frame, reply.pcm, reply.text)
        self._dropped = answer.dropped
        if reply.text:
            self._on_text(reply.text)


_RESTART = object()  # marks a restart among the frames of a recorder


class _Recorder(threading.Thread):
    """Writes a recording, so that a slow disk does not delay anybody."""

    def __init__(self, recording: Recording, on_notice: Callable[[str], None]):
        super().__init__(name="moshi-record", daemon=True)
        self._recording = recording
        self._on_notice = on_notice
        self._work: queue.SimpleQueue = queue.SimpleQueue()

    def add(
        self, missed: int, user: np.ndarray, moshi: np.ndarray | None, text: str
    ) -> None:
        """A frame; ``missed`` frames before it become silence, to keep the times
        right."""
        self._work.put((missed, user, moshi, text))

    def restart(self) -> None:
        """A new conversation starts here."""
        self._work.put(_RESTART)

    def stop(self) -> None:
        """Write the rest, close the files."""
        self._work.put(None)
        if self.is_alive():
            self.join(10)

    def run(self) -> None:
        with self._recording as recording:
            while (item := self._work.get()) is not None:
                try:
                    if item is _RESTART:
                        recording.restart()
                        continue
                    missed, user, moshi, text = item
                    for _ in range(missed):
                        recording.add(None, None)
                    recording.add(user, moshi, text)
                except MoshiError as error:
                    self._on_notice(f"recording has stopped: {error}")
                    return


def memory_mib() -> float:
    """The most memory this process has used so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
