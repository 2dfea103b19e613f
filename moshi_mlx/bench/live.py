"""What a live conversation adds to the model's own time, on this machine's devices.

Nothing is recorded or played. Silence with clicks, or recorded questions, replaces the
microphone's sound, when the microphone delivers it; the loudspeaker gets silence when
it asks. The model hears every frame and answers it. The clicks are repeated in place of
the answer, so that the way through the whole loop can be timed.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.framing import FRAME_MS, SAMPLE_RATE
from ..audio.resample import resample
from ..audio.samples import Pcm
from ..engines.duplex.engine import Moshi
from ..engines.thread import ModelThread
from ..live.conversation import Conversation, Figures
from ..live.sound import Sound, SoundOptions
from ..utils.trace import percentile

SETTLE_S = 4.0  # until devices and buffers run steadily
_CLICK_EVERY_S = 1.0
_CLICK_S = 0.001
_LOUD = 0.1  # of full scale: a click


@dataclass(frozen=True)
class Delay:
    """Time from a sample at the microphone to its answer, in milliseconds.

    Attributes:
        clicks: number of clicks that were timed.
        frame: a model hears whole frames.
        acoustic: delay of a frame's sound after its text, by design of the model.
        computation: from a frame's last sample to its answer: waiting and computing.
        buffer: how long the loudspeaker waits for frames that come later than others.
        rest: the rest of the measured time: resampling, and block boundaries.
        measured, measured_p95: through the loop, from callback to callback.
        microphone, speaker: latency that the devices report.
        dropped: frames that the model was too slow to hear.
    """

    clicks: int
    frame: float
    acoustic: float
    computation: float
    buffer: float
    rest: float
    measured: float
    measured_p95: float
    microphone: float
    speaker: float
    dropped: int

    @property
    def total(self) -> float:
        """The total, at the median."""
        return self.measured + self.acoustic + self.microphone + self.speaker

    def to_json(self) -> dict[str, float]:
        return {
            k: round(v, 1) for k, v in {**asdict(self), "total": self.total}.items()
        }


@dataclass(frozen=True)
class Minute:
    """The state of a long conversation.

    Attributes:
        resident_mib: memory of the process now.
        answered: right answers so far.
    """

    snapshot: Figures
    resident_mib: float
    answered: int

    def to_json(self) -> dict[str, float]:
        s = self.snapshot
        return {
            "elapsed_s": round(s.elapsed_s),
            "frames": s.frames,
            "lag_p50_ms": round(s.lag_p50, 1),
            "lag_p95_ms": round(s.lag_p95, 1),
            "dropped": s.dropped.total,
            "gaps": s.gaps,
            "resident_bytes": round(self.resident_mib * 2**20),
            "answered": self.answered,
        }


class Probe(Sound):
    """Hears ``track``, float32 ``[S]`` at 24 kHz, again and again; says nothing."""

    track: Pcm = np.zeros(SAMPLE_RATE, np.float32)

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.came: list[float] = []  # times of the clicks in the air, past and to come
        self.went: list[float] = []
        self._given = 0
        self._track: Pcm = np.zeros(0, np.float32)

    def _hear(self, block: Pcm) -> None:
        assert self.ends.microphone is not None
        rate = self.ends.microphone.rate
        if not len(self._track):
            self._track = resample(self.track[None], SAMPLE_RATE, rate)[0]
        places = np.arange(self._given, self._given + len(block))
        self._given += len(block)
        block = np.take(self._track, places, mode="wrap")
        super()._hear(block)
        _note(self.came, block, rate, time.perf_counter() - len(block) / rate)

    def _read(self, num_samples: int) -> Pcm:
        block = super()._read(num_samples)
        assert self.ends.speaker is not None
        _note(self.went, block, self.ends.speaker.rate, time.perf_counter())
        return np.zeros_like(block)


class Clicks(Probe):
    """Silence with a click every second."""

    track = np.zeros(round(_CLICK_EVERY_S * SAMPLE_RATE), np.float32)
    track[: round(_CLICK_S * SAMPLE_RATE)] = 0.8


class DevicesAlone(Sound):
    """Opens the devices and does nothing with them."""

    def _hear(self, block: Pcm) -> None:
        pass

    def _read(self, num_samples: int) -> Pcm:
        return np.zeros(num_samples, np.float32)


class Parrot:
    """A session that computes its answers and repeats what it heard instead."""

    def __init__(self, moshi: Moshi):
        self._session = moshi.session(seed=0, first="silence")

    def step(self, frame: Pcm) -> Any:
        return replace(self._session.step(frame), pcm=frame)


def delay(
    thread: ModelThread, moshi: Moshi, seconds: float, options: SoundOptions
) -> Delay:
    """Time clicks through a conversation for a while.

    Raises: AudioError if there is no device, or if no click came back.
    """
    talk, errors = _talk(
        thread, lambda: Parrot(moshi), replace(options, echo=False), Clicks
    )
    try:
        _wait(SETTLE_S, errors)
        _wait(seconds, errors)
        s, sound = talk.snapshot(), talk.sound
        assert isinstance(sound, Probe)
        ends = sound.ends.microphone, sound.ends.speaker
        device = [1000 * end.latency_s if end else 0.0 for end in ends]
        target = 1000 * sound.jitter.target_s if sound.jitter else 0.0
    finally:
        talk.stop()
    ways = _ways(sound.came, sound.went, SETTLE_S)
    measured = percentile(ways, 50)
    steps = moshi.lm.cfg.max_delay
    return Delay(
        clicks=len(ways),
        frame=FRAME_MS,
        acoustic=steps * FRAME_MS,
        computation=s.lag_p50,
        buffer=target,
        rest=measured - FRAME_MS - s.lag_p50 - target,
        measured=measured,
        measured_p95=percentile(ways, 95),
        microphone=device[0],
        speaker=device[1],
        dropped=s.dropped.total,
    )


def idle(seconds: float, options: SoundOptions) -> dict[str, float]:
    """CPU use of the loop without a model while nobody speaks, in percent of a core.

    The other shares include that of the devices alone, PortAudio's callbacks into
    Python.
    """
    kinds: dict[str, tuple[type[Sound], bool]] = {
        "devices alone": (DevicesAlone, False),
        "loop": (Sound, False),
        "loop with echo cancellation": (Sound, True),
    }
    return {
        name: round(_share(kind, replace(options, echo=echo), seconds), 2)
        for name, (kind, echo) in kinds.items()
    }


def soak(
    thread: ModelThread,
    moshi: Moshi,
    seconds: float,
    options: SoundOptions,
    questions: Sequence[tuple[Pcm, str]],
    every_s: float = 60.0,
) -> Iterator[Minute]:
    """Ask ``questions`` (sound at 24 kHz and right answer) in turn for a while.

    Yields the state, at intervals and at the end.
    """
    said: list[str] = []
    asked = np.concatenate([_padded(pcm, 10.0) for pcm, _ in questions])
    kind = type("Questions", (Probe,), {"track": asked})

    def make() -> Any:
        return moshi.session(seed=0, temp=0, temp_text=0, first="silence")

    talk, errors = _talk(thread, make, options, kind, said.append)
    try:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            _wait(min(every_s, left), errors)
            text = "".join(said)
            answered = sum(text.count(answer) for _, answer in questions)
            yield Minute(talk.snapshot(), resident_mib(), answered)
    finally:
        talk.stop()


def resident_mib() -> float:
    """Memory of this process now, in MiB."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return int(subprocess.check_output(command)) / 2**10


def _talk(
    thread: ModelThread,
    make: Callable[[], Any],
    options: SoundOptions,
    kind: type[Sound],
    on_text: Callable[[str], None] = lambda _: None,
) -> tuple[Conversation, list[Exception]]:
    """A running conversation, and where its errors go."""
    errors: list[Exception] = []
    talk = Conversation(
        *(thread, make, options, on_text, lambda _: None, errors.append), sound=kind
    )
    try:
        talk.start()
    except BaseException:
        talk.stop()
        raise
    return talk, errors


def _wait(seconds: float, errors: list[Exception]) -> None:
    time.sleep(seconds)
    if errors:
        raise errors[0]


def _share(kind: type[Sound], options: SoundOptions, seconds: float) -> float:
    sound = kind(options, lambda *_: None, lambda _: None)
    sound.start()
    try:
        time.sleep(SETTLE_S)
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(seconds)
        used = time.process_time() - cpu
        return 100 * used / (time.perf_counter() - wall)
    finally:
        sound.stop()


def _padded(pcm: Pcm, seconds: float) -> Pcm:
    """Padded with silence to ``seconds``."""
    return np.pad(pcm, (0, max(0, round(seconds * SAMPLE_RATE) - len(pcm))))


def _note(times: list[float], block: Pcm, rate: int, start_s: float) -> None:
    """Add the time at which a click's first sample, in a block that starts now, is in
    the air."""
    loud = np.abs(block) > _LOUD
    if loud.any():
        at = start_s + int(np.argmax(loud)) / rate
        if not times or at - times[-1] > _CLICK_EVERY_S / 2:
            times.append(at)


def _ways(came: list[float], went: list[float], settle_s: float) -> list[float]:
    """The time of each click after the first ``settle_s``, in milliseconds."""
    from ..errors import AudioError

    ways = [
        1000 * (min(after) - at)
        for at in came
        if at > came[0] + settle_s
        and (after := [w for w in went if at < w < at + 0.9 * _CLICK_EVERY_S])
    ]
    if not ways:
        raise AudioError(
            "no sound came through the conversation in time: the model is too slow for "
            "this machine (see moshi-mlx doctor), or --seconds too short."
        )
    return ways
